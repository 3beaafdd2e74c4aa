"""Steps of the lower edge of a series whose values scatter upward only."""

from __future__ import annotations

from itertools import pairwise

import attrs
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from contracts.recording import Int64Array

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_BLOCK = 16
_WINDOW = 8
_RANK = 2  # of a window's blocks: two may be spoilt by wild stamps, five by a burst of latency
_SCALES = 8.0
_NEAR = 128
_NORMAL_MAD = 1.4826


@attrs.frozen(eq=False)
class FloorSteps:
    """Where the edge jumps.

    Attributes:
        index: (S,) int64 first value behind each step, ascending.
        size_ns: (S,) int64 how far the edge rises; negative where it falls.
        is_ahead: (N,) bool lone values far below the edge around them.
    """

    index: Int64Array
    size_ns: Int64Array
    is_ahead: BoolArray


def floor_steps(t_ns: Int64Array, value_ns: Int64Array, *, min_step_ns: int) -> FloorSteps:
    """Find steps of the lower edge, placed at a value.

    A rise that falls back is latency, not a clock: both edges of it are left out.

    Args:
        t_ns: (N,) int64 in the order of arrival.
        value_ns: (N,) int64 log minus sensor.
        min_step_ns: Least step; steps below eight times the scatter of the edge are not seen.
    """
    count = len(value_ns)
    none = np.zeros(0, dtype=np.int64)
    if count < 2 * _WINDOW * _BLOCK:
        return FloorSteps(none, none, np.zeros(count, dtype=np.bool_))
    value = (value_ns - value_ns[0]).astype(np.float64)
    level, slope, scale = _flattened(t_ns, value)
    ahead = _ahead(level, reach=max(float(min_step_ns), _SCALES * scale))
    level = np.where(ahead, np.inf, level)
    blocks = np.minimum.reduceat(level, np.arange(0, count, _BLOCK))
    edge = np.partition(sliding_window_view(blocks, _WINDOW), _RANK, axis=1)[:, _RANK]
    rise = edge[_WINDOW:] - edge[:-_WINDOW]
    threshold = max(float(min_step_ns), _SCALES * scale) + slope.error * _reach_s(t_ns)
    index = [0]
    for start, end in _regions(rise, threshold):
        peak = start + int(np.argmax(np.abs(rise[start:end])))
        low, high = float(edge[peak]), float(edge[peak + _WINDOW])
        first, last = peak * _BLOCK, min((peak + 2 * _WINDOW) * _BLOCK, count)
        index.append(first + _placed(level[first:last], low, high))
    error_ns = slope.error * np.abs(t_ns - t_ns[0]) * 1e-9
    least = max(float(min_step_ns), _SCALES * scale)
    kept = _without_bursts(sorted(set(index) - {0, count}), level, least, error_ns)
    return FloorSteps(
        np.array([at for at, _ in kept], dtype=np.int64),
        np.array([round(size) for _, size in kept], dtype=np.int64),
        ahead,
    )


@attrs.frozen
class _Slope:
    """Drift of the edge, ns per s, and how wrong it may be."""

    value: float
    error: float


def _flattened(t_ns: Int64Array, value: FloatArray) -> tuple[FloatArray, _Slope, float]:
    """Values less their drift, the drift, and the scatter of the edge of a block.

    The drift is the median of how the edge changes from block to block, so steps do not count.
    """
    starts = np.arange(0, len(value), _BLOCK)[:-1]
    least = np.minimum.reduceat(value, starts)
    middle = (t_ns[starts] - t_ns[0]) * 1e-9
    gone, change = np.diff(middle), np.diff(least)
    forward = gone > 0
    gone, change = gone[forward], change[forward]
    if len(gone) == 0:
        return value, _Slope(0.0, 0.0), 0.0
    usual = float(np.median(gone))
    slope = float(np.median(change)) / usual
    scatter = _NORMAL_MAD * float(np.median(np.abs(change - slope * gone)))
    # sqrt(pi / 2) is what a median costs against a mean.
    error = 3.0 * 1.2533 * scatter / usual / np.sqrt(len(gone))
    t_s = (t_ns - t_ns[0]) * 1e-9
    return value - slope * t_s, _Slope(slope, error), scatter / np.sqrt(2.0)


def _reach_s(t_ns: Int64Array) -> FloatArray:
    """(J,) seconds between the middles of the two windows of each candidate."""
    t_s = (t_ns[np.arange(0, len(t_ns), _BLOCK)] - t_ns[0]) * 1e-9
    middle = sliding_window_view(t_s, _WINDOW).mean(axis=1)
    return np.abs(middle[_WINDOW:] - middle[:-_WINDOW])


def _ahead(level: FloatArray, *, reach: float) -> BoolArray:
    """(N,) values below the edge of both sides by more than `reach`, if they are few.

    They would be taken for the edge by everything that looks for minima.
    """
    width = _WINDOW * _BLOCK
    padded = np.pad(level, (0, -len(level) % width), mode="reflect").reshape(-1, width)
    ordered = np.partition(padded, (width // 10, width // 2), axis=1)
    least, middle = ordered[:, width // 10], ordered[:, width // 2]
    before, after = np.r_[least[0], least[:-1]], np.r_[least[1:], least[-1]]
    edge = np.minimum(np.minimum(before, after), least)
    far = reach + 10.0 * float(np.median(middle - least))
    return np.asarray((padded < edge[:, None] - far).ravel()[: len(level)])


def _regions(rise: FloatArray, threshold: FloatArray) -> list[tuple[int, int]]:
    """Half-open runs of candidates that rise, or that fall, by more than the threshold."""
    sign = np.where(np.abs(rise) > threshold, np.sign(rise), 0.0)
    edges = np.flatnonzero(np.diff(np.r_[0.0, sign, 0.0]))
    runs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [(start, end) for start, end in runs if sign[start] != 0.0]


def _placed(level: FloatArray, low: float, high: float) -> int:
    """First value behind the step: values below the middle belong to the lower side."""
    below = level < (low + high) / 2.0
    share = float(np.mean(below[: len(below) // 4] if high > low else below[-len(below) // 4 :]))
    score = np.cumsum(below - share / 2.0)
    return int(np.argmax(score) if high > low else np.argmin(score)) + 1


def _without_bursts(
    index: list[int], level: FloatArray, least: float, error_ns: FloatArray
) -> list[tuple[int, float]]:
    """Steps with their sizes, less those into and out of what returns to where it was.

    Args:
        index: First values behind the steps.
        level: (N,) float64 flattened values.
        least: How far levels may differ that are the same.
        error_ns: (N,) float64 what the drift may have left since the first value.
    """
    edges = [0, *index, len(level)]
    pieces: list[tuple[int, float, float, int]] = []  # start, levels at both ends, last value
    for start, end in pairwise(edges):
        near_start = _low(level[start : min(start + _NEAR, end)])
        near_end = _low(level[max(end - _NEAR, start) : end])
        if not np.isfinite(near_start):
            continue  # nothing but wild values
        back = len(pieces) - 1
        while back >= 0:
            _, raised, former, last = pieces[back]
            if abs(former - near_start) <= least + error_ns[start] - error_ns[last]:
                break
            back = back - 1 if raised > near_start else -1
        if back >= 0:
            pieces[back:] = [(*pieces[back][:2], near_end, end - 1)]
        else:
            pieces.append((start, near_start, near_end, end - 1))
    return [(after[0], after[1] - before[2]) for before, after in pairwise(pieces)]


def _low(values: FloatArray) -> float:
    """The edge of a few values: their second least, since one may be wild."""
    return float(np.partition(values, 1)[1] if len(values) > 1 else values[0])
