"""What is asked for of a recording: topics, a span of time, tables."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import ContractViolation
from contracts.recording import (
    Channel,
    MessageBatch,
    MessageGroup,
    RecordingIndex,
    TableGroup,
    Unit,
)
from udfs.decode.kinds import kind_of

_NAMES_TOLD = 10
_OF_MESSAGES = ("mcap", "ros1bag", "rosbag2_db3")
_ELEMENT = re.compile(r"((\[\d+\])+|\.re|\.im)$")


@attrs.frozen
class Selection:
    """Which messages are asked for; what is None is not restricted.

    Attributes:
        topics: Names, or patterns with `*` and `?`.
        start_ns: First log time, recorder's clock, inclusive.
        end_ns: End of the log times, exclusive.
        tables: Silver tables without `silver.`, e.g. `imu`.
        signals: Names of signals, or patterns; of rows of `signals` alone.
    """

    topics: tuple[str, ...] | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    tables: frozenset[str] | None = None
    signals: tuple[str, ...] | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is restricted."""
        return self == Selection()

    @property
    def has_span(self) -> bool:
        """Whether the time is restricted."""
        return self.start_ns is not None or self.end_ns is not None

    def takes(self, table: str) -> bool:
        """Whether rows of a table are asked for."""
        if self.signals is not None and table != "signals":
            return False
        return self.tables is None or table in self.tables

    def channels(self, index: RecordingIndex) -> list[Channel]:
        """Channels of the topics asked for.

        Raises:
            ContractViolation: USAGE, a topic or a signal is not in the recording.
        """
        channels = index.channels
        if self.topics is not None:
            found = _matched(self.topics, {channel.topic for channel in channels}, what="topic")
            channels = tuple(channel for channel in channels if channel.topic in found)
        return list(channels) if self.signals is None else self._with_signals(index, channels)

    def _with_signals(self, index: RecordingIndex, channels: Sequence[Channel]) -> list[Channel]:
        """Channels that have one of the signals by their definition, or frames that may."""
        assert self.signals is not None
        names = {channel.id: _signal_names(index, channel) for channel in channels}
        sure = {one for some in names.values() if some is not None for one in some}
        asked = [_ELEMENT.sub("", name) for name in self.signals]
        found = {name for name in sure if _is_named(name, asked)}
        if None not in names.values():
            found = _matched(self.signals, sure, what="signal")
        return [
            channel
            for channel in channels
            if (own := names[channel.id]) is None or not found.isdisjoint(own)
        ]

    def units(
        self, index: RecordingIndex, *, channels: Collection[int], among: Sequence[Unit] | None
    ) -> list[Unit]:
        """Units that may hold messages of the channels within the span, of all or of some.

        Where a unit does not say, or names a channel that nobody defines, it may.
        """
        others = {channel.id for channel in index.channels} - set(channels)
        return [
            unit
            for unit in (index.units if among is None else among)
            if not (unit.channel_counts and unit.channel_counts.keys() <= others)
            and self._may_overlap(unit)
        ]

    def _may_overlap(self, unit: Unit) -> bool:
        if unit.start_ns is None or unit.end_ns is None:
            return True
        return (self.end_ns is None or unit.start_ns < self.end_ns) and (
            self.start_ns is None or unit.end_ns >= self.start_ns
        )

    def in_span(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(N,) whether each log time is asked for."""
        mask = np.ones(len(times), np.bool_)
        if self.start_ns is not None:
            mask &= times >= self.start_ns
        if self.end_ns is not None:
            mask &= times < self.end_ns
        return mask

    def clip_messages(self, groups: Iterator[MessageGroup]) -> Iterator[MessageGroup]:
        """Groups without the messages outside the span, before any of them is decoded."""
        for group in groups:
            if not self.has_span:
                yield group
                continue
            clipped = (self._clip_batch(batch) for batch in group.batches)
            yield attrs.evolve(group, batches=tuple(one for one in clipped if len(one.starts)))

    def _clip_batch(self, batch: MessageBatch) -> MessageBatch:
        mask = self.in_span(batch.log_time_ns)
        if mask.all():
            return batch
        return batch.where(mask)

    def clip_tables(self, group: TableGroup) -> TableGroup:
        """A group of messages with the rows that are asked for only: frames may give signals."""
        kept = [
            (table, self._named_rows(rows)) for table, rows in group.tables if self.takes(table)
        ]
        return attrs.evolve(group, tables=tuple((table, rows) for table, rows in kept if len(rows)))

    def clip_rows(self, group: TableGroup, *, topics: Collection[str]) -> TableGroup:
        """A group with the rows that are asked for only; its ledger speaks of all that was read."""
        wanted = pa.array(sorted(topics), pa.string())
        tables = []
        for table, rows in group.tables:
            if not self.takes(table):
                continue
            mask = pa.array(self.in_span(rows.column("log_time_ns").to_numpy(zero_copy_only=False)))
            mask = pc.and_(mask, pc.is_in(rows.column("topic"), wanted))
            kept = self._named_rows(rows.filter(mask))
            if kept.num_rows:
                tables.append((table, kept))
        return attrs.evolve(group, tables=tuple(tables))

    def _named_rows(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of the signals that are asked for."""
        if self.signals is None:
            return rows
        names = pc.unique(rows.column("signal")).to_pylist()
        asked = [name for name in names if name and _is_named(name, self.signals)]
        return rows.filter(pc.is_in(rows.column("signal"), pa.array(asked, pa.string())))


def _matched(patterns: Sequence[str], names: Collection[str], *, what: str) -> set[str]:
    """The names that are asked for; ContractViolation USAGE for a pattern that none fits."""
    found: set[str] = set()
    for pattern in patterns:
        matched = {pattern, _ELEMENT.sub("", pattern)} & set(names)
        matched = matched or set(fnmatch.filter(names, pattern))
        if not matched:
            raise _no_such(what, pattern, names)
        found |= matched
    return found


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    """Whether a signal is asked for, or the array or complex number that it is an element of."""
    names = {name, _ELEMENT.sub("", name)}
    return any(
        pattern in names or any(fnmatch.fnmatchcase(one, pattern) for one in names)
        for pattern in patterns
    )


def _signal_names(index: RecordingIndex, channel: Channel) -> set[str] | None:
    """Signals of a channel group; None for frames, whose definitions may come from elsewhere."""
    kind = channel.metadata.get("kind", "can_frames")
    if index.format in _OF_MESSAGES:
        schemas = {schema.id: schema.name for schema in index.schemas}
        found = kind_of(schemas.get(channel.schema_id, ""))
        kind = found.table if found else ""
    if kind == "can_frames":
        return None
    if kind != "signals":
        return set()
    schema = next(schema for schema in index.schemas if schema.id == channel.schema_id)
    return set(_names_in(json.loads(schema.data)))


def _names_in(fields: Sequence[dict[str, Any]]) -> Iterator[str]:
    for field in fields:
        yield field["name"]
        yield from _names_in(field.get("parts", []))


def _no_such(what: str, asked: str, names: Collection[str]) -> ContractViolation:
    some: Sequence[str] = sorted(names)[:_NAMES_TOLD]
    there = f"it has {', '.join(some)}" if some else "it has none"
    if len(names) > len(some):
        there += f" and {len(names) - len(some)} more"
    return ContractViolation(
        f"The recording has no {what} {asked}", code="USAGE", topic=asked, remedy=there
    )
