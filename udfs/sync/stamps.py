"""What a sensor's stamps are worth: counters unwrapped, steps found, useless stamps cut.

Stamps are taken in the order in which they arrived, beside the log time of their arrival. Sorted
stamps have lost what tells a rollover from a reset, and a clock that was set from a late message.
"""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.time_scales import GPS_EPOCH_NS, SECOND_NS, WEEK_NS, tai_minus_utc_ns

StateArray = npt.NDArray[np.uint8]
Cause = Literal["reset", "leap_second", "gps_utc", "week_rollover", "step"]

OK, ZERO, STUCK, WILD, BACKWARD = range(5)
STATE_NAMES = ("ok", "zero", "stuck", "wild", "backward")

_MIN_RUN = 3
_LEVEL_SAMPLES = 50
_BLOCK = 256
_UNITS_NS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, SECOND_NS)
_UNIT_PAIR_SPAN_NS = SECOND_NS // 2
_UNIT_TOLERANCE = 0.1
_MIN_PAIRS = 8
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


@attrs.frozen(eq=False)
class Unwrapped:
    """A counter as time.

    Attributes:
        t_ns: (N,) int64 nanoseconds, ongoing over rollovers, from the counter's own zero.
        unit_ns: Nanoseconds a tick.
        reason: Why this unit.
        rollovers: How often the counter began again between the first and the last message.
    """

    t_ns: Int64Array
    unit_ns: int
    reason: str
    rollovers: int


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


def unwrap_counter(
    ticks: Int64Array, log_ns: Int64Array, *, bits: int = 32, unit_ns: int | None = None
) -> Unwrapped:
    """Turn a counter that begins again at 2^bits into time that goes on.

    The log time tells which turn of the counter a message belongs to: by itself, not by the message
    before, so that lost, late and damaged messages do no harm to those behind them. Log times must
    be right to a quarter of the counter's period: a second of 32 bits of ns.

    Args:
        ticks: (N,) the counter in the order of arrival, 0 ≤ ticks < 2^bits.
        log_ns: (N,) int64 log times of the same messages.
        bits: Width of the counter.
        unit_ns: Nanoseconds a tick; found from the log times if None.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, ticks that the counter can't hold; UNIT_UNKNOWN.
    """
    counted, log = _pair(ticks, log_ns)
    if np.any((counted < 0) | (counted >> bits > 0)):
        raise ClockError(f"ticks that {bits} bits do not hold", code="TIME_OUT_OF_RANGE")
    if unit_ns is None:
        unit_ns, reason = _unit_of(counted, log)
    else:
        reason = "given"
    period = unit_ns << bits
    if len(counted) == 0 or period > np.iinfo(np.int64).max // 4:
        return Unwrapped(counted * unit_ns, unit_ns, reason, 0)
    behind = log - counted * unit_ns
    behind -= behind[0]
    turn = np.rint((behind - _level(behind, period)) / period).astype(np.int64)
    turn -= turn[0]
    return Unwrapped(
        t_ns=counted * unit_ns + turn * period,
        unit_ns=unit_ns,
        reason=reason,
        rollovers=int(turn[-1]),
    )


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


def _unit_of(ticks: Int64Array, log_ns: Int64Array) -> tuple[int, str]:
    """Nanoseconds a tick, from pairs of messages half a second apart, and the words for it."""
    usual = float(np.median(np.abs(np.diff(log_ns)))) if len(log_ns) > 1 else 0.0
    lag = max(1, round(_UNIT_PAIR_SPAN_NS / max(usual, 1.0)))
    lag = min(lag, max(1, len(ticks) // 2))
    gone_ticks = ticks[lag:] - ticks[:-lag]
    gone_ns = log_ns[lag:] - log_ns[:-lag]
    forward = (gone_ticks > 0) & (gone_ns > 0)
    ratio = gone_ns[forward] / gone_ticks[forward]
    if len(ratio) < _MIN_PAIRS:
        raise ClockError("too few messages to find the unit of a counter", code="UNIT_UNKNOWN")
    middle = float(np.median(ratio))
    unit = min(_UNITS_NS, key=lambda each: abs(np.log(middle / each)))
    agreeing = float(np.mean(np.abs(ratio / unit - 1.0) < _UNIT_TOLERANCE))
    if agreeing < 0.5:
        raise ClockError(f"{middle:.4g} ns a tick is no usual unit", code="UNIT_UNKNOWN")
    return unit, f"{middle:.6g} ns a tick in {len(ratio)} pairs of messages"


def _level(behind: Int64Array, period: int) -> npt.NDArray[np.float64]:
    """(N,) where the log is against the counter, modulo its period, followed over time."""
    turn = 2 * np.pi / period
    starts = np.arange(0, len(behind), _BLOCK)
    phase = (behind % period) * turn
    lengths = _lengths(starts, len(behind))
    sine = np.add.reduceat(np.sin(phase), starts)
    cosine = np.add.reduceat(np.cos(phase), starts)
    centre = np.unwrap(np.arctan2(sine, cosine))
    return np.repeat(centre / turn, lengths)
