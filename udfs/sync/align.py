"""Bring a stream of samples to given instants, and say for each how well that went."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array
from udfs.sync.rules import AlignRule

FloatArray = npt.NDArray[np.float64]
StateArray = npt.NDArray[np.str_]

OK, GAP, STALE, MISSING, NO_CLOCK = "ok", "gap", "stale", "missing", "no_clock"


@attrs.frozen(eq=False)
class Stream:
    """Samples in time order.

    Attributes:
        t_ns: (N,) int64, ascending, on the clock of the instants.
        values: (N,) float64 each.
        piece: (N,) int64, which piece of its clock each sample is on; between two of different
            pieces the clock jumped. All on one if None.
    """

    t_ns: Int64Array = attrs.field()
    values: Mapping[str, FloatArray] = attrs.field(factory=dict)
    piece: Int64Array | None = None

    @t_ns.validator
    def _ascending(self, _attribute: object, value: Int64Array) -> None:
        if np.any(np.diff(value) < 0):
            raise ValueError("samples must be in time order")


@attrs.frozen(eq=False)
class Aligned:
    """A stream at M instants. Values are NaN unless the state is `ok`.

    Attributes:
        index: (M,) int64 of the nearest sample; -1 if the stream is empty.
        t_ns: (M,) int64, time of the nearest sample; 0 where index is -1.
        sync_error_ns: (M,) int64, t_ns minus the instant; 0 where index is -1.
        state: (M,) ok, gap (no sample close enough around the instant), stale (the nearest sample
            belongs to another instant, or is too old), missing (no samples at all).
        values: (M,) float64 each.
    """

    index: Int64Array
    t_ns: Int64Array
    sync_error_ns: Int64Array
    state: StateArray
    values: Mapping[str, FloatArray]


def align(reference_t_ns: Int64Array, stream: Stream, *, rule: AlignRule) -> Aligned:
    """Find what a stream said at each instant.

    Nothing is extrapolated: an instant before the first or behind the last sample takes the nearest
    one within `rule.max_error_ns`, or is `stale`. Between two samples with a jump of their clock
    between them there is a `gap`, however near they are.

    Args:
        reference_t_ns: (M,) int64 instants, in any order.
        stream: Samples on the same clock.
        rule: How, and how far is too far.

    Returns:
        One row an instant.
    """
    instants = np.asarray(reference_t_ns, dtype=np.int64)
    if len(stream.t_ns) == 0:
        return _missing(len(instants), stream)
    before, after = _neighbours(instants, stream.t_ns)
    to_before = instants - stream.t_ns[before]
    to_after = stream.t_ns[after] - instants
    nearest = np.where(np.abs(to_before) <= np.abs(to_after), before, after)
    error = stream.t_ns[nearest] - instants
    inside = (to_before >= 0) & (to_after >= 0)
    hole = inside & (stream.t_ns[after] - stream.t_ns[before] > rule.max_gap_ns)
    near = np.abs(error) <= rule.max_error_ns
    if stream.piece is not None:
        jump = stream.piece[before] != stream.piece[after]
        hole |= jump
        near &= ~jump
    if rule.method == "nearest":
        state = np.where(near, OK, np.where(hole, GAP, STALE))
    else:
        exact = error == 0
        state = np.where(
            exact | (inside & ~hole), OK, np.where(hole, GAP, np.where(near, OK, STALE))
        )
    if rule.unique:
        state[(state == OK) & ~_is_nearest_user(nearest, np.abs(error))] = STALE
    ok = state == OK
    values = {}
    for name, samples in stream.values.items():
        value = (
            samples[nearest]
            if rule.method == "nearest"
            else _linear(samples, before, after, to_before, to_after, period=rule.period.get(name))
        )
        values[name] = np.where(ok, value, np.nan)
    return Aligned(nearest, stream.t_ns[nearest], error, state, values)


def without_clock(count: int, *, names: tuple[str, ...] = ()) -> Aligned:
    """What is known of a stream whose clock can't be related to the instants'."""
    empty = np.zeros(count, dtype=np.int64)
    values = {name: np.full(count, np.nan) for name in names}
    return Aligned(empty - 1, empty, empty, np.full(count, NO_CLOCK), values)


def _missing(count: int, stream: Stream) -> Aligned:
    unknown = without_clock(count, names=tuple(stream.values))
    return attrs.evolve(unknown, state=np.full(count, MISSING))


def _neighbours(instants: Int64Array, t_ns: Int64Array) -> tuple[Int64Array, Int64Array]:
    """(M,) indices of the samples at or before and at or after; both the end one outside."""
    after = np.searchsorted(t_ns, instants, side="left")
    before = np.where(
        (after < len(t_ns)) & (t_ns[np.minimum(after, len(t_ns) - 1)] == instants), after, after - 1
    )
    last = len(t_ns) - 1
    return np.clip(before, 0, last), np.clip(after, 0, last)


def _is_nearest_user(index: Int64Array, distance: Int64Array) -> npt.NDArray[np.bool_]:
    """(M,) whether this instant is the closest (then the first) of those that name the sample."""
    order = np.lexsort((np.arange(len(index)), distance, index))
    first = np.r_[True, index[order][1:] != index[order][:-1]]
    chosen = np.zeros(len(index), dtype=np.bool_)
    chosen[order[first]] = True
    return chosen


def _linear(
    samples: FloatArray,
    before: Int64Array,
    after: Int64Array,
    to_before: Int64Array,
    to_after: Int64Array,
    *,
    period: float | None,
) -> FloatArray:
    """(M,) straight line between the neighbours; the shorter way round for what wraps."""
    span = (to_before + to_after).astype(np.float64)
    share = np.divide(to_before, span, out=np.zeros_like(span), where=span > 0)
    share = np.clip(share, 0.0, 1.0)
    step = samples[after] - samples[before]
    if period is not None:
        step = step - period * np.round(step / period)
    value = samples[before] + share * step
    if period is not None:
        value = value - period * np.round(value / period)
    return np.asarray(value, dtype=np.float64)
