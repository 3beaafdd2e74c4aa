"""What is in a recording, and what is wrong with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from contracts.errors import PlatformError
from contracts.recording import (
    BadMessage,
    Channel,
    Finding,
    Int64Array,
    LedgerEntry,
    RecordingIndex,
    Unit,
)
from spark_jobs.balance import balance_of
from spark_jobs.ingest_decode import Counts
from udfs.decode import ros1bag_quick
from udfs.decode.context import DecodeContext
from udfs.decode.packed import unpacked
from udfs.decode.recording import (
    has_messages,
    index_recording,
    iter_message_groups,
    iter_table_groups,
    quick_index,
    table_of_channel,
)
from udfs.decode.selection import Selection
from udfs.decode.source import OpenSource
from udfs.decode.units import messages_by_channel

_UNITS_LOOKED_INTO = 16
"""Of a remote recording, for the first and last times of its channels."""
_PROBLEMS = 1000
Span = tuple[int, int]


@attrs.frozen
class ChannelSummary:
    """A channel: what it holds, and where its messages go."""

    topic: str
    type: str
    encoding: str
    messages: int | None
    rate_hz: float | None
    start_ns: int | None
    end_ns: int | None
    table: str
    status: str


@attrs.frozen
class Chunks:
    """The chunks of one compression; `size_bytes` uncompressed, None where not looked up."""

    compression: str
    count: int
    stored_bytes: int
    size_bytes: int | None


@attrs.frozen
class Summary:
    """A recording at a glance.

    Attributes:
        is_checked: Whether the file was walked through; else this is what its own index says.
        integrity: "CRC" or "NONE"; None where it was not looked at.
    """

    uri: str
    format: str
    profile: str
    library: str
    size_bytes: int
    messages: int | None
    start_ns: int | None
    end_ns: int | None
    is_checked: bool
    integrity: str | None
    chunks: tuple[Chunks, ...]
    channels: tuple[ChannelSummary, ...]
    attachments: tuple[dict[str, Any], ...]
    metadata: tuple[str, ...]
    findings: tuple[Finding, ...]


@attrs.frozen
class Problem:
    """Something that is wrong with a recording, and where.

    `lost_messages` None means that it is not known how many.
    """

    code: str
    detail: str
    offset: int | None
    length: int | None
    lost_messages: int | None
    bad_messages: int = 0


@attrs.frozen
class Diagnosis:
    """What would become of a recording, as an ingest decides it.

    Attributes:
        outcome: ACCEPTED, PARTIAL or QUARANTINED.
        recovered: Messages that decode or are kept as bytes.
        lost: None if unknown how many.
        notes: What is odd and loses nothing.
    """

    uri: str
    outcome: str
    format: str | None
    reason: str
    declared: int | None
    recovered: int
    bad: int
    lost: int | None
    integrity: str | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def summarise(source: OpenSource) -> Summary:
    """What is in a recording, from its own index where there is one that can be believed.

    Raises:
        DecodeError: It can't be indexed.
        UnsupportedFormatError: No recording, or none that can be read here.
    """
    index = quick_index(source)
    is_checked = bool(index.structure) or index.format not in ("mcap", "ros1bag")
    index = _with_sizes(source, index)
    spans = channel_spans(source, index)
    schemas = {schema.id: schema.name for schema in index.schemas}
    counts = _counts(index)
    return Summary(
        uri=source.uri,
        format=index.format,
        profile=index.profile,
        library=index.library,
        size_bytes=source.size,
        messages=_total(index),
        start_ns=index.start_ns,
        end_ns=index.end_ns,
        is_checked=is_checked,
        integrity=index.integrity if is_checked else None,
        chunks=_chunks(index),
        channels=tuple(
            _channel(index, channel, schemas, counts.get(channel.id), spans.get(channel.id))
            for channel in sorted(index.channels, key=lambda channel: channel.topic)
        ),
        attachments=tuple(
            {"name": one.name, "media_type": one.media_type, "size_bytes": one.length}
            for one in index.attachments
        ),
        metadata=tuple(sorted(index.metadata)),
        findings=index.findings,
    )


def diagnose(source: OpenSource, *, definitions: Mapping[str, bytes]) -> Diagnosis:
    """Read all of a recording and say what is wrong with it; what is wrong is never raised."""
    context = DecodeContext("", dt.date(1970, 1, 1), definitions=definitions)
    counts, damage, bad = Counts(), list[LedgerEntry](), dict[tuple[str, str], list[Any]]()
    index = None
    try:
        index = index_recording(source)
        for group in iter_table_groups(source, index, context=context):
            counts.add_group(group)
            damage += [entry for entry in group.ledger if entry.is_damaged]
            for message in group.bad:
                bad.setdefault((message.topic, message.error_class), [0, message])[0] += 1
        balance = balance_of(index, counts)
    except PlatformError as error:
        return hopeless(source.uri, error, index)
    damage += [entry for entry in index.structure if entry.is_damaged]
    notes = {finding.code: finding.detail for finding in index.findings if not finding.loses}
    notes |= {flag: "" for flag in balance.flags if flag not in notes}
    return Diagnosis(
        uri=source.uri,
        outcome=balance.outcome,
        format=index.format,
        reason=balance.reason,
        declared=balance.declared,
        recovered=balance.written,
        bad=balance.bad,
        lost=balance.lost,
        integrity=index.integrity,
        problems=_problems(index, damage, bad),
        notes=(
            *(f"{code}: {detail}".rstrip(": ") for code, detail in notes.items()),
            *_undecoded_notes(index),
        ),
    )


def channel_spans(source: OpenSource, index: RecordingIndex) -> dict[int, Span]:
    """First and last log time of each channel: from the messages of the units that can hold them.

    Of a remote recording some units only are fetched; the span is that of the units then.
    """
    limit = len(index.units) if source.is_local else _UNITS_LOOKED_INTO
    looked: dict[int, dict[int, Span]] = {}
    spans: dict[int, Span] = {}
    timed = [unit for unit in index.units if unit.start_ns is not None]
    early = sorted(timed, key=lambda unit: unit.start_ns or 0)
    late = sorted(timed, key=lambda unit: -(unit.end_ns or 0))

    def times(unit: Unit, channel: int) -> Span | None:
        assert unit.start_ns is not None
        assert unit.end_ns is not None
        if channel not in unit.channel_counts:
            return None
        if len(unit.channel_counts) == 1:
            return unit.start_ns, unit.end_ns
        if unit.index not in looked and len(looked) < limit:
            looked[unit.index] = _spans_in(source, index, unit)
        return looked.get(unit.index, {}).get(channel, (unit.start_ns, unit.end_ns))

    for channel in index.channels:
        first = last = None
        for unit in early:
            if first is not None and (unit.start_ns or 0) >= first:
                break
            if (span := times(unit, channel.id)) is not None:
                first = span[0] if first is None else min(first, span[0])
        for unit in late:
            if last is not None and (unit.end_ns or 0) <= last:
                break
            if (span := times(unit, channel.id)) is not None:
                last = span[1] if last is None else max(last, span[1])
        if first is not None and last is not None:
            spans[channel.id] = first, last
    return spans


def _spans_in(source: OpenSource, index: RecordingIndex, unit: Unit) -> dict[int, Span]:
    found: dict[int, Span] = {}
    for channel, times in _times_in(source, index, unit):
        span = int(times.min()), int(times.max())
        before = found.get(channel, span)
        found[channel] = min(before[0], span[0]), max(before[1], span[1])
    return found


def _times_in(
    source: OpenSource, index: RecordingIndex, unit: Unit
) -> Iterator[tuple[int, Int64Array]]:
    """Channels and log times of the messages of a unit; of rows where it has no messages."""
    if has_messages(index):
        for group in iter_message_groups(source, index, units=[unit], selection=Selection()):
            for batch in group.batches:
                yield batch.channel_id, batch.log_time_ns
        return
    context = DecodeContext("", dt.date(1970, 1, 1))
    for tables in iter_table_groups(source, index, context=context, units=[unit]):
        for _, rows in tables.tables:
            channels = rows.column("channel_id").to_numpy(zero_copy_only=False)
            times = rows.column("log_time_ns").to_numpy(zero_copy_only=False)
            for channel in np.unique(channels).tolist():
                yield channel, times[channels == channel]


def _with_sizes(source: OpenSource, index: RecordingIndex) -> RecordingIndex:
    """The index with compression and size of each chunk; of a remote bag only as it has them."""
    if index.format != "ros1bag" or not source.is_local:
        return index
    if all(unit.uncompressed_size is not None for unit in index.units):
        return index
    return attrs.evolve(index, units=tuple(ros1bag_quick.sized(unpacked(source), index.units)))


def _channel(
    index: RecordingIndex,
    channel: Channel,
    schemas: Mapping[int, str],
    messages: int | None,
    span: Span | None,
) -> ChannelSummary:
    table, _, status = table_of_channel(index, channel)
    seconds = (span[1] - span[0]) / 1e9 if span else 0.0
    has_rate = messages is not None and messages > 1 and seconds > 0
    return ChannelSummary(
        topic=channel.topic,
        type=schemas.get(channel.schema_id, ""),
        encoding=channel.message_encoding,
        messages=messages,
        rate_hz=((messages or 0) - 1) / seconds if has_rate else None,
        start_ns=span[0] if span else None,
        end_ns=span[1] if span else None,
        table=f"silver.{table}",
        status=status,
    )


def _counts(index: RecordingIndex) -> dict[int, int]:
    """Messages by channel: as the file declares, or else as its units count."""
    counts = {one.id: one.message_count for one in index.channels if one.message_count is not None}
    return messages_by_channel(index.units) | counts


def _total(index: RecordingIndex) -> int | None:
    if index.messages_declared is not None:
        return index.messages_declared
    counts = [unit.message_count for unit in index.units]
    return None if None in counts else sum(count for count in counts if count is not None)


def _chunks(index: RecordingIndex) -> tuple[Chunks, ...]:
    by_name: dict[str, list[Unit]] = {}
    for unit in index.units:
        is_unknown = index.format == "ros1bag" and unit.uncompressed_size is None
        name = unit.compression or ("?" if is_unknown else "none")
        by_name.setdefault(name, []).append(unit)
    return tuple(
        Chunks(
            compression=name,
            count=len(some),
            stored_bytes=sum(unit.length for unit in some),
            size_bytes=None if name == "?" else sum(unit.uncompressed_size or 0 for unit in some),
        )
        for name, some in sorted(by_name.items())
    )


def _problems(
    index: RecordingIndex,
    damage: Sequence[LedgerEntry],
    bad: Mapping[tuple[str, str], Sequence[Any]],
) -> tuple[Problem, ...]:
    """Damaged ranges in file order, what only the whole file shows, then bad messages."""
    ranges = [
        Problem(e.reason_code or "LOST", e.detail, e.offset, e.length, e.messages_lost)
        for e in sorted(damage, key=lambda entry: entry.offset)
    ]
    told = {(problem.code, problem.offset) for problem in ranges}
    whole = [
        Problem(f.code, f.detail, f.offset, None, f.lost_messages)
        for f in index.findings
        if f.loses and (f.code, f.offset) not in told
    ]
    messages = [_bad_problem(count, first) for count, first in bad.values()]
    return tuple((ranges + whole + messages)[:_PROBLEMS])


def _bad_problem(count: int, first: BadMessage) -> Problem:
    detail = f"{first.topic}: {first.error}"
    offset = first.unit_offset if first.unit_offset >= 0 else first.offset
    return Problem(first.error_class, detail, offset, None, 0, bad_messages=count)


def _undecoded_notes(index: RecordingIndex) -> list[str]:
    notes, counts = [], _counts(index)
    for channel in index.channels:
        _, _, status = table_of_channel(index, channel)
        if status != "DECODED" and counts.get(channel.id) != 0:
            notes.append(f"{status}: {channel.topic} is kept as bytes")
    return notes


def hopeless(uri: str, error: PlatformError, index: RecordingIndex | None = None) -> Diagnosis:
    """A recording of which nothing can be recovered, and why."""
    return Diagnosis(
        uri=uri,
        outcome="QUARANTINED",
        format=index.format if index else None,
        reason=f"{error.code}: {error.what}",
        declared=index.messages_declared if index else None,
        recovered=0,
        bad=0,
        lost=None,
        integrity=index.integrity if index else None,
        problems=(Problem(error.code, error.what, error.offset, None, None),),
        notes=(),
    )
