"""The records inside a unit of an MCAP file, found in one walk.

A message index is a claim, and reading it costs more than the walk: what it counts is compared
with what is found.

Source: https://mcap.dev/spec#chunk-op0x06
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import attrs
import numpy as np
import numpy.typing as npt
from isal.isal_zlib import crc32

from contracts.errors import DecodeError, ResourceLimitError
from contracts.recording import MessageBatch, Source, UInt8Array, Unit
from udfs.decode import mcap_records as rec
from udfs.decode.compression import decompress_into
from udfs.decode.limits import MAX_STRUCTURE_RECORDS, check_unit_size
from udfs.native.library import Growing, address_of, library, taken

ROW = np.dtype(
    [
        ("start", np.int64),
        ("length", np.int64),
        ("log_time", np.uint64),
        ("publish_time", np.uint64),
        ("sequence", np.uint32),
        ("channel", np.uint16),
        ("unused", np.uint16),
    ]
)
EVERY_CHANNEL = np.ones(1 << 16, np.bool_)
_HEAD_CUT, _TOO_MANY, _NO_MEMORY = 1, 3, -1


class Definition(NamedTuple):
    """A schema or channel record: its content lies in [start, end) of the unit's data."""

    op: int
    start: int
    end: int


@attrs.frozen(eq=False)
class Messages:
    """The messages of a unit in file order.

    Attributes:
        rows: (N,) of `ROW`: start and length of each payload in the unit's data, channel,
            sequence, and times in uint64 ns, which may exceed int64.
        definitions: Schema and channel records.
        damage: Why the records end before the data does, "" where they fill it.
        strange: How many are of a channel that is not known, or have a time beyond int64.
    """

    rows: npt.NDArray[np.void]
    definitions: tuple[Definition, ...] = ()
    damage: str = ""
    strange: int = 0

    def __len__(self) -> int:
        return len(self.rows)


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


def messages_of(data: UInt8Array, known: npt.NDArray[np.bool_] = EVERY_CHANNEL) -> Messages:
    """Find the messages of a unit by a walk over its records.

    Args:
        data: (S,) uncompressed bytes.
        known: (65536,) which channels are.

    Raises:
        ResourceLimitError: RESOURCE_LIMIT, too many records that are no messages.
        MemoryError: There is none left.
    """
    found, others, stopped, strange = Growing(), Growing(), ctypes.c_int64(), ctypes.c_int64()
    status = _kernels().mcap_walk(
        address_of(data), len(data), MAX_STRUCTURE_RECORDS, address_of(known),
        ctypes.byref(found), ctypes.byref(others), ctypes.byref(stopped), ctypes.byref(strange),
    )  # fmt: skip
    rows, definitions = np.frombuffer(taken(found), ROW), np.frombuffer(taken(others), np.int64)
    if status == _NO_MEMORY:
        raise MemoryError("the messages of a chunk do not fit the memory")
    if status == _TOO_MANY:
        what = f"more than {MAX_STRUCTURE_RECORDS} records that are no messages"
        raise ResourceLimitError(what)
    damage, at = "", stopped.value
    if status:
        cut = f"the head of a record is cut at byte {at}"
        damage = cut if status == _HEAD_CUT else f"no record of kind {data[at]:#04x} fits at {at}"
    others_found = tuple(map(Definition._make, definitions.reshape(-1, 3).tolist()))
    return Messages(rows, others_found, damage, strange.value)


@attrs.frozen(eq=False)
class Placed:
    """Messages of a unit, and what is to be added to their places in it.

    Attributes:
        rows: (N,) of `ROW`.
        in_arena: For their places in the arena.
        in_unit: For their places in what pointers count in: the unit, or the file.
        unit: File offset of the unit, -1 for the file itself.
    """

    rows: npt.NDArray[np.void]
    in_arena: int
    in_unit: int
    unit: int


def batches_by_channel(
    parts: Sequence[Placed], wanted: npt.NDArray[np.bool_], *, arena: UInt8Array
) -> Iterator[MessageBatch]:
    """Yield the messages of each channel that occurs, in their order, by the channel's id.

    Args:
        parts: The messages; their times fit int64.
        wanted: (C,) which channels, by id, to yield.
        arena: That they are in.
    """
    count, place = _kernels().mcap_count, _kernels().mcap_place
    counts = np.zeros(len(wanted), np.int64)
    for part in parts:
        count(address_of(part.rows), len(part.rows), len(wanted), address_of(counts))
    ids = np.flatnonzero((counts > 0) & wanted)
    ends = np.cumsum(counts[ids])
    following = np.full(len(wanted), -1, np.int64)
    following[ids] = ends - counts[ids]
    room = int(ends[-1]) if len(ids) else 0
    places, said = np.empty((4, room), np.int64), np.empty((3, room), np.int64)
    for part in parts:
        place(
            address_of(part.rows), len(part.rows), len(wanted), part.in_arena, part.in_unit,
            part.unit, room, address_of(following), address_of(places), address_of(said),
        )  # fmt: skip
    begin = 0
    for channel, end in zip(ids.tolist(), ends.tolist(), strict=True):
        starts, lengths, unit, payload_offset = places[:, begin:end]
        log_time, publish_time, sequence = said[:, begin:end]
        yield MessageBatch(
            channel_id=channel,
            arena=arena,
            starts=starts,
            lengths=lengths,
            log_time_ns=log_time,
            publish_time_ns=publish_time,
            sequence=sequence,
            unit_offset=unit,
            payload_offset=payload_offset,
        )
        begin = end


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    address, number, out = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(Growing)
    told = ctypes.POINTER(number)
    loaded.mcap_walk.argtypes = (address, number, number, address, out, out, told, told)
    loaded.mcap_walk.restype = number
    loaded.mcap_count.argtypes = (address, number, number, address)
    loaded.mcap_count.restype = None
    loaded.mcap_place.argtypes = (address, *(number,) * 6, address, address, address)
    loaded.mcap_place.restype = None
    return loaded
