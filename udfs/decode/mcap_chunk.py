"""The records inside a unit of an MCAP file, found all at once.

A message index is a claim: it is believed when the records that it names fill the chunk without
gap or overlap. Else the chunk is walked record by record.

Source: https://mcap.dev/spec#chunk-op0x06
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import attrs
import numpy as np
import numpy.typing as npt
from isal.isal_zlib import crc32

from contracts.errors import DecodeError, ResourceLimitError
from contracts.recording import Int64Array, Source, UInt8Array, Unit
from udfs.decode import mcap_records as rec
from udfs.decode.compression import decompress_into
from udfs.decode.limits import MAX_STRUCTURE_RECORDS, check_unit_size

_PREFIX = np.dtype(
    {
        "names": ["op", "length", "channel", "sequence", "log_time", "publish_time"],
        "formats": ["u1", "<u8", "<u2", "<u4", "<u8", "<u8"],
        "offsets": [0, 1, 9, 11, 15, 23],
        "itemsize": rec.HEAD_BYTES + rec.MESSAGE_HEAD_BYTES,
    }
)
_HEAD = struct.Struct("<BQ")
_MAX_GAPS = 4096


class Definition(NamedTuple):
    """A schema or channel record: its content lies in [start, end) of the unit's data."""

    op: int
    start: int
    end: int


@attrs.frozen(eq=False)
class Messages:
    """The messages of a unit in file order.

    Attributes:
        starts: (N,) int64, start of each payload in the unit's data.
        lengths: (N,) int64, bytes of each payload.
        channel: (N,) uint16.
        sequence: (N,) uint32.
        log_time: (N,) uint64, ns; may exceed int64.
        publish_time: (N,) uint64, ns; may exceed int64.
        definitions: Schema and channel records.
        damage: Why the records end before the data does, "" where they fill it.
    """

    starts: Int64Array
    lengths: Int64Array
    channel: npt.NDArray[np.uint16]
    sequence: npt.NDArray[np.uint32]
    log_time: npt.NDArray[np.uint64]
    publish_time: npt.NDArray[np.uint64]
    definitions: tuple[Definition, ...] = ()
    damage: str = ""

    def where(self, mask: npt.NDArray[np.bool_]) -> Messages:
        """Some of the messages."""
        return Messages(
            self.starts[mask],
            self.lengths[mask],
            self.channel[mask],
            self.sequence[mask],
            self.log_time[mask],
            self.publish_time[mask],
            self.definitions,
            self.damage,
        )


def is_loose(unit: Unit) -> bool:
    """Whether the unit is messages that stand in the file itself, rather than a chunk.

    An uncompressed chunk is shorter than its record.
    """
    return not unit.compression and unit.uncompressed_size == unit.length


def load_unit(source: Source, unit: Unit, out: UInt8Array) -> tuple[UInt8Array, bool]:
    """Uncompressed data of a unit, and whether it is a chunk.

    Args:
        source: The file.
        unit: A chunk, or a range of the file with loose messages.
        out: Buffer of at least the chunk's uncompressed size; loose messages are not copied.

    Raises:
        DecodeError: CHUNK_CRC, CHUNK_DAMAGED, SIZE_MISMATCH, BAD_RECORD or TRUNCATED.
        ResourceLimitError: BOMB.
        UnsupportedFormatError: UNSUPPORTED_COMPRESSION:<name>.
    """
    if is_loose(unit):
        return np.frombuffer(source.read_at(unit.offset, unit.length), np.uint8), False
    return load_chunk(source, rec.chunk_head_at(source, unit.offset), out), True


def load_chunk(source: Source, chunk: rec.ChunkHead, out: UInt8Array) -> UInt8Array:
    """Uncompressed data of a chunk, in `out`; raises as `load_unit` does."""
    check_unit_size(chunk.data_length, declared=chunk.uncompressed_size, offset=chunk.offset)
    data = out[: chunk.uncompressed_size]
    stored = source.read_at(chunk.data_offset, chunk.data_length)
    decompress_into(data, data=stored, compression=chunk.compression, offset=chunk.offset)
    if chunk.crc and crc32(data) != chunk.crc:
        what = "the chunk differs from its checksum"
        raise DecodeError(what, code="CHUNK_CRC", offset=chunk.offset)
    return data


def indexed_offsets(source: Source, unit: Unit) -> Int64Array | None:
    """(N,) offsets of messages as the index records behind a chunk claim them; None if none do."""
    chunk = rec.head_at(source, unit.offset)
    end = unit.offset + unit.length
    parts = [entries for _, _, entries in rec.iter_message_indexes(source, chunk.end, end=end)]
    return np.frombuffer(b"".join(parts), "<i8")[1::2] if parts else None


def messages_of(data: UInt8Array, indexed: Int64Array | None = None) -> Messages:
    """Find the messages of a unit.

    Args:
        data: (S,) the uncompressed data.
        indexed: (N,) offsets that an index claims, in any order.

    Raises:
        ResourceLimitError: RESOURCE_LIMIT, too many records that are no messages.
    """
    if indexed is not None:
        found = _believed(data, np.sort(indexed))
        if found is not None:
            return found
    offsets, definitions, damage = _walk(data.data, 0, len(data))
    return _gather(data, np.array(offsets, np.int64), tuple(definitions), damage)


def _believed(data: UInt8Array, offsets: Int64Array) -> Messages | None:
    """Messages at the offsets if, with what stands between them, they fill the data; else None."""
    last = len(data) - _PREFIX.itemsize
    if len(offsets) and not 0 <= offsets[0] <= offsets[-1] <= last:
        return None
    found = _gather(data, offsets, (), "")
    ops = data[offsets]
    ends = found.starts + found.lengths
    if (ops != rec.OP_MESSAGE).any() or (found.lengths < 0).any():
        return None
    gap_starts = np.concatenate([[0], ends])
    gap_ends = np.concatenate([offsets, [len(data)]])
    gaps = np.flatnonzero(gap_starts != gap_ends)
    if len(gaps) > _MAX_GAPS:
        return None
    definitions: list[Definition] = []
    view = data.data
    for start, end in zip(gap_starts[gaps].tolist(), gap_ends[gaps].tolist(), strict=True):
        messages, between, damage = _walk(view, start, end)
        if messages or damage or start > end:
            return None
        definitions += between
    return attrs.evolve(found, definitions=tuple(definitions))


def _gather(
    data: UInt8Array, offsets: Int64Array, definitions: tuple[Definition, ...], damage: str
) -> Messages:
    """Read the heads of the messages at the offsets, each of which fits in the data."""
    shape = (max(len(data) - _PREFIX.itemsize + 1, 0),)
    heads = np.ndarray(shape, f"V{_PREFIX.itemsize}", buffer=data, strides=(1,))[offsets]
    fields = heads.view(_PREFIX)
    lengths = np.minimum(fields["length"], np.uint64(len(data))).astype(np.int64)
    lengths -= rec.MESSAGE_HEAD_BYTES
    return Messages(
        starts=offsets + _PREFIX.itemsize,
        lengths=lengths,
        channel=np.ascontiguousarray(fields["channel"]),
        sequence=np.ascontiguousarray(fields["sequence"]),
        log_time=np.ascontiguousarray(fields["log_time"]),
        publish_time=np.ascontiguousarray(fields["publish_time"]),
        definitions=definitions,
        damage=damage,
    )


def _walk(view: memoryview, at: int, end: int) -> tuple[list[int], list[Definition], str]:
    """Visit the records of [at, end): offsets of messages, definitions, and what went wrong."""
    messages: list[int] = []
    definitions: list[Definition] = []
    others = 0
    unpack, least = _HEAD.unpack_from, rec.MESSAGE_HEAD_BYTES
    while at < end:
        if at + rec.HEAD_BYTES > end:
            return messages, definitions, f"the head of a record is cut at byte {at}"
        op, length = unpack(view, at)
        after = at + rec.HEAD_BYTES + length
        if op == 0 or after > end or (op == rec.OP_MESSAGE and length < least):
            return messages, definitions, f"no record of kind {op:#04x} fits at byte {at}"
        if op == rec.OP_MESSAGE:
            messages.append(at)
        else:
            others += 1
            if others > MAX_STRUCTURE_RECORDS:
                what = f"more than {MAX_STRUCTURE_RECORDS} records that are no messages"
                raise ResourceLimitError(what)
            if op in (rec.OP_SCHEMA, rec.OP_CHANNEL):
                definitions.append(Definition(op, at + rec.HEAD_BYTES, after))
        at = after
    return messages, definitions, ""
