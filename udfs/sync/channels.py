"""Observations sorted into channels: one stream of one recorder from one source, in time order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.recording import Int64Array
from udfs.sync.observations import encoded
from udfs.sync.rules import Quantity, SyncRules
from udfs.sync.segments import Segment
from udfs.sync.sensor_clocks import SensorClocks, SensorKey, fit_sensor_clock, on_recorder

ChannelKey = tuple[str, str, str, str]
"""Recorder, stream, table and source."""
_LATENCY_STEP_NS = 100_000
_NO_SENSORS: SensorClocks = {}


@attrs.frozen
class ChannelFacts:
    """What of a channel must be known as a whole, however small the part of it at hand is.

    Those of parts add up to those of the whole, in any order.

    Attributes:
        samples: How many.
        stamped: Of these, those whose stamp is near the log time.
        latencies: Stamped samples by log time minus stamp, in steps of 0.1 ms.
        size_bytes: Payload bytes of all samples, 0 if they have no payload.
    """

    samples: int
    stamped: int
    latencies: Mapping[int, int]
    size_bytes: int

    def __add__(self, other: Self) -> Self:
        counts = dict(self.latencies)
        for step, count in other.latencies.items():
            counts[step] = counts.get(step, 0) + count
        return attrs.evolve(
            self,
            samples=self.samples + other.samples,
            stamped=self.stamped + other.stamped,
            latencies=counts,
            size_bytes=self.size_bytes + other.size_bytes,
        )

    @property
    def is_stamped(self) -> bool:
        """Whether the sensor is on the recorder's clock, so that its stamps count."""
        return 2 * self.stamped > self.samples

    @property
    def latency_ns(self) -> int:
        """The median of log time minus stamp, to 0.1 ms; 0 without a stamp."""
        steps = sorted(self.latencies)
        counts = np.cumsum([self.latencies[step] for step in steps])
        if not steps:
            return 0
        at = int(np.searchsorted(counts, (counts[-1] + 1) // 2))
        return steps[at] * _LATENCY_STEP_NS

    @property
    def latency_used_ns(self) -> int | None:
        """`latency_ns`, where stamps count and some lack; else None."""
        return self.latency_ns if self.is_stamped and self.stamped < self.samples else None


Facts = Mapping[ChannelKey, ChannelFacts]


@attrs.frozen(eq=False)
class ChannelSamples:
    """The samples of one channel.

    Attributes:
        recorder: Recorder, or the recording where no recorder is named; the clock of `t_ns`.
        stream: camera, lidar, gnss, pose, gnss_time or a quantity.
        table: Silver table they came from.
        source: Topic, or source and name of the signal.
        t_ns: (N,) int64 recorder's clock, ascending: when it was sensed.
        rows: (N,) int64 rows of the observations.
        facts: Of the whole channel, where these are samples of a part of it.
        sensor_error_ns: Largest standard error of the clock that its sensor has of its own, at the
            ends of a piece; 0 where it has none.
    """

    recorder: str
    stream: str
    table: str
    source: str
    t_ns: Int64Array
    rows: Int64Array
    facts: ChannelFacts | None = None
    sensor_error_ns: float = 0.0

    @property
    def key(self) -> ChannelKey:
        """Which channel it is."""
        return self.recorder, self.stream, self.table, self.source

    @property
    def size(self) -> int:
        """Samples of the whole channel."""
        return self.facts.samples if self.facts else len(self.t_ns)


def split_channels(
    observations: pa.Table,
    *,
    recorders: Mapping[str, str],
    rules: SyncRules,
    facts: Facts | None = None,
    sensors: SensorClocks = _NO_SENSORS,
) -> list[ChannelSamples]:
    """Sort observations into channels.

    Args:
        observations: As `OBSERVATIONS`.
        recorders: Recorder by recording_id; recordings that are not named are left out.
        rules: `max_latency_ns`.
        facts: Of the whole channels, where the observations are a part of them. The stamps are
            taken as they have it, and a channel without a sample here is there nevertheless.
        sensors: Clocks of sensors that have one of their own; the same that the facts were made
            with.

    Returns:
        Channels ordered by recorder, stream, table and source. Recordings of one recorder are
        segments of one channel.
    """
    parts = _parts_of(observations, recorders=recorders, sensors=sensors)
    return _channels_of(parts, facts, rules=rules, sensors=sensors)


def whole_channels(
    observations: pa.Table,
    *,
    recorders: Mapping[str, str],
    rules: SyncRules,
    sensors: SensorClocks = _NO_SENSORS,
) -> list[ChannelSamples]:
    """`split_channels` by the facts of these very observations, which are all that there are."""
    parts = list(_parts_of(observations, recorders=recorders, sensors=sensors))
    facts = _facts_of(parts, observations, rules=rules)
    return _channels_of(parts, facts, rules=rules, sensors=sensors)


def _channels_of(
    parts: Iterable[_Part], facts: Facts | None, *, rules: SyncRules, sensors: SensorClocks
) -> list[ChannelSamples]:
    channels = []
    for part in parts:
        known = facts.get(part.key) if facts is not None else None
        t_ns = _sensed_ns(part, rules=rules) if known is None else _held_ns(part, known, rules)
        by_time = np.argsort(t_ns, kind="stable")
        error_ns = _largest_error_ns(sensors.get(part.sensor, ()))
        channels.append(
            ChannelSamples(*part.key, t_ns[by_time], part.rows[by_time], known, error_ns)
        )
    none = np.empty(0, np.int64)
    found = {each.key for each in channels}
    for key, known in (facts or {}).items():
        if key not in found:
            channels.append(ChannelSamples(*key, none, none, known))
    return sorted(channels, key=lambda each: each.key)


def estimate_sensor_clocks(
    observations: pa.Table, *, recorders: Mapping[str, str], rules: SyncRules
) -> dict[SensorKey, tuple[Segment, ...]]:
    """Clocks of the sensors whose stamps are, for the most part, far from the log times.

    Args:
        observations: As `OBSERVATIONS`, of a whole drive.
        recorders: Recorder by recording_id; recordings that are not named are left out.
        rules: `max_latency_ns`.
    """
    found: dict[SensorKey, tuple[Segment, ...]] = {}
    seen = set()
    for part in _parts_of(observations, recorders=recorders, sensors=_NO_SENSORS):
        stamped = np.flatnonzero(part.has_stamp)
        if part.sensor in seen or 2 * np.count_nonzero(part.is_near(rules)) > len(part.rows):
            continue
        seen.add(part.sensor)
        pieces = fit_sensor_clock(part.stamp_ns[stamped], part.log_ns[stamped])
        if pieces:
            found[part.sensor] = pieces
    return found


def facts_of(
    observations: pa.Table,
    *,
    recorders: Mapping[str, str],
    rules: SyncRules,
    sensors: SensorClocks = _NO_SENSORS,
) -> dict[ChannelKey, ChannelFacts]:
    """What must be known of whole channels, from a part of their observations or all.

    Args:
        observations: As `OBSERVATIONS`.
        recorders: Recorder by recording_id; recordings that are not named are left out.
        rules: `max_latency_ns`.
        sensors: Clocks of sensors that have one of their own.
    """
    parts = _parts_of(observations, recorders=recorders, sensors=sensors)
    return _facts_of(parts, observations, rules=rules)


def _facts_of(
    parts: Iterable[_Part], observations: pa.Table, *, rules: SyncRules
) -> dict[ChannelKey, ChannelFacts]:
    length = pc.fill_null(observations["data_length"], 0).to_numpy()
    found = {}
    for part in parts:
        near = part.is_near(rules)
        late_ns = (part.log_ns - part.stamp_ns)[near]
        # No farther apart than twice the latency that is near: counted place by place.
        steps = (late_ns + _LATENCY_STEP_NS // 2) // _LATENCY_STEP_NS
        least = int(steps.min(initial=0))
        counts = np.bincount(steps - least)
        taken = np.flatnonzero(counts)
        found[part.key] = ChannelFacts(
            samples=len(part.rows),
            stamped=len(late_ns),
            latencies=dict(zip((taken + least).tolist(), counts[taken].tolist(), strict=True)),
            size_bytes=int(length[part.rows].sum()),
        )
    return found


def added(parts: Iterable[Facts]) -> dict[ChannelKey, ChannelFacts]:
    """The facts of channels of which several parts are known."""
    whole: dict[ChannelKey, ChannelFacts] = {}
    for part in parts:
        for key, facts in part.items():
            whole[key] = whole[key] + facts if key in whole else facts
    return whole


@attrs.frozen(eq=False)
class _Part:
    """The observations of one channel in the order in which they came.

    Attributes:
        key: The channel.
        rows: (N,) int64 rows of the observations.
        log_ns: (N,) int64.
        stamp_ns: (N,) int64, on the recorder's clock if it is known how; 0 where there is none.
        has_stamp: (N,) bool.
    """

    key: ChannelKey
    rows: Int64Array
    log_ns: Int64Array
    stamp_ns: Int64Array
    has_stamp: npt.NDArray[np.bool_]

    @property
    def sensor(self) -> SensorKey:
        """Recorder and topic, which is the source of all that is stamped."""
        return self.key[0], self.key[3]

    def is_near(self, rules: SyncRules) -> npt.NDArray[np.bool_]:
        """(N,) whether a stamp may be on the recorder's clock."""
        near = np.abs(self.log_ns - self.stamp_ns) <= rules.max_latency_ns
        return np.asarray(self.has_stamp & near)


def _largest_error_ns(pieces: Sequence[Segment]) -> float:
    ends = [(each, np.array([each.start_ns, each.end_ns])) for each in pieces]
    return max((float(each.error_at(at).max()) for each, at in ends), default=0.0)


def _parts_of(
    observations: pa.Table, *, recorders: Mapping[str, str], sensors: SensorClocks
) -> Iterator[_Part]:
    recording = encoded(observations["recording_id"])
    names = recording.dictionary.to_pylist()
    inside = np.array([name in recorders for name in names], np.bool_)[recording.indices.to_numpy()]
    row_of = np.flatnonzero(inside)
    if len(row_of) == 0:
        return
    codes, keys = _group(
        [
            (recording, [recorders.get(name, "") for name in names]),
            *((each, each.dictionary.to_pylist()) for each in _words(observations)),
        ]
    )
    codes = codes[row_of]
    log_ns = observations["log_time_ns"].to_numpy()[row_of]
    stamp = observations["sensor_time_ns"]
    stamp_ns = pc.fill_null(stamp, 0).to_numpy()[row_of]
    has_stamp = stamp.is_valid().to_numpy()[row_of]
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        part = _Part(
            key=keys[codes[rows[0]]],
            rows=row_of[rows],
            log_ns=log_ns[rows],
            stamp_ns=stamp_ns[rows],
            has_stamp=has_stamp[rows],
        )
        if pieces := sensors.get(part.sensor):
            on_log, known = on_recorder(part.stamp_ns, part.log_ns, pieces)
            part = attrs.evolve(part, stamp_ns=on_log, has_stamp=part.has_stamp & known)
        yield part


def _words(observations: pa.Table) -> list[pa.DictionaryArray]:
    return [encoded(observations[name]) for name in ("stream", "table", "source")]


def best_channel(
    channels: Iterable[ChannelSamples], *, quantity: Quantity | None = None, recorder: str = ""
) -> ChannelSamples | None:
    """The channel to trust: by the quantity's preferred tables, then by recorder and by samples.

    Args:
        channels: Candidates of one stream.
        quantity: Its `prefer` ranks the tables; tables that it does not name come last.
        recorder: Recorder to prefer among equals, since no second clock comes in.
    """

    def rank(each: ChannelSamples) -> tuple[int, bool, int]:
        tables: Sequence[str] = quantity.prefer if quantity else ()
        place = tables.index(each.table) if each.table in tables else len(tables)
        return place, each.recorder != recorder, -each.size

    return min(channels, key=rank, default=None)


def _sensed_ns(part: _Part, *, rules: SyncRules) -> Int64Array:
    """(N,) int64 when a channel's samples were sensed, on the recorder's clock.

    The sensor's stamp counts if the sensor is on the recorder's clock, which shows in most stamps
    lying within `max_latency_ns` of the log times. A single stamp that does not takes the log time
    less the usual latency. Otherwise it is the log time.
    """
    near = part.is_near(rules)
    if 2 * np.count_nonzero(near) <= len(near):
        return part.log_ns
    latency = int(np.median((part.log_ns - part.stamp_ns)[near]))
    return np.where(near, part.stamp_ns, part.log_ns - latency)


def _held_ns(part: _Part, known: ChannelFacts, rules: SyncRules) -> Int64Array:
    """The same of a part of a channel, as the facts of the whole have it."""
    if not known.is_stamped:
        return part.log_ns
    near = part.is_near(rules)
    if near.all():
        return part.stamp_ns
    return np.where(near, part.stamp_ns, part.log_ns - known.latency_ns)


def _group(
    columns: Sequence[tuple[pa.DictionaryArray, Sequence[str]]],
) -> tuple[npt.NDArray[np.integer[Any]], list[ChannelKey]]:
    """(N,) group of each row over columns of text, and each group's values, in their order.

    Args:
        columns: Codes of each column, and the word that each code stands for here.
    """
    codes = np.zeros(len(columns[0][0]), dtype=np.int64)
    for column, words in columns:
        codes = codes * len(words) + column.indices.to_numpy()
    found = pa.array(codes).dictionary_encode()
    keys = []
    for code in found.dictionary.to_pylist():
        key, rest = [], code
        for _, words in reversed(columns):
            rest, at = divmod(rest, len(words))
            key.append(words[at])
        keys.append(tuple(reversed(key)))
    # Recordings of one recorder are one group. Small numbers: NumPy sorts them by their digits.
    ordered = sorted(set(keys))
    place = {key: at for at, key in enumerate(ordered)}
    of_code = np.array(
        [place[key] for key in keys], np.uint16 if len(ordered) < 1 << 16 else np.int64
    )
    return of_code[found.indices.to_numpy()], ordered
