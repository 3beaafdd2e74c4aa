"""How far two clocks are apart, from what both of them stamped.

Two recorders that saw the same motion hold the same signal, shifted by the difference of their
clocks. A coarse search over all shifts finds the neighbourhood; a least-squares fit of shift,
drift, scale and bias finds the rest, far below the sample period; its standard errors come from
blocks of the residual, so noise that is correlated in time does not make it look better than it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.interpolate import CubicSpline

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.clock_line import correlation_factor, student_factor
from udfs.sync.fusion import Evidence, fuse
from udfs.sync.segments import Segment, Ties, some_ties
from udfs.sync.signals import (
    FINE_STEP_NS,
    FINE_WIDTH_NS,
    LEAST_KNOTS,
    Grid,
    Signal,
    period_of,
    smoothed,
)

FloatArray = npt.NDArray[np.float64]

_COARSE_STEP_NS = 40_000_000
_COARSE_WIDTH_NS = 80_000_000
_WIDTH_OF_PERIOD = 0.6
"""Least width over the period of the sparser signal: the average is even within 2 %."""
_STEPS_OF_WIDTH = 12
_BLOCK_NS = 1_000_000_000
_BLOCK_OF_WIDTH = 4
"""Of the curve's average: neighbours within it share its noise."""
_DISTINCT_NS = 1_000_000_000
_DISTINCT_OF_WIDTH = 4
_ITERATIONS = 20
_SETTLING = 5
_CONVERGED_NS = 100.0
_LOOSE_DRIFT = 1e-3
"""Drift that is nearly free in the fit of one quantity; the limit comes in when all are in."""
_QUANTITY = "quantity"
_LEAST_BLOCKS = 3
_SINGULAR = 1e8
_TOLD_SHARE = 1.0
"""Of the mean of the blocks, what a block must tell of the shift to be a tie of its own."""
_DRIFT_SCALES = 3.0


@attrs.frozen
class OffsetEstimate:
    """The difference of two clocks.

    Attributes:
        offset_ns: The other clock minus the reference, at the anchor.
        uncertainty_ns: Standard error of it.
        correlation: Of the two signals at this offset; None where nothing was correlated.
        samples: Samples that were compared.
        anchor_ns: Reading of the other clock at which the offset is known best.
        drift_ppb: Growth of the offset, ns per s of the other clock.
        drift_uncertainty_ppb: Standard error of it; independent of that of the offset.
        alerts: Quantities that contradict this, for people.
        ties: Reading of the other clock and offset there, as spans that hold enough motion to tell
            it have it by themselves.
    """

    offset_ns: int
    uncertainty_ns: int
    correlation: float | None
    samples: int
    anchor_ns: int = 0
    drift_ppb: float = 0.0
    drift_uncertainty_ppb: float = 1.0
    alerts: tuple[str, ...] = ()
    ties: Ties = attrs.field(default=(), eq=False, repr=False)

    def moved(self, anchor_ns: int) -> OffsetEstimate:
        """The same at another reading; less sure, as the drift is not known exactly."""
        away = 1e-9 * (anchor_ns - self.anchor_ns)
        error = float(np.hypot(self.uncertainty_ns, away * self.drift_uncertainty_ppb))
        return attrs.evolve(
            self,
            offset_ns=self.offset_ns + round(away * self.drift_ppb),
            uncertainty_ns=round(error),
            anchor_ns=anchor_ns,
        )


def estimate_offset(
    reference: Signal,
    other: Signal,
    *,
    max_offset_ns: int,
    min_overlap_ns: int = 5_000_000_000,
    min_correlation: float = 0.8,
    max_ambiguity: float = 0.8,
    max_drift_ppm: float = 50.0,
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
        max_drift_ppm: Drift that an oscillator hardly exceeds.

    Raises:
        ClockError: NO_OVERLAP, NO_CORRELATION, AMBIGUOUS or NOT_STEADY.
    """
    return estimate_shared_offset(
        [(reference, other)],
        max_offset_ns=max_offset_ns,
        min_overlap_ns=min_overlap_ns,
        min_correlation=min_correlation,
        max_ambiguity=max_ambiguity,
        max_drift_ppm=max_drift_ppm,
    )


def estimate_shared_offset(
    pairs: Sequence[tuple[Signal, Signal]],
    *,
    max_offset_ns: int,
    min_overlap_ns: int,
    min_correlation: float,
    max_ambiguity: float,
    max_drift_ppm: float,
) -> OffsetEstimate:
    """Find the offset between two clocks from several shared quantities.

    The coarse search adds their evidence; the fine estimates are weighed by their variances. One
    that contradicts a surer one is left out and named, and the standard error is then as wide as
    they are apart.

    Args:
        pairs: (reference, other) of each quantity.
        max_offset_ns: As in `estimate_offset`; so are the rest.
        min_overlap_ns: See there.
        min_correlation: See there; quantities below it are left out.
        max_ambiguity: See there.
        max_drift_ppm: See there.

    Raises:
        ClockError: NO_OVERLAP, NO_CORRELATION, AMBIGUOUS or NOT_STEADY.
    """
    coarse_ns = _coarse_offset(
        pairs,
        max_offset_ns=max_offset_ns,
        min_overlap_ns=min_overlap_ns,
        max_ambiguity=max_ambiguity,
    )
    fits = [_fine_offset(reference, other, start_ns=coarse_ns) for reference, other in pairs]
    good = {
        reference.name or f"signal {number}": fit
        for number, ((reference, _), fit) in enumerate(zip(pairs, fits, strict=True), 1)
        if fit is not None and (fit.correlation or 0.0) >= min_correlation
    }
    if not good:
        raise ClockError("no shared signal correlates", code="NO_CORRELATION")
    return _with_limited_drift(combine_offsets(good), max_drift_ppm=max_drift_ppm)


def combine_offsets(estimates: Mapping[str, OffsetEstimate]) -> OffsetEstimate:
    """Weigh independent estimates of one offset and drift, by what they were made of.

    Of two that contradict each other the surer stands: see `fuse`.
    """
    anchors = [each.anchor_ns for each in estimates.values()]
    evidence = [
        Evidence(
            kind=_QUANTITY,
            source=name,
            segment=Segment(
                start_ns=min(anchors),
                end_ns=max(anchors),
                anchor_ns=each.anchor_ns,
                offset_ns=each.offset_ns,
                drift_ppb=each.drift_ppb,
                offset_error_ns=float(max(each.uncertainty_ns, 1)),
                drift_error_ppb=each.drift_uncertainty_ppb,
                samples=each.samples,
            ),
        )
        for name, each in estimates.items()
    ]
    found = fuse(evidence, trust={_QUANTITY: 0})
    used = [estimates[each.source].correlation for each in found.used]
    return OffsetEstimate(
        offset_ns=found.segment.offset_ns,
        uncertainty_ns=max(1, round(found.segment.offset_error_ns)),
        correlation=max((each for each in used if each is not None), default=None),
        samples=found.segment.samples,
        anchor_ns=found.segment.anchor_ns,
        drift_ppb=found.segment.drift_ppb,
        drift_uncertainty_ppb=found.segment.drift_error_ppb,
        alerts=tuple(str(alert) for alert in found.alerts),
        ties=tuple(tie for each in found.used for tie in estimates[each.source].ties),
    )


def _with_limited_drift(estimate: OffsetEstimate, *, max_drift_ppm: float) -> OffsetEstimate:
    """The estimate and what is known of oscillators: any drift up to the limit is as likely.

    Raises:
        ClockError: NOT_STEADY, the signals drift apart as no oscillator does; a jump does that.
    """
    beyond = abs(estimate.drift_ppb) - 1e3 * max_drift_ppm
    if beyond > _DRIFT_SCALES * estimate.drift_uncertainty_ppb:
        raise ClockError("two signals drift apart faster than clocks do", code="NOT_STEADY")
    measured = estimate.drift_uncertainty_ppb**-2.0
    before = 3.0 * (1e3 * max_drift_ppm) ** -2.0
    return attrs.evolve(
        estimate,
        drift_ppb=estimate.drift_ppb * measured / (measured + before),
        drift_uncertainty_ppb=(measured + before) ** -0.5,
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
    widths: list[int] = []
    for reference, other in pairs:
        # Both are averaged alike, as the sparser of them needs.
        period = max(period_of(reference), period_of(other))
        width_ns = max(_COARSE_WIDTH_NS, round(_WIDTH_OF_PERIOD * period))
        x = smoothed(reference, step_ns=_COARSE_STEP_NS, width_ns=width_ns)
        y = smoothed(other, step_ns=_COARSE_STEP_NS, width_ns=width_ns)
        lags, score = _score_by_lag(
            x, y, max_offset_ns=max_offset_ns, min_overlap_ns=min_overlap_ns
        )
        # The wider the average, the fewer points of the grid are independent.
        score *= _COARSE_WIDTH_NS / width_ns
        total = score if total is None else total + score
        widths.append(width_ns)
    if total is None or not np.any(total > 0):
        raise ClockError("no common span with correlated motion", code="NO_OVERLAP")
    best = int(np.argmax(total))
    distinct_ns = max(_DISTINCT_NS, _DISTINCT_OF_WIDTH * min(widths))
    elsewhere = np.abs(lags - lags[best]) > distinct_ns // _COARSE_STEP_NS
    if np.any(total[elsewhere] > max_ambiguity * total[best]):
        raise ClockError("two offsets fit about equally well", code="AMBIGUOUS")
    return int(lags[best]) * _COARSE_STEP_NS


def _score_by_lag(
    x: Grid, y: Grid, *, max_offset_ns: int, min_overlap_ns: int
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
    """Fit what is left of the offset, and the drift; None if it fails.

    The denser signal is the curve: samples of a sparse one are compared where they were taken, so
    nothing is interpolated over seconds.
    """
    if period_of(other) <= max(period_of(reference), FINE_WIDTH_NS):
        return _curve_offset(reference, other, start_ns=start_ns)
    found = _curve_offset(other, reference, start_ns=-start_ns)
    if found is None:
        return None
    return attrs.evolve(
        found,
        offset_ns=-found.offset_ns,
        anchor_ns=found.anchor_ns - found.offset_ns,
        drift_ppb=-found.drift_ppb / (1.0 - 1e-9 * found.drift_ppb),
        ties=tuple((clock_ns - offset, -offset) for clock_ns, offset in found.ties),
    )


def _curve_offset(points: Signal, curve_of: Signal, *, start_ns: int) -> OffsetEstimate | None:
    """Gauss-Newton on curve(t + offset + drift (t - t0)) = a points(t) + b; None if it fails."""
    at_ns, value, spacing_ns = _points_of(points)
    width_ns = max(FINE_WIDTH_NS, round(_WIDTH_OF_PERIOD * period_of(curve_of)))
    y = smoothed(curve_of, step_ns=width_ns // _STEPS_OF_WIDTH, width_ns=width_ns)
    if np.count_nonzero(y.valid) < LEAST_KNOTS or len(at_ns) == 0:
        return None
    block_ns = max(_BLOCK_NS, spacing_ns, _BLOCK_OF_WIDTH * width_ns)
    knots = np.arange(len(y.value))
    curve = CubicSpline(knots, y.value)
    slope = curve.derivative()
    at = (at_ns + (start_ns - y.start_ns)) / y.step_ns
    common = (at >= 0) & (at <= len(knots) - 1)
    if not common.any():
        return None
    elapsed = at - float(np.mean(at[common]))
    shift, drift = 0.0, 0.0
    usable = np.ones(len(at), np.bool_)
    for turn in range(_ITERATIONS):
        where = at + shift + drift * elapsed
        inside = usable & (where >= 0) & (where <= len(knots) - 1)
        index = np.clip(where, 0, len(knots) - 1)
        inside &= (
            y.valid[np.floor(index).astype(np.int64)] & y.valid[np.ceil(index).astype(np.int64)]
        )
        # Points that come and go at the edge of a hole would keep the fit from settling.
        usable = inside if turn >= _SETTLING else usable
        if np.count_nonzero(inside) * spacing_ns < _LEAST_BLOCKS * block_ns:
            return None
        rising = slope(where[inside])
        moving = np.column_stack([rising, rising * elapsed[inside]])
        linear = np.column_stack([value[inside], np.ones(len(rising))])
        target = curve(where[inside])
        solution, residual = _solved(moving, linear, target)
        step = float(np.clip(solution[0], -20.0, 20.0))
        shift += step
        drift = float(np.clip(drift + solution[1], -_LOOSE_DRIFT, _LOOSE_DRIFT))
        if abs(step) * y.step_ns < _CONVERGED_NS:
            break
    else:
        return None
    blocks = _blocks_of(moving, linear, residual, block=(at_ns[inside] - int(at_ns[0])) // block_ns)
    if blocks is None:
        return None
    best = float(np.clip(blocks.best, elapsed[inside].min(), elapsed[inside].max()))
    error, drift_error = blocks.error(np.array([1.0, best])), blocks.error(np.array([0.0, 1.0]))
    offset_ns = start_ns + round((shift + drift * best) * y.step_ns)
    anchor = float(np.mean(at[common])) + shift + (1.0 + drift) * best
    correlation = float(np.corrcoef(target, value[inside])[0, 1]) if np.std(target) > 0 else 0.0
    # By how much each block would have the curve moved, at the middle of its points.
    away = shift + drift * blocks.means_of(elapsed[inside]) + blocks.shifts
    apart_ns = start_ns + np.rint(away * y.step_ns).astype(np.int64)
    read_ns = int(at_ns[0]) + np.rint(blocks.means_of(at_ns[inside] - at_ns[0])).astype(np.int64)
    told = blocks.shares >= _TOLD_SHARE * float(np.mean(blocks.shares))
    return OffsetEstimate(
        offset_ns=offset_ns,
        uncertainty_ns=max(1, round(min(error * y.step_ns, 1e18))),
        correlation=correlation,
        samples=_samples_shared(points.t_ns, curve_of.t_ns - offset_ns),
        anchor_ns=y.start_ns + round(anchor * y.step_ns),
        drift_ppb=1e9 * drift / (1.0 + drift),
        drift_uncertainty_ppb=1e9 * drift_error,
        ties=some_ties((read_ns + apart_ns)[told], apart_ns[told]),
    )


def _points_of(signal: Signal) -> tuple[Int64Array, FloatArray, int]:
    """(N,) times, (N,) values, how far apart: an even average, or samples of a sparse one."""
    period = period_of(signal)
    if period > FINE_WIDTH_NS:
        return signal.t_ns, signal.value, round(period)
    grid = smoothed(signal, step_ns=FINE_STEP_NS, width_ns=FINE_WIDTH_NS)
    at = np.flatnonzero(grid.valid)
    return grid.start_ns + at * grid.step_ns, grid.value[at], grid.step_ns


def _solved(
    moving: FloatArray, linear: FloatArray, target: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Least squares for (shift, drift) beside the scale and bias, and the residual of the latter.

    A drift that the motion does not show stays near zero.
    """
    scale = np.linalg.norm(moving, axis=0) + 1e-30
    design = np.column_stack([-moving / scale, linear])
    noise = float(np.std(target - linear @ np.linalg.lstsq(linear, target, rcond=None)[0]))
    tight = np.zeros((1, design.shape[1]))
    tight[0, 1] = noise / (_LOOSE_DRIFT * scale[1])
    solution = np.linalg.lstsq(np.vstack([design, tight]), np.r_[target, 0.0], rcond=None)[0]
    return solution[:2] / scale, target - linear @ solution[2:]


def _samples_shared(left_ns: Int64Array, right_ns: Int64Array) -> int:
    """Samples in the common span, of the sparser of the two."""
    start, end = max(left_ns[0], right_ns[0]), min(left_ns[-1], right_ns[-1])
    inside = [np.count_nonzero((t_ns >= start) & (t_ns <= end)) for t_ns in (left_ns, right_ns)]
    return int(min(inside))


@attrs.frozen(eq=False)
class _Blocks:
    """What blocks of time say of shift, in grid steps, and drift.

    Attributes:
        moves: (B, 2) float64, by how much both change without a block.
        spread: (B, 2, 2) float64, part of each block in the covariance if noise were even.
        shifts: (B,) float64, what each block alone would add to the shift.
        shares: (B,) float64, part of each block in what tells the shift.
        block: (P,) int64, block of each point.
    """

    moves: FloatArray
    spread: FloatArray
    shifts: FloatArray
    shares: FloatArray
    block: Int64Array

    def means_of(self, values: npt.NDArray[np.number[Any]]) -> FloatArray:
        """(B,) float64 means over the blocks of (P,) values."""
        return np.asarray(np.bincount(self.block, values) / np.bincount(self.block))

    @property
    def best(self) -> float:
        """Where shift and drift err independently, and the shift is known best.

        By the motion alone: noise that had a say would choose where it looks smallest.
        """
        total = self.spread.sum(axis=0)
        return -float(total[0, 1]) / max(float(total[1, 1]), 1e-300)

    def error(self, weights: FloatArray) -> float:
        """Standard error of a sum of shift and drift, to serve as that of a normal law.

        A jackknife over the blocks: few brisk seconds carry most of the information. It has as many
        degrees of freedom as blocks that count, not as there are; where the noise of neighbours is
        alike, fewer.

        Source:
            MacKinnon, Nielsen and Webb, "Leverage, influence, and the jackknife in clustered
            regression models", 2022: the estimator CV3. Carter, Schnepel and Steigerwald,
            "Asymptotic behavior of a t test robust to cluster heterogeneity", 2017, for the
            effective number of blocks.
        """
        moves = self.moves @ weights
        share = np.einsum("i,bij,j->b", weights, self.spread, weights)
        effective = float(share.sum() ** 2 / np.sum(share**2))
        widen = student_factor(max(min(effective - 1.0, len(moves) - 2.0), 1.0))
        return widen * correlation_factor(moves) * float(np.linalg.norm(moves))


def _blocks_of(
    moving: FloatArray, linear: FloatArray, residual: FloatArray, *, block: Int64Array
) -> _Blocks | None:
    """What each block of points says; None where they are too few to tell shift and drift."""
    projected = moving - linear @ np.linalg.lstsq(linear, moving, rcond=None)[0]
    scale = np.linalg.norm(projected, axis=0)
    if not np.all(scale > 0.0):
        return None
    projected = projected / scale
    block = np.unique(block, return_inverse=True)[1]
    count = int(block[-1]) + 1
    if count < _LEAST_BLOCKS:
        return None
    scores = np.column_stack([np.bincount(block, column * residual) for column in projected.T])
    information = np.empty((count, 2, 2))
    for i in range(2):
        for j in range(2):
            information[:, i, j] = np.bincount(block, projected[:, i] * projected[:, j])
    total = information.sum(axis=0)
    if np.linalg.cond(total) > _SINGULAR:
        return None
    # Without a block that carries all of the information nothing is left: a tenth of it stays.
    left = total - 0.9 * information
    moves = np.linalg.solve(left, scores[:, :, None])[:, :, 0] / scale
    inverse = np.linalg.inv(total) / scale
    shares = information[:, 0, 0]
    shifts = -scores[:, 0] / np.maximum(shares, 1e-300) / scale[0]
    return _Blocks(moves, inverse.T @ information @ inverse, shifts, shares, block)


def _centred(grid: Grid) -> FloatArray:
    """Values around their mean where valid, 0 elsewhere."""
    if not grid.valid.any():
        return np.zeros(len(grid.value))
    return np.where(grid.valid, grid.value - grid.value[grid.valid].mean(), 0.0)
