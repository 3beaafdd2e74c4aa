"""Rows of signals made message by message against those made signal by signal."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from contracts.recording import Channel
from udfs.decode.context import DecodeContext
from udfs.decode.signal_rows import RowMaker, SignalPart
from udfs.encodings.can import CanFrames, decode_frames
from udfs.encodings.dbc import parse_dbc
from udfs.encodings.samples import Samples, always, no_text

DEFINITION = b"""VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 1 Mixed: 8 ECU
 SG_ Plain : 0|8@1+ (1,0) [0|0] "" ECU
 SG_ Ruled : 8|8@1- (0.5,1) [-20|20] "V" ECU
 SG_ State : 16|2@1+ (1,0) [0|0] "" ECU
 SG_ Named : 24|4@1+ (2,0) [4|20] "A" ECU
 SG_ Bare : 32|8@1+ (1,0) [0|0] "A" ECU
 SG_ Other : 47|8@0- (1,0) [0|0] "A" ECU
 SG_ Last : 48|16@1+ (0.1,0) [0|0] "V" ECU
BO_ 2 Even: 4 ECU
 SG_ Even0 : 0|16@1+ (0.5,0) [0|20000] "V" ECU
 SG_ Even1 : 16|16@1+ (0.5,0) [100|30000] "V" ECU
BO_ 3 Empty: 8 ECU
BO_ 4 Chosen: 8 ECU
 SG_ Which M : 0|1@1+ (1,0) [0|0] "" ECU
 SG_ Zero m0 : 8|8@1+ (3,0) [0|300] "" ECU
 SG_ One m1 : 8|8@1- (1,0) [0|0] "" ECU

VAL_ 1 State 0 "off" 1 "on" ;
VAL_ 1 Named 3 "three" ;
"""
RANGES = {
    "Ruled": (-20, 20),
    "Named": (4, 20),
    "Zero": (0, 300),
    "Even0": (0, 20000),
    "Even1": (100, 30000),
}
CHANNEL = Channel(0, "CAN1", "mdf4", 1)


def random_frames(rows: int) -> CanFrames:
    random = np.random.default_rng(rows)
    none = np.zeros(rows, bool)
    return CanFrames(
        log_time_ns=np.arange(rows) * 1000,
        sequence=np.arange(rows),
        bus=np.ones(rows),
        can_id=random.integers(1, 5, rows),
        is_extended=none,
        is_fd=none,
        is_remote=none,
        is_error=none,
        dlc=np.full(rows, 8),
        arena=np.frombuffer(random.bytes(8 * rows), np.uint8),
        starts=np.arange(rows) * 8,
        lengths=np.where(random.random(rows) < 0.01, 2, 8),
        is_transmitted=np.zeros(rows),
    )


def sorted_rows(batches) -> pa.Table:
    for batch in batches:
        batch.validate(full=True)
    table = pa.Table.from_batches(batches)
    keys = [("signal", "ascending"), ("sequence", "ascending")]
    return table.sort_by(keys).combine_chunks()


@pytest.mark.parametrize("rows", [1000, 6000, 300_000])
def test_messages_give_the_rows_that_their_signals_give(rows):
    """Values, texts, units and times are the same, of few frames and of more than a batch takes.

    Fault 35: what lies outside of its stated range is a value as any other, and is said to.
    """
    context = DecodeContext("0" * 64, date(2026, 1, 1))
    decoded = decode_frames(random_frames(rows).packed(), {1: [parse_dbc(DEFINITION)]})
    parts = [
        SignalPart(
            name=signal.name,
            source=block.message.name,
            unit=signal.unit,
            definition_hash=block.definition_hash,
            sequence=block.sequence,
            log_time_ns=block.log_time_ns,
            samples=block.samples(at),
            range=signal.range,
        )
        for block in decoded.blocks
        for at, signal in enumerate(block.signals)
    ]
    found = sorted_rows(RowMaker(context).block_batches(decoded.blocks, channel=CHANNEL))
    assert found.equals(sorted_rows([RowMaker(context).signals(parts, channel=CHANNEL)]))
    assert found.equals(sorted_rows(RowMaker(context).signal_batches(parts, channel=CHANNEL)))
    assert found.num_rows == sum(len(part.log_time_ns) for part in parts)
    assert set(found["signal"].to_pylist()) == {part.name for part in parts}
    in_range = found.filter(pc.is_valid(found["in_range"]))
    assert set(in_range["signal"].to_pylist()) == RANGES.keys()
    for name, (low, high) in RANGES.items():
        own = found.filter(pc.equal(found["signal"], name))
        marks = own["in_range"].to_pylist()
        values = own["value"].to_pylist()
        assert marks == [None if one is None else low <= one <= high for one in values]
        assert False in marks


@pytest.mark.parametrize("repeats", [1, 100])
def test_numbers_that_are_none_are_kept_to_the_bit(repeats):
    """Fault 35: NaN, infinities, denormals and both zeros are values, and never null or 0.

    Of few samples and of many: the rows of both are made in ways of their own. An invalid sample
    is null, whatever its bits are.
    """
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, 5e-324, -2e-310, 0.0, -0.0, 1e308])
    value = np.tile(odd, repeats * 3)
    times = np.arange(len(value), dtype=np.int64)
    valid = times % 2 == 0
    maker = RowMaker(DecodeContext("0" * 64, date(2026, 1, 1)))
    for is_value in (always(len(value)), valid):
        samples = Samples(value, is_value, no_text(len(value)), (), None)
        part = SignalPart("odd", "group", "", "", times, times, samples)
        found = pa.Table.from_batches(maker.signal_batches([part], channel=CHANNEL))
        column = found.column("value").combine_chunks()
        assert column.is_valid().to_pylist() == is_value.tolist()
        kept = column.drop_null().to_numpy().view(np.uint64)
        assert kept.tolist() == value[is_value].view(np.uint64).tolist()
