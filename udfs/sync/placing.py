"""Where between two segments a clock was set, once it is known by how much.

Readings of a clock that is set forward leave a hole as wide as the jump, and those of one that is
set back come twice for as long as the jump. Either is seen in every stream of the recorder, to a
sample or two, even where the jump is so near a whole number of periods that the stamps stay on
their grid (`phases`). A hole that lost messages left looks alike if the jump is small: of several,
those are taken that the grids on both sides allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np

from contracts.recording import Int64Array
from udfs.sync.segments import FloatArray, Segment
from udfs.sync.spans import Span, common, united

_LEAST_STAMPS = 30
_BESIDE_NS = 20_000_000_000
"""How much of a stream on either side tells its grid."""
_STEADY_SHARE = 0.1
_TWICE_SHARE = 0.7
_SCALES = 4.0
_DEVIANCE = 12.0
_MOST_DEVIANCE = 25.0
_NORMAL_MAD = 1.4826


@attrs.frozen
class _Grid:
    """The grid that stamps are on.

    Attributes:
        start_ns: A point of it.
        period_ns: Between two.
        noise_ns: Of a stamp.
    """

    start_ns: int
    period_ns: float
    noise_ns: float

    def deviance(self, t_ns: Int64Array) -> FloatArray:
        """(N,) square of how far stamps are off, in units of the noise, up to a limit."""
        gone = (t_ns - self.start_ns).astype(np.float64)
        away = gone - self.period_ns * np.round(gone / self.period_ns)
        return np.asarray(np.minimum((away / self.noise_ns) ** 2, _MOST_DEVIANCE))


def place_by_stamps(
    segments: Sequence[Segment], streams: Iterable[Int64Array]
) -> tuple[Segment, ...]:
    """Narrow the readings between segments, in which a jump lies, to where the stamps show it.

    Args:
        segments: In the order in which the clock ran through them.
        streams: (N,) int64 each, readings of the clock in ascending order, one a stream.

    Returns:
        The segments, extended towards each other as far as the streams allow.
    """
    found = list(segments)
    known = list(streams)
    for i in range(len(found) - 1):
        old, new = found[i], found[i + 1]
        low, high = old.reference_at(old.end_ns), new.reference_at(new.start_ns)
        if low >= high:
            continue
        spans: list[Span] = [(low, high + 1)]
        for t_ns in known:
            spans = common(spans, _spans_of(t_ns, old, new, low=low, high=high)) or spans
        if spans == [(low, high + 1)]:
            continue
        found[i] = attrs.evolve(old, end_ns=_reading_at(old, spans[0][0]))
        found[i + 1] = attrs.evolve(new, start_ns=_reading_at(new, spans[-1][1] - 1))
    return tuple(found)


def _reading_at(segment: Segment, reference_ns: int) -> int:
    """What a clock shows at an instant of the reference."""
    near = np.array([reference_ns + segment.offset_ns])
    return reference_ns + int(segment.offset_at(near)[0])


def _spans_of(t_ns: Int64Array, old: Segment, new: Segment, *, low: int, high: int) -> list[Span]:
    """Instants of the reference at which one stream allows the jump; none if it does not tell."""
    middle = (low + high) // 2
    before, after = (_reading_at(each, middle) - middle for each in (old, new))
    first, last = np.searchsorted(t_ns, [low + before - _BESIDE_NS, low + before])
    grid = _grid_of(t_ns[first:last])
    first, last = np.searchsorted(t_ns, [high + after, high + after + _BESIDE_NS], side="right")
    next_grid = _grid_of(t_ns[first:last])
    if grid is None or next_grid is None:
        return []
    ends = ((old, old.end_ns), (new, new.start_ns))
    error_ns = _SCALES * float(
        np.hypot(*(each.error_at(np.array([at]))[0] for each, at in ends))
    ) + 1e-9 * max(abs(old.drift_ppb), abs(new.drift_ppb)) * (high - low)
    beside = 2 * round(grid.period_ns)
    readings = (low + min(before, after) - beside, high + max(before, after) + beside)
    near = t_ns[slice(*np.searchsorted(t_ns, readings))]
    if len(near) < 2:
        return []
    if after > before:
        spans = _holes(near, (grid, next_grid), size_ns=after - before, error_ns=error_ns)
    else:
        spans = _twice(near, grid)
    slack = round(error_ns) if after <= before else 0
    return united(
        (old.reference_at(last) - slack, new.reference_at(first) + 1 + slack)
        for last, first in spans
    )


def _grid_of(t_ns: Int64Array) -> _Grid | None:
    """The grid of stamps, some of which may lack; None if they are few or on none."""
    if len(t_ns) < _LEAST_STAMPS:
        return None
    steps = np.diff(t_ns).astype(np.float64)
    period = float(np.median(steps))
    if period <= 0.0:
        return None
    noise = _NORMAL_MAD * float(np.median(np.abs(steps - period))) / np.sqrt(2.0)
    if noise > _STEADY_SHARE * period:
        return None
    count = np.r_[0.0, np.cumsum(np.round(steps / period))]
    gone = (t_ns - t_ns[0]).astype(np.float64)
    period, start = np.polyfit(count, gone, 1)
    away = gone - start - period * count
    noise = max(_NORMAL_MAD * float(np.median(np.abs(away))), 1.0)
    return _Grid(int(t_ns[0]) + round(float(start)), float(period), noise)


def _holes(
    t_ns: Int64Array, grids: tuple[_Grid, _Grid], *, size_ns: int, error_ns: float
) -> list[Span]:
    """Readings around the holes in which a clock may have been set forward by so much."""
    old, new = grids
    wide = np.diff(t_ns) - size_ns
    whole = np.maximum(np.round(wide / old.period_ns), 1.0) * old.period_ns
    slack = error_ns + _SCALES * float(np.hypot(old.noise_ns, new.noise_ns))
    is_hole = np.abs(wide - whole) <= slack
    if not is_hole.any():
        return []
    passed = np.cumsum(old.deviance(t_ns) - new.deviance(t_ns))[:-1]
    likely = is_hole & (passed <= passed[is_hole].min() + _DEVIANCE)
    return [(int(t_ns[k]), int(t_ns[k + 1])) for k in np.flatnonzero(likely)]


def _twice(t_ns: Int64Array, grid: _Grid) -> list[Span]:
    """Last reading ahead of a step back and first one behind it, around what was shown twice."""
    pairs = np.flatnonzero(np.diff(t_ns) < _TWICE_SHARE * grid.period_ns)
    # Of the first pair the later reading may be the first one behind the jump, and so on.
    return [(int(t_ns[pairs[-1]]), int(t_ns[pairs[0] + 1]))] if len(pairs) else []
