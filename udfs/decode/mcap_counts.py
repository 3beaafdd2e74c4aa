"""How many messages an MCAP file holds: what it counts of itself against what is there.

Source: https://mcap.dev/spec#statistics-op0x0b
"""

from __future__ import annotations

import attrs
import numpy as np

from contracts.errors import DecodeError, PlatformError
from contracts.recording import Finding, LedgerEntry, Source, Unit
from udfs.decode import mcap_records as rec
from udfs.decode.mcap_chunk import is_loose, load_unit, messages_of
from udfs.decode.mcap_scan import Scan
from udfs.decode.mcap_summary import Summary
from udfs.decode.mcap_walk import MAX_TIME_NS
from udfs.decode.units import messages_by_channel


def inspect_units(source: Source, scan: Scan, summary: Summary | None) -> None:
    """Look into the units in which a channel first occurs, or that the file says nothing of.

    The definition in front of a channel's first message counts. A summary names but one for each
    id: where the first unit that names a channel holds none, its word is taken.
    """
    promised = {channel.id for channel in summary.channels} if summary else set()
    settled: set[int] = set()
    for position, unit in enumerate(scan.units):
        named = unit.channel_counts.keys() - settled
        new = {one for one in named if not scan.is_defined(one, before=unit.offset)}
        if new or (not unit.channel_counts and unit.message_count != 0):
            scan.units[position] = _counted(source, scan, unit)
            settled |= new & promised
        settled |= named - new


def _counted(source: Source, scan: Scan, unit: Unit) -> Unit:
    """The unit with the counts and times of the messages that are in it."""
    try:
        data, in_chunk = load_unit(source, unit, np.empty(unit.uncompressed_size or 0, np.uint8))
        found = messages_of(data)
    except PlatformError:
        return unit  # the same damage is met, and counted, when the unit is decoded
    for op, start, end in found.definitions if in_chunk else ():
        fields = rec.Fields(data.data[start:end], offset=unit.offset)
        try:
            scan.add_definition(op, fields, unit.offset)
        except DecodeError as error:
            scan.findings.append(Finding(error.code, error.what, unit.offset))
    ids, counts = np.unique(found.rows["channel"], return_counts=True)
    times = found.rows["log_time"]
    times = times[times <= MAX_TIME_NS]
    return attrs.evolve(
        unit,
        message_count=unit.message_count if found.damage else len(found),
        channel_counts=dict(zip(ids.tolist(), counts.tolist(), strict=True)),
        start_ns=int(times.min()) if len(times) else None,
        end_ns=int(times.max()) if len(times) else None,
    )


def check_statistics(source: Source, scan: Scan) -> None:
    """Compare what the file counts of itself with what was found, channel by channel.

    Where they differ, or damage may hide that they do, every unit is counted by its content. What
    is missing then is the loss of the damaged ranges, known together though not each alone.
    """
    claimed = scan.statistics
    if claimed is None:
        return
    if _is_hidden(scan) or _missing(scan, claimed) or not _agree(scan, claimed):
        scan.units = [_counted(source, scan, unit) for unit in scan.units]
    missing = _missing(scan, claimed)
    unopened = [i for i, unit in enumerate(scan.units) if unit.message_count is None]
    if len(unopened) == 1 and missing >= 0:
        unit = scan.units[unopened[0]]
        counted = max(missing, sum(unit.channel_counts.values()))
        scan.units[unopened[0]] = attrs.evolve(unit, message_count=counted)
        missing -= counted
    elif unopened:
        return  # units that do not open hide how many messages each of them holds
    if missing or not _agree(scan, claimed):
        found = claimed.message_count - missing
        what = f"the file declares {claimed.message_count} messages, {found} are there"
        lost = max(missing, 0)
        scan.findings.append(Finding("COUNT_MISMATCH", what, loses=lost > 0, lost_messages=lost))
    has_loose = any(is_loose(unit) for unit in scan.units)  # which have no other checksum
    scan.findings = [
        finding if has_loose and finding.code == "DATA_CRC" else _lossless(finding)
        for finding in scan.findings
    ]
    if missing > 0:
        _attribute(scan, missing)
    scan.ranges = [without_loss(entry) for entry in scan.ranges]


def _missing(scan: Scan, claimed: rec.Statistics) -> int:
    """Messages that the file counts and that are in no unit and no refused chunk."""
    refused = sum(entry.messages_declared or 0 for entry in scan.ranges)
    found = sum(unit.message_count or 0 for unit in scan.units)
    return claimed.message_count - found - refused


def _is_hidden(scan: Scan) -> bool:
    """Whether refused chunks or damaged ranges hide messages of some channel."""
    return any(entry.messages_declared != 0 for entry in scan.ranges)


def _agree(scan: Scan, claimed: rec.Statistics) -> bool:
    """Whether every channel has as many messages as the file counts for it."""
    if _is_hidden(scan):
        return True
    if any(unit.message_count != sum(unit.channel_counts.values()) for unit in scan.units):
        return True
    return messages_by_channel(scan.units) == {c: n for c, n in claimed.channel_counts.items() if n}


def _attribute(scan: Scan, missing: int) -> None:
    """Enter the missing messages in the ledger: at the first damaged range of unknown loss."""
    ranges = list(scan.ranges)
    suspects = [i for i, e in enumerate(scan.ranges) if e.messages_lost is None]
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


def without_loss(entry: LedgerEntry) -> LedgerEntry:
    """The entry, its loss known to be counted elsewhere or nothing."""
    if entry.messages_lost is not None:
        return entry
    return attrs.evolve(entry, messages_declared=0, messages_lost=0)


def _lossless(finding: Finding) -> Finding:
    """The finding, its unknown loss now known to be counted elsewhere or nothing."""
    if finding.lost_messages is not None:
        return finding
    return attrs.evolve(finding, loses=False, lost_messages=0)
