"""The index of an MCAP file: its units, its channels and its damage.

The summary at the end is a claim that is checked, never the way in: records are visited in file
order, the checksums of data section, attachments and summary are verified, and the counts of the
Statistics record are compared with what is there. Chunks are decompressed only where a channel
first occurs, or where the file does not say otherwise what is in them.

Source: https://mcap.dev/spec
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from contracts.errors import DecodeError
from contracts.recording import Finding, LedgerEntry, RecordingIndex, Source
from udfs.decode import mcap_records as rec
from udfs.decode.mcap_chunk import is_loose
from udfs.decode.mcap_counts import check_statistics, inspect_units, without_loss
from udfs.decode.mcap_scan import Scan
from udfs.decode.mcap_summary import Summary, read_moved_summary, read_summary
from udfs.decode.mcap_walk import walk_data_section
from udfs.decode.units import messages_by_channel

_DATA_OPS = {rec.OP_MESSAGE, rec.OP_CHUNK, rec.OP_MESSAGE_INDEX, rec.OP_ATTACHMENT}


def index_file(source: Source) -> RecordingIndex:
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
    scan = Scan()
    at_end = source.size - len(rec.MAGIC) - rec.FOOTER_BYTES - rec.HEAD_BYTES
    summary = read_summary(source, footer_offset=at_end, findings=scan.findings)
    walk_data_section(source, scan, summary)
    footer_offset = _check_end(source, scan)
    if footer_offset is not None and footer_offset != at_end:
        summary = read_summary(source, footer_offset=footer_offset, findings=scan.findings)
    if footer_offset is not None and scan.data_end is not None and summary is None:
        summary = read_moved_summary(
            source,
            start=scan.data_end + rec.HEAD_BYTES + rec.DATA_END_BYTES,
            footer_offset=footer_offset,
            findings=scan.findings,
        )
    inspect_units(source, scan, summary)
    if summary is not None:
        for schema in summary.schemas:
            scan.add_schema(schema, summary.footer_offset)
        for channel in summary.channels:
            scan.add_channel(channel, summary.footer_offset)
        scan.statistics = summary.statistics
    if scan.refused and not scan.units:
        raise scan.refused[0]
    check_statistics(source, scan)
    return _index_of(source, scan, has_crc=_has_crc(scan, summary))


def _has_crc(scan: Scan, summary: Summary | None) -> bool:
    """Whether checksums cover all messages, and the definitions that say what they mean.

    A definition that is left in a summary without a checksum alone, as its chunk is destroyed, is
    used but said to be unchecked: damage to it shows nowhere.
    """
    loose = any(is_loose(unit) for unit in scan.units) or not scan.units
    unchecked = _unchecked_definitions(scan, summary)
    alone = [offset for offset in unchecked if summary and offset == summary.footer_offset]
    if alone:
        what = f"{len(alone)} definitions stand in a summary without a checksum only"
        scan.findings.append(Finding("UNCHECKED_DEFINITION", what, alone[0]))
    return not unchecked and False not in scan.chunk_crcs and (scan.data_crc != 0 or not loose)


def _unchecked_definitions(scan: Scan, summary: Summary | None) -> list[int]:
    """File offsets of the definitions of channels with messages that no checksum covers."""
    covered = set()
    if summary is not None and summary.has_crc:
        covered |= {(rec.OP_SCHEMA, schema.id) for schema in summary.schemas}
        covered |= {(rec.OP_CHANNEL, channel.id) for channel in summary.channels}
        covered -= scan.conflicts.keys()
    chunks = {unit.offset for unit in scan.units}
    data_end = scan.data_end if scan.data_end is not None and scan.data_crc else 0
    used = {
        key: scan.defined_at[key]
        for channel_id in messages_by_channel(scan.units)
        if (channel := scan.channels.get(channel_id))
        for key in ((rec.OP_CHANNEL, channel.id), (rec.OP_SCHEMA, channel.schema_id))
        if key in scan.defined_at
    }
    return [
        offset
        for key, offset in used.items()
        if key not in covered and offset not in chunks and offset >= data_end
    ]


def _check_end(source: Source, scan: Scan) -> int | None:
    """Say how the file ends, check the CRC of its data section, and find its footer record."""
    if scan.data_end is None:
        if not scan.lost_sync and not any(f.code == "TRUNCATED" for f in scan.findings):
            what = "the file ends without DataEnd and footer"
            finding = Finding("NO_FOOTER", what, source.size, loses=True, lost_messages=None)
            scan.findings.append(finding)
        return None
    if scan.data_crc and rec.crc_of(source, 0, scan.data_end) == scan.data_crc:
        # As it was written: what is unknown was so to the writer, too.
        scan.ranges = [
            without_loss(one) if one.reason_code == "UNKNOWN_RECORD" else one for one in scan.ranges
        ]
    elif scan.data_crc:
        # What stands in chunks answers for itself; but whole records may be gone without a trace.
        what = "the data section differs from its checksum"
        scan.findings.append(Finding("DATA_CRC", what, loses=True, lost_messages=None))
    footer_offset = _footer_offset(source, scan)
    if footer_offset is None:
        what = "the file ends without a footer"
        scan.findings.append(Finding("NO_FOOTER", what, source.size))
    elif bytes(source.read_at(source.size - len(rec.MAGIC), len(rec.MAGIC))) != rec.MAGIC:
        what = "the file does not end with the magic bytes"
        scan.findings.append(Finding("BAD_TRAILER", what, source.size))
    return footer_offset


def _footer_offset(source: Source, scan: Scan) -> int | None:
    """File offset of the footer record, if the records from DataEnd lead to a whole one.

    Records of the data section behind its end are not read, and that is said.
    """
    at = scan.data_end or 0
    while at + rec.HEAD_BYTES <= source.size:
        head = rec.head_at(source, at)
        if head.end > source.size:
            return None
        if head.op == rec.OP_FOOTER:
            return at if head.length == rec.FOOTER_BYTES else None
        if head.op in _DATA_OPS:
            what = f"a record {head.op:#04x} of the data section stands behind its end"
            scan.findings.append(Finding("BAD_RECORD", what, at, loses=True, lost_messages=None))
            return None
        at = head.end
    return None


def _index_of(source: Source, scan: Scan, *, has_crc: bool) -> RecordingIndex:
    claimed = scan.statistics.channel_counts if scan.statistics else None
    starts = [unit.start_ns for unit in scan.units if unit.start_ns is not None]
    ends = [unit.end_ns for unit in scan.units if unit.end_ns is not None]
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
        conflicts=scan.channel_conflicts(),
    )


def _structure(source: Source, scan: Scan) -> Iterator[LedgerEntry]:
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
