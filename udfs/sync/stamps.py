"""What a sensor's stamps are worth: steps found and named, useless stamps cut.

Stamps are taken in the order in which they arrived, beside the log time of their arrival. Sorted
stamps have lost what tells a rollover from a reset, and a clock that was set from a late message.
"""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array
from udfs.sync.time_scales import GPS_EPOCH_NS, SECOND_NS, WEEK_NS, tai_minus_utc_ns

StateArray = npt.NDArray[np.uint8]
Cause = Literal["reset", "leap_second", "gps_utc", "week_rollover", "step"]

OK, ZERO, STUCK, WILD, BACKWARD = range(5)
STATE_NAMES = ("ok", "zero", "stuck", "wild", "backward")

_MIN_RUN = 3
_LEVEL_SAMPLES = 50
_WEEK_ROLLOVERS = (1024 * WEEK_NS, 8192 * WEEK_NS)
_AFTER_RESET_NS = 600 * SECOND_NS


@attrs.frozen
class Step:
    """A sensor's clock was set.

    Attributes:
        index: First message behind it.
        size_ns: How far the stamps jumped beyond the log time; positive is forward. It is as good
            as the least latencies on both sides are equal.
        cause: `reset` (it began again near 0), `leap_second`, `gps_utc` (the whole difference of
            GPS time and UTC), `week_rollover` (of GPS weeks), or `step`, for what is none of these.
    """

    index: int
    size_ns: int
    cause: Cause


@attrs.frozen(eq=False)
class StampCuts:
    """Stamps sorted into pieces of one steady clock.

    Attributes:
        state: (N,) uint8 `OK`; or what a stamp was cut for: `ZERO` (0 or negative), `STUCK` (that
            of the message before), `WILD` (fewer than three that lie apart from all others),
            `BACKWARD` (before one that came earlier in the same piece).
        segment: (N,) int64 piece from 0; -1 where cut.
        steps: Between the pieces.
    """

    state: StateArray
    segment: Int64Array
    steps: tuple[Step, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Messages by the name of their state, those that there are."""
        found = np.bincount(self.state, minlength=len(STATE_NAMES)).tolist()
        return {name: count for name, count in zip(STATE_NAMES, found, strict=True) if count}


def cut_stamps(
    stamp_ns: Int64Array,
    log_ns: Int64Array,
    *,
    min_step_ns: int = SECOND_NS,
    zero_is_missing: bool = True,
) -> StampCuts:
    """Sort stamps into pieces of one steady clock and cut those that say nothing.

    Steps below `min_step_ns` are left to `envelope`, which knows how latencies scatter.

    Args:
        stamp_ns: (N,) int64 sensor's stamps in the order of arrival.
        log_ns: (N,) int64 log times of the same messages.
        min_step_ns: Least step of a clock; well above any usual latency.
        zero_is_missing: Whether 0 means that there was no stamp.
    """
    stamp, log = _pair(stamp_ns, log_ns)
    state = np.zeros(len(stamp), dtype=np.uint8)
    state[(stamp < 0) | (log < 0)] = ZERO
    if zero_is_missing:
        state[stamp == 0] = ZERO
    present = np.flatnonzero(state == OK)
    repeated = present[1:][np.diff(stamp[present]) == 0]
    state[repeated] = STUCK
    kept = np.flatnonzero(state == OK)
    behind = log[kept] - stamp[kept]
    for _ in range(2):
        # Twice, since a lone stamp that is cut joins the runs on its two sides.
        starts = _run_starts(behind, min_step_ns=min_step_ns)
        short = np.repeat(_lengths(starts, len(behind)) < _MIN_RUN, _lengths(starts, len(behind)))
        state[kept[short]] = WILD
        kept, behind = kept[~short], behind[~short]
    segment = np.full(len(stamp), -1, dtype=np.int64)
    starts, jumps = _joined(behind, _run_starts(behind, min_step_ns=min_step_ns), min_step_ns)
    segment[kept] = np.repeat(np.arange(len(starts)), _lengths(starts, len(kept)))
    steps = tuple(
        Step(
            index=int(kept[start]),
            size_ns=-int(jump),
            cause=_cause(
                -int(jump), int(stamp[kept[start - 1]]), int(stamp[kept[start]]), min_step_ns
            ),
        )
        for start, jump in zip(starts[1:], jumps, strict=True)
    )
    state[kept[_is_backward(stamp[kept], starts)]] = BACKWARD
    segment[state == BACKWARD] = -1
    return StampCuts(state, segment, steps)


def _pair(stamps: Int64Array, log_ns: Int64Array) -> tuple[Int64Array, Int64Array]:
    left, right = np.asarray(stamps, dtype=np.int64), np.asarray(log_ns, dtype=np.int64)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError("one log time for each stamp")
    return left, right


def _run_starts(behind: Int64Array, *, min_step_ns: int) -> Int64Array:
    """(R,) first index of each run without a jump."""
    if len(behind) == 0:
        return np.zeros(0, dtype=np.int64)
    jumps = np.flatnonzero(np.abs(np.diff(behind)) > min_step_ns) + 1
    return np.concatenate([np.zeros(1, dtype=np.int64), jumps])


def _lengths(starts: Int64Array, count: int) -> Int64Array:
    return np.diff(np.append(starts, count))


def _joined(
    behind: Int64Array, starts: Int64Array, min_step_ns: int
) -> tuple[Int64Array, Int64Array]:
    """(S,) starts of pieces and (S-1,) how the level of `behind` changed between them.

    Runs whose least latencies agree are one piece. So are those around a run that lies above both:
    late messages, or stamps set back for a while, which are then cut as backward.
    """
    if len(starts) < 2:
        return starts, np.zeros(0, dtype=np.int64)
    ends = np.append(starts[1:], len(behind))
    first = _least(behind, starts, np.minimum(starts + _LEVEL_SAMPLES, ends))
    last = _least(behind, np.maximum(ends - _LEVEL_SAMPLES, starts), ends)
    whole = np.minimum.reduceat(behind, starts)
    kept, jumps = [int(starts[0])], []
    level = int(last[0])
    for i in range(1, len(starts)):
        jump = int(first[i]) - level
        if jump > min_step_ns and int(whole[i]) - level <= min_step_ns:
            jump = 0  # it ran down to the former level
        returns = i + 1 < len(starts) and abs(int(first[i + 1]) - level) <= min_step_ns
        if jump > min_step_ns and returns:
            continue
        if abs(jump) > min_step_ns:
            kept.append(int(starts[i]))
            jumps.append(jump)
        level = int(last[i])
    return np.array(kept, dtype=np.int64), np.array(jumps, dtype=np.int64)


def _least(values: Int64Array, starts: Int64Array, ends: Int64Array) -> Int64Array:
    """(R,) least value of each half-open range; ranges ascend and may leave gaps."""
    padded = np.append(values, np.iinfo(np.int64).max)
    return np.asarray(np.minimum.reduceat(padded, np.column_stack([starts, ends]).ravel())[::2])


def _is_backward(stamp: Int64Array, starts: Int64Array) -> npt.NDArray[np.bool_]:
    """(N,) whether a stamp is before one that came earlier in its piece."""
    backward = np.zeros(len(stamp), dtype=np.bool_)
    for start, end in zip(starts, np.append(starts, len(stamp))[1:], strict=True):
        piece = stamp[start:end]
        backward[start:end] = piece < np.maximum.accumulate(piece)
    return backward


def _cause(size_ns: int, before_ns: int, after_ns: int, tolerance_ns: int) -> Cause:
    """Name what made a step of this size between these two stamps."""
    near = min(tolerance_ns, SECOND_NS) // 5
    if after_ns < _AFTER_RESET_NS and size_ns < 0:
        return "reset"
    if any(abs(abs(size_ns) % turn - turn) < SECOND_NS for turn in _WEEK_ROLLOVERS) or any(
        0 <= abs(size_ns) % turn < SECOND_NS <= abs(size_ns) for turn in _WEEK_ROLLOVERS
    ):
        return "week_rollover"
    if min(before_ns, after_ns) < GPS_EPOCH_NS:
        return "step"
    day = 86_400 * SECOND_NS
    ahead = tai_minus_utc_ns(np.array([after_ns - day, after_ns + day], dtype=np.int64))
    if ahead[0] != ahead[1] and abs(abs(size_ns) - SECOND_NS) < near:
        return "leap_second"
    if abs(abs(size_ns) - (int(ahead[1]) - 19 * SECOND_NS)) < near:
        return "gps_utc"
    return "step"
