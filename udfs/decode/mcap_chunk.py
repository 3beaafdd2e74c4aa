"""The records inside a unit of an MCAP file, found in one walk.

A message index is a claim, and reading it costs more than the walk: what it counts is compared
with what is found.

Source: https://mcap.dev/spec#chunk-op0x06
"""

from __future__ import annotations

import ctypes
import functools
from typing import NamedTuple

import attrs
import numpy as np
import numpy.typing as npt
from isal.isal_zlib import crc32

from contracts.errors import DecodeError, ResourceLimitError
from contracts.recording import Source, UInt8Array, Unit
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
    """

    rows: npt.NDArray[np.void]
    definitions: tuple[Definition, ...] = ()
    damage: str = ""

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


def messages_of(data: UInt8Array) -> Messages:
    """Find the messages of a unit, (S,) bytes of uncompressed data, by a walk over its records.

    Raises:
        ResourceLimitError: RESOURCE_LIMIT, too many records that are no messages.
        MemoryError: There is none left.
    """
    found, others, stopped = Growing(), Growing(), ctypes.c_int64()
    status = _kernel()(
        address_of(data), len(data), MAX_STRUCTURE_RECORDS,
        ctypes.byref(found), ctypes.byref(others), ctypes.byref(stopped),
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
    return Messages(rows, tuple(map(Definition._make, definitions.reshape(-1, 3).tolist())), damage)


@functools.cache
def _kernel() -> ctypes._NamedFuncPointer:
    kernel = library().mcap_walk
    address, number, out = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(Growing)
    kernel.argtypes = (address, number, number, out, out, ctypes.POINTER(number))
    kernel.restype = number
    return kernel
