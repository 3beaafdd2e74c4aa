"""A jump by whole periods: the grids of the streams do not show it, the motion does.

Where the first and the last part of what two recorders saw exclude each other, the clock was set in
between. Sample by sample the motion tells which of both offsets holds. Where the clock skipped
readings, a hole in the stamps tells the place to a sample; where it was set back, what it showed
twice does: of these readings either offset holds for half, and the motion tells no place in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.clocks import OffsetEstimate
from udfs.sync.signals import Signal, curve_of

FloatArray = npt.NDArray[np.float64]
Pair = tuple[Signal, Signal]

_TURNS = 2
_LIKELY = 6.0
"""Log-likelihood by which a place may fall short of the best one."""
_CLEAR_SCALES = 6.0
_CLEAR_NS = 4_000_000
_NORMAL_MAD = 1.4826
_HOLE_OF_PERIOD = 0.7
_TWICE_OF_PERIOD = 0.7
_TWICE_SHARE = 0.5
"""Part of a step back that what was shown twice must span: messages get lost."""


@attrs.frozen
class UnseenJump:
    """Where a clock was set: readings before and after it, and by how much."""

    last_ns: int
    first_ns: int
    size_ns: int


def find_unseen_jump(
    pairs: Sequence[Pair], *, estimate: Callable[[Sequence[Pair]], OffsetEstimate]
) -> UnseenJump | None:
    """Find the one jump within a piece of a clock whose ends exclude each other.

    Args:
        pairs: (reference, other) of each quantity.
        estimate: What the two are apart; it may raise `ClockError`.

    Returns:
        The jump; None if the ends agree, or have no evidence.
    """
    if not pairs:
        return None
    # A jump near an end leaves no pure third there.
    return _find(pairs, estimate, parts=3) or _find(pairs, estimate, parts=5)


def _find(
    pairs: Sequence[Pair], estimate: Callable[[Sequence[Pair]], OffsetEstimate], *, parts: int
) -> UnseenJump | None:
    first = min(int(other.t_ns[0]) for _, other in pairs)
    last = max(int(other.t_ns[-1]) for _, other in pairs)
    part = (last - first) // parts
    before, after, twice = first + part, last - part, 0
    for _ in range(_TURNS):
        try:
            early = estimate(_within(pairs, first, before - twice))
            late = estimate(_within(pairs, after + twice, last))
        except ClockError:
            return None
        t_ns, score = _scores(pairs, early, late)
        if len(t_ns) == 0:
            return None
        likely = np.flatnonzero(score >= score.max() - _LIKELY)
        before, after = int(t_ns[likely[0]]), int(t_ns[likely[-1]])
        old, new = early.moved(before), late.moved(after)
        size = new.offset_ns - old.offset_ns
        twice = max(-size, 0)
    error = float(np.hypot(old.uncertainty_ns, new.uncertainty_ns))
    if abs(size) <= max(_CLEAR_SCALES * error, _CLEAR_NS):
        return None
    if size < 0:
        shown = _shown_twice(pairs, before - twice, after + twice, size_ns=size)
        return UnseenJump(*(shown or (before - twice, after + twice)), size)
    hole = _hole(pairs, before, after, size_ns=size)
    return UnseenJump(*(hole or (before, max(after, before + size))), size)


def _within(pairs: Sequence[Pair], start_ns: int, end_ns: int) -> list[Pair]:
    found = []
    for reference, other in pairs:
        inside = (other.t_ns >= start_ns) & (other.t_ns <= end_ns)
        if np.count_nonzero(inside) > 1:
            found.append((reference, Signal(other.t_ns[inside], other.value[inside])))
    return found


def _scores(
    pairs: Sequence[Pair], early: OffsetEstimate, late: OffsetEstimate
) -> tuple[Int64Array, FloatArray]:
    """(N,) readings, and (N,) log-likelihood of a jump behind each, but for a constant."""
    times, gains = [], []
    for reference, other in pairs:
        curve = curve_of(reference)
        seen = []
        for each in (early, late):
            away = (other.t_ns - each.anchor_ns).astype(np.float64)
            offset = each.offset_ns + np.rint(1e-9 * each.drift_ppb * away).astype(np.int64)
            seen.append(curve(other.t_ns - offset))
        known = np.isfinite(seen[0]) & np.isfinite(seen[1])
        sure = known & (other.t_ns <= early.anchor_ns)
        if np.count_nonzero(sure) < len(seen):
            continue
        design = np.column_stack([seen[0][sure], np.ones(np.count_nonzero(sure))])
        scale, bias = np.linalg.lstsq(design, other.value[sure], rcond=None)[0]
        old, new = (other.value[known] - scale * each[known] - bias for each in seen)
        noise = _NORMAL_MAD * float(np.median(np.abs(old[: len(old) // 4])))
        times.append(other.t_ns[known])
        gains.append((new**2 - old**2) / (2.0 * max(noise, 1e-12) ** 2))
    if not times:
        return np.zeros(0, np.int64), np.zeros(0)
    t_ns, gain = np.concatenate(times), np.concatenate(gains)
    order = np.argsort(t_ns, kind="stable")
    return t_ns[order], np.cumsum(gain[order])


def _shown_twice(
    pairs: Sequence[Pair], before: int, after: int, *, size_ns: int
) -> tuple[int, int] | None:
    """Last stamp ahead of a step back and first one behind it; None if they are unclear."""
    densest = max((other.t_ns for _, other in pairs), key=len)
    between = np.diff(densest)
    period = float(np.median(between))
    near = (densest[1:] >= before - period) & (densest[:-1] <= after + period)
    alike = np.flatnonzero(near & (between < _TWICE_OF_PERIOD * period))
    if not len(alike):
        return None
    first, last = int(densest[alike[0] + 1]), int(densest[alike[-1]])
    if not _TWICE_SHARE * abs(size_ns) <= last - first + 2 * period <= abs(size_ns) + 4 * period:
        return None
    return last, first


def _hole(
    pairs: Sequence[Pair], before: int, after: int, *, size_ns: int
) -> tuple[int, int] | None:
    """Stamps around the only hole in between that such a jump would have left; None if unclear."""
    densest = max((other.t_ns for _, other in pairs), key=len)
    between = np.diff(densest)
    least = size_ns + _HOLE_OF_PERIOD * float(np.median(between))
    holes = np.flatnonzero((between >= least) & (densest[1:] >= before) & (densest[:-1] <= after))
    if len(holes) != 1:
        return None
    return int(densest[holes[0]]), int(densest[holes[0] + 1])
