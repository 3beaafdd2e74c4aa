"""The walk over an MCAP file that finds its units, its channels and its damage.

The summary at the end is a claim that is checked, never the way in: records are visited in file
order, the checksums of data section, attachments and summary are verified, and the counts of the
Statistics record are compared with what is there. Chunks are decompressed only where the file
does not say otherwise which channels and how many messages are in them.

Source: https://mcap.dev/spec
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
from isal.isal_zlib import crc32

from contracts.errors import (
    DecodeError,
    PlatformError,
    ResourceLimitError,
    UnsupportedFormatError,
)
from contracts.recording import (
    Attachment,
    Channel,
    Finding,
    LedgerEntry,
    RecordingIndex,
    Schema,
    Source,
    Unit,
)
from udfs.decode import mcap_records as rec
from udfs.decode.compression import COMPRESSIONS
from udfs.decode.limits import GROUP_BYTES, MAX_RECORD_BYTES, MAX_UNIT_BYTES, check_unit_size
from udfs.decode.mcap_chunk import load_unit, messages_of

_WINDOW_BYTES = 8 << 20
_CRC_STEP_BYTES = 32 << 20
_MAX_TIME_NS = (1 << 63) - 1
_BODY_OPS = {rec.OP_SCHEMA, rec.OP_CHANNEL, rec.OP_MESSAGE}
_SUMMARY_OPS = {
    rec.OP_CHUNK_INDEX,
    rec.OP_ATTACHMENT_INDEX,
    rec.OP_STATISTICS,
    rec.OP_METADATA_INDEX,
    rec.OP_SUMMARY_OFFSET,
    rec.OP_FOOTER,
}


@attrs.frozen
class Summary:
    """The summary section, where it is there and its checksum holds.

    Attributes:
        resume_offsets: File offsets at which it says that records begin, ascending.
        footer_offset: File offset of the footer record.
    """

    schemas: Sequence[Schema]
    channels: Sequence[Channel]
    statistics: rec.Statistics | None
    resume_offsets: Sequence[int]
    footer_offset: int


@attrs.define
class _Scan:
    """What the walk has found so far."""

    profile: str = ""
    library: str = ""
    schemas: dict[int, Schema] = attrs.field(factory=dict)
    channels: dict[int, Channel] = attrs.field(factory=dict)
    units: list[Unit] = attrs.field(factory=list)
    attachments: list[Attachment] = attrs.field(factory=list)
    metadata: dict[str, dict[str, str]] = attrs.field(factory=dict)
    findings: list[Finding] = attrs.field(factory=list)
    ranges: list[LedgerEntry] = attrs.field(factory=list)
    refused: list[PlatformError] = attrs.field(factory=list)
    statistics: rec.Statistics | None = None
    data_end: int | None = None
    lost_sync: bool = False
    chunk_crcs: set[bool] = attrs.field(factory=set)
    data_crc: int = 0


def scan_file(source: Source) -> RecordingIndex:
    """Index an MCAP file.

    Raises:
        DecodeError: BAD_MAGIC; or nothing can be decoded and the damage says why: TRUNCATED,
            RECORD_TOO_LARGE, BAD_RECORD.
        ResourceLimitError: BOMB, every chunk claims more than a chunk may hold.
        UnsupportedFormatError: UNSUPPORTED_COMPRESSION:<name>, of every chunk.
    """
    start = bytes(source.read_at(0, min(len(rec.MAGIC), source.size)))
    if start != rec.MAGIC:
        raise DecodeError(f"no MCAP file begins with {start.hex(' ')}", code="BAD_MAGIC", offset=0)
    scan = _Scan()
    summary = _read_summary(source, scan)
    _walk(source, scan, summary)
    _check_end(source, scan, summary)
    if summary is not None:
        for schema in summary.schemas:
            _add_schema(scan, schema, summary.footer_offset)
        for channel in summary.channels:
            _add_channel(scan, channel, summary.footer_offset)
        scan.statistics = summary.statistics
    _inspect_units(source, scan)
    if scan.refused and not scan.units:
        raise scan.refused[0]
    _check_statistics(source, scan)
    return _index_of(source, scan)


# The summary


def _read_summary(source: Source, scan: _Scan) -> Summary | None:
    """Read the summary by way of the footer; None where there is none to be trusted."""
    footer_offset = source.size - len(rec.MAGIC) - rec.FOOTER_BYTES - rec.HEAD_BYTES
    if footer_offset < len(rec.MAGIC):
        return None
    head = rec.head_at(source, footer_offset)
    if (head.op, head.length) != (rec.OP_FOOTER, rec.FOOTER_BYTES):
        return None
    footer = rec.parse_footer(rec.content_of(source, head))
    start = footer.summary_start or footer_offset
    if not len(rec.MAGIC) <= start <= footer_offset:
        scan.findings.append(Finding("BAD_FOOTER", f"summary at byte {start}", footer_offset))
        return None
    if footer.summary_crc:
        # The CRC runs from the summary to the end of the footer's two offsets.
        covered = source.read_at(start, footer_offset + rec.HEAD_BYTES + 16 - start)
        if crc32(covered) != footer.summary_crc:
            scan.findings.append(Finding("SUMMARY_CRC", "the summary is damaged", start))
            return None
    try:
        return _parse_summary(source, start, footer_offset)
    except DecodeError as error:
        scan.findings.append(Finding("BAD_SUMMARY", error.what, start))
        return None


def _parse_summary(source: Source, start: int, end: int) -> Summary:
    schemas, channels, offsets = [], [], []
    statistics = None
    at = start
    while at < end:
        head = rec.head_at(source, at)
        if head.end > end:
            raise DecodeError("a summary record exceeds it", code="BAD_RECORD", offset=at)
        fields = rec.content_of(source, head)
        if head.op == rec.OP_SCHEMA:
            schemas.append(rec.parse_schema(fields))
        elif head.op == rec.OP_CHANNEL:
            channels.append(rec.parse_channel(fields))
        elif head.op == rec.OP_STATISTICS:
            statistics = rec.parse_statistics(fields)
        elif head.op == rec.OP_CHUNK_INDEX:
            _, _, offset, length = (fields.u64() for _ in range(4))
            offsets += [offset, offset + length]
        elif head.op in (rec.OP_ATTACHMENT_INDEX, rec.OP_METADATA_INDEX):
            offset, length = fields.u64(), fields.u64()
            offsets += [offset, offset + length]
        at = head.end
    offsets.append(start - rec.HEAD_BYTES - 4)
    inside = sorted({offset for offset in offsets if len(rec.MAGIC) <= offset < start})
    return Summary(schemas, channels, statistics, inside, end)


# The data section


def _walk(source: Source, scan: _Scan, summary: Summary | None) -> None:
    """Visit the records from the first to DataEnd, or to where the file makes no sense."""
    at = len(rec.MAGIC)
    loose: list[rec.Head] = []
    while scan.data_end is None and at < source.size:
        window = source.read_at(at, min(_WINDOW_BYTES, source.size - at))
        heads, _ = rec.heads_in(window, 0, len(window))
        if not heads:
            break
        base, moved = at, at
        for head in heads:
            shifted = rec.Head(head.op, head.offset + base, head.length)
            if loose and (shifted.op not in _BODY_OPS or _size_of(loose) > GROUP_BYTES):
                _add_loose(scan, loose)
                loose = []
            moved = _visit(source, scan, shifted, loose, summary)
            if moved != shifted.end or scan.data_end is not None:
                break
        at = moved
    if loose:
        _add_loose(scan, loose)
    if scan.data_end is None and not scan.lost_sync and at < source.size:
        _add_damage(scan, at, source.size, "TRUNCATED", "the file ends inside the head of a record")


def _visit(
    source: Source,
    scan: _Scan,
    head: rec.Head,
    loose: list[rec.Head],
    summary: Summary | None,
) -> int:
    """Take in one record of the data section; returns where the next one is."""
    limit = MAX_UNIT_BYTES + 512 if head.op == rec.OP_CHUNK else MAX_RECORD_BYTES
    if head.op == rec.OP_ATTACHMENT:
        limit = source.size
    try:
        if head.length > limit:
            what = f"record {head.op:#04x} declares {head.length} bytes, the limit is {limit}"
            raise ResourceLimitError(what, code="RECORD_TOO_LARGE", offset=head.offset)
        if head.end > source.size:
            what = "the file ends inside a record"
            raise DecodeError(what, code="TRUNCATED", offset=head.offset)  # noqa: TRY301
        return _take(source, scan, head, loose)
    except DecodeError as error:
        return _skip_damage(source, scan, head.offset, error, summary)


def _take(source: Source, scan: _Scan, head: rec.Head, loose: list[rec.Head]) -> int:
    if head.op == rec.OP_MESSAGE:
        loose.append(head)
    elif head.op == rec.OP_CHUNK:
        return _add_chunk(source, scan, head)
    elif head.op in (rec.OP_SCHEMA, rec.OP_CHANNEL):
        _add_definition(scan, head.op, rec.content_of(source, head), head.offset)
    elif head.op == rec.OP_HEADER:
        scan.profile, scan.library = rec.parse_header(rec.content_of(source, head))
    elif head.op == rec.OP_ATTACHMENT:
        _add_attachment(source, scan, head)
    elif head.op == rec.OP_METADATA:
        name, pairs = rec.parse_metadata(rec.content_of(source, head))
        scan.metadata.setdefault(name, {}).update(pairs)
    elif head.op == rec.OP_DATA_END:
        scan.data_crc = rec.parse_data_end(rec.content_of(source, head))
        scan.data_end = head.offset
    elif head.op in _SUMMARY_OPS:
        raise DecodeError(
            "the summary begins without DataEnd", code="BAD_RECORD", offset=head.offset
        )
    elif head.op < rec.FIRST_PRIVATE_OP:
        what = f"record of unknown kind {head.op:#04x}"
        scan.ranges.append(
            LedgerEntry(head.offset, head.end - head.offset, "quarantined", "UNKNOWN_RECORD", what)
        )
    return head.end


def _add_chunk(source: Source, scan: _Scan, head: rec.Head) -> int:
    """Make a unit of a chunk and the message indexes behind it."""
    chunk = rec.chunk_head_at(source, head.offset)
    counts: dict[int, int] = {}
    end = head.end
    for index, channel, entries in rec.message_index_counts(source, head.end, end=source.size):
        if len(entries):
            counts[channel] = counts.get(channel, 0) + len(entries) // 16
        end = index.end
    declared = sum(counts.values()) if end > head.end else None
    try:
        check_unit_size(chunk.data_length, declared=chunk.uncompressed_size, offset=head.offset)
        if chunk.compression not in COMPRESSIONS:
            what, code = f"compression {chunk.compression!r}", "UNSUPPORTED_COMPRESSION:"
            raise UnsupportedFormatError(what, code=code + chunk.compression, offset=head.offset)  # noqa: TRY301
    except (ResourceLimitError, UnsupportedFormatError) as error:
        _refuse(scan, head.offset, end, error, declared)
        return end
    scan.chunk_crcs.add(chunk.crc != 0)
    in_time = declared != 0 and chunk.end_ns <= _MAX_TIME_NS and chunk.start_ns <= chunk.end_ns
    scan.units.append(
        Unit(
            index=len(scan.units),
            offset=head.offset,
            length=end - head.offset,
            compression=chunk.compression,
            uncompressed_size=chunk.uncompressed_size,
            start_ns=chunk.start_ns if in_time else None,
            end_ns=chunk.end_ns if in_time else None,
            message_count=declared,
            channel_counts=counts,
        )
    )
    return end


def _refuse(scan: _Scan, start: int, end: int, error: PlatformError, declared: int | None) -> None:
    """Keep a chunk that must not be opened out of the units; its messages count as lost."""
    scan.refused.append(error)
    scan.findings.append(
        Finding(error.code, error.what, start, loses=declared != 0, lost_messages=declared)
    )
    scan.ranges.append(
        LedgerEntry(
            start,
            end - start,
            "quarantined",
            error.code,
            error.what,
            messages_declared=declared,
            messages_lost=declared,
        )
    )


def _add_loose(scan: _Scan, heads: Sequence[rec.Head]) -> None:
    """Make a unit of messages that stand in the file itself."""
    start, end = heads[0].offset, heads[-1].end
    scan.units.append(
        Unit(
            len(scan.units),
            start,
            end - start,
            uncompressed_size=end - start,
            message_count=len(heads),
        )
    )


def _size_of(heads: Sequence[rec.Head]) -> int:
    return heads[-1].end - heads[0].offset


def _add_schema(scan: _Scan, schema: Schema, offset: int) -> None:
    first = scan.schemas.setdefault(schema.id, schema)
    if first.hash != schema.hash:
        what = f"schema {schema.id} is defined twice: {first.name} and {schema.name}"
        _add_conflict(scan, what, offset)


def _add_channel(scan: _Scan, channel: Channel, offset: int) -> None:
    first = scan.channels.setdefault(channel.id, channel)
    if is_conflict(first, channel):
        what = f"channel {channel.id} is defined twice: {first.topic} and {channel.topic}"
        _add_conflict(scan, what, offset)


def _add_conflict(scan: _Scan, what: str, offset: int) -> None:
    if not any(f.code == "SCHEMA_CONFLICT" and f.detail == what for f in scan.findings):
        scan.findings.append(Finding("SCHEMA_CONFLICT", what, offset))


def is_conflict(first: Channel, again: Channel) -> bool:
    """Whether two definitions of a channel id mean different messages."""
    return (first.topic, first.message_encoding, first.schema_id) != (
        again.topic,
        again.message_encoding,
        again.schema_id,
    )


def _add_attachment(source: Source, scan: _Scan, head: rec.Head) -> None:
    found, covered, crc = rec.parse_attachment(head, rec.content_of(source, head))
    if crc and crc32(covered) != crc:
        what = f"attachment {found.name} is damaged"
        scan.findings.append(Finding("ATTACHMENT_CRC", what, head.offset, loses=True))
        scan.ranges.append(
            LedgerEntry(head.offset, head.end - head.offset, "quarantined", "ATTACHMENT_CRC", what)
        )
        return
    scan.attachments.append(found)


# Damage


def _skip_damage(
    source: Source, scan: _Scan, at: int, error: DecodeError, summary: Summary | None
) -> int:
    """Quarantine from `at` to the next record that the summary names, or to the end."""
    resume = next((o for o in summary.resume_offsets if o > at), None) if summary else None
    if resume is None:
        scan.lost_sync = True
    end = source.size if resume is None else resume
    _add_damage(scan, at, end, error.code, error.what)
    scan.refused.append(error)
    return end


def _add_damage(scan: _Scan, start: int, end: int, code: str, what: str) -> None:
    detail = f"{what}; bytes {start} to {end} are not decoded"
    scan.findings.append(Finding(code, detail, start, loses=True, lost_messages=None))
    scan.ranges.append(
        LedgerEntry(
            start,
            end - start,
            "quarantined",
            code,
            what,
            messages_declared=None,
            messages_lost=None,
        )
    )


def _check_end(source: Source, scan: _Scan, summary: Summary | None) -> None:
    """Say how the file ends, and check the CRC of its data section."""
    if scan.data_end is None:
        if not scan.lost_sync and not any(f.code == "TRUNCATED" for f in scan.findings):
            what = "the file ends without DataEnd and footer"
            scan.findings.append(
                Finding("NO_FOOTER", what, source.size, loses=True, lost_messages=None)
            )
        return
    if scan.data_crc and _crc_of(source, scan.data_end) != scan.data_crc:
        is_loose = any(unit.uncompressed_size == unit.length for unit in scan.units)
        what = "the data section differs from its checksum"
        lost = None if is_loose else 0
        scan.findings.append(Finding("DATA_CRC", what, loses=is_loose, lost_messages=lost))
    if _footer_end(source, scan.data_end) is None:
        what = "the file ends without a footer"
        scan.findings.append(Finding("NO_FOOTER", what, source.size))
    elif bytes(source.read_at(source.size - len(rec.MAGIC), len(rec.MAGIC))) != rec.MAGIC:
        what = "the file does not end with the magic bytes"
        scan.findings.append(Finding("BAD_TRAILER", what, source.size))


def _footer_end(source: Source, at: int) -> int | None:
    """File offset behind the footer record, if the records from `at` lead to one."""
    while at + rec.HEAD_BYTES <= source.size:
        head = rec.head_at(source, at)
        if head.end > source.size:
            return None
        if head.op == rec.OP_FOOTER:
            return head.end
        at = head.end
    return None


def _crc_of(source: Source, end: int) -> int:
    crc = 0
    for at in range(0, end, _CRC_STEP_BYTES):
        crc = crc32(source.read_at(at, min(_CRC_STEP_BYTES, end - at)), crc)
    return crc


# Counts


def _inspect_units(source: Source, scan: _Scan) -> None:
    """Look into the units whose channels or counts the file does not say."""
    named = {channel for unit in scan.units for channel in unit.channel_counts}
    unknown = any(not _is_defined(scan, channel) for channel in named)
    for position, unit in enumerate(scan.units):
        if unknown or (not unit.channel_counts and unit.message_count != 0):
            scan.units[position] = _counted(source, scan, unit)


def _is_defined(scan: _Scan, channel_id: int) -> bool:
    channel = scan.channels.get(channel_id)
    return channel is not None and (channel.schema_id == 0 or channel.schema_id in scan.schemas)


def _counted(source: Source, scan: _Scan, unit: Unit) -> Unit:
    """The unit with the counts and times of the messages that are in it."""
    try:
        data, in_chunk = load_unit(source, unit, np.empty(unit.uncompressed_size or 0, np.uint8))
        found = messages_of(data)
    except PlatformError:
        return unit  # the same damage is met, and counted, when the unit is decoded
    for op, start, end in found.definitions if in_chunk else ():
        fields = rec.Fields(data.data[start:end], offset=unit.offset)
        try:
            _add_definition(scan, op, fields, unit.offset)
        except DecodeError as error:
            scan.findings.append(Finding(error.code, error.what, unit.offset))
    ids, counts = np.unique(found.channel, return_counts=True)
    times = found.log_time[found.log_time <= _MAX_TIME_NS]
    return attrs.evolve(
        unit,
        message_count=unit.message_count if found.damage else len(found.starts),
        channel_counts=dict(zip(ids.tolist(), counts.tolist(), strict=True)),
        start_ns=int(times.min()) if len(times) else None,
        end_ns=int(times.max()) if len(times) else None,
    )


def _add_definition(scan: _Scan, op: int, fields: rec.Fields, offset: int) -> None:
    if op == rec.OP_SCHEMA:
        _add_schema(scan, rec.parse_schema(fields), offset)
    else:
        _add_channel(scan, rec.parse_channel(fields), offset)


def _check_statistics(source: Source, scan: _Scan) -> None:
    """Compare what the file counts of itself with what was found, channel by channel.

    Where they differ, every unit is counted by its content. What is missing then is the loss of
    the damaged ranges, known together though not each alone.
    """
    claimed = scan.statistics
    if claimed is None:
        return
    if _missing(scan, claimed) or not _agree(scan, claimed):
        scan.units = [_counted(source, scan, unit) for unit in scan.units]
    missing = _missing(scan, claimed)
    unopened = [i for i, unit in enumerate(scan.units) if unit.message_count is None]
    if len(unopened) == 1 and missing >= 0:
        scan.units[unopened[0]] = attrs.evolve(scan.units[unopened[0]], message_count=missing)
        missing = 0
    elif unopened:
        return  # units that do not open hide how many messages each of them holds
    if missing or not _agree(scan, claimed):
        found = claimed.message_count - missing
        what = f"the file declares {claimed.message_count} messages, {found} are there"
        lost = max(missing, 0)
        scan.findings.append(Finding("COUNT_MISMATCH", what, loses=lost > 0, lost_messages=lost))
    scan.findings = [_lossless(finding) for finding in scan.findings]
    if missing > 0:
        _attribute(scan, missing)
    scan.ranges = [_without_loss(entry) for entry in scan.ranges]


def _missing(scan: _Scan, claimed: rec.Statistics) -> int:
    """Messages that the file counts and that are in no unit and no refused chunk."""
    refused = sum(entry.messages_declared or 0 for entry in scan.ranges)
    found = sum(unit.message_count or 0 for unit in scan.units)
    return claimed.message_count - found - refused


def _agree(scan: _Scan, claimed: rec.Statistics) -> bool:
    """Whether every channel has as many messages as the file counts for it."""
    if any(entry.messages_declared != 0 for entry in scan.ranges):
        return True  # refused chunks and damaged ranges hide messages of some channel
    if any(unit.message_count != sum(unit.channel_counts.values()) for unit in scan.units):
        return True
    return _totals(scan.units) == {c: n for c, n in claimed.channel_counts.items() if n}


def _attribute(scan: _Scan, missing: int) -> None:
    """Enter the missing messages in the ledger: at the first damaged range of unknown loss."""
    ranges = list(scan.ranges)
    suspects = [i for i, e in enumerate(scan.ranges) if e.messages_lost is None]
    suspects += [i for i, e in enumerate(scan.ranges) if e.reason_code == "UNKNOWN_RECORD"]
    if suspects:
        entry = ranges[suspects[0]]
        ranges[suspects[0]] = attrs.evolve(entry, messages_declared=missing, messages_lost=missing)
    else:
        ranges.append(
            LedgerEntry(
                scan.data_end or 0,
                0,
                "quarantined",
                "COUNT_MISMATCH",
                "messages that the statistics count and no range holds",
                messages_declared=missing,
                messages_lost=missing,
            )
        )
    scan.ranges = ranges


def _without_loss(entry: LedgerEntry) -> LedgerEntry:
    """The entry, its loss known to be counted elsewhere or nothing."""
    if entry.messages_lost is not None:
        return entry
    return attrs.evolve(entry, messages_declared=0, messages_lost=0)


def _lossless(finding: Finding) -> Finding:
    """The finding, its unknown loss now known to be counted elsewhere or nothing."""
    if finding.lost_messages is not None or finding.code == "DATA_CRC":
        return finding
    return attrs.evolve(finding, loses=False, lost_messages=0)


def _totals(units: Sequence[Unit]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for unit in units:
        for channel, count in unit.channel_counts.items():
            totals[channel] = totals.get(channel, 0) + count
    return totals


def _index_of(source: Source, scan: _Scan) -> RecordingIndex:
    claimed = scan.statistics.channel_counts if scan.statistics else None
    starts = [unit.start_ns for unit in scan.units if unit.start_ns is not None]
    ends = [unit.end_ns for unit in scan.units if unit.end_ns is not None]
    has_crc = scan.chunk_crcs == {True} or (not scan.chunk_crcs and scan.data_crc != 0)
    return RecordingIndex(
        format="mcap",
        profile=scan.profile,
        library=scan.library,
        start_ns=min(starts, default=None),
        end_ns=max(ends, default=None),
        schemas=tuple(scan.schemas.values()),
        channels=tuple(
            attrs.evolve(channel, message_count=claimed.get(channel.id, 0) if claimed else None)
            for channel in scan.channels.values()
        ),
        units=tuple(scan.units),
        attachments=tuple(scan.attachments),
        metadata=scan.metadata,
        messages_declared=scan.statistics.message_count if scan.statistics else None,
        integrity="CRC" if has_crc else "NONE",
        findings=tuple(scan.findings),
        structure=tuple(_structure(source, scan)),
    )


def _structure(source: Source, scan: _Scan) -> Iterator[LedgerEntry]:
    """Fates of all bytes outside the units, in order."""
    taken: list[tuple[int, int, LedgerEntry | None]]
    taken = [(unit.offset, unit.length, None) for unit in scan.units]
    taken += [(entry.offset, entry.length, entry) for entry in scan.ranges]
    at = 0
    for offset, length, entry in sorted(taken, key=lambda one: one[:2]):
        if offset > at:
            yield LedgerEntry(at, offset - at, "skipped", "STRUCTURE", "records without messages")
        if entry is not None:
            yield entry
        at = max(at, offset + length)
    if at < source.size:
        yield LedgerEntry(at, source.size - at, "skipped", "STRUCTURE", "records without messages")
