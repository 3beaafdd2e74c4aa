"""The messages of a ROS 1 bag's chunk, found all at once.

All records of the chunk are walked, whatever its index records say: so a message that the index
leaves out is found, and an index that lies changes nothing.

Source: ROS bag format 2.0, http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import bz2
import ctypes
import functools
from collections.abc import Iterator

import attrs
import lz4.frame
import numpy as np

from contracts.errors import DecodeError
from contracts.recording import Int64Array, Source, UInt8Array
from udfs.decode.compression import decompress_into
from udfs.decode.ros1bag_records import OP_CONNECTION, Chunk, header_fields
from udfs.native.library import Growing, address_of, library, taken

_OUT_STEP_BYTES = 1 << 20


@attrs.frozen(eq=False)
class ChunkMessages:
    """The message records of an uncompressed chunk, in file order.

    Attributes:
        connection: (N,) int64, connection ids.
        starts: (N,) int64, start of each payload in the chunk.
        lengths: (N,) int64, bytes of each payload.
        time_ns: (N,) int64, log time, recorder's clock.
        damage: Why the chunk's bytes were not all accounted for; empty if they were.
        damage_offset: Position in the chunk where the damage begins, -1 without damage.
    """

    connection: Int64Array
    starts: Int64Array
    lengths: Int64Array
    time_ns: Int64Array
    damage: str = ""
    damage_offset: int = -1


def load_chunk(source: Source, chunk: Chunk, out: UInt8Array) -> tuple[UInt8Array, str]:
    """Decompress a chunk to the front of `out`, which holds at least `chunk.size` bytes.

    Returns:
        The front of `out` that was filled, and what was wrong (empty if nothing was). A damaged
        or cut chunk gives the bytes before the damage.

    Raises:
        UnsupportedFormatError: UNSUPPORTED_COMPRESSION:<name>.
    """
    data = source.read_at(chunk.data_offset, chunk.data_length)
    whole = out[: chunk.size]
    try:
        decompress_into(whole, data=data, compression=chunk.compression, offset=chunk.offset)
    except DecodeError as error:
        kept = _salvage(chunk, data)
        out[: len(kept)] = np.frombuffer(kept, np.uint8)
        return out[: len(kept)], error.what
    return whole, ""


def _salvage(chunk: Chunk, data: memoryview) -> bytes:
    """What a damaged or cut chunk gives before the damage, at most the declared size."""
    if chunk.compression == "none":
        return bytes(data[: chunk.size])
    bz2_or_lz4 = {"bz2": bz2.BZ2Decompressor, "lz4": lz4.frame.LZ4FrameDecompressor}
    decoder = bz2_or_lz4[chunk.compression]()
    parts: list[bytes] = []
    left, feed = chunk.size, bytes(data)
    try:
        while left > 0 and not decoder.eof:
            part = decoder.decompress(feed, max_length=min(left, _OUT_STEP_BYTES))
            if not part and not feed:
                break
            feed = b""
            parts.append(part)
            left -= len(part)
    except (OSError, RuntimeError, EOFError, ValueError):
        pass  # what came before the damage is the answer
    return b"".join(parts)


def chunk_messages(data: UInt8Array) -> ChunkMessages:
    """Find the message records of a chunk, up to the first bytes that are no record.

    Args:
        data: (B,) uint8, the uncompressed chunk.
    """
    rows = Growing()
    end = _kernels().bag_messages(address_of(data), len(data), rows)
    table = np.frombuffer(taken(rows), np.int64).reshape(-1, 4).T.copy()
    if end < 0:
        raise MemoryError("no memory for the messages of a chunk")
    damage, offset = ("", -1) if end == len(data) else ("bytes are no record", end)
    return ChunkMessages(table[0], table[1], table[2], table[3], damage, offset)


def connection_records(data: UInt8Array) -> Iterator[tuple[dict[bytes, bytes], memoryview]]:
    """Yield the fields and the data (a connection header) of a chunk's connection records."""
    view = data.data
    found = np.zeros(4, np.int64)
    at, end = 0, len(data)
    while _kernels().bag_next(address_of(data), end, at, OP_CONNECTION, address_of(found)):
        header, header_length, start, length = found.tolist()
        at = start + length
        yield header_fields(view[header : header + header_length]), view[start:at]


@functools.cache
def _kernels() -> ctypes.CDLL:
    """The kernels of bag.c, declared."""
    kernels = library()
    address, number = ctypes.c_void_p, ctypes.c_int64
    kernels.bag_messages.argtypes = (address, number, ctypes.POINTER(Growing))
    kernels.bag_messages.restype = number
    kernels.bag_next.argtypes = (address, number, number, ctypes.c_int32, address)
    kernels.bag_next.restype = ctypes.c_int32
    return kernels
