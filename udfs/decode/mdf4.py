"""MDF 4 recordings: measured signals, and the frames of bus loggers with their definitions.

A data group, or about 32 MB of a large one, is a unit; a channel group is a channel of the
recording, a record a message. Whatever a file declares is compared with what is there; a value
that can't be had is counted, never a zero.

Source: ASAM MDF 4.1 and 4.2.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs
import numpy as np
import pyarrow as pa

from contracts.errors import DecodeError
from contracts.ids import canonical_json
from contracts.recording import (
    Attachment,
    Channel,
    Finding,
    LedgerEntry,
    RecordingIndex,
    Source,
    TableGroup,
    Unit,
)
from udfs.decode.context import DecodeContext
from udfs.decode.mdf4_definitions import Definitions, file_definitions
from udfs.decode.mdf4_plan import FilePlan, GroupPlan, UnitPlan, plan_file
from udfs.decode.mdf4_times import times_ns, zone_ns
from udfs.decode.mdf4_units import UnitDecoder
from udfs.decode.signal_rows import CAN_FRAMES, RAW_MESSAGES, SIGNALS, RowMaker
from udfs.encodings.dbc import parse_definition

DecodeStatus = Literal["DECODED", "NO_DECODER", "NO_DEFINITION"]
_PLANS: dict[int, tuple[Source, FilePlan]] = {}
"""Plans by the identity of the index that was made of them, as long as that lives."""


def index_recording(source: Source) -> RecordingIndex:
    """Walk the blocks of a file and find its records; values are not read but the first times.

    Raises:
        DecodeError: BAD_MAGIC; MDF_CYCLE; MDF_UNFINALISED_CHAIN; MDF_TRUNCATED or MDF_BAD_BLOCK
            where no data group can be read.
        ResourceLimitError: More blocks, or larger ones, than a file may have.
    """
    plan = plan_file(source)
    file = plan.file
    groups = [group for data_group in plan.data_groups for group in data_group.groups]
    units = tuple(_unit(plan, index, unit) for index, unit in enumerate(plan.units))
    starts = [unit.start_ns for unit in units if unit.start_ns is not None]
    ends = [unit.end_ns for unit in units if unit.end_ns is not None]
    finalised = not file.unfinalised_flags
    zone = {} if file.time_zone_minutes is None else {"time_zone_min": str(file.time_zone_minutes)}
    index = RecordingIndex(
        format="mdf3" if file.version < 400 else "mdf4",
        profile=f"mdf{file.version / 100:.2f}",
        library=file.program,
        start_ns=min(starts, default=None),
        end_ns=max(ends, default=None),
        schemas=tuple(group.schema for group in groups),
        channels=tuple(group.channel for group in groups),
        units=units,
        attachments=tuple(
            Attachment(
                name=attachment.name.encode("unicode_escape").decode("ascii"),
                media_type=attachment.media_type,
                offset=attachment.address,
                length=attachment.length,
            )
            for attachment in file.attachments
        ),
        metadata={"header": {**file.properties, **zone}, **_events(plan)},
        messages_declared=_declared(groups) if finalised else None,
        findings=(*plan.findings, *_more_findings(plan, groups)),
        structure=tuple(_structure(source, plan)),
    )
    _PLANS[id(index)] = source, plan
    weakref.finalize(index, _PLANS.pop, id(index), None)
    return index


def table_of_channel(
    index: RecordingIndex, channel: Channel
) -> tuple[str, pa.Schema | None, DecodeStatus]:
    """Silver table of a channel group, its schema and status.

    The frames of a bus also give rows of `signals`, where a definition of the bus is there; those
    of a LIN bus are kept as raw records beside.
    """
    del index
    tables: Mapping[str, tuple[pa.Schema, DecodeStatus]] = {
        "signals": (SIGNALS, "DECODED"),
        "can_frames": (CAN_FRAMES, "DECODED"),
        "raw_messages": (RAW_MESSAGES, "NO_DECODER"),
    }
    table = channel.metadata["kind"]
    return table, *tables[table]


def iter_table_groups(
    source: Source,
    index: RecordingIndex,
    *,
    context: DecodeContext,
    units: Sequence[Unit] | None = None,
) -> Iterator[TableGroup]:
    """Decode a file, or some of its data groups, to rows by table.

    Args:
        source: The file.
        index: Of the same file.
        context: Values that go into every row; its definitions go before those of the file for
            `can:<bus>` and `lin:<bus>`, behind them for `can:*` and `lin:*`.
        units: Units to decode; all by default.

    Yields:
        Groups of about two million rows, in batches of one or several signals. A unit's ledger
        comes behind them, in a group without rows.
    """
    known, plan = _PLANS.get(id(index), (None, None))
    if plan is None or known is not source:
        plan = plan_file(source)
    definitions = Definitions(plan, context)
    maker = RowMaker(context)
    planned = plan.units
    for unit in index.units if units is None else units:
        decoder = UnitDecoder(plan, planned[unit.index], maker, definitions)
        yield from decoder.table_groups()


def _events(plan: FilePlan) -> dict[str, dict[str, str]]:
    """Events as metadata: JSON of name, kind and log time by their number."""
    start = plan.file.start_ns - zone_ns(plan)
    found = {
        str(number): canonical_json(
            {
                "name": event.name,
                "kind": event.kind,
                "log_time_ns": None if event.time_ns is None else start + event.time_ns,
            }
        ).decode()
        for number, event in enumerate(plan.file.events)
    }
    return {"events": found} if found else {}


def _declared(groups: Sequence[GroupPlan]) -> int:
    return sum(group.channel.message_count or 0 for group in groups)


def _unit(plan: FilePlan, index: int, unit: UnitPlan) -> Unit:
    fragments = unit.fragments
    spans = [span for group in unit.part.groups if (span := _span(plan, unit, group))]
    counts = {channel: stop - start for channel, (start, stop) in unit.ranges.items()}
    return Unit(
        index=index,
        offset=fragments[0].address if fragments else unit.part.data_group.address,
        length=sum(fragment.length for fragment in fragments),
        compression=next((f.compression for f in fragments if f.compression), ""),
        uncompressed_size=sum(fragment.size for fragment in fragments),
        start_ns=min((span[0] for span in spans), default=None),
        end_ns=max((span[1] for span in spans), default=None),
        message_count=unit.declared,
        channel_counts={channel: count for channel, count in counts.items() if count},
    )


def _span(plan: FilePlan, unit: UnitPlan, group: GroupPlan) -> tuple[int, int] | None:
    """Times of the first and the last record of a group; records are in the order of time."""
    start, stop = unit.ranges[group.channel.id]
    if start == stop:
        return None
    reader = unit.part.reader
    ends = [reader.records(group.layout, at, at + 1) for at in (start, stop - 1)]
    found = [times_ns(plan, group, records) for records in ends]
    if not all(len(fits) and fits.all() for _, fits in found):  # damaged, or out of range
        found = [times_ns(plan, group, reader.records(group.layout, start, stop))]
    times = np.concatenate([some[fits] for some, fits in found])
    return (int(times.min()), int(times.max())) if len(times) else None


def _more_findings(plan: FilePlan, groups: Sequence[GroupPlan]) -> Iterator[Finding]:
    if plan.file.is_local_time and plan.file.time_zone_minutes is None:
        yield Finding("LOCAL_TIME", "the start is local time of an unknown zone, taken as UTC")
    for group in groups:
        if group.count and plan.times_of(group) is None:
            yield Finding("NO_TIME", f"{group.channel.topic} has no time channel")
    for name, data in file_definitions(plan).items():
        try:
            found = parse_definition(data).findings
        except DecodeError as error:
            found = (Finding(error.code, error.what),)
        for finding in found:
            detail = f"attachment at {name}: {finding.detail}"
            yield attrs.evolve(finding, detail=detail, offset=name)


def _structure(source: Source, plan: FilePlan) -> Iterator[LedgerEntry]:
    """Fates of the bytes that no data group has: the metadata of the file."""
    at = 0
    for offset, length in [*sorted(plan.block_lengths.items()), (source.size, 0)]:
        if offset > at:
            yield LedgerEntry(at, offset - at, "skipped", "STRUCTURE", "metadata blocks")
        at = max(at, offset + length)
