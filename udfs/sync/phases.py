"""Where a clock stepped, from the stamps of what comes at a steady rate.

A sensor that samples every 10 ms is stamped every 10 ms, but for jitter and losses. Where the clock
that stamps is set, the stamps step out of their grid: by the jump, but for whole periods. That
shows within a sample or two where it happened, and needs no second clock; the size of the jump
does. One stream alone may have been restarted; the clock moves all streams of its recorder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import attrs
import numpy as np

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.segments import Segment, fit_segments

_LEAST_STAMPS = 30
_STEADY_SHARE = 0.1
"""Noise of the stamps over their period, up to which they are on a grid."""
_REACH_NS = 2_500_000_000
"""Farthest that readings of either side of a jump are looked for beyond it."""
_CLEAR_SCALES = 8.0
_NEAR_SCALES = 4.0
_ALONE_SHARE = 0.7
_USUAL_SCALES = 3.0
_NORMAL_MAD = 1.4826
_LEAST_STEP_NS = 500_000
_GRID_DRIFT_PPM = 2_000.0


@attrs.frozen
class PhaseStep:
    """Where the stamps of one stream stepped out of their grid.

    Attributes:
        last_ns: Reading of the last stamp on the old grid.
        first_ns: Reading of the first stamp on the new one; before `last_ns` if the clock was set
            back.
        size_ns: The jump, but for a whole number of periods; from minus to plus half a period.
        error_ns: Standard error of it.
        period_ns: The grid's.
    """

    last_ns: int
    first_ns: int
    size_ns: float
    error_ns: float
    period_ns: float

    def explains(self, jump_ns: float, *, error_ns: float) -> bool:
        """Whether a jump of the clock would have made this step."""
        rest = jump_ns - self.size_ns
        rest -= self.period_ns * np.round(rest / self.period_ns)
        return bool(abs(rest) <= _NEAR_SCALES * np.hypot(error_ns, self.error_ns))


def phase_steps(t_ns: Int64Array) -> list[PhaseStep]:
    """Find where stamps of a steady rate stepped out of their grid.

    Args:
        t_ns: (N,) int64 readings of the clock, ascending.

    Returns:
        The steps in ascending order; none for stamps that are few or on no grid.
    """
    if len(t_ns) < _LEAST_STAMPS:
        return []
    between = np.diff(t_ns)
    period = float(np.median(between))
    if period <= 0.0:
        return []
    # Where the clock went twice, stamps of both passes alternate: their distances are no period.
    spread = _NORMAL_MAD * float(np.median(np.abs(between - period)))
    period = float(np.mean(between[np.abs(between - period) <= _USUAL_SCALES * spread]))
    # Within the reach of a step back, stamps of both grids alternate: they are left out here.
    is_alone = np.r_[True, between >= _ALONE_SHARE * period]
    is_alone &= np.r_[is_alone[1:], True]
    clear = (t_ns - int(t_ns[0]))[is_alone]
    if len(clear) < _LEAST_STAMPS:
        return []
    count = np.r_[0, np.cumsum(np.round(np.diff(clear) / period))]
    on_grid_ns = np.rint(count * period).astype(np.int64)
    try:
        lines = fit_segments(on_grid_ns, clear - on_grid_ns, max_drift_ppm=_GRID_DRIFT_PPM)
    except ClockError:
        return []
    steps = (
        _step_between(old, new, t_ns - int(t_ns[0]), period=period) for old, new in pairwise(lines)
    )
    base = int(t_ns[0])
    return [
        attrs.evolve(step, last_ns=base + step.last_ns, first_ns=base + step.first_ns)
        for step in steps
        if step is not None
    ]


def _step_between(
    old: Segment, new: Segment, t_ns: Int64Array, *, period: float
) -> PhaseStep | None:
    """The step from one line of stamps to the next, placed by the stamps near it."""
    here = np.array([(old.end_ns + new.start_ns) // 2])
    size = float(new.offset_at(here)[0] - old.offset_at(here)[0])
    error = float(np.hypot(old.error_at(here)[0], new.error_at(here)[0]))
    noise = max(each.offset_error_ns * float(np.sqrt(each.samples)) for each in (old, new))
    size -= period * np.round(size / period)
    if noise > _STEADY_SHARE * period or abs(size) < max(_LEAST_STEP_NS, _NEAR_SCALES * error):
        return None
    last, first = old.end_ns, new.start_ns
    if abs(size) > _CLEAR_SCALES * noise:
        near = t_ns[(t_ns >= last - _REACH_NS) & (t_ns <= first + _REACH_NS)]
        is_old = np.abs(_off_grid(near, old, period)) <= _NEAR_SCALES * noise
        is_new = np.abs(_off_grid(near, new, period)) <= _NEAR_SCALES * noise
        if is_old.any() and is_new.any():
            last, first = int(near[is_old][-1]), int(near[is_new][0])
    return PhaseStep(last, first, size, error, period)


def _off_grid(t_ns: Int64Array, line: Segment, period: float) -> Int64Array:
    """(N,) how far stamps are from the grid of a line, ns."""
    away = (t_ns - line.offset_at(t_ns)).astype(np.float64)
    return np.rint(away - period * np.round(away / period)).astype(np.int64)


def place_jumps(segments: Sequence[Segment], steps: Iterable[PhaseStep]) -> tuple[Segment, ...]:
    """Narrow the readings between segments, in which a jump lies, to where the stamps stepped.

    Args:
        segments: In the order in which the clock ran through them.
        steps: Steps of the streams that this clock stamps.

    Returns:
        The segments, extended towards each other as far as a step that fits allows.
    """
    found = list(segments)
    known = list(steps)
    for i in range(len(found) - 1):
        old, new = found[i], found[i + 1]
        start = old.reference_at(old.end_ns)
        end = new.reference_at(new.start_ns)
        here = np.array([old.end_ns])
        there = np.array([new.start_ns])
        jump = float(new.offset_at(there)[0] - old.offset_at(here)[0])
        jump -= 1e-9 * new.drift_ppb * (end - start)
        error = float(np.hypot(old.error_at(here)[0], new.error_at(there)[0]))
        low, high = start, end
        for step in known:
            last, first = old.reference_at(step.last_ns), new.reference_at(step.first_ns)
            slack = step.period_ns
            fits = last < first and last >= start - slack and first <= end + slack
            if fits and step.explains(jump, error_ns=error) and max(low, last) < min(high, first):
                low, high = max(low, last), min(high, first)
        found[i] = attrs.evolve(old, end_ns=old.end_ns + (low - start))
        found[i + 1] = attrs.evolve(new, start_ns=new.start_ns - (end - high))
    return tuple(found)
