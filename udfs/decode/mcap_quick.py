"""The index of an MCAP file as its summary states it: for reading a part of a large file.

Two reads at the end of the file instead of a walk through it. The summary is believed where its
checksum holds and all that it says agrees with itself; each chunk still answers for its content
when it is read. What no chunk index names is not found this way, so ingest never goes it.

Source: https://mcap.dev/spec#summary-section
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import attrs
from isal.isal_zlib import crc32

from contracts.errors import PlatformError
from contracts.recording import Attachment, Channel, RecordingIndex, Schema, Source, Unit
from udfs.decode import mcap_records as rec
from udfs.decode.compression import COMPRESSIONS
from udfs.decode.limits import check_unit_size
from udfs.decode.units import messages_by_channel

_MAX_TIME_NS = (1 << 63) - 1
_FIRST_LOOK_BYTES = 4096
_INDEX_HEAD_BYTES = rec.HEAD_BYTES + 6
_INDEX_ENTRY_BYTES = 16
_COUNTS = struct.Struct("<QHII")


class _UnbelievableError(Exception):
    """The summary contradicts itself, or leaves out what must be known."""


@attrs.define
class _Claims:
    """What the records of the summary say."""

    schemas: dict[int, Schema] = attrs.field(factory=dict)
    channels: dict[int, Channel] = attrs.field(factory=dict)
    units: list[Unit] = attrs.field(factory=list)
    attachments: list[Attachment] = attrs.field(factory=list)
    metadata: dict[str, dict[str, str]] = attrs.field(factory=dict)
    statistics: rec.Statistics | None = None
    attachment_count: int = 0


def quick_index(source: Source) -> RecordingIndex | None:
    """The index as the summary has it; None where only a walk through the file can tell.

    Counts and spans of the chunks come from their chunk indexes; of metadata records only the
    names are known. `integrity` is not looked at and says "NONE".
    """
    try:
        claims, summary_start = _read_claims(source)
        _check(claims, summary_start)
        profile, library = _header(source)
    except (_UnbelievableError, PlatformError):
        return None
    assert claims.statistics is not None
    counts = claims.statistics.channel_counts
    starts = [unit.start_ns for unit in claims.units if unit.start_ns is not None]
    ends = [unit.end_ns for unit in claims.units if unit.end_ns is not None]
    return RecordingIndex(
        format="mcap",
        profile=profile,
        library=library,
        start_ns=min(starts, default=None),
        end_ns=max(ends, default=None),
        schemas=tuple(claims.schemas.values()),
        channels=tuple(
            attrs.evolve(channel, message_count=counts.get(channel.id, 0))
            for channel in claims.channels.values()
        ),
        units=tuple(claims.units),
        attachments=tuple(claims.attachments),
        metadata=claims.metadata,
        messages_declared=claims.statistics.message_count,
    )


def _header(source: Source) -> tuple[str, str]:
    look = source.read_at(0, min(_FIRST_LOOK_BYTES, source.size))
    if bytes(look[: len(rec.MAGIC)]) != rec.MAGIC:
        raise _UnbelievableError
    head = rec.head_at(source, len(rec.MAGIC))
    if head.op != rec.OP_HEADER:
        raise _UnbelievableError
    return rec.parse_header(rec.content_of(source, head))


def _read_claims(source: Source) -> tuple[_Claims, int]:
    tail = rec.HEAD_BYTES + rec.FOOTER_BYTES + len(rec.MAGIC)
    at_end = source.size - tail
    if at_end < len(rec.MAGIC):
        raise _UnbelievableError
    head = rec.head_at(source, at_end)
    if (head.op, head.length) != (rec.OP_FOOTER, rec.FOOTER_BYTES):
        raise _UnbelievableError
    footer = rec.parse_footer(rec.content_of(source, head))
    if bytes(source.read_at(head.end, len(rec.MAGIC))) != rec.MAGIC:
        raise _UnbelievableError
    if not len(rec.MAGIC) <= footer.summary_start < at_end:
        raise _UnbelievableError
    summary = source.read_at(
        footer.summary_start, at_end + rec.HEAD_BYTES + 16 - footer.summary_start
    )
    if footer.summary_crc and crc32(summary) != footer.summary_crc:
        raise _UnbelievableError
    claims, records_end = _Claims(), at_end - footer.summary_start
    for head in rec.iter_heads(summary[:records_end], offset=footer.summary_start):
        start = head.content_offset - footer.summary_start
        if start + head.length > records_end:
            raise _UnbelievableError
        content = summary[start : start + head.length]
        _take(claims, head.op, rec.Fields(content, offset=head.offset))
        if head.op == rec.OP_STATISTICS:
            claims.attachment_count = _COUNTS.unpack_from(content)[3]
    return claims, footer.summary_start


def _take(claims: _Claims, op: int, fields: rec.Fields) -> None:
    if op == rec.OP_SCHEMA:
        schema = rec.parse_schema(fields)
        claims.schemas[schema.id] = schema
    elif op == rec.OP_CHANNEL:
        channel = rec.parse_channel(fields)
        claims.channels[channel.id] = channel
    elif op == rec.OP_STATISTICS:
        claims.statistics = rec.parse_statistics(fields)
    elif op == rec.OP_CHUNK_INDEX:
        claims.units.append(_unit(fields, index=len(claims.units)))
    elif op == rec.OP_ATTACHMENT_INDEX:
        claims.attachments.append(_attachment(fields))
    elif op == rec.OP_METADATA_INDEX:
        fields.raw(16)
        claims.metadata.setdefault(fields.text(), {})


def _unit(fields: rec.Fields, *, index: int) -> Unit:
    """A chunk with the message indexes behind it; those say how many messages of what it holds."""
    start_ns, end_ns, offset, length = (fields.u64() for _ in range(4))
    pairs = rec.Fields(fields.raw(fields.u32()), offset=offset)
    indexes = {}
    while pairs.has_more():
        channel = pairs.u16()
        indexes[channel] = pairs.u64()
    index_bytes, compression, stored, size = fields.u64(), fields.text(), fields.u64(), fields.u64()
    end = offset + length + index_bytes
    counts = _counts(indexes, end=end)
    check_unit_size(stored, declared=size, offset=offset)
    if compression not in COMPRESSIONS or start_ns > end_ns or end_ns > _MAX_TIME_NS:
        raise _UnbelievableError
    return Unit(
        index=index,
        offset=offset,
        length=end - offset,
        compression=compression,
        uncompressed_size=size,
        start_ns=start_ns if counts else None,
        end_ns=end_ns if counts else None,
        message_count=sum(counts.values()),
        channel_counts=counts,
    )


def _counts(indexes: Mapping[int, int], *, end: int) -> dict[int, int]:
    """Messages by channel, from where its index records begin: they follow on each other."""
    order = sorted(indexes, key=lambda channel: indexes[channel])
    if not order:
        return {}
    ends = [indexes[channel] for channel in order[1:]] + [end]
    counts = {}
    for channel, after in zip(order, ends, strict=True):
        count, rest = divmod(after - indexes[channel] - _INDEX_HEAD_BYTES, _INDEX_ENTRY_BYTES)
        if rest or count < 0:
            raise _UnbelievableError
        if count:
            counts[channel] = count
    return counts


def _attachment(fields: rec.Fields) -> Attachment:
    offset, _, log_time, _, size = (fields.u64() for _ in range(5))
    name, media_type = fields.text(), fields.text()
    before = rec.HEAD_BYTES + 8 + 8 + 4 + len(name.encode()) + 4 + len(media_type.encode()) + 8
    shown = name.encode("unicode_escape").decode("ascii")
    log_time_ns = log_time if log_time <= _MAX_TIME_NS else None
    return Attachment(shown, media_type, offset + before, size, log_time_ns)


def _check(claims: _Claims, summary_start: int) -> None:
    """Refuse claims that do not agree with each other."""
    claims.units = [
        attrs.evolve(unit, index=index)
        for index, unit in enumerate(sorted(claims.units, key=lambda unit: unit.offset))
    ]
    at = len(rec.MAGIC)
    for unit in claims.units:
        if unit.offset < at or unit.offset + unit.length > summary_start:
            raise _UnbelievableError
        at = unit.offset + unit.length
    totals = messages_by_channel(claims.units)
    said = claims.statistics
    if (
        said is None
        or said.chunk_count != len(claims.units)
        or claims.attachment_count != len(claims.attachments)
        or said.message_count != sum(totals.values())
        or {channel: count for channel, count in said.channel_counts.items() if count} != totals
        or not totals.keys() <= claims.channels.keys()
        or not {one.schema_id for one in claims.channels.values()} - {0} <= claims.schemas.keys()
    ):
        raise _UnbelievableError
