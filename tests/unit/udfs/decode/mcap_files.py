"""MCAP files made record by record, as no writer would make them."""

from __future__ import annotations

import struct
import zlib

from tests.unit.udfs.decode.recordings import NUMBERS, cdr_number

MAGIC = b"\x89MCAP0\r\n"


def record(op: int, content: bytes) -> bytes:
    return struct.pack("<BQ", op, len(content)) + content


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def schema_record(number: int, name: str, definition: str) -> bytes:
    return record(3, struct.pack("<H", number) + text(name) + text("ros2msg") + text(definition))


def channel_record(number: int, schema: int, topic: str) -> bytes:
    return record(4, struct.pack("<HH", number, schema) + text(topic) + text("cdr") + text(b""))


def message_record(channel: int, sequence: int, log_time: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", channel, sequence, log_time, log_time) + data)


def chunk_record(records: bytes, compression: str = "", data: bytes | None = None, **more) -> bytes:
    stored = records if data is None else data
    size = more.get("size", len(records))
    crc = more.get("crc", zlib.crc32(records))
    head = struct.pack("<QQQI", 1, 2, size, crc) + text(compression)
    return record(6, head + struct.pack("<Q", len(stored)) + stored)


def file_of(
    *records: bytes, closed: bool = True, statistics: dict[int, int] | None = None
) -> bytes:
    """A file of these records; statistics are messages by channel."""
    body = MAGIC + record(1, text("") + text("by hand")) + b"".join(records)
    if not closed:
        return body
    body += record(15, b"\0\0\0\0")
    start = 0
    if statistics:
        counts = b"".join(struct.pack("<HQ", *one) for one in statistics.items())
        numbers = struct.pack("<QHIIIIQQ", sum(statistics.values()), 1, 1, 0, 0, 1, 0, 1)
        start = len(body)
        body += record(11, numbers + struct.pack("<I", len(counts)) + counts)
    return body + record(2, struct.pack("<QQI", start, 0, 0)) + MAGIC


DEFINED = schema_record(1, "pkg/msg/Number", NUMBERS) + channel_record(1, 1, "/n")


def numbered(count: int, channel: int = 1, start: int = 0) -> bytes:
    return b"".join(
        message_record(channel, i, 1000 + i, cdr_number(i)) for i in range(start, start + count)
    )


def redefined(*, in_chunk: bool) -> tuple[bytes, int]:
    """A file of 60 messages in chunks of 10 that changes its schema, and how many stand before.

    The change comes inside of a chunk or between two; the summary has the last definition only.
    """
    other = schema_record(1, "pkg/msg/Number", "float64 changed\n")
    last = 25 if in_chunk else 20
    body = MAGIC + record(1, text("ros2") + text("by hand"))
    for start in range(0, 60, 10):
        before = DEFINED if start == 0 else b""
        inside = in_chunk and start <= last < start + 10
        cut = last - start if inside else 10
        records = before + numbered(cut, start=start)
        entries = [(start + i, len(before) + i * len(numbered(1))) for i in range(cut)]
        if inside:
            records += other
            entries += [(last + i, len(records) + i * len(numbered(1))) for i in range(10 - cut)]
            records += numbered(10 - cut, start=last)
        if start == last:
            body += other
        index = b"".join(struct.pack("<QQ", *entry) for entry in entries)
        body += chunk_record(records) + record(7, struct.pack("<H", 1) + text(index))
    body += record(15, b"\0\0\0\0")
    counts = struct.pack("<HQ", 1, 60)
    summary = other + channel_record(1, 1, "/n")
    summary += record(11, struct.pack("<QHIIIIQQ", 60, 1, 1, 0, 0, 6, 1, 2) + text(counts))
    return body + summary + record(2, struct.pack("<QQI", len(body), 0, 0)) + MAGIC, last
