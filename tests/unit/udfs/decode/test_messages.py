from __future__ import annotations

import attrs
import numpy as np
import pyarrow as pa
import pytest

from contracts.errors import ContractViolation
from contracts.recording import LedgerEntry, MessageGroup
from tests.unit.udfs.decode.recordings import CONTEXT, account_of, cdr_number, mcap_bytes
from tests.unit.udfs.oracles import batch_of
from udfs.decode import mcap
from udfs.decode.messages import plan_of_channel, table_groups
from udfs.decode.recording import index_recording, iter_table_groups
from udfs.decode.source import BytesSource


class FailingDecoder:
    """A decoder with a defect of its own."""

    schema = pa.schema([("number", pa.int64())])

    def decode(self, batch):
        """Fail as no decoder should."""
        raise ZeroDivisionError(len(batch.starts))


def test_a_defect_of_a_decoder_costs_its_messages_only(monkeypatch):
    """An unforeseen error makes bad messages that are counted and named, and stops nothing."""
    index = index_recording(BytesSource(mcap_bytes(100)))

    def planned(recording, channel, *, table_names):
        plan = plan_of_channel(recording, channel, table_names=table_names)
        return attrs.evolve(plan, decoder=FailingDecoder()) if channel.topic == "/odd" else plan

    monkeypatch.setattr("udfs.decode.messages.plan_of_channel", planned)
    account = account_of(mcap_bytes(100))
    assert account.numbers == list(range(0, 100, 2))
    assert {one.error_class for one in account.bad} == {"DECODER_ERROR"}
    assert len(account.bad) == 50
    assert len(index.channels) == 2


def test_messages_of_a_quarantined_channel_stay_bytes():
    """Fault 18: what decodes goes to raw_messages byte for byte, what does not is bad."""
    data = mcap_bytes(100, use_chunking=False, enable_data_crcs=False)
    data = data.replace(cdr_number(31), b"\xff" * len(cdr_number(31)))
    (odd,) = (one.id for one in index_recording(BytesSource(data)).channels if one.topic == "/odd")
    account = account_of(data, context=attrs.evolve(CONTEXT, quarantined=frozenset({odd})))
    assert account.tables["pkg_number"]["number"].to_pylist() == list(range(0, 100, 2))
    raw = account.tables["raw_messages"].to_pylist()
    assert [row["data"] for row in raw] == [cdr_number(i) for i in range(1, 100, 2) if i != 31]
    assert {row["schema_hash"] for row in raw} == {account.index.schemas[0].hash}
    assert [one.first_bytes for one in account.bad] == [b"\xff" * len(cdr_number(31))]


@pytest.mark.parametrize("in_unit", [True, False])
def test_each_message_is_counted_at_the_range_it_is_in(in_unit):
    """Rows fall to the ledger entry of their unit, or of their place in the file."""
    data = mcap_bytes(40, chunk_size=512)
    source = BytesSource(data)
    index = index_recording(source)
    (group,) = mcap.iter_message_groups(source, index)
    if not in_unit:
        group = attrs.evolve(
            group,
            batches=tuple(
                attrs.evolve(
                    batch,
                    unit_offset=np.full(len(batch.starts), -1),
                    payload_offset=batch.unit_offset,
                )
                for batch in group.batches
            ),
        )
    (decoded,) = table_groups(iter([group]), index=index, context=CONTEXT)
    assert [entry.messages_written for entry in decoded.ledger] == [
        unit.message_count for unit in index.units
    ]
    assert decoded.rows_by_channel == {1: 20, 2: 20}


def test_rows_of_a_group_outlive_the_arena_of_the_next():
    """A reader reuses its arena: rows that were handed out must not change under the reader."""
    index = index_recording(BytesSource(mcap_bytes(10)))
    group = MessageGroup(
        (batch_of([bytes(range(100)) * 3] * 5),), (LedgerEntry(0, 999, "decoded"),)
    )
    channel = index.channels[0]
    raw = attrs.evolve(
        index, channels=(attrs.evolve(channel, id=1, message_encoding="none", schema_id=0),)
    )
    arena = group.batches[0].arena.copy()
    group = attrs.evolve(group, batches=(attrs.evolve(group.batches[0], arena=arena),))
    (decoded,) = table_groups(iter([group]), index=raw, context=CONTEXT)
    arena[:] = 0
    ((_, rows),) = decoded.tables
    assert rows.column("data").to_pylist() == [bytes(range(100)) * 3] * 5


def test_a_selection_that_a_format_does_not_serve_is_refused():
    """An MDF file decodes by units: channels that were asked for are never silently ignored."""
    source = BytesSource(mcap_bytes(3))
    index = attrs.evolve(index_recording(source), format="mdf4")
    with pytest.raises(ContractViolation):
        next(iter_table_groups(source, index, context=CONTEXT, selection=[1]))
