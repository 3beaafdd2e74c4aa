"""Samples of one quantity on one clock, and as an even average of them."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from contracts.errors import ClockError
from contracts.recording import Int64Array

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FINE_STEP_NS = 5_000_000
FINE_WIDTH_NS = 60_000_000
LEAST_KNOTS = 4
_MAX_SPAN_NS = 86_400_000_000_000


@attrs.frozen(eq=False)
class Signal:
    """Samples of one quantity on one recorder's clock, in time order.

    Attributes:
        t_ns: (N,) int64, ascending.
        value: (N,) float64, finite.
        name: Quantity, for people.
    """

    t_ns: Int64Array
    value: FloatArray
    name: str = ""


@attrs.frozen(eq=False)
class Grid:
    """A signal smoothed onto an even grid; `valid` is False where there are too few samples."""

    start_ns: int
    step_ns: int
    value: FloatArray
    valid: BoolArray


def period_of(signal: Signal) -> float:
    """Median distance of the samples, ns."""
    return float(np.median(np.diff(signal.t_ns)))


def smoothed(signal: Signal, *, step_ns: int, width_ns: int) -> Grid:
    """Gaussian average of the samples at every grid point.

    Each sample is shared between its two grid points, which keeps its time exactly; the average is
    invalid where the centre of the samples is not at the grid point: at the ends and in holes.
    """
    if int(signal.t_ns[-1]) - int(signal.t_ns[0]) > _MAX_SPAN_NS:
        raise ClockError("stamps of one signal span more than a day", code="TIME_OUT_OF_RANGE")
    start = int(signal.t_ns[0] // step_ns * step_ns)
    position = (signal.t_ns - start) / step_ns
    low = np.floor(position).astype(np.int64)
    high_share = position - low
    count = int(low[-1]) + 2
    sigma = width_ns / step_ns

    def spread(weights: FloatArray) -> FloatArray:
        total = np.bincount(low, weights * (1.0 - high_share), count)
        total += np.bincount(low + 1, weights * high_share, count)
        return np.asarray(gaussian_filter1d(total, sigma, mode="constant", truncate=4.0))

    middle = float(np.mean(signal.value))
    density = spread(np.ones(len(position)))
    centre = spread(position) / np.maximum(density, 1e-12) - np.arange(count)
    value = spread(signal.value - middle) / np.maximum(density, 1e-12) + middle
    usual = float(np.median(density))
    valid = (density > 0.3 * usual) & (np.abs(centre) < 0.1 * sigma)
    return Grid(start, step_ns, np.where(density > 0.01 * usual, value, middle), valid)


def curve_of(signal: Signal) -> Callable[[Int64Array], FloatArray]:
    """A signal as a smooth curve: (N,) values at (N,) int64 instants, NaN where it has none."""
    grid = smoothed(signal, step_ns=FINE_STEP_NS, width_ns=FINE_WIDTH_NS)
    if len(grid.value) < LEAST_KNOTS:
        return lambda t_ns: np.full(len(t_ns), np.nan)
    spline = CubicSpline(np.arange(len(grid.value)), grid.value)

    def at(t_ns: Int64Array) -> FloatArray:
        place = (t_ns - grid.start_ns) / grid.step_ns
        nearest = np.rint(place).astype(np.int64)
        inside = (nearest >= 0) & (nearest < len(grid.value))
        inside &= grid.valid[np.where(inside, nearest, 0)]
        return np.where(inside, spline(np.where(inside, place, 0.0)), np.nan)

    return at
