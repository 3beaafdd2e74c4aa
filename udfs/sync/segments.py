"""A clock as straight segments: how far it is off, how fast it drifts, and where it jumped.

What is given is how far a clock was off at some instants, each with noise. An oscillator drifts
slowly, so between jumps the offsets lie on a line; where the clock was set, they step. Steps are
found one by one, the surest first, until noise explains what is left; then one fit over all
segments shares the drift of the oscillator between them, where that is consistent.

The samples are ordered by the reference, which never steps, and not by the clock, which does: after
a backward step the clock shows the same readings again. Such readings are of two instants, so no
segment is valid for them (`disjoint`); nor for those between the last sample before a step and the
first after it, where the step may be anywhere. What lies there has no time: it is left out rather
than given one that may be wrong by the whole step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from scipy import special

from contracts.errors import ClockError
from contracts.recording import Int64Array

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LEAST_SAMPLES = 3
_NORMAL_MAD = 1.4826
_LEAST_NOISE_NS = 100.0
_STEP_SCALES = 7.0
"""A step is one where it is this many standard errors: among 10^5 places noise reaches five."""
_LOCAL_SCALES = 5.0
_LEAST_NEIGHBOURS = 8
_PLACE_DEVIANCE = 12.0
"""Twice the log-likelihood by which a place of a step may fall short of the best one."""
_OUTLIER_SCALES = 7.0
_OUTLIER_WINDOW = 7
_BLOCKS = 12
_LEAST_BLOCKS = 20
_BLOCK_SAMPLES = 3
_MAX_SEGMENTS = 64
_SHARED_DRIFT_P = 0.001
_TWO_SIDED = 0.975


MOST_TIES = 64
"""Of a segment, kept to be drawn."""
Ties = tuple[tuple[int, int], ...]


@attrs.frozen
class Segment:
    """A span over which a clock ran straight.

    Attributes:
        start_ns: First reading of the clock that it is known to hold for.
        end_ns: Last one, inclusive.
        anchor_ns: Reading at which `offset_ns` holds, where it is known best.
        offset_ns: The clock minus the reference.
        drift_ppb: Growth of the offset, ns per s of the clock.
        offset_error_ns: Standard error of the offset at the anchor.
        drift_error_ppb: Standard error of the drift; independent of that of the offset.
        samples: Offsets that it was fitted to.
        ties: Some of them, in order: reading of the clock, and how far it was off there.
    """

    start_ns: int
    end_ns: int
    anchor_ns: int
    offset_ns: int
    drift_ppb: float
    offset_error_ns: float
    drift_error_ppb: float
    samples: int
    ties: Ties = attrs.field(default=(), eq=False, repr=False)

    def offset_at(self, clock_ns: Int64Array) -> Int64Array:
        """(N,) int64 ns, how far the clock is off at readings of its own."""
        grown = 1e-9 * self.drift_ppb * (np.asarray(clock_ns, np.int64) - self.anchor_ns)
        return self.offset_ns + np.rint(grown).astype(np.int64)

    def error_at(self, clock_ns: Int64Array) -> FloatArray:
        """(N,) float64 ns, standard error of `offset_at`."""
        away = np.asarray(clock_ns, np.int64) - self.anchor_ns
        return np.asarray(np.hypot(self.offset_error_ns, 1e-9 * self.drift_error_ppb * away))

    def reference_at(self, clock_ns: int) -> int:
        """The reference at a reading of the clock, ns."""
        return clock_ns - int(self.offset_at(np.array([clock_ns]))[0])

    def residuals(self) -> Ties:
        """Its ties, each as reading of the clock and offset minus `offset_at`."""
        clock_ns, offset_ns = np.array(self.ties, np.int64).reshape(-1, 2).T
        away = offset_ns - self.offset_at(clock_ns)
        return tuple(zip(clock_ns.tolist(), away.tolist(), strict=True))


def some_ties(clock_ns: Int64Array, offset_ns: Int64Array) -> Ties:
    """As many of (N,) readings and (N,) offsets as a segment keeps, evenly taken, in order."""
    order = np.argsort(clock_ns, kind="stable")
    if len(order) > MOST_TIES:
        order = order[np.linspace(0, len(order) - 1, MOST_TIES).astype(np.int64)]
    return tuple(zip(clock_ns[order].tolist(), offset_ns[order].tolist(), strict=True))


@attrs.frozen(eq=False)
class _Samples:
    """Offsets on float axes: `time` in s and `value` in ns from a base; weight 1 / variance."""

    time: FloatArray
    value: FloatArray
    weight: FloatArray

    def __getitem__(self, part: slice | BoolArray | Int64Array) -> _Samples:
        return _Samples(self.time[part], self.value[part], self.weight[part])

    def __len__(self) -> int:
        return len(self.time)


def fit_segments(
    reference_ns: Int64Array,
    offset_ns: Int64Array,
    *,
    error_ns: FloatArray | None = None,
    max_drift_ppm: float,
) -> tuple[Segment, ...]:
    """Fit straight segments to how far a clock was off.

    The standard errors come from the scatter of the samples: widened where neighbours err together
    (`error_ns` is not believed either), and by Student's t where they are few.

    Args:
        reference_ns: (N,) int64, instants of the reference; taken in ascending order.
        offset_ns: (N,) int64, the clock minus the reference at each, with noise.
        error_ns: (N,) float64, noise of each relative to the others; the same for all if None.
        max_drift_ppm: Drift that an oscillator hardly exceeds. Where the samples do not tell the
            drift, this says what it may be.

    Returns:
        Segments in the order in which the clock ran through them, a jump between each and the next.
        Each holds from its first sample to its last; a few samples at a jump may belong to neither
        side, and samples that are far off their neighbours count for nothing.

    Raises:
        ClockError: NO_TIME_REFERENCE, fewer than three samples that agree; AMBIGUOUS, so many jumps
            that it is no clock.
    """
    order = np.argsort(reference_ns, kind="stable")
    reference_ns, offset_ns = reference_ns[order], offset_ns[order]
    if len(order) < LEAST_SAMPLES:
        raise ClockError("fewer than three offsets", code="NO_TIME_REFERENCE")
    weight = np.ones(len(order)) if error_ns is None else error_ns[order] ** -2.0
    samples = _Samples(
        (reference_ns - reference_ns[0]) / 1e9,
        (offset_ns - int(np.median(offset_ns))).astype(np.float64),
        weight / np.median(weight),
    )
    scale = _scale_of(samples)
    good = np.flatnonzero(_near_neighbours(samples, scale))
    parts = [
        (start, end)
        for start, end in _split(samples[good], _lasting_scale_of(samples[good]))
        if end - start >= LEAST_SAMPLES
    ]
    if not parts:
        raise ClockError("no three offsets agree", code="NO_TIME_REFERENCE")
    if len(parts) > _MAX_SEGMENTS:
        raise ClockError("the offsets do not settle", code="AMBIGUOUS")
    return _fitted(
        reference_ns[good],
        offset_ns[good],
        samples.weight[good],
        parts,
        prior_ppb=1e3 * max_drift_ppm / np.sqrt(3.0),
    )


def segment_of(row: Mapping[str, Any]) -> Segment:
    """The segment that a row of `silver.clocks`, or of its sensors, holds; unknown errors are 0."""
    return Segment(
        start_ns=row["valid_from_ns"],
        end_ns=row["valid_to_ns"],
        anchor_ns=row["anchor_ns"],
        offset_ns=row["offset_ns"],
        drift_ppb=row["drift_ppb"],
        offset_error_ns=float(row["uncertainty_ns"] or 0),
        drift_error_ppb=float(row["drift_uncertainty_ppb"] or 0.0),
        samples=row["samples"],
    )


def disjoint(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Cut segments down to readings that the clock showed once.

    At a jump by less than nothing, the clock may have run on behind the last sample before it, and
    have come out ahead of the first one after it: both stretches count as readings of either side.

    Args:
        segments: In the order in which the clock ran through them.

    Returns:
        What is left of them, in that order; no two hold for the same reading.
    """
    starts = [each.start_ns for each in segments]
    ends = [each.end_ns for each in segments]
    for j, later in enumerate(segments):
        for i, earlier in enumerate(segments[:j]):
            unseen = 0
            if i == j - 1:
                unseen = later.reference_at(later.start_ns) - earlier.reference_at(earlier.end_ns)
            ends[i] = min(ends[i], later.start_ns - unseen - 1)
            starts[j] = max(starts[j], earlier.end_ns + unseen + 1)
    return tuple(
        attrs.evolve(each, start_ns=start, end_ns=end)
        for each, start, end in zip(segments, starts, ends, strict=True)
        if start <= end
    )


def _scale_of(samples: _Samples) -> float:
    """Noise of a sample of weight 1, ns, from what neighbours differ by; a step hardly counts."""
    steps = np.diff(samples.value)
    steps = (steps - np.median(steps)) / np.sqrt(
        1.0 / samples.weight[1:] + 1.0 / samples.weight[:-1]
    )
    return max(_NORMAL_MAD * float(np.median(np.abs(steps))), _LEAST_NOISE_NS)


def _lasting_scale_of(samples: _Samples) -> float:
    """The same where noise comes in waves: the worst that blocks of neighbours make it."""
    scale, size = _scale_of(samples), 2
    while len(samples) >= _LEAST_BLOCKS * size:
        kept = len(samples) // size * size
        weight = samples.weight[:kept].reshape(-1, size)
        time, value = (
            (each[:kept].reshape(-1, size) * weight).sum(axis=1) / weight.sum(axis=1)
            for each in (samples.time, samples.value)
        )
        scale = max(scale, _scale_of(_Samples(time, value, weight.sum(axis=1))))
        size *= 2
    return scale


def _near_neighbours(samples: _Samples, scale: float) -> BoolArray:
    """(N,) whether a sample is near the median of its neighbours, which a step leaves in place."""
    if len(samples) < _OUTLIER_WINDOW:
        return np.ones(len(samples), np.bool_)
    slope = float(np.median(np.diff(samples.value) / np.maximum(np.diff(samples.time), 1e-9)))
    level = samples.value - slope * samples.time
    usual = np.median(np.lib.stride_tricks.sliding_window_view(level, _OUTLIER_WINDOW), axis=1)
    away = np.abs(level - np.pad(usual, _OUTLIER_WINDOW // 2, mode="edge"))
    return np.asarray(away <= _OUTLIER_SCALES * scale / np.sqrt(samples.weight))


def _split(samples: _Samples, scale: float) -> list[tuple[int, int]]:
    """Half-open ranges of samples between steps; those at places that a step may have are left."""
    found: list[tuple[int, int]] = []
    open_parts = [(0, len(samples))]
    while open_parts:
        start, end = open_parts.pop()
        step = _surest_step(samples[start:end], scale)
        if step is None or len(found) > _MAX_SEGMENTS:
            found.append((start, end))
        else:
            open_parts += [(start, start + step[0]), (start + step[1], end)]
    return sorted(found)


def _surest_step(samples: _Samples, scale: float) -> tuple[int, int] | None:
    """Where samples step: behind how many of them at least, and at most; None if they do not."""
    if len(samples) < 2 * LEAST_SAMPLES:
        return None
    score, size = _step_scores(samples)
    best = int(np.argmax(np.abs(score)))
    if abs(score[best]) <= _STEP_SCALES * scale:
        return None
    # A line that bends looks like a step from afar: near by it does not.
    needed = _LEAST_NEIGHBOURS * (2 * _LOCAL_SCALES * scale / max(abs(size[best]), scale)) ** 2
    half = max(_LEAST_NEIGHBOURS, int(np.ceil(needed / samples.weight[best])))
    # Beside a hole in time that is longer than what is looked at, a slope explains any step.
    hole = 2.0 * (samples.time[best] - samples.time[best - 1])
    start, end = np.searchsorted(
        samples.time, [samples.time[best - 1] - hole, samples.time[best] + hole]
    )
    half = max(half, best - int(start), int(end) - best)
    first = max(0, best - half)
    near = samples[first : best + half]
    local, local_size = _step_scores(near)
    place = int(np.argmax(np.abs(local)))
    noise = max(scale, _noise_around(near, place))
    if (
        abs(local[place]) <= _LOCAL_SCALES * noise
        or abs(local_size[place]) < 0.5 * abs(size[best])
        or abs(first + place - best) > half // 2
    ):
        return None
    deviance = (local[place] ** 2 - local**2) / noise**2
    likely = first + np.flatnonzero(deviance <= _PLACE_DEVIANCE)
    return int(likely[0]), int(likely[-1])


def _noise_around(samples: _Samples, place: int) -> float:
    """Noise of a sample of weight 1, ns, around a line that steps before `place`.

    It is more than neighbours differ by where the noise comes in waves.
    """
    root = np.sqrt(samples.weight)
    behind = np.arange(len(samples)) >= place
    design = np.column_stack([np.ones(len(samples)), samples.time, behind]) * root[:, None]
    target = samples.value * root
    residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return float(np.linalg.norm(residual) / np.sqrt(max(len(samples) - 3, 1)))


def _step_scores(samples: _Samples) -> tuple[FloatArray, FloatArray]:
    """For a step before each sample, on a line of one slope: standard scores and sizes.

    Returns:
        (N,) float64 each: the size over its standard error, in units of the noise, and the size in
        ns; 0 where fewer than three samples are on one side.
    """
    weight = samples.weight
    total = float(weight.sum())
    time = samples.time - float(weight @ samples.time) / total
    value = samples.value - float(weight @ samples.value) / total
    spread = max(float(weight @ time**2), 1e-30)
    slope = float(weight @ (time * value)) / spread

    def behind(terms: FloatArray) -> FloatArray:
        return np.asarray(np.cumsum(terms[::-1])[::-1])

    mass, moment = behind(weight), behind(weight * time)
    free = mass - mass**2 / total - moment**2 / spread
    inside = np.zeros(len(samples), np.bool_)
    inside[LEAST_SAMPLES : len(samples) - LEAST_SAMPLES + 1] = True
    inside &= free > 1e-9 * total
    excess = behind(weight * (value - slope * time))
    free = np.where(inside, free, 1.0)
    return (
        np.where(inside, excess / np.sqrt(free), 0.0),
        np.where(inside, excess / free, 0.0),
    )


def _fitted(
    reference_ns: Int64Array,
    offset_ns: Int64Array,
    weight: FloatArray,
    parts: Sequence[tuple[int, int]],
    *,
    prior_ppb: float,
) -> tuple[Segment, ...]:
    """One line a part; around its centre, its offset does not depend on the drift."""
    bases = [(int(np.mean(reference_ns[a:b])), int(offset_ns[a])) for a, b in parts]
    centred = [
        _centred(
            _Samples(
                (reference_ns[a:b] - at) / 1e9,
                (offset_ns[a:b] - offset).astype(np.float64),
                weight[a:b],
            )
        )
        for (a, b), (at, offset) in zip(parts, bases, strict=True)
    ]
    lines = [line for line, _ in centred]
    groups = [lines] if _share_drift(lines) else [[line] for line in lines]
    drifts = [drift for group in groups for drift in _drifts(group, prior_ppb=prior_ppb)]
    segments = []
    for (a, b), (at, offset), (line, centre), drift in zip(
        parts, bases, centred, drifts, strict=True
    ):
        middle_ns = at + round(1e9 * centre[0])
        found_ns = offset + round(centre[1])
        growth = 1e-9 * drift.ppb
        segments.append(
            Segment(
                start_ns=int(reference_ns[a] + offset_ns[a]),
                end_ns=int(reference_ns[b - 1] + offset_ns[b - 1]),
                anchor_ns=middle_ns + found_ns,
                offset_ns=found_ns,
                drift_ppb=drift.ppb / (1.0 + growth),
                offset_error_ns=max(1.0, drift.noise_ns / float(np.sqrt(line.weight.sum()))),
                drift_error_ppb=drift.error_ppb,
                samples=b - a,
                ties=some_ties(reference_ns[a:b] + offset_ns[a:b], offset_ns[a:b]),
            )
        )
    return tuple(segments)


def _centred(samples: _Samples) -> tuple[_Samples, tuple[float, float]]:
    """Samples around their weighted mean, and that mean."""
    total = float(samples.weight.sum())
    time = float(samples.weight @ samples.time) / total
    value = float(samples.weight @ samples.value) / total
    return _Samples(samples.time - time, samples.value - value, samples.weight), (time, value)


@attrs.frozen
class _Drift:
    """A drift, its standard error, and the noise of a sample of weight 1 as it adds up in means."""

    ppb: float
    error_ppb: float
    noise_ns: float


def _drifts(lines: Sequence[_Samples], *, prior_ppb: float) -> list[_Drift]:
    """The one drift of some lines, once for each of them."""
    count = sum(len(line) for line in lines)
    spread = sum(float(line.weight @ line.time**2) for line in lines)
    moment = sum(float(line.weight @ (line.time * line.value)) for line in lines)
    plain = moment / max(spread, 1e-30)
    residuals = [line.value - plain * line.time for line in lines]
    squares = sum(
        float(line.weight @ residual**2) for line, residual in zip(lines, residuals, strict=True)
    )
    free = max(count - len(lines) - 1, 1)
    variance = max(squares / free, _LEAST_NOISE_NS**2)
    variance *= _inflation(lines, residuals, variance=variance)
    known = spread / variance
    wider = float(special.stdtrit(free, _TWO_SIDED) / special.ndtri(_TWO_SIDED))
    drift = _Drift(
        ppb=plain * known / (known + prior_ppb**-2.0),
        error_ppb=float((known / wider**2 + prior_ppb**-2.0) ** -0.5),
        noise_ns=wider * float(np.sqrt(variance)),
    )
    return [drift] * len(lines)


def _inflation(
    lines: Sequence[_Samples], residuals: Sequence[FloatArray], *, variance: float
) -> float:
    """How much more means of neighbours vary than those of independent samples would; at least 1.

    What varies together within a block, and not from block to block, is noise that the number of
    samples makes look smaller than it is.
    """
    squares, free = 0.0, 0
    for line, residual in zip(lines, residuals, strict=True):
        blocks = min(_BLOCKS, len(line) // _BLOCK_SAMPLES)
        if blocks < _BLOCK_SAMPLES:
            continue
        block = np.arange(len(line)) * blocks // len(line)
        sums = np.bincount(block, line.weight * residual)
        squares += float(np.sum(sums**2 / np.bincount(block, line.weight)))
        free += blocks - 1
    return max(1.0, squares / (max(free - 1, 1) * variance)) if free else 1.0


def _share_drift(lines: Sequence[_Samples]) -> bool:
    """Whether one drift explains all lines, as it should: a jump does not change the oscillator."""
    drifts = [_drifts([line], prior_ppb=1e12)[0] for line in lines]
    weight = np.array([drift.error_ppb**-2.0 for drift in drifts])
    ppb = np.array([drift.ppb for drift in drifts])
    mean = float(weight @ ppb) / float(weight.sum())
    excess = float(weight @ (ppb - mean) ** 2)
    return bool(excess <= special.chdtri(max(len(lines) - 1, 1), _SHARED_DRIFT_P))
