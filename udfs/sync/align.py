"""Bring a stream of samples to given instants, and say for each how well that went."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.sync.interpolation import FloatArray, interpolate_linear
from udfs.sync.limits import NO_LIMIT, Limits
from udfs.sync.pairing import Paired, pair_samples, use_once
from udfs.sync.rules import AlignRule
from udfs.sync.states import CODES, JUMP, MISSING, NO_CLOCK, OK, STALE, words_of

StateArray = npt.NDArray[np.str_]


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
        index: (M,) int64 of the nearest sample; -1 if there is none within reach.
        t_ns: (M,) int64, time of the nearest sample; 0 where index is -1.
        sync_error_ns: (M,) int64, t_ns minus the instant; 0 where index is -1.
        codes: (M,) uint8 of the states: ok, gap (no sample close enough around the instant), stale
            (the nearest sample belongs to another instant, or is too old), missing (no sample
            within reach), jump (the clock of the samples jumped around the instant).
        values: (M,) float64 each.
    """

    index: Int64Array
    t_ns: Int64Array
    sync_error_ns: Int64Array
    codes: UInt8Array
    values: Mapping[str, FloatArray]

    @property
    def state(self) -> StateArray:
        """(M,) words."""
        return words_of(self.codes)


def align(
    reference_t_ns: Int64Array, stream: Stream, *, rule: AlignRule, reach_ns: int | None = None
) -> Aligned:
    """Find what a stream said at each instant.

    Nothing is extrapolated: an instant before the first or behind the last sample takes the nearest
    one within `rule.max_error_ns`, or is `stale`. Between two samples with a jump of their clock
    between them there is a `jump`, however near they are.

    Args:
        reference_t_ns: (M,) int64 instants, in any order.
        stream: Samples on the same clock.
        rule: How, and how far is too far.
        reach_ns: At least the rule's limits. A hole in the stream that is wider ends it, and a
            sample that is farther away does not count in any way: so what is found depends on
            nothing beyond it, and is the same for any part of the stream that holds it. Without
            it the stream goes on over its holes.

    Returns:
        One row an instant.
    """
    instants = np.ascontiguousarray(reference_t_ns, dtype=np.int64)
    if len(stream.t_ns) == 0:
        return _missing(len(instants), stream)
    is_nearest = rule.method == "nearest"
    paired = pair_samples(
        instants,
        np.ascontiguousarray(stream.t_ns, dtype=np.int64),
        method="nearest" if is_nearest else "between",
        limits=Limits(
            tolerance_ns=rule.max_error_ns if is_nearest else NO_LIMIT,
            max_gap_ns=rule.max_gap_ns,
            edge_ns=rule.max_error_ns,
        ),
    )
    ended = np.zeros(len(instants), np.bool_)
    if reach_ns is not None:
        ended = _end_at_holes(paired, instants, stream.t_ns, rule=rule, reach_ns=reach_ns)
    if rule.unique:
        use_once(paired, samples=len(stream.t_ns))
    if stream.piece is not None:
        paired.state[_in_a_jump(instants, stream.t_ns, stream.piece) & ~ended] = CODES[JUMP]
    if is_nearest:
        values = {name: samples[paired.index] for name, samples in stream.values.items()}
    else:
        columns = {
            name: np.ascontiguousarray(samples, dtype=np.float64)
            for name, samples in stream.values.items()
        }
        values = interpolate_linear(columns, paired.left, paired.share, period=rule.period)
    ok = paired.state == CODES[OK]
    values = {name: np.where(ok, value, np.nan) for name, value in values.items()}
    if reach_ns is not None:
        _forget(paired, np.abs(paired.distance_ns) > reach_ns)
    return Aligned(paired.index, paired.t_ns, paired.distance_ns, paired.state, values)


def _end_at_holes(
    paired: Paired, instants: Int64Array, t_ns: Int64Array, *, rule: AlignRule, reach_ns: int
) -> npt.NDArray[np.bool_]:
    """Take the two sides of holes beyond reach for ends of the stream; which instants lie there."""
    after = np.searchsorted(t_ns, instants, side="left")
    inner = (after > 0) & (after < len(t_ns))
    behind = t_ns[np.minimum(after, len(t_ns) - 1)]
    hole = inner & (behind != instants) & (behind - t_ns[np.maximum(after - 1, 0)] > reach_ns)
    near = np.abs(paired.distance_ns) <= rule.max_error_ns
    paired.state[hole] = np.where(near[hole], CODES[OK], CODES[STALE])
    if rule.method == "linear":
        paired.left[hole] = paired.index[hole]
        paired.share[hole] = 0.0
    return np.asarray(hole)


def _forget(paired: Paired, far: npt.NDArray[np.bool_]) -> None:
    """Say of instants that nothing is there."""
    paired.index[far] = -1
    paired.t_ns[far] = 0
    paired.distance_ns[far] = 0
    paired.state[far] = CODES[MISSING]


def _in_a_jump(instants: Int64Array, t_ns: Int64Array, piece: Int64Array) -> npt.NDArray[np.bool_]:
    """(M,) whether an instant lies between two samples that are on different pieces."""
    last = np.flatnonzero(np.diff(piece))
    begun = np.searchsorted(t_ns[last], instants, side="left")
    over = np.searchsorted(t_ns[last + 1], instants, side="right")
    return np.asarray(begun > over)


def without_clock(count: int, *, names: tuple[str, ...] = ()) -> Aligned:
    """What is known of a stream whose clock can't be related to the instants'."""
    empty = np.zeros(count, dtype=np.int64)
    values = {name: np.full(count, np.nan) for name in names}
    return Aligned(empty - 1, empty, empty, np.full(count, CODES[NO_CLOCK], np.uint8), values)


def _missing(count: int, stream: Stream) -> Aligned:
    unknown = without_clock(count, names=tuple(stream.values))
    return attrs.evolve(unknown, codes=np.full(count, CODES[MISSING], np.uint8))
