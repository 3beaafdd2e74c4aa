"""MCAP files: index by a linear scan, messages by chunk, pointers back to bytes.

Source: https://mcap.dev/spec
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import DecodeError, PlatformError
from contracts.recording import (
    BadMessage,
    Int64Array,
    LedgerEntry,
    MessageBatch,
    MessageGroup,
    RecordingIndex,
    Source,
    UInt8Array,
    Unit,
)
from udfs.decode import mcap_records as rec
from udfs.decode.limits import FIRST_BYTES, MAX_BAD_ROWS, check_unit_size
from udfs.decode.mcap_chunk import (
    Definition,
    Messages,
    Placed,
    batches_by_channel,
    is_loose,
    load_chunk,
    messages_of,
)
from udfs.decode.mcap_index import index_file
from udfs.decode.mcap_scan import is_conflict
from udfs.decode.units import iter_unit_groups
from udfs.memory.arena import PADDING_BYTES, new_arena

_TIME_LIMIT = np.uint64(1 << 63)


def index_recording(source: Source) -> RecordingIndex:
    """Walk the file and say what is in it, what is damaged, and how it splits.

    A unit is a chunk with the message indexes behind it, or a range of messages that stand in
    the file itself.

    Raises:
        DecodeError: BAD_MAGIC; or the damage, where it leaves nothing to decode.
        ResourceLimitError: BOMB, where every chunk claims more than it may hold.
        UnsupportedFormatError: UNSUPPORTED_COMPRESSION:<name>, of every chunk.
    """
    return index_file(source)


def iter_message_groups(
    source: Source,
    index: RecordingIndex,
    *,
    units: Sequence[Unit] | None = None,
    channels: Collection[int] | None = None,
) -> Iterator[MessageGroup]:
    """Yield the messages of consecutive units, about 32 MB at a time, in file order.

    Args:
        source: The file.
        index: Of the same file.
        units: The units to read; all by default.
        channels: Channel ids to yield; all by default. The ledger speaks of all of them.

    Yields:
        Groups whose batches share one arena, reused by the next group. Ledger entries declare
        and count losses; what was written and bad is for the decoder of payloads to add.
    """
    known = {channel.id for channel in index.channels}
    reader = _Reader(source, index, known if channels is None else known & set(channels))
    for group in iter_unit_groups(index.units if units is None else units):
        for loose, run in itertools.groupby(group, key=is_loose):
            if loose:
                yield from (reader.read_loose(unit) for unit in run)
            else:
                yield reader.read_chunks(list(run))


def read_units(source: Source, unit_offsets: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield the uncompressed data of chunks by the file offsets of their records, in that order.

    Raises:
        DecodeError: No chunk is there, or it is damaged.
        ResourceLimitError: BOMB.
        UnsupportedFormatError: UNSUPPORTED_COMPRESSION:<name>.
    """
    for offset in unit_offsets:
        chunk = rec.chunk_head_at(source, offset)
        check_unit_size(chunk.data_length, declared=chunk.uncompressed_size, offset=offset)
        out = np.empty(chunk.uncompressed_size, np.uint8)
        yield offset, load_chunk(source, chunk, out).data


@attrs.frozen(eq=False)
class _Part:
    """The messages of a unit that are to be decoded, and where its data stands in the arena."""

    unit: Unit
    messages: Messages
    base: int
    in_chunk: bool


@attrs.define(eq=False)
class _Reader:
    """Reads groups of units into one arena.

    Attributes:
        wanted: Channel ids to yield.
        known: (65536,) whether a channel id is defined.
        is_wanted: (C,) whether it is to be yielded; none from C on is.
        conflicts: By channel, the offset of the unit that has first defined it anew, differently.
    """

    source: Source
    index: RecordingIndex
    wanted: Collection[int]
    arena: UInt8Array = attrs.field(factory=lambda: np.empty(0, np.uint8))
    conflicts: dict[int, int] = attrs.field(factory=dict)
    known: npt.NDArray[np.bool_] = attrs.field(init=False)
    is_wanted: npt.NDArray[np.bool_] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.known = np.zeros(1 << 16, np.bool_)
        self.known[[channel.id for channel in self.index.channels]] = True
        self.is_wanted = np.zeros(max(self.wanted, default=-1) + 1, np.bool_)
        self.is_wanted[list(self.wanted)] = True
        self.conflicts.update(self.index.conflicts)

    def read_chunks(self, units: Sequence[Unit]) -> MessageGroup:
        """Decompress chunks one behind the other and collect their messages."""
        needed = sum(unit.uncompressed_size or 0 for unit in units)
        if len(self.arena) < needed + PADDING_BYTES:
            self.arena = new_arena(needed)
        parts, ledger, bad = list[_Part](), list[LedgerEntry](), list[BadMessage]()
        used = 0
        for unit in units:
            try:
                self.source.read_at(unit.offset, unit.length)  # remote: one request for the unit
                chunk = rec.chunk_head_at(self.source, unit.offset)
                data = load_chunk(self.source, chunk, self.arena[used:])
                found = messages_of(data, self.known)
            except PlatformError as error:
                ledger.append(_lost(unit, error))
                continue
            part = _Part(unit, found, used, in_chunk=True)
            part, entry = self._judged(part, data, is_certain=chunk.crc != 0, bad=bad)
            used += len(data)
            parts.append(part)
            ledger.append(entry)
        batches = tuple(self._batches(parts, self.arena))
        return MessageGroup(batches, tuple(ledger), tuple(bad), conflicts=dict(self.conflicts))

    def read_loose(self, unit: Unit) -> MessageGroup:
        """Collect messages that stand in the file itself; their bytes are not copied."""
        bad: list[BadMessage] = []
        try:
            data = np.frombuffer(self.source.read_at(unit.offset, unit.length), np.uint8)
            found = messages_of(data, self.known)
        except PlatformError as error:
            return MessageGroup((), (_lost(unit, error),))
        part = _Part(unit, found, 0, in_chunk=False)
        part, entry = self._judged(part, data, is_certain=False, bad=bad)
        batches = tuple(self._batches([part], data))
        return MessageGroup(batches, (entry,), tuple(bad), conflicts=dict(self.conflicts))

    def _judged(
        self, part: _Part, data: UInt8Array, *, is_certain: bool, bad: list[BadMessage]
    ) -> tuple[_Part, LedgerEntry]:
        """The part without the messages that can't be decoded, and what the unit owes."""
        if self._is_plain(part):
            return part, _entry(part, is_certain=is_certain, orphans=0, conflicts=0, bad=0)
        found = part.messages.rows
        known = self.known[found["channel"]]
        clear = ~self._in_conflict(part.unit, part.messages, data)
        in_time = (found["log_time"] < _TIME_LIMIT) & (found["publish_time"] < _TIME_LIMIT)
        bad += self._out_of_range(part, np.flatnonzero(known & clear & ~in_time), data)
        entry = _entry(
            part,
            is_certain=is_certain,
            orphans=int(np.count_nonzero(~known)),
            conflicts=int(np.count_nonzero(known & ~clear)),
            bad=int(np.count_nonzero(known & clear & ~in_time)),
        )
        keep = known & clear & in_time
        if not keep.all():
            part = attrs.evolve(part, messages=attrs.evolve(part.messages, rows=found[keep]))
        return part, entry

    def _is_plain(self, part: _Part) -> bool:
        """Whether all its messages can be decoded: nothing is defined in it, or was anew before."""
        found = part.messages
        is_clear = all(offset >= part.unit.offset for offset in self.conflicts.values())
        return not found.strange and not found.definitions and is_clear

    def _in_conflict(self, unit: Unit, found: Messages, data: UInt8Array) -> npt.NDArray[np.bool_]:
        """Messages behind a definition of their channel that differs from the first."""
        changed = [channel for channel, offset in self.conflicts.items() if offset < unit.offset]
        rows = found.rows
        mask = np.isin(rows["channel"], changed) if changed else np.zeros(len(rows), np.bool_)
        for definition in found.definitions:
            content = data.data[definition.start : definition.end]
            for channel in self._redefined(definition, content):
                mask |= (rows["channel"] == channel) & (rows["start"] > definition.start)
                self.conflicts[channel] = min(unit.offset, self.conflicts.get(channel, unit.offset))
        return mask

    def _redefined(self, definition: Definition, content: memoryview) -> Iterator[int]:
        """Channels that a definition gives another meaning than they have in the index."""
        fields = rec.Fields(content, offset=definition.start)
        try:
            if definition.op == rec.OP_CHANNEL:
                again = rec.parse_channel(fields)
                first = [one for one in self.index.channels if one.id == again.id]
                yield from (one.id for one in first if is_conflict(one, again))
                return
            schema = rec.parse_schema(fields)
        except DecodeError:
            return
        if any(one.id == schema.id and one.hash != schema.hash for one in self.index.schemas):
            yield from (one.id for one in self.index.channels if one.schema_id == schema.id)

    def _out_of_range(
        self, part: _Part, rows: Int64Array, data: UInt8Array
    ) -> Iterator[BadMessage]:
        if not len(rows):
            return
        topics = {channel.id: channel.topic for channel in self.index.channels}
        unit = part.unit
        for row in part.messages.rows[rows[:MAX_BAD_ROWS]]:
            channel, start = int(row["channel"]), int(row["start"])
            if channel not in self.wanted:
                continue
            times = f"log {row['log_time']}, publish {row['publish_time']}"
            length = min(int(row["length"]), FIRST_BYTES)
            yield BadMessage(
                channel_id=channel,
                topic=topics[channel],
                unit_offset=unit.offset if part.in_chunk else -1,
                offset=start if part.in_chunk else unit.offset + start,
                log_time_ns=None,
                error_class="TIME_OUT_OF_RANGE",
                error=f"a time does not fit int64 nanoseconds: {times}",
                first_bytes=data[start : start + length].tobytes(),
            )

    def _batches(self, parts: Sequence[_Part], arena: UInt8Array) -> Iterator[MessageBatch]:
        placed = [
            Placed(part.messages.rows, part.base, 0, part.unit.offset)
            if part.in_chunk
            else Placed(part.messages.rows, 0, part.unit.offset, -1)
            for part in parts
        ]
        return batches_by_channel(placed, self.is_wanted, arena=arena)


def _lost(unit: Unit, error: PlatformError) -> LedgerEntry:
    """Entry of a unit that did not open: all its messages are lost, as many as are declared."""
    return LedgerEntry(
        offset=unit.offset,
        length=unit.length,
        fate="quarantined",
        reason_code=error.code,
        detail=error.what,
        messages_declared=unit.message_count,
        messages_lost=unit.message_count,
    )


def _entry(part: _Part, *, is_certain: bool, orphans: int, conflicts: int, bad: int) -> LedgerEntry:
    """What a unit owes: a checksum that holds makes its content certain, else the index counts."""
    unit, found = part.unit, len(part.messages)
    damage = part.messages.damage
    claimed = unit.message_count
    declared = found if is_certain and not damage else max(found, claimed or 0)
    lost = declared - found + orphans + conflicts
    counts = f"{declared if declared > found else claimed} messages declared, {found} found"
    reasons = [
        ("COUNT_MISMATCH", counts, not is_certain and found > (claimed or found)),
        ("BAD_RECORD", damage, bool(damage)),
        ("COUNT_MISMATCH", counts, declared > found),
        ("SCHEMA_CONFLICT", f"{conflicts} messages behind a changed definition", conflicts > 0),
        ("ORPHAN_MESSAGES", f"{orphans} messages of undefined channels", orphans > 0),
        ("TIME_OUT_OF_RANGE", f"{bad} messages with times beyond int64", bad > 0),
    ]
    held = [(code, text) for code, text, holds in reasons if holds]
    is_unknown = bool(damage) and claimed is None
    return LedgerEntry(
        offset=unit.offset,
        length=unit.length,
        fate="quarantined" if damage and not found else "decoded",
        reason_code=held[0][0] if held else "",
        detail="; ".join(text for _, text in held),
        messages_declared=None if is_unknown else declared,
        messages_bad=bad,
        messages_lost=None if is_unknown else lost,
    )
