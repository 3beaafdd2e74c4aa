"""The summary section of an MCAP file, believed only where its checksum holds.

Source: https://mcap.dev/spec#summary-section
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from isal.isal_zlib import crc32

from contracts.errors import DecodeError
from contracts.recording import Channel, Finding, Schema, Source
from udfs.decode import mcap_records as rec

_DOUBTS = {"SUMMARY_CRC", "BAD_FOOTER"}


@attrs.frozen
class Summary:
    """The summary section, where it is there and its checksum holds.

    Attributes:
        resume_offsets: File offsets at which it says that records begin, ascending.
        footer_offset: File offset of the footer record.
        has_crc: Whether a checksum covers it; the specification has 0 for none.
    """

    schemas: Sequence[Schema]
    channels: Sequence[Channel]
    statistics: rec.Statistics | None
    resume_offsets: Sequence[int]
    footer_offset: int
    has_crc: bool


def read_summary(source: Source, *, footer_offset: int, findings: list[Finding]) -> Summary | None:
    """Read the summary that the footer at `footer_offset` names; None if it is not to be trusted.

    Adds BAD_FOOTER, SUMMARY_CRC or BAD_SUMMARY to the findings where there is a footer.
    """
    if footer_offset < len(rec.MAGIC):
        return None
    head = rec.head_at(source, footer_offset)
    if (head.op, head.length) != (rec.OP_FOOTER, rec.FOOTER_BYTES):
        return None
    footer = rec.parse_footer(rec.content_of(source, head))
    start = footer.summary_start or footer_offset
    if not len(rec.MAGIC) <= start <= footer_offset:
        findings.append(Finding("BAD_FOOTER", f"summary at byte {start}", footer_offset))
        return None
    if footer.summary_crc and not _crc_holds(source, start, footer_offset, footer.summary_crc):
        findings.append(Finding("SUMMARY_CRC", "the summary is damaged", start))
        return None
    return _believed(source, start, footer, footer_offset, findings)


def read_moved_summary(
    source: Source, *, start: int, footer_offset: int, findings: list[Finding]
) -> Summary | None:
    """Read a summary that is whole but stands where its footer does not say, if it is there.

    Whole records in front of it are gone, or were added: the walk meets no damage, so only its
    counts can tell what is missing. Puts SUMMARY_MOVED in place of the doubts about the place
    that the footer names.

    Args:
        source: The file.
        start: Where the data section ends.
        footer_offset: Where the records behind it lead to the footer.
        findings: Of the file.
    """
    footer = rec.parse_footer(rec.content_of(source, rec.head_at(source, footer_offset)))
    moved = start - footer.summary_start
    if not (footer.summary_start and footer.summary_crc and moved):
        return None
    if not _crc_holds(source, start, footer_offset, footer.summary_crc):
        return None
    findings[:] = [finding for finding in findings if finding.code not in _DOUBTS]
    how = f"{-moved} bytes in front of it are gone" if moved < 0 else f"{moved} bytes were added"
    what = f"the summary stands at byte {start}, not {footer.summary_start}: {how}"
    findings.append(
        Finding(
            "SUMMARY_MOVED", what, start, loses=moved < 0, lost_messages=None if moved < 0 else 0
        )
    )
    return _believed(source, start, footer, footer_offset, findings)


def _crc_holds(source: Source, start: int, footer_offset: int, crc: int) -> bool:
    """Whether a CRC-32 is of the bytes from the summary to the end of the footer's two offsets."""
    return bool(crc32(source.read_at(start, footer_offset + rec.HEAD_BYTES + 16 - start)) == crc)


def _believed(
    source: Source, start: int, footer: rec.Footer, footer_offset: int, findings: list[Finding]
) -> Summary | None:
    try:
        return _parse_summary(source, start, footer_offset, has_crc=footer.summary_crc != 0)
    except DecodeError as error:
        findings.append(Finding("BAD_SUMMARY", error.what, start))
        return None


def _parse_summary(source: Source, start: int, end: int, *, has_crc: bool) -> Summary:
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
    return Summary(schemas, channels, statistics, inside, end, has_crc)
