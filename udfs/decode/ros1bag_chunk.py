"""The messages of a ROS 1 bag's chunk, found all at once.

The index records say where the messages are; the bytes between them are walked too, so that a
message that the index leaves out is found and an index that lies is set aside.

Source: ROS bag format 2.0, http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import bz2
import itertools
import struct
from collections.abc import Iterator

import attrs
import lz4.frame
import numpy as np

from contracts.errors import DecodeError
from contracts.recording import Int64Array, Source, UInt8Array
from udfs.decode.compression import decompress_into
from udfs.decode.ros1bag_records import OP_CONNECTION, OP_MESSAGE, Chunk, header_fields
from udfs.encodings.columns import windows

_OUT_STEP_BYTES = 1 << 20
_U32 = struct.Struct("<I")


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


def chunk_messages(data: UInt8Array, indexed: Int64Array | None) -> ChunkMessages:
    """Find the message records of a chunk.

    Args:
        data: (B,) uint8, the uncompressed chunk.
        indexed: (N,) int64 record offsets as the chunk's index records give them, any order; None
            where there are none. Every byte between them is walked too, so that a message that
            the index leaves out is found, and an index that lies is set aside.
    """
    if indexed is not None and len(indexed):
        found = _gather(data, np.sort(indexed))
        if found is not None:
            return found
    rows: list[tuple[int, int, int, int]] = []
    end = _walk(data.data, 0, len(data), rows)
    return _from_rows(rows, end if end < len(data) else -1)


def connection_records(data: UInt8Array) -> Iterator[tuple[dict[bytes, bytes], memoryview]]:
    """Yield the fields and the data (a connection header) of a chunk's connection records."""
    view = data.data
    at = 0
    while (head := _head(view, at, len(view))) is not None:
        fields, start, length = head
        if fields.get(b"op") == bytes([OP_CONNECTION]):
            yield fields, view[start : start + length]
        at = start + length


def _head(view: memoryview, at: int, end: int) -> tuple[dict[bytes, bytes], int, int] | None:
    """Fields, data start and data length of the record at `at`; None if it is not whole."""
    if at + 8 > end:
        return None
    (header_length,) = _U32.unpack_from(view, at)
    start = at + 8 + header_length
    if start > end:
        return None
    (length,) = _U32.unpack_from(view, start - 4)
    if start + length > end:
        return None
    try:
        return header_fields(view[at + 4 : at + 4 + header_length]), start, length
    except ValueError:
        return None


def _walk(view: memoryview, at: int, end: int, rows: list[tuple[int, int, int, int]]) -> int:
    """Append (connection, start, length, time) of the messages in [at, end); where it stopped."""
    while at < end:
        head = _head(view, at, end)
        if head is None:
            return at
        fields, start, length = head
        if fields.get(b"op") == bytes([OP_MESSAGE]):
            conn, time = fields.get(b"conn", b""), fields.get(b"time", b"")
            if len(conn) != 4 or len(time) != 8:
                return at
            seconds, nanoseconds = struct.unpack("<II", time)
            rows.append(
                (_U32.unpack(conn)[0], start, length, seconds * 1_000_000_000 + nanoseconds)
            )
        at = start + length
    return at


def _from_rows(rows: list[tuple[int, int, int, int]], damage_offset: int) -> ChunkMessages:
    table = np.array(rows, np.int64).reshape(-1, 4).T.copy()
    damage = "" if damage_offset < 0 else "bytes are no record"
    return ChunkMessages(table[0], table[1], table[2], table[3], damage, damage_offset)


def _gather(data: UInt8Array, offsets: Int64Array) -> ChunkMessages | None:
    """All indexed messages at once; None where the index does not fit the bytes."""
    view = data.data
    head = _head(view, int(offsets[0]), len(data)) if 0 <= offsets[0] < len(data) else None
    if head is None:
        return None
    width = head[1] - int(offsets[0])
    if offsets[-1] + width > len(data):
        return None
    layout = _layout(bytes(data[offsets[0] : offsets[0] + width - 4]))
    if layout is None:
        return None
    conn_at, time_at, spans = layout
    heads = windows(data, f"V{width}")[offsets]
    matrix = heads.view(np.uint8).reshape(-1, width)
    if not all((matrix[:, at : at + len(same)] == same).all() for at, same in spans):
        return None
    connection, seconds, nanoseconds, lengths = (
        np.ndarray(len(heads), "<u4", buffer=heads, offset=at, strides=width).astype(np.int64)
        for at in (conn_at, time_at, time_at + 4, width - 4)
    )
    time_ns = seconds * 1_000_000_000 + nanoseconds
    starts = offsets + width
    ends = starts + lengths
    gap_starts = np.concatenate([np.zeros(1, np.int64), ends])
    gap_ends = np.concatenate([offsets, np.array([len(data)], np.int64)])
    if np.any(gap_ends < gap_starts):
        return None
    rows: list[tuple[int, int, int, int]] = []
    damage = -1
    for gap in np.flatnonzero(gap_ends > gap_starts):
        end = int(gap_ends[gap])
        reached = _walk(view, int(gap_starts[gap]), end, rows)
        if reached != end and damage < 0:
            damage = reached
    if damage >= 0 and damage < offsets[-1]:
        return None
    found = ChunkMessages(connection, starts, lengths, time_ns)
    return _merged(found, _from_rows(rows, damage))


def _merged(indexed: ChunkMessages, walked: ChunkMessages) -> ChunkMessages:
    if not len(walked.starts):
        return attrs.evolve(indexed, damage=walked.damage, damage_offset=walked.damage_offset)
    starts = np.concatenate([indexed.starts, walked.starts])
    order = np.argsort(starts, kind="stable")
    return ChunkMessages(
        np.concatenate([indexed.connection, walked.connection])[order],
        starts[order],
        np.concatenate([indexed.lengths, walked.lengths])[order],
        np.concatenate([indexed.time_ns, walked.time_ns])[order],
        walked.damage,
        walked.damage_offset,
    )


def _layout(header: bytes) -> tuple[int, int, list[tuple[int, UInt8Array]]] | None:
    """Where conn and time stand in a message record, and the bytes between that never change."""
    at, places = 4, {}
    while at < len(header):
        (length,) = _U32.unpack_from(header, at)
        name, _, value = header[at + 4 : at + 4 + length].partition(b"=")
        places[name] = (at + 5 + len(name), len(value))
        at += 4 + length
    op, conn, time = (places.get(name, (0, 0)) for name in (b"op", b"conn", b"time"))
    if (op[1], conn[1], time[1]) != (1, 4, 8) or header[op[0]] != OP_MESSAGE:
        return None
    edges = sorted([(0, 0), (conn[0], 4), (time[0], 8), (len(header), 0)])
    spans = [
        (at + length, np.frombuffer(header[at + length : end], np.uint8))
        for (at, length), (end, _) in itertools.pairwise(edges)
    ]
    return conn[0], time[0], spans
