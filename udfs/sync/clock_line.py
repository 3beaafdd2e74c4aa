"""A line through offsets of a clock whose errors have any law, and what is known of its error."""

from __future__ import annotations

import math

import attrs
import numpy as np
import numpy.typing as npt
from scipy import special

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.segments import Segment

FloatArray = npt.NDArray[np.float64]

_MIN_POINTS = 6
_PPB = 1e-9
_NORMAL_95 = 1.959964


@attrs.frozen(eq=False)
class LineFit:
    """A line through points, and what it leaves of them.

    Attributes:
        line: Its offset stands at the middle of the points, where both errors are independent.
        residual_ns: (N,) float64 points minus line.
        is_kept: (N,) bool; False for points so far off that they were left out.
    """

    line: Segment
    residual_ns: FloatArray
    is_kept: npt.NDArray[np.bool_]


def fit_line(t_ns: Int64Array, offset_ns: Int64Array, *, spread: float = 0.0) -> LineFit:
    """Fit a line through offsets whose errors have one law, whatever that law is.

    The error comes from the scatter of the points, widened where neighbours err alike (a clock that
    wanders, a load that comes and goes).

    Args:
        t_ns: (N,) int64 instants on the clock, not all the same.
        offset_ns: (N,) int64 clock minus reference.
        spread: Cut points that lie farther from the median than this many times the nearer one of
            the 10th and the 90th percentile; 0 keeps all.

    Raises:
        ClockError: TOO_FEW, fewer than six points, or all at one instant.
    """
    t, offset = np.asarray(t_ns, dtype=np.int64), np.asarray(offset_ns, dtype=np.int64)
    kept = np.ones(len(t), dtype=np.bool_)
    if len(t) < _MIN_POINTS:
        raise ClockError(f"{len(t)} points make no line", code="TOO_FEW")
    base_t, base = int(t[len(t) // 2]), int(np.median(offset))
    x: FloatArray = np.asarray((t - base_t) * _PPB, dtype=np.float64)
    y: FloatArray = (offset - base).astype(np.float64)
    if spread:
        kept = _inside(y - _median_slope(x, y) * x, spread)
    for _ in range(3):
        centre, slope, level = _least_squares(x[kept], y[kept])
        residual = y - level - slope * (x - centre)
        inside = _inside(residual, spread) if spread else kept
        if np.array_equal(inside, kept) or np.count_nonzero(inside) < _MIN_POINTS:
            break
        kept = inside
    at = base_t + round(centre / _PPB)
    error, drift_error = _errors(x[kept] - centre, residual[kept])
    line = Segment(
        start_ns=int(t.min()),
        end_ns=int(t.max()),
        anchor_ns=at,
        offset_ns=base + round(level),
        drift_ppb=slope,
        offset_error_ns=error,
        drift_error_ppb=drift_error,
        samples=int(np.count_nonzero(kept)),
    )
    return LineFit(line, residual, kept)


def _least_squares(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Centre of x, slope, and level at the centre."""
    centre, level = float(np.mean(x)), float(np.mean(y))
    spread = float(np.sum((x - centre) ** 2))
    if spread <= 0.0:
        raise ClockError("points at one instant make no line", code="TOO_FEW")
    return centre, float(np.sum((x - centre) * (y - level)) / spread), level


def _median_slope(x: FloatArray, y: FloatArray) -> float:
    """Median of the slopes between points half the length apart: a quarter may be far off.

    Source:
        Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950, 1.
    """
    half = len(x) // 2
    run, rise = x[half:] - x[: len(x) - half], y[half:] - y[: len(y) - half]
    forward = run > 0.0
    return float(np.median(rise[forward] / run[forward])) if forward.any() else 0.0


def _inside(residual: FloatArray, spread: float) -> npt.NDArray[np.bool_]:
    low, middle, high = np.quantile(residual, [0.1, 0.5, 0.9])
    # Of a one-sided law the sharp side tells the scale: the other may hold a tenth of outliers.
    reach = spread * max(float(min(middle - low, high - middle)), 1.0)
    return np.asarray(np.abs(residual - middle) <= reach)


def _errors(x: FloatArray, residual: FloatArray) -> tuple[float, float]:
    """Standard errors of level and slope; neither is ever below the nanosecond of a stamp."""
    count = len(x)
    degrees = count - 2
    variance = float(np.sum(residual**2)) / degrees
    widen = correlation_factor(residual) * student_factor(degrees)
    error = widen * math.sqrt(variance / count)
    drift_error = widen * math.sqrt(variance / float(np.sum(x**2)))
    least = 1.0 / math.sqrt(12.0 * count)
    return max(error, least), max(drift_error, least / math.sqrt(float(np.mean(x**2))))


def correlation_factor(residual: FloatArray) -> float:
    """How much wider a standard error gets where neighbouring residuals are alike.

    Args:
        residual: (N,) float64 in the order of time.

    Source:
        Bayley and Hammersley, "The effective number of independent observations in an
        autocorrelated time series", 1946, for a process of the first order.
    """
    power = float(np.sum(residual**2))
    alike = float(np.sum(residual[1:] * residual[:-1])) / power if power > 0.0 else 0.0
    # A line takes correlation away from what it is fitted to.
    count = len(residual)
    alike = min(max((alike * count + 1.0) / max(count - 4, 1), 0.0), 0.95)
    return math.sqrt((1.0 + alike) / (1.0 - alike))


def student_factor(degrees: float) -> float:
    """By how much a standard error of so many degrees of freedom is widened to serve as normal."""
    return float(special.stdtrit(degrees, 0.975)) / _NORMAL_95
