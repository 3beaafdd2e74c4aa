"""How far two clocks are apart, from what both of them stamped.

Two recorders that saw the same motion hold the same signal, shifted by the difference of their
clocks. A coarse search over all shifts finds the neighbourhood; a least-squares fit of shift, scale
and bias finds the rest, far below the sample period; its standard error comes from blocks of the
residual, so noise that is correlated in time does not make it look better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from contracts.errors import ClockError
from contracts.recording import Int64Array

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_COARSE_STEP_NS = 40_000_000
_COARSE_WIDTH_NS = 80_000_000
_FINE_STEP_NS = 5_000_000
_FINE_WIDTH_NS = 60_000_000
_BLOCK_NS = 1_000_000_000
_DISTINCT_NS = 1_000_000_000
_MAX_SPAN_NS = 86_400_000_000_000
_ITERATIONS = 20
_CONVERGED_NS = 100.0
_MIN_TIME_REFERENCES = 3
_OUTLIER_SCALES = 5.0
_NORMAL_MAD = 1.4826


@attrs.frozen(eq=False)
class Signal:
    """Samples of one quantity on one recorder's clock, in time order.

    Attributes:
        t_ns: (N,) int64, ascending.
        value: (N,) float64, finite.
    """

    t_ns: Int64Array
    value: FloatArray


@attrs.frozen
class OffsetEstimate:
    """The difference of two clocks.

    Attributes:
        offset_ns: The other clock minus the reference, taken as constant.
        uncertainty_ns: Standard error of it.
        correlation: Of the two signals at this offset; None where nothing was correlated.
        samples: Samples that were compared.
    """

    offset_ns: int
    uncertainty_ns: int
    correlation: float | None
    samples: int


@attrs.frozen(eq=False)
class _Grid:
    """A signal smoothed onto an even grid; `valid` is False where there are too few samples."""

    start_ns: int
    step_ns: int
    value: FloatArray
    valid: BoolArray


def estimate_offset(
    reference: Signal,
    other: Signal,
    *,
    max_offset_ns: int,
    min_overlap_ns: int = 5_000_000_000,
    min_correlation: float = 0.8,
    max_ambiguity: float = 0.8,
) -> OffsetEstimate:
    """Find the offset between two clocks from one quantity that both stamped.

    Scale and bias between the two are free, so units and mountings need not agree.

    Args:
        reference: The quantity on the reference clock.
        other: The same quantity on the other clock.
        max_offset_ns: How far to look either way.
        min_overlap_ns: Shortest common span that counts.
        min_correlation: Least correlation that is evidence.
        max_ambiguity: Score of the next-best offset over the best that is still unambiguous.

    Raises:
        ClockError: NO_OVERLAP, NO_CORRELATION or AMBIGUOUS.
    """
    return estimate_shared_offset(
        [(reference, other)],
        max_offset_ns=max_offset_ns,
        min_overlap_ns=min_overlap_ns,
        min_correlation=min_correlation,
        max_ambiguity=max_ambiguity,
    )


def estimate_shared_offset(
    pairs: Sequence[tuple[Signal, Signal]],
    *,
    max_offset_ns: int,
    min_overlap_ns: int,
    min_correlation: float,
    max_ambiguity: float,
) -> OffsetEstimate:
    """Find the offset between two clocks from several shared quantities.

    The coarse search adds their evidence; the fine estimates are averaged by their variances, and
    the standard error is widened where they disagree by more than they claim.

    Args:
        pairs: (reference, other) of each quantity.
        max_offset_ns: As in `estimate_offset`; so are the rest.
        min_overlap_ns: See there.
        min_correlation: See there; quantities below it are left out.
        max_ambiguity: See there.

    Raises:
        ClockError: NO_OVERLAP, NO_CORRELATION or AMBIGUOUS.
    """
    coarse_ns = _coarse_offset(
        pairs,
        max_offset_ns=max_offset_ns,
        min_overlap_ns=min_overlap_ns,
        max_ambiguity=max_ambiguity,
    )
    fits = [_fine_offset(reference, other, start_ns=coarse_ns) for reference, other in pairs]
    good = [fit for fit in fits if fit is not None and (fit.correlation or 0.0) >= min_correlation]
    if not good:
        raise ClockError("no shared signal correlates", code="NO_CORRELATION")
    return combine_offsets(good)


def gnss_offset(
    stamps_ns: Int64Array, gnss_time_ns: Int64Array, log_time_ns: Int64Array
) -> OffsetEstimate:
    """Find the offset of a recorder's clock from UTC by time references of a GNSS receiver.

    Args:
        stamps_ns: (N,) recorder's clock when the receiver's UTC held (header.stamp).
        gnss_time_ns: (N,) UTC as the receiver tells it.
        log_time_ns: (N,) log time, recorder's clock; a stamp after it is not on that clock.

    Returns:
        Offset to UTC; references that lie off by more than the scatter of the rest are left out.

    Raises:
        ClockError: NO_TIME_REFERENCE, fewer than three that can be used.
    """
    plausible = (gnss_time_ns > 0) & (stamps_ns > 0) & (np.abs(log_time_ns - stamps_ns) < 10**10)
    if np.count_nonzero(plausible) < _MIN_TIME_REFERENCES:
        raise ClockError("fewer than three time references", code="NO_TIME_REFERENCE")
    offsets = (stamps_ns - gnss_time_ns)[plausible]
    centre = int(np.median(offsets))
    residual = (offsets - centre).astype(np.float64)
    scale = max(_NORMAL_MAD * float(np.median(np.abs(residual))), 1.0)
    kept = residual[np.abs(residual) <= _OUTLIER_SCALES * scale]
    error = float(np.std(kept, ddof=1) / np.sqrt(len(kept))) if len(kept) > 1 else scale
    return OffsetEstimate(
        offset_ns=centre + round(float(kept.mean())),
        uncertainty_ns=max(1, round(error)),
        correlation=None,
        samples=len(kept),
    )


def combine_offsets(estimates: Sequence[OffsetEstimate]) -> OffsetEstimate:
    """Average independent estimates of one offset by their variances.

    The standard error is scaled by the Birge ratio where the estimates scatter more than they
    should.
    """
    base = estimates[0].offset_ns
    offset = np.array([each.offset_ns - base for each in estimates], dtype=np.float64)
    error = np.array([max(each.uncertainty_ns, 1) for each in estimates], dtype=np.float64)
    weight = error**-2.0
    mean = float(np.sum(weight * offset) / np.sum(weight))
    birge = 1.0
    if len(estimates) > 1:
        chi2 = float(np.sum(weight * (offset - mean) ** 2)) / (len(estimates) - 1)
        birge = max(1.0, np.sqrt(chi2))
    correlations = [each.correlation for each in estimates if each.correlation is not None]
    return OffsetEstimate(
        offset_ns=base + round(mean),
        uncertainty_ns=max(1, round(birge / float(np.sqrt(np.sum(weight))))),
        correlation=max(correlations) if correlations else None,
        samples=sum(each.samples for each in estimates),
    )


def _coarse_offset(
    pairs: Sequence[tuple[Signal, Signal]],
    *,
    max_offset_ns: int,
    min_overlap_ns: int,
    max_ambiguity: float,
) -> int:
    """Offset of the highest summed log-likelihood over all lags, to a step of the coarse grid."""
    total: FloatArray | None = None
    for reference, other in pairs:
        x = _smoothed(reference, step_ns=_COARSE_STEP_NS, width_ns=_COARSE_WIDTH_NS)
        y = _smoothed(other, step_ns=_COARSE_STEP_NS, width_ns=_COARSE_WIDTH_NS)
        lags, score = _score_by_lag(
            x, y, max_offset_ns=max_offset_ns, min_overlap_ns=min_overlap_ns
        )
        total = score if total is None else total + score
    if total is None or not np.any(total > 0):
        raise ClockError("no common span with correlated motion", code="NO_OVERLAP")
    best = int(np.argmax(total))
    elsewhere = np.abs(lags - lags[best]) > _DISTINCT_NS // _COARSE_STEP_NS
    if np.any(total[elsewhere] > max_ambiguity * total[best]):
        raise ClockError("two offsets fit about equally well", code="AMBIGUOUS")
    return int(lags[best]) * _COARSE_STEP_NS


def _score_by_lag(
    x: _Grid, y: _Grid, *, max_offset_ns: int, min_overlap_ns: int
) -> tuple[Int64Array, FloatArray]:
    """Log-likelihood of every lag, from the correlation over the valid overlap.

    For a linear relation with Gaussian noise it is -n/2 log(1 - r²): the overlap counts, so a short
    overlap that happens to match does not beat a long one.

    Returns:
        (L,) int64 lags in steps of absolute time (other minus reference), (L,) float64 scores.

    Source:
        D. Padfield, "Masked Object Registration in the Fourier Domain", 2012, eq. 15.
    """
    size = fft.next_fast_len(len(x.value) + len(y.value), real=True)

    def spectrum(values: FloatArray) -> npt.NDArray[np.complex128]:
        return np.asarray(fft.rfft(values, size))

    def correlate(left: FloatArray, right: FloatArray) -> FloatArray:
        return np.asarray(fft.irfft(np.conj(spectrum(left)) * spectrum(right), size))

    mask_x, mask_y = x.valid.astype(np.float64), y.valid.astype(np.float64)
    vx, vy = _centred(x), _centred(y)
    count = np.maximum(correlate(mask_x, mask_y), 1e-9)
    sum_x, sum_y = correlate(vx, mask_y), correlate(mask_x, vy)
    var_x = np.maximum(correlate(vx**2, mask_y) - sum_x**2 / count, 0.0)
    var_y = np.maximum(correlate(mask_x, vy**2) - sum_y**2 / count, 0.0)
    cross = correlate(vx, vy) - sum_x * sum_y / count
    floor = 1e-9 * max(float(np.sum(vx**2) * np.sum(vy**2)), 1e-30)
    # Tails of the FFT leave rounding noise in empty overlaps: no variance there, no correlation.
    r = np.where(var_x * var_y > floor, cross / np.sqrt(np.maximum(var_x * var_y, floor)), 0.0)
    r = np.clip(r, 0.0, 0.9999)
    score = np.where(count * x.step_ns >= min_overlap_ns, -0.5 * count * np.log1p(-(r**2)), 0.0)
    shift = np.concatenate([np.arange(len(y.value)), np.arange(-len(x.value) + 1, 0)])
    lags = shift + (y.start_ns - x.start_ns) // x.step_ns
    score = score[shift]
    order = np.argsort(lags)
    lags, score = lags[order], score[order]
    # Every pair is scored over the same lags, so that the scores can be added.
    reach = max_offset_ns // x.step_ns
    window = np.arange(-reach, reach + 1)
    full = np.zeros(len(window))
    inside = np.abs(lags) <= reach
    full[lags[inside] + reach] = score[inside]
    return window, full


def _fine_offset(reference: Signal, other: Signal, *, start_ns: int) -> OffsetEstimate | None:
    """Gauss-Newton on other(t + offset) = a reference(t) + b; None if it does not hold together."""
    x = _smoothed(reference, step_ns=_FINE_STEP_NS, width_ns=_FINE_WIDTH_NS)
    y = _smoothed(other, step_ns=_FINE_STEP_NS, width_ns=_FINE_WIDTH_NS)
    if np.count_nonzero(y.valid) < 4:
        return None
    knots = np.arange(len(y.value))
    curve = CubicSpline(knots, y.value)
    slope = curve.derivative()
    at = (x.start_ns + start_ns - y.start_ns) / x.step_ns + np.arange(len(x.value))
    shift = 0.0
    for _ in range(_ITERATIONS):
        where = at + shift
        inside = x.valid & (where >= 0) & (where <= len(knots) - 1)
        index = np.clip(where, 0, len(knots) - 1)
        inside &= (
            y.valid[np.floor(index).astype(np.int64)] & y.valid[np.ceil(index).astype(np.int64)]
        )
        if np.count_nonzero(inside) * x.step_ns < 3 * _BLOCK_NS:
            return None
        rising = slope(where[inside])
        design = np.column_stack([rising, x.value[inside], np.ones(len(rising))])
        target = curve(where[inside])
        solution = np.linalg.lstsq(design * [-1.0, 1.0, 1.0], target, rcond=None)[0]
        step = float(np.clip(solution[0], -20.0, 20.0))
        shift += step
        if abs(step) * x.step_ns < _CONVERGED_NS:
            break
    else:
        return None
    residual = target - design[:, 1:] @ solution[1:]
    error = _clustered_error(
        rising, design[:, 1:], residual, block=np.flatnonzero(inside) * x.step_ns // _BLOCK_NS
    )
    correlation = float(np.corrcoef(target, x.value[inside])[0, 1]) if np.std(target) > 0 else 0.0
    offset_ns = start_ns + round(shift * x.step_ns)
    return OffsetEstimate(
        offset_ns=offset_ns,
        uncertainty_ns=max(1, round(min(error * x.step_ns, 1e18))),
        correlation=correlation,
        samples=_samples_shared(reference.t_ns, other.t_ns - offset_ns),
    )


def _samples_shared(left_ns: Int64Array, right_ns: Int64Array) -> int:
    """Samples in the common span, of the sparser of the two."""
    start, end = max(left_ns[0], right_ns[0]), min(left_ns[-1], right_ns[-1])
    inside = [np.count_nonzero((t_ns >= start) & (t_ns <= end)) for t_ns in (left_ns, right_ns)]
    return int(min(inside))


def _clustered_error(
    rising: FloatArray, others: FloatArray, residual: FloatArray, *, block: Int64Array
) -> float:
    """Standard error of the shift, in grid steps, from the scatter of blocks of a second.

    Source:
        MacKinnon, Nielsen and Webb, "Leverage, influence, and the jackknife in clustered regression
        models", 2022: the estimator CV3.
    """
    projected = rising - others @ np.linalg.lstsq(others, rising, rcond=None)[0]
    information = float(np.sum(projected**2))
    if information <= 0.0:
        return float("inf")
    block = block - block.min()
    scores = np.bincount(block, projected * residual)
    leverage = np.bincount(block, projected**2) / information
    # A jackknife over the blocks: few brisk seconds carry most of the information.
    return float(np.linalg.norm(scores / np.maximum(1.0 - leverage, 0.1)) / information)


def _smoothed(signal: Signal, *, step_ns: int, width_ns: int) -> _Grid:
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
    return _Grid(start, step_ns, np.where(density > 0.01 * usual, value, middle), valid)


def _centred(grid: _Grid) -> FloatArray:
    """Values around their mean where valid, 0 elsewhere."""
    if not grid.valid.any():
        return np.zeros(len(grid.value))
    return np.where(grid.valid, grid.value - grid.value[grid.valid].mean(), 0.0)
