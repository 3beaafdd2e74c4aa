"""What is asked for of a recording: topics, a span of time, tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Sequence

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

_TOPICS_NAMED = 10


@attrs.frozen
class Selection:
    """Which messages are asked for; what is None is not restricted.

    Attributes:
        topics: Names, or patterns with `*` and `?`.
        start_ns: First log time, recorder's clock, inclusive.
        end_ns: End of the log times, exclusive.
        tables: Silver tables without `silver.`, e.g. `imu`.
    """

    topics: tuple[str, ...] | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    tables: frozenset[str] | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is restricted."""
        return self == Selection()

    @property
    def has_span(self) -> bool:
        """Whether the time is restricted."""
        return self.start_ns is not None or self.end_ns is not None

    def channels(self, index: RecordingIndex) -> list[Channel]:
        """Channels of the topics asked for.

        Raises:
            ContractViolation: USAGE, a topic is not in the recording.
        """
        if self.topics is None:
            return list(index.channels)
        names = {channel.topic for channel in index.channels}
        found: set[str] = set()
        for topic in self.topics:
            matched = {topic} & names or set(fnmatch.filter(names, topic))
            if not matched:
                raise _no_topic(topic, names)
            found |= matched
        return [channel for channel in index.channels if channel.topic in found]

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
        names = (
            "starts",
            "lengths",
            "log_time_ns",
            "publish_time_ns",
            "sequence",
            "unit_offset",
            "payload_offset",
        )
        return attrs.evolve(batch, **{name: getattr(batch, name)[mask] for name in names})

    def clip_rows(self, group: TableGroup, *, topics: Collection[str]) -> TableGroup:
        """A group with the rows that are asked for only; its ledger speaks of all that was read."""
        wanted = pa.array(sorted(topics), pa.string())
        tables = []
        for table, rows in group.tables:
            if self.tables is not None and table not in self.tables:
                continue
            mask = pa.array(self.in_span(rows.column("log_time_ns").to_numpy(zero_copy_only=False)))
            kept = rows.filter(pc.and_(mask, pc.is_in(rows.column("topic"), wanted)))
            if kept.num_rows:
                tables.append((table, kept))
        return attrs.evolve(group, tables=tuple(tables))


def _no_topic(topic: str, names: Collection[str]) -> ContractViolation:
    some: Sequence[str] = sorted(names)[:_TOPICS_NAMED]
    there = f"it has {', '.join(some)}" if some else "it has none"
    if len(names) > len(some):
        there += f" and {len(names) - len(some)} more"
    return ContractViolation(
        f"The recording has no topic {topic}", code="USAGE", topic=topic, remedy=there
    )
