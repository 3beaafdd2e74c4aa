"""ROS 1 bags (format 2.0): messages by chunk, pointers back to bytes.

Source: ROS bag format 2.0, http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs
import numpy as np

from contracts.recording import (
    Int64Array,
    LedgerEntry,
    MessageBatch,
    MessageGroup,
    RecordingIndex,
    Source,
    UInt8Array,
    Unit,
)
from udfs.decode import ros1bag_records as rec
from udfs.decode.ros1bag_chunk import ChunkMessages, chunk_messages, load_chunk
from udfs.decode.ros1bag_scan import scan_file
from udfs.decode.units import iter_unit_groups, rows_by_channel, sequence_bases
from udfs.memory.arena import PADDING_BYTES, new_arena


def index_recording(source: Source) -> RecordingIndex:
    """Walk the file and say what is in it, what is damaged, and how it splits.

    Raises:
        DecodeError: BAD_MAGIC, BAD_RECORD or TRUNCATED where not even the bag header is there.
        ResourceLimitError: BOMB where a chunk declares more than it may hold.
        UnsupportedFormatError: ENCRYPTED, or UNSUPPORTED_COMPRESSION:<name>.
    """
    return scan_file(source)


def iter_message_groups(
    source: Source,
    index: RecordingIndex,
    *,
    units: Sequence[Unit] | None = None,
    channels: Collection[int] | None = None,
) -> Iterator[MessageGroup]:
    """Yield the messages of consecutive units, about 32 MB at a time, in file order.

    Args:
        source: The bag.
        index: Of the same bag.
        units: The units to read; all by default.
        channels: Channel ids to yield; all by default. The ledger speaks of all of them.

    Yields:
        Groups whose batches share one arena, reused by the next group. Ledger entries declare
        and count losses; what was written and bad is for the decoder of payloads to fill in.
    """
    known = {channel.id for channel in index.channels}
    wanted = known if channels is None else known & set(channels)
    bases = sequence_bases(index.units)
    arena = np.empty(0, np.uint8)
    for group in iter_unit_groups(index.units if units is None else units):
        needed = sum(unit.uncompressed_size or 0 for unit in group)
        if len(arena) < needed + PADDING_BYTES:
            arena = new_arena(needed)
        yield _read_group(source, group, arena, known=known, wanted=wanted, bases=bases)


def read_units(source: Source, unit_offsets: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield the uncompressed bytes of chunks by the file offsets of their records, in that order.

    Raises:
        DecodeError: No chunk is there, or it is damaged before its end.
    """
    for offset in unit_offsets:
        chunk = rec.chunk_at(source, offset, with_index=False)
        data, _ = load_chunk(source, chunk, np.empty(chunk.size, np.uint8))
        yield offset, data.data


def _read_group(
    source: Source,
    units: Sequence[Unit],
    arena: UInt8Array,
    *,
    known: Collection[int],
    wanted: Collection[int],
    bases: Mapping[int, Mapping[int, int]],
) -> MessageGroup:
    found: list[ChunkMessages] = []
    pointers = []
    damages = []
    at = 0
    for unit in units:
        # Remote: one request for the unit, and for the look at the record behind it.
        source.read_at(unit.offset, min(unit.length + 512, source.size - unit.offset))
        chunk = rec.chunk_at(source, unit.offset, with_index=False)
        data, damage = load_chunk(source, chunk, arena[at:])
        messages = chunk_messages(data)
        damages.append(damage or messages.damage)
        in_file = chunk.in_file
        pointers.append(
            (
                np.full(len(messages.starts), unit.offset if in_file < 0 else -1, np.int64),
                messages.starts if in_file < 0 else messages.starts + in_file,
            )
        )
        found.append(attrs.evolve(messages, starts=messages.starts + at))
        at += chunk.size
    batches = _batches(units, found, pointers, arena, wanted=wanted, bases=bases)
    ledger = map(_ledger_entry, units, _counts(found, known), damages)
    return MessageGroup(tuple(batches), tuple(ledger))


def _counts(found: Sequence[ChunkMessages], known: Collection[int]) -> Iterator[tuple[int, int]]:
    """Messages of each unit, and how many of them name a connection that is not defined."""
    is_orphan = ~np.isin(np.concatenate([part.connection for part in found]), list(known))
    at = 0
    for part in found:
        count = len(part.connection)
        yield count, int(np.count_nonzero(is_orphan[at : at + count]))
        at += count


def _ledger_entry(unit: Unit, counts: tuple[int, int], damage: str) -> LedgerEntry:
    """What a unit owes and what it gave."""
    found, orphans = counts
    declared = unit.message_count
    reason, detail = "", ""
    lost: int | None = orphans
    if damage:
        reason, detail = "CHUNK_DAMAGED", damage
        lost = None if declared is None else orphans + max(declared - found, 0)
    elif declared is not None and declared > found:
        reason, detail = "COUNT_MISMATCH", f"{declared} messages declared, {found} found"
        lost = orphans + declared - found
    elif declared is not None and declared < found:
        reason, detail = "COUNT_MISMATCH", f"{declared} messages declared, {found} found"
    elif orphans:
        reason, detail = "ORPHAN_MESSAGES", f"{orphans} messages of undefined connections"
    return LedgerEntry(
        offset=unit.offset,
        length=unit.length,
        fate="quarantined" if damage and not found else "decoded",
        reason_code=reason,
        detail=detail,
        messages_declared=None if declared is None else max(declared, found),
        messages_lost=lost,
    )


def _batches(
    units: Sequence[Unit],
    found: Sequence[ChunkMessages],
    pointers: Sequence[tuple[Int64Array, Int64Array]],
    arena: UInt8Array,
    *,
    wanted: Collection[int],
    bases: Mapping[int, Mapping[int, int]],
) -> Iterator[MessageBatch]:
    connection = np.concatenate([part.connection for part in found])
    starts = np.concatenate([part.starts for part in found])
    lengths = np.concatenate([part.lengths for part in found])
    time_ns = np.concatenate([part.time_ns for part in found])
    unit_offset = np.concatenate([offset for offset, _ in pointers])
    payload_offset = np.concatenate([offset for _, offset in pointers])
    for channel, rows in rows_by_channel(connection):
        if channel not in wanted:
            continue
        base = next((bases[u.index][channel] for u in units if channel in bases[u.index]), 0)
        yield MessageBatch(
            channel_id=channel,
            arena=arena,
            starts=starts[rows],
            lengths=lengths[rows],
            log_time_ns=time_ns[rows],
            publish_time_ns=time_ns[rows],
            sequence=base + np.arange(len(rows), dtype=np.int64),
            unit_offset=unit_offset[rows],
            payload_offset=payload_offset[rows],
        )
