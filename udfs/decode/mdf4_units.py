"""The units of an MDF 4 recording decoded to rows, each with its balance in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import pyarrow as pa

from contracts.recording import BadMessage, Int64Array, LedgerEntry, TableGroup, UInt8Array
from udfs.decode.limits import FIRST_BYTES, MAX_BAD_ROWS
from udfs.decode.mdf4_columns import plain_samples
from udfs.decode.mdf4_definitions import Definitions
from udfs.decode.mdf4_frames import frames_of
from udfs.decode.mdf4_plan import FilePlan, GroupPlan, UnitPlan
from udfs.decode.mdf4_records import Records
from udfs.decode.mdf4_times import times_ns
from udfs.decode.mdf4_types import CN_VLSD
from udfs.decode.mdf4_values import blobs_of, samples_of
from udfs.decode.signal_rows import RowMaker, SignalPart
from udfs.encodings.can import Untold, buses_of, decode_frames
from udfs.encodings.can_columns import PackedFrames
from udfs.encodings.dbc import BusDefinition

_SAMPLES_AT_A_TIME = 1 << 21
_FRAMES_AT_A_TIME, _MOST_FRAMES = 1 << 16, 1 << 18
_ERRORS = {
    "TIME_OUT_OF_RANGE": "the time does not fit nanoseconds in 64 bits",
    "VALUE_MISSING": "the payload of the frame is not in the file",
}


@attrs.define(eq=False)
class UnitDecoder:
    """Decodes one unit and keeps its balance.

    Attributes:
        written: Records that gave rows.
        untold: Frames that the definitions could not tell.
    """

    plan: FilePlan
    unit: UnitPlan
    maker: RowMaker
    definitions: Definitions
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
            step = _first_step(self.definitions.of(group.bus, group))
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
            times, fits = times_ns(self.plan, group, records)
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
                range=leaf.channel.range,
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
        bad: tuple[BadMessage, ...] = ()
        if missing is not None:
            bad = self._bad(group, records.where(missing), "VALUE_MISSING")
        written = {group.channel.id: len(frames)}
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

    def _bus_signals(self, group: GroupPlan, frames: PackedFrames) -> tuple[pa.RecordBatch, ...]:
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


def _first_step(known: Sequence[BusDefinition]) -> int:
    """Frames to begin with, so that they give no more rows than a step of signals does."""
    most = max((len(m.signals) for one in known for m in one.messages.values()), default=0)
    step = _SAMPLES_AT_A_TIME // most if most else _FRAMES_AT_A_TIME
    return max(min(step, _MOST_FRAMES), _FRAMES_AT_A_TIME // 4)


def _next_step(found: TableGroup, step: int) -> int:
    """Frames to take next, so that they give about as many rows as a step of signals does."""
    rows = sum(rows.num_rows for _, rows in found.tables)
    return max(min(_SAMPLES_AT_A_TIME * step // max(rows, 1), _MOST_FRAMES), 1)
