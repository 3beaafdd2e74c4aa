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

from contracts.errors import DecodeError, UnsupportedFormatError
from contracts.ids import canonical_json
from contracts.recording import (
    Attachment,
    BadMessage,
    Channel,
    Finding,
    Int64Array,
    LedgerEntry,
    RecordingIndex,
    Source,
    TableGroup,
    UInt8Array,
    Unit,
)
from udfs.decode.context import DecodeContext
from udfs.decode.limits import FIRST_BYTES, MAX_BAD_ROWS
from udfs.decode.mdf4_columns import plain_samples
from udfs.decode.mdf4_frames import frames_of
from udfs.decode.mdf4_plan import FilePlan, GroupPlan, UnitPlan, plan_file
from udfs.decode.mdf4_records import Records
from udfs.decode.mdf4_types import (
    CN_VLSD,
)
from udfs.decode.mdf4_values import blobs_of, convert, numbers_of, samples_of
from udfs.decode.signal_rows import (
    CAN_FRAMES,
    RAW_MESSAGES,
    SIGNALS,
    RowMaker,
    SignalPart,
)
from udfs.decode.sniff import sniff
from udfs.decode.source import BytesSource
from udfs.encodings.can import CanFrames, Untold, buses_of, decode_frames
from udfs.encodings.dbc import BusDefinition, parse_definition
from udfs.encodings.fields import nanoseconds
from udfs.encodings.samples import Mask

DecodeStatus = Literal["DECODED", "NO_DECODER", "NO_DEFINITION"]
_SAMPLES_AT_A_TIME = 1 << 21
_FRAMES_AT_A_TIME, _MOST_FRAMES = 1 << 16, 1 << 18
_TIME_LIMIT = 9.2e18
_PLANS: dict[int, tuple[Source, FilePlan]] = {}
"""Plans by the identity of the index that was made of them, as long as that lives."""
_ERRORS = {
    "TIME_OUT_OF_RANGE": "the time does not fit nanoseconds in 64 bits",
    "VALUE_MISSING": "the payload of the frame is not in the file",
}


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
    definitions = _Definitions(plan, context)
    maker = RowMaker(context)
    planned = plan.units
    for unit in index.units if units is None else units:
        decoder = _UnitDecoder(plan, planned[unit.index], maker, definitions)
        yield from decoder.table_groups()


def _next_step(found: TableGroup, step: int) -> int:
    """Frames to take next, so that they give about as many rows as a step of signals does."""
    rows = sum(rows.num_rows for _, rows in found.tables)
    return max(min(_SAMPLES_AT_A_TIME * step // max(rows, 1), _MOST_FRAMES), 1)


def _events(plan: FilePlan) -> dict[str, dict[str, str]]:
    """Events as metadata: JSON of name, kind and log time by their number."""
    start = plan.file.start_ns - _zone_ns(plan)
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
    found = [_times_ns(plan, group, records) for records in ends]
    if not all(len(fits) and fits.all() for _, fits in found):  # damaged, or out of range
        found = [_times_ns(plan, group, reader.records(group.layout, start, stop))]
    times = np.concatenate([some[fits] for some, fits in found])
    return (int(times.min()), int(times.max())) if len(times) else None


def _times_ns(plan: FilePlan, group: GroupPlan, records: Records) -> tuple[Int64Array, Mask]:
    """Log times of records, and which of them fit: seconds become nanoseconds here, once."""
    rows = len(records.ordinal)
    start = plan.file.start_ns - _zone_ns(plan)
    found = plan.times_of(group)
    if abs(start) > _TIME_LIMIT:
        return np.zeros(rows, np.int64), np.zeros(rows, bool)
    if found is None or not rows:
        return np.full(rows, start, np.int64), np.ones(rows, bool)
    home, owner = found
    if owner is not group:
        first, last = int(records.ordinal[0]), int(records.ordinal[-1]) + 1
        theirs = home.records(owner.layout, first, last)
        records = attrs.evolve(theirs, matrix=theirs.matrix[records.ordinal - first])
    assert owner.master is not None
    numbers = numbers_of(owner.master, records)
    seconds = convert(numbers, owner.master.conversion).value
    return nanoseconds(seconds, start_ns=start, limit=_TIME_LIMIT)


def _zone_ns(plan: FilePlan) -> int:
    """What a local start time is ahead of UTC, as far as the file says."""
    file = plan.file
    return (file.time_zone_minutes or 0) * 60_000_000_000 if file.is_local_time else 0


def _more_findings(plan: FilePlan, groups: Sequence[GroupPlan]) -> Iterator[Finding]:
    if plan.file.is_local_time and plan.file.time_zone_minutes is None:
        yield Finding("LOCAL_TIME", "the start is local time of an unknown zone, taken as UTC")
    for group in groups:
        if group.count and plan.times_of(group) is None:
            yield Finding("NO_TIME", f"{group.channel.topic} has no time channel")
    for name, data in _file_definitions(plan).items():
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


def _file_definitions(plan: FilePlan) -> dict[int, bytes]:
    """Attachments that are bus definitions by their content, by address."""
    found = {}
    for attachment in plan.file.attachments:
        if attachment.data:
            try:
                what = sniff(BytesSource(attachment.data))
            except (DecodeError, UnsupportedFormatError):
                continue
            if what.kind == "bus_definition":
                found[attachment.address] = attachment.data
    return found


class _Definitions:
    """Bus definitions by bus: of the context for the bus, of the file, of the context for any.

    The file's own are for CAN unless a frame channel of another bus refers to them.
    """

    def __init__(self, plan: FilePlan, context: DecodeContext) -> None:
        self._named = {
            key: parse_definition(data)
            for key, data in sorted(context.definitions.items())
            if key.startswith(("can:", "lin:"))
        }
        self._own: dict[int, BusDefinition] = {}
        for address, data in _file_definitions(plan).items():
            try:
                self._own[address] = parse_definition(data)
            except DecodeError:
                continue  # the index has said so
        self._bound = {
            address
            for data_group in plan.data_groups
            for group in data_group.groups
            for channel in group.group.channels
            for address in channel.attachments
        }

    def of(self, bus: int, group: GroupPlan) -> tuple[BusDefinition, ...]:
        """Definitions for the frames of a bus in a group, the first that knows an id decodes it.

        An attachment that a frame channel refers to holds for that group alone.
        """
        family = group.frame_kind[:3].lower()
        mine = {address for channel in group.group.channels for address in channel.attachments}
        attached = [
            definition
            for address, definition in self._own.items()
            if address in mine or (address not in self._bound and family == "can")
        ]
        first, last = self._named.get(f"{family}:{bus}"), self._named.get(f"{family}:*")
        return tuple(d for d in [first, *attached, last] if d is not None)

    def frames_at_a_time(self, group: GroupPlan) -> int:
        """Frames to begin with, so that they give no more rows than a step of signals does."""
        known = self.of(group.bus, group)
        most = max((len(m.signals) for one in known for m in one.messages.values()), default=0)
        step = _SAMPLES_AT_A_TIME // most if most else _FRAMES_AT_A_TIME
        return max(min(step, _MOST_FRAMES), _FRAMES_AT_A_TIME // 4)


@attrs.define(eq=False)
class _UnitDecoder:
    """Decodes one unit and keeps its balance.

    Attributes:
        written: Records that gave rows.
        untold: Frames that the definitions could not tell.
    """

    plan: FilePlan
    unit: UnitPlan
    maker: RowMaker
    definitions: _Definitions
    written: int = 0
    bad: int = 0
    untold: Untold = attrs.field(factory=Untold)

    def table_groups(self) -> Iterator[TableGroup]:
        """All rows of the unit, then its ledger alone: no group waits for the next to be made."""
        for group in self.unit.part.groups:
            yield from self._of_group(group)
        yield TableGroup((), tuple(self._ledger()))

    def _of_group(self, group: GroupPlan) -> Iterator[TableGroup]:
        if group.kind == "signals":
            step = max(_SAMPLES_AT_A_TIME // max(len(group.leaves), 1), 1)
        else:
            step = self.definitions.frames_at_a_time(group)
        make = {
            "signals": self._signals,
            "can_frames": self._frames,
            "raw_messages": self._raw,
        }[group.kind]
        reader = self.unit.part.reader
        start, end = self.unit.ranges[group.channel.id]
        while start < end:
            records = reader.records(group.layout, start, min(start + step, end))
            start += step
            if not len(records.ordinal):
                continue
            times, fits = _times_ns(self.plan, group, records)
            bad: tuple[BadMessage, ...] = ()
            if fits.all():
                found = make(group, records, times)
            else:
                found = make(group, records.where(fits), times[fits])
                bad += self._bad(group, records.where(~fits), "TIME_OUT_OF_RANGE")
            self.written += sum(found.rows_by_channel.values())
            yield attrs.evolve(found, bad=found.bad + bad)
            if group.kind == "can_frames":
                step = _next_step(found, step)

    def _signals(self, group: GroupPlan, records: Records, times: Int64Array) -> TableGroup:
        plain = plain_samples(group.leaves, records)
        parts = [
            SignalPart(
                name=leaf.name,
                source=group.schema.name,
                unit=leaf.channel.unit,
                definition_hash="",
                sequence=records.ordinal,
                log_time_ns=times,
                samples=samples_of(
                    group.group,
                    leaf.channel,
                    records,
                    variable=self.unit.part.reader.variable,
                    element=leaf.element,
                    plain=plain.get(at),
                ),
            )
            for at, leaf in enumerate(group.leaves)
        ]
        batches = self.maker.signal_batches(parts, channel=group.channel)
        written = {group.channel.id: len(records.ordinal)}
        return TableGroup(tuple(("signals", rows) for rows in batches), (), rows_by_channel=written)

    def _frames(self, group: GroupPlan, records: Records, times: Int64Array) -> TableGroup:
        frames, missing = frames_of(group, self.unit.part.reader, records, log_time_ns=times)
        made = self.maker.can_frames(frames, channel=group.channel)
        tables = [("can_frames", rows) for rows in made]
        tables += [("signals", rows) for rows in self._bus_signals(group, frames)]
        bad = self._bad(group, records.where(missing), "VALUE_MISSING")
        written = {group.channel.id: len(frames.log_time_ns)}
        return TableGroup(tuple(tables), (), bad, written)

    def _bad(self, group: GroupPlan, records: Records, error: str) -> tuple[BadMessage, ...]:
        """Count records that can't become rows; the first of them are kept to look at."""
        self.bad += len(records.ordinal)
        return tuple(
            BadMessage(
                channel_id=group.channel.id,
                topic=group.channel.topic,
                unit_offset=self.unit.part.data_group.address,
                offset=ordinal,
                log_time_ns=None,
                error_class=error,
                error=_ERRORS[error],
                first_bytes=row.tobytes()[:FIRST_BYTES],
            )
            for ordinal, row in zip(
                records.ordinal[:MAX_BAD_ROWS].tolist(), records.matrix[:MAX_BAD_ROWS], strict=True
            )
        )

    def _bus_signals(self, group: GroupPlan, frames: CanFrames) -> tuple[pa.RecordBatch, ...]:
        buses = buses_of(frames)
        decoded = decode_frames(frames, {bus: self.definitions.of(bus, group) for bus in buses})
        self.untold.add(decoded)
        return self.maker.block_batches(decoded.blocks, channel=group.channel)

    def _raw(self, group: GroupPlan, records: Records, times: Int64Array) -> TableGroup:
        """Whole records; behind each, its variable-length values with their 4-byte lengths."""
        arena, starts, lengths = self._raw_bytes(group, records)
        rows = self.maker.raw(
            arena=arena,
            starts=starts,
            lengths=lengths,
            sequence=records.ordinal,
            log_time_ns=times,
            encoding="mdf4",
            schema_hash=group.schema.hash,
            channel=group.channel,
        )
        tables = [("raw_messages", rows)]
        if group.frame_kind:
            tables += [("signals", one) for one in self._lin_signals(group, records, times)]
        written = {group.channel.id: len(records.ordinal)}
        return TableGroup(tuple(tables), (), rows_by_channel=written)

    def _lin_signals(
        self, group: GroupPlan, records: Records, times: Int64Array
    ) -> tuple[pa.RecordBatch, ...]:
        """Signals of the frames whose payload is there, if a definition of their bus is."""
        frames, _ = frames_of(group, self.unit.part.reader, records, log_time_ns=times)
        buses = buses_of(frames)
        is_defined = any(self.definitions.of(bus, group) for bus in buses)
        return self._bus_signals(group, frames) if is_defined else ()

    def _raw_bytes(
        self, group: GroupPlan, records: Records
    ) -> tuple[UInt8Array, Int64Array, Int64Array]:
        rows = [matrix.tobytes() for matrix in records.matrix]
        for leaf in group.leaves:
            if leaf.channel.kind != CN_VLSD:
                continue
            values = blobs_of(
                group.group, leaf.channel, records, variable=self.unit.part.reader.variable
            )
            spans = zip(values.starts.tolist(), values.lengths.tolist(), strict=True)
            for row, (start, length) in enumerate(spans):
                value = values.arena[start : start + length].tobytes() if start >= 0 else b""
                rows[row] += len(value).to_bytes(4, "little") + value
        lengths = np.array([len(row) for row in rows], np.int64)
        return np.frombuffer(b"".join(rows), np.uint8), np.cumsum(lengths) - lengths, lengths

    def _ledger(self) -> Iterator[LedgerEntry]:
        """One entry for each data block; the first one carries the balance of the unit."""
        fragments = self.unit.fragments
        declared = self.unit.declared
        lost = max(declared - self.written - self.bad, 0)
        reason, detail = self._reason(lost)
        offset, length = self.unit.part.data_group.address, 0
        if fragments:
            offset = fragments[0].address
            length = self.plan.block_lengths[offset]
        yield LedgerEntry(
            offset=offset,
            length=length,
            fate="quarantined" if lost and not self.written else "decoded",
            reason_code=reason,
            detail=detail,
            messages_declared=max(declared, self.written + self.bad),
            messages_written=self.written,
            messages_bad=self.bad,
            messages_lost=lost,
        )
        for fragment in fragments[1:]:
            detail = f"data of the group at {self.unit.part.data_group.address}"
            length = self.plan.block_lengths[fragment.address]
            yield LedgerEntry(fragment.address, length, "decoded", detail=detail)

    def _reason(self, lost: int) -> tuple[str, str]:
        if lost and not self.unit.part.data_group.data_link:
            return "DATA_MISSING", f"{lost} records declared, no data"
        if lost:
            return "COUNT_MISMATCH", f"{lost} declared records are not there or damaged"
        return self.untold.reason()
