"""Records of an MCAP file: where they stand, and what each kind holds.

Source: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import attrs
from isal.isal_zlib import crc32

from contracts.errors import DecodeError
from contracts.ids import schema_hash
from contracts.recording import Attachment, Channel, Schema, Source
from udfs.decode.compression import COMPRESSIONS

MAGIC = b"\x89MCAP0\r\n"
HEAD_BYTES = 9
MESSAGE_HEAD_BYTES = 22
FOOTER_BYTES = 20
DATA_END_BYTES = 4

OP_HEADER = 0x01
OP_FOOTER = 0x02
OP_SCHEMA = 0x03
OP_CHANNEL = 0x04
OP_MESSAGE = 0x05
OP_CHUNK = 0x06
OP_MESSAGE_INDEX = 0x07
OP_CHUNK_INDEX = 0x08
OP_ATTACHMENT = 0x09
OP_ATTACHMENT_INDEX = 0x0A
OP_STATISTICS = 0x0B
OP_METADATA = 0x0C
OP_METADATA_INDEX = 0x0D
OP_SUMMARY_OFFSET = 0x0E
OP_DATA_END = 0x0F
FIRST_PRIVATE_OP = 0x80
_MAX_NAMES_BYTES = 1 << 20
_CRC_STEP_BYTES = 32 << 20

_HEAD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQI")
_STATISTICS = struct.Struct("<QHIIIIQQ")
_FOOTER = struct.Struct("<QQI")
_ATTACHMENT = struct.Struct("<QQ")
_MESSAGE_INDEX = struct.Struct("<BQHI")
MESSAGE_INDEX_BYTES = _MESSAGE_INDEX.size
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@attrs.frozen
class Head:
    """A record in the file: [offset, end), its content behind the nine bytes of head."""

    op: int
    offset: int
    length: int

    @property
    def content_offset(self) -> int:
        """File offset of the content."""
        return self.offset + HEAD_BYTES

    @property
    def end(self) -> int:
        """File offset behind the record."""
        return self.offset + HEAD_BYTES + self.length


@attrs.frozen
class ChunkHead:
    """What a chunk record says before its data.

    Attributes:
        crc: CRC-32 of the uncompressed data, 0 where the writer took none.
        data_offset: File offset of the compressed data.
        data_length: Compressed bytes.
    """

    offset: int
    start_ns: int
    end_ns: int
    uncompressed_size: int
    crc: int
    compression: str
    data_offset: int
    data_length: int


@attrs.frozen
class Statistics:
    """What the file counts of itself."""

    message_count: int
    chunk_count: int
    channel_counts: Mapping[int, int]


@attrs.frozen
class Footer:
    """Where the summary is, and its CRC-32 (0 where none was taken)."""

    summary_start: int
    summary_offset_start: int
    summary_crc: int


class Fields:
    """Reads the fields of a record's content one after the other.

    Every method raises DecodeError BAD_RECORD where the content ends before the field does.
    """

    def __init__(self, content: memoryview, *, offset: int) -> None:
        self._content = content
        self._offset = offset
        self.position = 0

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        """Numbers of a fixed layout."""
        return layout.unpack(self.raw(layout.size))

    def u16(self) -> int:
        """Two-byte number."""
        return int(_U16.unpack(self.raw(2))[0])

    def u32(self) -> int:
        """Four-byte number."""
        return int(_U32.unpack(self.raw(4))[0])

    def u64(self) -> int:
        """Eight-byte number."""
        return int(_U64.unpack(self.raw(8))[0])

    def raw(self, length: int) -> memoryview:
        """Bytes."""
        end = self.position + length
        if end > len(self._content):
            what = f"a field of {length} bytes exceeds its record of {len(self._content)}"
            raise DecodeError(what, code="BAD_RECORD", offset=self._offset)
        piece = self._content[self.position : end]
        self.position = end
        return piece

    def text(self) -> str:
        """Length-prefixed UTF-8."""
        try:
            return str(self.raw(self.u32()), "utf-8")
        except UnicodeDecodeError as error:
            what = "a string is not UTF-8"
            raise DecodeError(what, code="BAD_RECORD", offset=self._offset) from error

    def text_map(self) -> dict[str, str]:
        """Length-prefixed pairs of strings."""
        part = Fields(self.raw(self.u32()), offset=self._offset)
        pairs = {}
        while part.has_more():
            key = part.text()
            pairs[key] = part.text()
        return pairs

    def has_more(self) -> bool:
        """Whether content is left."""
        return self.position < len(self._content)


def head_at(source: Source, offset: int) -> Head:
    """Head of the record at `offset`; DecodeError TRUNCATED if the file ends before it does."""
    op, length = _HEAD.unpack(source.read_at(offset, HEAD_BYTES))
    return Head(op, offset, length)


def iter_heads(window: memoryview, *, offset: int) -> Iterator[Head]:
    """Heads of consecutive records in a window of the file that starts at `offset`.

    The last one's content may reach beyond the window.
    """
    unpack, at, last = _HEAD.unpack_from, 0, len(window) - HEAD_BYTES
    while at <= last:
        op, length = unpack(window, at)
        yield Head(op, offset + at, length)
        at += HEAD_BYTES + length


def content_of(source: Source, head: Head) -> Fields:
    """Fields of a record; DecodeError TRUNCATED if the file ends before it does."""
    return Fields(source.read_at(head.content_offset, head.length), offset=head.offset)


def chunk_head_at(source: Source, offset: int) -> ChunkHead:
    """What the chunk record at `offset` says before its data.

    Raises:
        DecodeError: BAD_RECORD, no chunk record or one that does not add up; TRUNCATED.
    """
    head = head_at(source, offset)
    if head.op != OP_CHUNK:
        raise DecodeError(f"record {head.op:#04x} is no chunk", code="BAD_RECORD", offset=offset)
    return _chunk_head(source, head)


def holds_chunk(source: Source, head: Head) -> bool:
    """Whether the content of a record of any kind is that of a chunk, to its last byte."""
    try:
        chunk = _chunk_head(source, head)
    except DecodeError:
        return False
    is_known = chunk.compression in COMPRESSIONS
    return is_known and chunk.data_offset + chunk.data_length == head.end


def _chunk_head(source: Source, head: Head) -> ChunkHead:
    offset = head.offset
    look = min(head.length, 512, source.size - head.content_offset)
    fields = Fields(source.read_at(head.content_offset, look), offset=offset)
    start_ns, end_ns, size, crc = fields.numbers(_CHUNK)
    compression, data_length = fields.text(), fields.u64()
    if fields.position + data_length > head.length:
        what = f"{data_length} bytes of data exceed the chunk record of {head.length}"
        raise DecodeError(what, code="BAD_RECORD", offset=offset)
    data_offset = head.content_offset + fields.position
    return ChunkHead(offset, start_ns, end_ns, size, crc, compression, data_offset, data_length)


def parse_header(fields: Fields) -> tuple[str, str]:
    """Profile and library."""
    return fields.text(), fields.text()


def parse_schema(fields: Fields) -> Schema:
    """A schema; id 0 is not allowed by the specification and means none."""
    number, name, encoding = fields.u16(), fields.text(), fields.text()
    data = bytes(fields.raw(fields.u32()))
    return Schema(number, name, encoding, data, schema_hash(name, encoding, data))


def parse_channel(fields: Fields) -> Channel:
    """A channel."""
    number, schema_id, topic, encoding = fields.u16(), fields.u16(), fields.text(), fields.text()
    return Channel(number, topic, encoding, schema_id, fields.text_map())


def parse_metadata(fields: Fields) -> tuple[str, dict[str, str]]:
    """Name and pairs of a metadata record."""
    return fields.text(), fields.text_map()


def read_attachment(source: Source, head: Head) -> tuple[Attachment, bool]:
    """An attachment, and whether its bytes hold to its CRC-32 (they do where none was taken).

    Raises:
        DecodeError: BAD_RECORD, its fields exceed it.
    """
    look = min(head.length, _MAX_NAMES_BYTES)
    fields = Fields(source.read_at(head.content_offset, look), offset=head.offset)
    log_time, _ = fields.numbers(_ATTACHMENT)
    name, media_type, length = fields.text(), fields.text(), fields.u64()
    data_offset = head.content_offset + fields.position
    if data_offset + length + 4 > head.end:
        what = f"an attachment of {length} bytes exceeds its record of {head.length}"
        raise DecodeError(what, code="BAD_RECORD", offset=head.offset)
    crc = _U32.unpack(source.read_at(data_offset + length, 4))[0]
    holds = crc == 0 or crc == crc_of(source, head.content_offset, data_offset + length)
    shown = name.encode("unicode_escape").decode("ascii")
    log_time_ns = log_time if log_time < 1 << 63 else None
    return Attachment(shown, media_type, data_offset, length, log_time_ns), holds


def crc_of(source: Source, start: int, end: int) -> int:
    """CRC-32 of the bytes [start, end) of the file."""
    crc = 0
    for at in range(start, end, _CRC_STEP_BYTES):
        crc = crc32(source.read_at(at, min(_CRC_STEP_BYTES, end - at)), crc)
    return crc


def parse_statistics(fields: Fields) -> Statistics:
    """Counts of messages, chunks, and messages by channel."""
    numbers = fields.numbers(_STATISTICS)
    part = Fields(fields.raw(fields.u32()), offset=0)
    counts = {}
    while part.has_more():
        channel = part.u16()
        counts[channel] = part.u64()
    return Statistics(numbers[0], numbers[5], counts)


def parse_footer(fields: Fields) -> Footer:
    """Where the summary is."""
    return Footer(*fields.numbers(_FOOTER))


def parse_data_end(fields: Fields) -> int:
    """CRC-32 of the data section, 0 where none was taken."""
    return fields.u32()


def iter_message_indexes(
    source: Source, offset: int, *, end: int
) -> Iterator[tuple[int, int, memoryview]]:
    """Yield end, channel and entries (16 bytes each) of the index records behind a chunk.

    Stops before the first record that is no message index, or that does not add up.
    """
    while offset + MESSAGE_INDEX_BYTES <= end:
        op, length, channel, size = _MESSAGE_INDEX.unpack(
            source.read_at(offset, MESSAGE_INDEX_BYTES)
        )
        after = offset + HEAD_BYTES + length
        first = offset + MESSAGE_INDEX_BYTES
        if op != OP_MESSAGE_INDEX or after > end or size % 16 or first + size > after:
            return
        yield after, channel, source.read_at(first, size)
        offset = after
