"""The walk over the data section of an MCAP file: every record in file order, damage included.

Source: https://mcap.dev/spec#data-section
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.errors import (
    DecodeError,
    PlatformError,
    ResourceLimitError,
    UnsupportedFormatError,
)
from contracts.recording import Finding, LedgerEntry, Source, Unit
from udfs.decode import mcap_records as rec
from udfs.decode.compression import COMPRESSIONS
from udfs.decode.limits import (
    GROUP_BYTES,
    MAX_RECORD_BYTES,
    MAX_STRUCTURE_RECORDS,
    MAX_UNIT_BYTES,
    check_unit_size,
)
from udfs.decode.mcap_scan import Scan
from udfs.decode.mcap_summary import Summary

MAX_TIME_NS = (1 << 63) - 1
_WINDOW_BYTES = 1 << 20
_BODY_OPS = {rec.OP_SCHEMA, rec.OP_CHANNEL, rec.OP_MESSAGE}
_SUMMARY_OPS = {
    rec.OP_CHUNK_INDEX,
    rec.OP_ATTACHMENT_INDEX,
    rec.OP_STATISTICS,
    rec.OP_METADATA_INDEX,
    rec.OP_SUMMARY_OFFSET,
    rec.OP_FOOTER,
}


def walk_data_section(source: Source, scan: Scan, summary: Summary | None) -> None:
    """Visit the records from the first to DataEnd, or to where the file makes no sense."""
    at = len(rec.MAGIC)
    loose: list[rec.Head] = []
    while scan.data_end is None and at + rec.HEAD_BYTES <= source.size:
        window = source.read_at(at, min(_WINDOW_BYTES, source.size - at))
        for head in rec.iter_heads(window, offset=at):
            if head.offset < at:
                continue  # an index record that was taken in with its chunk
            if head.offset > at or scan.data_end is not None:
                break
            if loose and (head.op not in _BODY_OPS or _size_of(loose) > GROUP_BYTES):
                _add_loose(scan, loose)
                loose = []
            at = _visit(source, scan, head, loose, summary)
    if loose:
        _add_loose(scan, loose)
    if scan.data_end is None and not scan.lost_sync and at < source.size:
        scan.add_damage(at, source.size, "TRUNCATED", "the file ends inside the head of a record")


def _visit(
    source: Source,
    scan: Scan,
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


def _take(source: Source, scan: Scan, head: rec.Head, loose: list[rec.Head]) -> int:
    if head.op == rec.OP_MESSAGE:
        loose.append(head)
        return head.end
    if head.op == rec.OP_CHUNK:
        return _add_chunk(source, scan, head)
    scan.others += 1
    if scan.others > MAX_STRUCTURE_RECORDS:
        what = f"more than {MAX_STRUCTURE_RECORDS} records that hold no messages"
        raise ResourceLimitError(what, offset=head.offset)
    if head.op in (rec.OP_SCHEMA, rec.OP_CHANNEL):
        scan.add_definition(head.op, rec.content_of(source, head), head.offset)
    elif head.op == rec.OP_HEADER:
        scan.profile, scan.library = rec.parse_header(rec.content_of(source, head))
    elif head.op == rec.OP_ATTACHMENT:
        _add_attachment(source, scan, head)
    elif head.op == rec.OP_METADATA:
        name, pairs = rec.parse_metadata(rec.content_of(source, head))
        scan.metadata.setdefault(name, {}).update(pairs)
    elif head.op == rec.OP_DATA_END:
        if head.length != rec.DATA_END_BYTES:  # one changed bit makes it of a message index
            what = f"a DataEnd of {head.length} bytes"
            raise DecodeError(what, code="BAD_RECORD", offset=head.offset)
        scan.data_crc = rec.parse_data_end(rec.content_of(source, head))
        scan.data_end = head.offset
    elif head.op in _SUMMARY_OPS:
        raise DecodeError(
            "the summary begins without DataEnd", code="BAD_RECORD", offset=head.offset
        )
    elif head.op == 0:
        raise DecodeError("a record of kind 0x00", code="BAD_RECORD", offset=head.offset)
    elif head.op < rec.FIRST_PRIVATE_OP or rec.holds_chunk(source, head):
        _add_unknown(scan, head)
    return head.end


def _add_unknown(scan: Scan, head: rec.Head) -> None:
    """Quarantine a record of a kind that the specification does not have, or a chunk in disguise.

    One changed bit makes it of a chunk: unless a checksum or the statistics of the file say that
    nothing is missing, nobody knows what was in it.
    """
    scan.ranges.append(
        LedgerEntry(
            head.offset,
            head.end - head.offset,
            "quarantined",
            "UNKNOWN_RECORD",
            f"record of unknown kind {head.op:#04x}",
            messages_declared=None,
            messages_lost=None,
        )
    )


def _add_chunk(source: Source, scan: Scan, head: rec.Head) -> int:
    """Make a unit of a chunk and the message indexes behind it."""
    chunk = rec.chunk_head_at(source, head.offset)
    counts: dict[int, int] = {}
    end = head.end
    counts_hold = True
    for after, channel, entries in rec.iter_message_indexes(source, head.end, end=source.size):
        # a record longer than its entries may be one whose length of the entries has changed
        counts_hold &= after - end == rec.MESSAGE_INDEX_BYTES + len(entries)
        if len(entries):
            counts[channel] = counts.get(channel, 0) + len(entries) // 16
        end = after
    if not counts_hold:
        counts = {}
    declared = sum(counts.values()) if counts_hold and end > head.end else None
    try:
        check_unit_size(chunk.data_length, declared=chunk.uncompressed_size, offset=head.offset)
        if chunk.compression not in COMPRESSIONS:
            what, code = f"compression {chunk.compression!r}", "UNSUPPORTED_COMPRESSION:"
            raise UnsupportedFormatError(what, code=code + chunk.compression, offset=head.offset)  # noqa: TRY301
    except (ResourceLimitError, UnsupportedFormatError) as error:
        _refuse(scan, head.offset, end, error, declared)
        return end
    scan.chunk_crcs.add(chunk.crc != 0)
    in_time = declared != 0 and chunk.end_ns <= MAX_TIME_NS and chunk.start_ns <= chunk.end_ns
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


def _refuse(scan: Scan, start: int, end: int, error: PlatformError, declared: int | None) -> None:
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


def _add_loose(scan: Scan, heads: Sequence[rec.Head]) -> None:
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


def _add_attachment(source: Source, scan: Scan, head: rec.Head) -> None:
    found, holds = rec.read_attachment(source, head)
    if not holds:
        what = f"attachment {found.name} is damaged"
        scan.findings.append(Finding("ATTACHMENT_CRC", what, head.offset, loses=True))
        scan.ranges.append(
            LedgerEntry(head.offset, head.end - head.offset, "quarantined", "ATTACHMENT_CRC", what)
        )
        return
    scan.attachments.append(found)


def _skip_damage(
    source: Source, scan: Scan, at: int, error: DecodeError, summary: Summary | None
) -> int:
    """Quarantine from `at` to the next record that the summary names, or to the end."""
    resume = next((o for o in summary.resume_offsets if o > at), None) if summary else None
    if resume is None:
        scan.lost_sync = True
    end = source.size if resume is None else resume
    scan.add_damage(at, end, error.code, error.what)
    scan.refused.append(error)
    return end
