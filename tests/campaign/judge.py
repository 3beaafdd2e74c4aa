"""Whether what decode said of a damaged file may be said: the rules that nothing may break."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import os
import resource
import time
from collections.abc import Mapping

import attrs
import pyarrow as pa

from contracts.errors import ContractViolation, PlatformError
from contracts.recording import RecordingIndex, TableGroup
from spark_jobs.balance import Balance, balance_of
from spark_jobs.index_codec import pack_index, unpack_index
from spark_jobs.ingest_decode import Counts
from udfs.decode.context import DecodeContext
from udfs.decode.mcap_chunk import is_loose
from udfs.decode.messages import RAW_TABLE
from udfs.decode.recording import index_recording, iter_table_groups, table_of_channel
from udfs.decode.source import BytesSource

CONTEXT = DecodeContext("ab" * 32, dt.date(2026, 2, 3))
MOST_MEMORY_BYTES = 1 << 30
_PLACES = {"recording_id", "ingest_date", "unit_offset", "data_offset", "channel_id"}
"""Columns that say where a row stands: damage elsewhere in a file may move it."""

_PEAK: dict[int, int] = {}
Rows = collections.Counter[tuple[object, ...]]


@attrs.define(eq=False, slots=False)
class Read:
    """A recording that was decoded to its end, as ingest does it."""

    index: RecordingIndex
    groups: tuple[TableGroup, ...]
    counts: Counts
    balance: Balance

    @functools.cached_property
    def rows(self) -> Rows:
        """All rows with how often each occurs."""
        found: Rows = collections.Counter()
        for table, rows in self.batches:
            found.update(_keys(table, rows))
        return found

    @functools.cached_property
    def batches(self) -> list[tuple[str, pa.RecordBatch]]:
        """All rows by table, without what says where they stand."""
        numbered = self.index.format != "mcap"  # where the reader numbers them itself
        skipped = _PLACES | ({"sequence"} if numbered else set())
        return [
            (table, rows.drop_columns([one for one in rows.schema.names if one in skipped]))
            for group in self.groups
            for table, rows in group.tables
        ]

    def is_like(self, other: Read) -> bool:
        """Whether the rows are the same, each as often."""
        return self.batches == other.batches or self.rows == other.rows


@attrs.frozen
class Verdict:
    """What became of an input.

    Attributes:
        outcome: ACCEPTED, PARTIAL, or QUARANTINED:<code>.
        is_unseen: Whether rows differ from those of the good file and nothing is said of it.
        violations: Rules that are broken.
    """

    outcome: str
    is_unseen: bool = False
    violations: tuple[str, ...] = ()
    seconds: float = 0.0
    memory_bytes: int = 0


def read(data: bytes, definitions: Mapping[str, bytes], *, travels: bool = True) -> Read:
    """Index, decode and balance as ingest does, a spoiled topic's second pass included.

    Args:
        data: The file.
        definitions: Bus definitions.
        travels: Whether the index is packed and unpacked, as between the tasks of an ingest.

    Raises:
        PlatformError: The recording is refused.
    """
    context = attrs.evolve(CONTEXT, definitions=definitions)
    source = BytesSource(data)
    try:
        index = index_recording(source)
        if travels:
            index = unpack_index(pack_index(index))
            for channel in index.channels:
                table_of_channel(index, channel)
        groups, counts = _decoded(source, index, context)
        spoiled = counts.spoiled_channels()
        if spoiled or counts.conflicts.keys() - index.conflicts.keys():
            index = attrs.evolve(index, conflicts={**index.conflicts, **counts.conflicts})
            context = attrs.evolve(context, quarantined=spoiled)
            groups, counts = _decoded(source, index, context)
        return Read(index, groups, counts, balance_of(index, counts))
    finally:
        source.close()


def _decoded(
    source: BytesSource, index: RecordingIndex, context: DecodeContext
) -> tuple[tuple[TableGroup, ...], Counts]:
    counts = Counts()
    groups = []
    for group in iter_table_groups(source, index, context=context):
        counts.add_group(group)
        groups.append(group)
    return tuple(groups), counts


def judge(
    data: bytes, *, good: Read, definitions: Mapping[str, bytes], is_mixed: bool = False
) -> Verdict:
    """Decode a damaged file and check every rule; nothing is raised.

    Args:
        data: The file.
        good: What the file was before.
        definitions: Bus definitions that it is decoded with.
        is_mixed: Whether parts of another good file, checksums and all, may be in it. Its rows
            and counts may then be those of the other, as long as anything is said of the file.
    """
    started = time.perf_counter()
    try:
        found = read(data, definitions, travels=data[-1:] < b"\x40")
    except ContractViolation as error:
        verdict = Verdict(f"QUARANTINED:{error.code}", violations=(f"books: {error.what}",))
    except PlatformError as error:
        verdict = Verdict(f"QUARANTINED:{error.code}")
    except Exception as error:  # noqa: BLE001, whatever a reader raises by mistake is a finding
        what = f"raised: {type(error).__name__}: {error}"
        verdict = Verdict("QUARANTINED:WORKER_FAILED", violations=(what[:300],))
    else:
        verdict = _checked(found, good=good, size=len(data), is_mixed=is_mixed)
    taken = _newly_taken()
    if taken > MOST_MEMORY_BYTES:
        broken = (*verdict.violations, f"memory: {taken >> 20} MiB")
        verdict = attrs.evolve(verdict, violations=broken)
    return attrs.evolve(verdict, seconds=time.perf_counter() - started, memory_bytes=taken)


def _checked(found: Read, *, good: Read, size: int, is_mixed: bool) -> Verdict:
    broken = [*_unbalanced(found), *_untiled(found, size)]
    is_told = _is_told(found, good)
    has_sums = found.index.integrity == "CRC"
    if has_sums and not (is_mixed and is_told) and not found.is_like(good):
        broken += _unsound(found, found.rows, good.rows, total=good.balance.written)
    elif not has_sums and found.index.integrity != "NONE":
        broken.append(f"integrity: {found.index.integrity!r}")
    return Verdict(
        found.balance.outcome,
        is_unseen=not is_told and not found.is_like(good),
        violations=tuple(broken),
    )


def _is_told(found: Read, good: Read) -> bool:
    """Whether a loss, or a finding that the good file does not have, is said."""
    before = {finding.code for finding in good.index.findings}
    news = {finding.code for finding in found.index.findings} - before
    return found.balance.outcome != "ACCEPTED" or bool(news)


def _unbalanced(found: Read) -> list[str]:
    """Breaks of: declared = written + bad + lost in every range; bad messages are named."""
    broken = []
    entries = [entry for group in found.groups for entry in group.ledger]
    for entry in (*found.index.structure, *entries):
        if entry.messages_declared is not None:
            total = entry.messages_written + entry.messages_bad + (entry.messages_lost or 0)
            if total != entry.messages_declared:
                broken.append(f"ledger: {entry}")
        numbers = (entry.messages_declared, entry.messages_lost, entry.offset, entry.length)
        if any(number is not None and number < 0 for number in numbers):
            broken.append(f"negative: {entry}")
    written = sum(sum(group.rows_by_channel.values()) for group in found.groups)
    if written != sum(entry.messages_written for entry in entries):
        broken.append(f"written: {written} messages, the ledger says otherwise")
    bad = sum(len(group.bad) for group in found.groups)
    if bad != sum(entry.messages_bad for entry in entries):
        broken.append(f"bad: {bad} messages, the ledger says otherwise")
    return broken


def _untiled(found: Read, size: int) -> list[str]:
    """Bytes of the file that have no fate, or two."""
    if found.index.format == "rosbag2_db3":
        return []  # whose ranges are rows
    at = 0
    ledger = [*found.index.structure, *(e for group in found.groups for e in group.ledger)]
    for entry in sorted(ledger, key=lambda one: (one.offset, one.length)):
        if entry.offset != at and entry.length:
            return [f"tiles: byte {at}, then {entry}"]
        at = max(at, entry.offset + entry.length)
    return [] if at == size else [f"tiles: end at {at} of {size}"]


def _strange(found: Read, rows: Rows, wanted: Rows) -> list[tuple[object, ...]]:
    """Rows that the good file does not have.

    A file whose messages stand in no chunk has one checksum for all: if it fails, that is said,
    and its rows stay. Messages of a topic of which too many are bad are bytes, and that is said.
    """
    is_told = any(finding.code == "DATA_CRC" for finding in found.index.findings)
    if is_told and any(is_loose(unit) for unit in found.index.units):
        return []
    as_bytes = "TOPIC_QUARANTINED" in found.balance.reason
    return [row for row in rows if row not in wanted and not (as_bytes and row[0] == RAW_TABLE)]


def _unsound(found: Read, rows: Rows, wanted: Rows, *, total: int) -> list[str]:
    """Breaks of what checksums promise: no row that was not there, no loss that is not told."""
    broken = []
    balance = found.balance
    if strange := _strange(found, rows, wanted):
        broken.append(f"changed: {len(strange)} rows, such as {strange[0]}"[:300])
    if balance.outcome == "ACCEPTED":
        if missing := (wanted - rows).total():
            broken.append(f"lost: {missing} rows, and the file is ACCEPTED")
        if (rows - wanted).total() and not found.index.findings:
            broken.append("doubled: rows come twice, and nothing says so")
    elif balance.lost is not None:
        kept = balance.written + balance.bad + balance.lost
        if kept < total:
            broken.append(f"undercount: {kept} of {total} messages are accounted for")
    return broken


def _keys(table: str, rows: pa.RecordBatch) -> list[tuple[object, ...]]:
    columns = []
    for column in rows.columns:
        values = column.to_pylist()
        is_simple = not (pa.types.is_nested(column.type) or pa.types.is_floating(column.type))
        columns.append(values if is_simple else map(repr, values))  # NaN equals NaN
    return [(table, *values) for values in zip(*columns, strict=True)]


def _newly_taken() -> int:
    """Bytes by which the largest memory of this process has grown since it was asked before."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    grown = peak - _PEAK.get(os.getpid(), peak)
    _PEAK[os.getpid()] = peak
    return grown
