"""Records of a ROS 1 bag as they stand in the file: heads, header fields, chunks.

Source: ROS bag format 2.0, http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Mapping

import attrs
import numpy as np

from contracts.errors import DecodeError
from contracts.recording import Int64Array, Source
from udfs.decode.limits import GROUP_BYTES, check_unit_size

OP_MESSAGE = 0x02
OP_BAG_HEADER = 0x03
OP_INDEX = 0x04
OP_CHUNK = 0x05
OP_CHUNK_INFO = 0x06
OP_CONNECTION = 0x07

_MAX_HEADER_BYTES = 1 << 20
_KEPT_HEADER_BYTES = 128
_FIRST_LOOK_BYTES = 512
_U32 = struct.Struct("<I")
_INDEX_ROW = np.dtype([("seconds", "<u4"), ("nanoseconds", "<u4"), ("offset", "<u4")])


@attrs.frozen
class Record:
    """A record of the file; `data_length` is what it declares, even where the file ends before."""

    offset: int
    op: int
    fields: Mapping[bytes, bytes]
    data_offset: int
    data_length: int

    @property
    def end(self) -> int:
        """File offset behind the record."""
        return self.data_offset + self.data_length

    def number(self, name: bytes) -> int:
        """A header field as an unsigned little-endian integer; DecodeError if it is missing."""
        value = self.fields.get(name)
        if value is None:
            what = f"record has no field {name.decode()}"
            raise DecodeError(what, code="BAD_RECORD", offset=self.offset)
        return int.from_bytes(value, "little")


def header_fields(header: memoryview | bytes) -> dict[bytes, bytes]:
    """Parse `name=value` fields, each behind its length; ValueError if they don't add up."""
    fields: dict[bytes, bytes] = {}
    at, end = 0, len(header)
    while at < end:
        if at + 4 > end:
            raise ValueError("a header field is cut")
        (length,) = _U32.unpack_from(header, at)
        field = bytes(header[at + 4 : at + 4 + length])
        name, equals, value = field.partition(b"=")
        if len(field) != length or not equals:
            raise ValueError("a header field is cut or has no name")
        fields[name] = value
        at += 4 + length
    return fields


@functools.lru_cache(maxsize=1024)
def _kept_fields(header: bytes) -> dict[bytes, bytes]:
    return header_fields(header)


def _fields_of(header: bytes) -> Mapping[bytes, bytes]:
    """Fields of a header; short ones, of which a bag has few in great number, are kept."""
    return _kept_fields(header) if len(header) <= _KEPT_HEADER_BYTES else header_fields(header)


def read_record(source: Source, offset: int) -> Record:
    """Read the head of the record at `offset`; its data is not touched.

    Raises:
        DecodeError: TRUNCATED where the file ends inside the head, BAD_RECORD where the bytes
            are no record.
    """
    look = source.read_at(offset, min(_FIRST_LOOK_BYTES, source.size - offset))
    if len(look) < 4:
        raise DecodeError("the file ends inside a record", code="TRUNCATED", offset=offset)
    (header_length,) = _U32.unpack_from(look, 0)
    if header_length > _MAX_HEADER_BYTES:
        what = f"a record header of {header_length} bytes"
        raise DecodeError(what, code="BAD_RECORD", offset=offset)
    if offset + header_length + 8 > source.size:
        raise DecodeError("the file ends inside a record", code="TRUNCATED", offset=offset)
    if header_length + 8 > len(look):
        look = source.read_at(offset, header_length + 8)
    try:
        fields = _fields_of(bytes(look[4 : 4 + header_length]))
        op = fields[b"op"][0]
    except (ValueError, LookupError) as error:
        raise DecodeError("bytes are no record", code="BAD_RECORD", offset=offset) from error
    (data_length,) = _U32.unpack_from(look, 4 + header_length)
    return Record(offset, op, fields, offset + header_length + 8, data_length)


def iter_records(source: Source, offset: int, end: int) -> Iterator[Record]:
    """Yield the record heads in [offset, end); raises what `read_record` raises."""
    while offset < end:
        record = read_record(source, offset)
        yield record
        offset = record.end


@attrs.frozen(eq=False)
class Chunk:
    """A chunk, or a run of messages outside chunks, with the index records behind it.

    Attributes:
        offset: Start of its first record in the file.
        end: File offset behind it and its index records.
        data_offset: Start of its data in the file.
        data_length: Bytes of data that are in the file.
        compression: none, bz2, lz4 or what else the record says.
        size: Uncompressed bytes that it declares.
        is_whole: Whether the file holds all the data that it declares.
        times_ns: (N,) int64 log times that its index records give; None where it has none.
        counts: Messages by connection, by the same.
    """

    offset: int
    end: int
    data_offset: int
    data_length: int
    compression: str
    size: int
    is_whole: bool = True
    times_ns: Int64Array | None = None
    counts: Mapping[int, int] = attrs.field(factory=dict)

    @property
    def in_file(self) -> int:
        """File offset of uncompressed position 0, -1 where the data is compressed."""
        return self.data_offset if self.compression == "none" else -1


def chunk_at(source: Source, offset: int, *, with_index: bool = True) -> Chunk:
    """Read the head of the chunk at `offset`, and the index records behind it.

    Args:
        source: The bag.
        offset: Where the chunk record is, or the first of a run of messages.
        with_index: Whether to read the index records, and not end at the chunk's own data.

    Raises:
        DecodeError: TRUNCATED or BAD_RECORD, there is no chunk at `offset`.
        ResourceLimitError: BOMB, it declares more than a unit may hold.
    """
    record = read_record(source, offset)
    if record.op == OP_MESSAGE:
        return _loose_messages(source, record)
    data_length = min(record.data_length, source.size - record.data_offset)
    size = record.number(b"size")
    check_unit_size(record.data_length, declared=size, offset=offset)
    entries, counts = list[memoryview](), dict[int, int]()
    end = min(record.end, source.size)
    while with_index and (entry := _index_record(source, end)) is not None:
        entries.append(source.read_at(entry.data_offset, entry.data_length))
        conn = entry.number(b"conn")
        counts[conn] = counts.get(conn, 0) + entry.number(b"count")
        end = entry.end
    rows = np.frombuffer(b"".join(entries), _INDEX_ROW)
    times = rows["seconds"] * np.int64(1_000_000_000) + rows["nanoseconds"]
    return Chunk(
        offset=offset,
        end=end,
        data_offset=record.data_offset,
        data_length=data_length,
        compression=record.fields.get(b"compression", b"none").decode("ascii", "backslashreplace"),
        size=size,
        is_whole=record.end <= source.size,
        times_ns=times if entries else None,
        counts=counts,
    )


def _index_record(source: Source, offset: int) -> Record | None:
    """The index record at `offset`; None if something else is there, or it is not whole."""
    if offset >= source.size:
        return None
    try:
        record = read_record(source, offset)
        fits = record.number(b"count") * _INDEX_ROW.itemsize == record.data_length
    except DecodeError:
        return None
    return record if record.op == OP_INDEX and fits and record.end <= source.size else None


def _loose_messages(source: Source, record: Record) -> Chunk:
    """Message records that stand outside any chunk: one unit as far as they go."""
    start = end = record.offset
    while record.op == OP_MESSAGE and record.end <= source.size:
        end = record.end
        if end - start > GROUP_BYTES or end == source.size:
            break
        try:
            record = read_record(source, end)
        except DecodeError:
            break
    if end == start:
        raise DecodeError("the file ends inside a message", code="TRUNCATED", offset=start)
    return Chunk(start, end, start, end - start, "none", end - start)
