"""The clock of a recorder that no receiver tells the time, from the motion it saw with another.

Such a clock jumps, too. That it did shows in the stamps of its own streams, which step out of their
grids together; by how much, but for whole periods, shows there as well. What the signals on either
side are apart picks the right one of the jumps that the grids allow. Then the jump is known as well
as the grids, can be taken out of the stamps, and one fit over all of it gives offset and drift.
Where the motion does not decide, each side stands for itself, with the error of its own evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from contracts.errors import ClockError
from udfs.sync.clocks import OffsetEstimate, estimate_shared_offset
from udfs.sync.phases import PhaseStep
from udfs.sync.rules import SyncRules
from udfs.sync.segments import Segment, some_ties
from udfs.sync.signals import Signal
from udfs.sync.unseen import find_unseen_jump

Pair = tuple[Signal, Signal]

_MAX_JUMP_NS = 2_500_000_000
_AGREE_SCALES = 4.0
_DISAGREE_SCALES = 6.0
_LEAST_ERROR_NS = 300_000.0
_STEADY_SCALES = 6.0
_STEADY_NS = 4_000_000.0
_UNSTEADY = frozenset({"NOT_STEADY", "NO_CORRELATION", "AMBIGUOUS", "WEAK_EVIDENCE"})
_WEAK_NS = 10_000_000
"""Standard error beyond which an offset places nothing: the tolerances of frames are 50 ms."""


@attrs.frozen
class Jump:
    """A jump that streams of one recorder show.

    Attributes:
        last_ns: Reading before it.
        first_ns: Reading after it; before `last_ns` if the clock was set back.
        sizes_ns: What it may be: the sizes that all the streams explain, ascending.
        error_ns: Standard error of each.
    """

    last_ns: int
    first_ns: int
    sizes_ns: tuple[float, ...]
    error_ns: float


@attrs.frozen
class SharedClock:
    """A clock tied to another by signals.

    Attributes:
        segments: In the order in which it ran through them.
        alerts: What contradicts each of them, for people.
        correlation: Of the surest fit.
    """

    segments: tuple[Segment, ...]
    alerts: tuple[tuple[str, ...], ...]
    correlation: float | None


def find_jumps(streams: Sequence[Sequence[PhaseStep]]) -> list[Jump]:
    """Join the steps that streams of one recorder made together.

    Args:
        streams: Steps of each stream.

    Returns:
        Jumps in order. One that a stream alone shows may be no jump but a restart of its sensor,
        so 0 is among its sizes.
    """
    steps = sorted(
        ((step, number) for number, stream in enumerate(streams) for step in stream),
        key=lambda each: min(each[0].last_ns, each[0].first_ns),
    )
    jumps, open_steps = [], list(steps)
    while open_steps:
        first, _ = open_steps[0]
        reach = max(first.last_ns, first.first_ns)
        group = []
        for step, number in open_steps:
            if min(step.last_ns, step.first_ns) <= reach:
                group.append((step, number))
                reach = max(reach, step.last_ns, step.first_ns)
        jumps.append(
            _jump_of([step for step, _ in group], alone=len({number for _, number in group}) < 2)
        )
        open_steps = open_steps[len(group) :]
    return jumps


def _jump_of(steps: Sequence[PhaseStep], *, alone: bool) -> Jump:
    # The coarsest grid leaves the fewest sizes; the finest steps say most exactly what they are.
    coarse = max(steps, key=lambda step: step.period_ns)
    reach = int(_MAX_JUMP_NS // coarse.period_ns)
    sizes = coarse.size_ns + coarse.period_ns * np.arange(-reach, reach + 1)
    fits = [
        float(size)
        for size in sizes
        if all(step.explains(float(size), error_ns=coarse.error_ns) for step in steps)
    ]
    return Jump(
        last_ns=max(step.last_ns for step in steps),
        first_ns=min(step.first_ns for step in steps),
        sizes_ns=tuple(sorted([*fits, 0.0] if alone else fits)),
        error_ns=coarse.error_ns,
    )


def tie_by_signals(
    pairs: Sequence[Pair], *, jumps: Sequence[Jump], rules: SyncRules
) -> SharedClock:
    """Tie a clock to another by the quantities that both stamped.

    Where they exclude each other with the jumps that the grids show, one is looked for that no grid
    shows.

    Args:
        pairs: (reference, other) of each quantity, on their own clocks; the reference does not
            jump.
        jumps: Jumps of the other clock, in order.
        rules: Limits.

    Returns:
        A segment a piece between jumps; pieces without evidence have none.

    Raises:
        ClockError: NO_OVERLAP, NO_CORRELATION or AMBIGUOUS in all pieces; WEAK_EVIDENCE or
            NOT_STEADY: what the signals are apart changes within a piece by more than a drift.
    """
    try:
        return _tied(pairs, jumps=jumps, rules=rules, is_doubted=True)
    except ClockError as error:
        if error.code not in _UNSTEADY:
            raise
        more = _with_unseen(pairs, jumps, rules)
        if more is None and error.code != "NOT_STEADY":
            raise
        jumps = more or jumps
    return _tied(pairs, jumps=jumps, rules=rules, is_doubted=False)


def _with_unseen(
    pairs: Sequence[Pair], jumps: Sequence[Jump], rules: SyncRules
) -> list[Jump] | None:
    """The jumps and one that no grid shows; None if there is no such."""
    for number in range(len(jumps) + 1):
        found = find_unseen_jump(
            _piece(pairs, jumps, number), estimate=lambda part: _estimate(part, rules)
        )
        if found is not None:
            # Either side stands for itself: the motion alone tells no exact size.
            unseen = Jump(found.last_ns, found.first_ns, (), 0.0)
            return [*jumps[:number], unseen, *jumps[number:]]
    return None


def _tied(
    pairs: Sequence[Pair], *, jumps: Sequence[Jump], rules: SyncRules, is_doubted: bool
) -> SharedClock:
    """The tie with these jumps, if the ends of its pieces agree; raises as `tie_by_signals`."""
    pieces = [_piece(pairs, jumps, i) for i in range(len(jumps) + 1)]
    estimates: list[OffsetEstimate | None] = []
    error = ClockError("no piece of a clock has evidence", code="NO_OVERLAP")
    for piece in pieces:
        try:
            estimates.append(_estimate(piece, rules))
        except ClockError as why:
            estimates.append(None)
            error = why
    if not any(estimates):
        raise error
    joined = _joined(estimates, jumps)
    segments: list[Segment] = []
    alerts: list[tuple[str, ...]] = []
    best: OffsetEstimate | None = None
    for start, end, sizes in joined:
        shifts = np.r_[0.0, np.cumsum(sizes)]
        together = _without_jumps(pieces[start : end + 1], shifts)
        estimate = estimates[start] if start == end else _estimate(together, rules)
        if estimate is None:
            continue
        _require_steady(together, estimate, rules, is_doubted=is_doubted)
        best = estimate if best is None or estimate.uncertainty_ns < best.uncertainty_ns else best
        for number, shift in zip(range(start, end + 1), shifts, strict=True):
            found = _segment(estimate, pieces, jumps, number, shift_ns=round(float(shift)))
            if number > start and sizes[number - start - 1] == 0.0:
                # A sensor was restarted; the clock ran on.
                found = attrs.evolve(found, start_ns=segments.pop().start_ns)
                alerts.pop()
            segments.append(found)
            alerts.append(estimate.alerts)
    if best is None:
        raise error
    return SharedClock(tuple(segments), tuple(alerts), best.correlation)


def _piece(pairs: Sequence[Pair], jumps: Sequence[Jump], number: int) -> list[Pair]:
    """What was stamped between two jumps; readings that may be of either side are left out."""
    start = max(jumps[number - 1].first_ns, jumps[number - 1].last_ns + 1) if number else None
    end = min(jumps[number].last_ns, jumps[number].first_ns - 1) if number < len(jumps) else None
    found = []
    for reference, other in pairs:
        inside = np.ones(len(other.t_ns), np.bool_)
        if start is not None:
            inside &= other.t_ns >= start
        if end is not None:
            inside &= other.t_ns <= end
        if np.count_nonzero(inside) > 1:
            found.append((reference, Signal(other.t_ns[inside], other.value[inside])))
    return found


def _estimate(pairs: Sequence[Pair], rules: SyncRules) -> OffsetEstimate:
    return estimate_shared_offset(
        pairs,
        max_offset_ns=rules.max_offset_ns,
        min_overlap_ns=rules.min_overlap_ns,
        min_correlation=rules.min_correlation,
        max_ambiguity=rules.max_ambiguity,
        max_drift_ppm=rules.max_drift_ppm,
    )


def _joined(
    estimates: Sequence[OffsetEstimate | None], jumps: Sequence[Jump]
) -> list[tuple[int, int, list[float]]]:
    """Runs of pieces between which the sizes of the jumps are certain: (first, last, sizes)."""
    runs: list[tuple[int, int, list[float]]] = []
    for number, estimate in enumerate(estimates):
        before = estimates[number - 1] if number else None
        size = None
        if before is not None and estimate is not None:
            size = _size_of(before, estimate, jumps[number - 1])
        if size is None:
            runs.append((number, number, []))
        else:
            start, _, sizes = runs[-1]
            runs[-1] = (start, number, [*sizes, size])
    return runs


def _size_of(before: OffsetEstimate, after: OffsetEstimate, jump: Jump) -> float | None:
    """The one size that the signals on both sides allow; None if there is no such or another."""
    old, new = before.moved(jump.last_ns), after.moved(jump.first_ns)
    seen = new.offset_ns - old.offset_ns
    error = float(np.hypot(old.uncertainty_ns, new.uncertainty_ns)) + _LEAST_ERROR_NS
    away = sorted((abs(size - seen) / error, size) for size in jump.sizes_ns)
    if not away or away[0][0] > _AGREE_SCALES:
        return None
    if len(away) > 1 and away[1][0] < _DISAGREE_SCALES:
        return None
    return away[0][1]


def _without_jumps(pieces: Sequence[Sequence[Pair]], shifts_ns: Sequence[float]) -> list[Pair]:
    """Pieces as if the clock had run on: one pair a quantity."""
    joined: dict[int, list[Signal]] = {}
    references: dict[int, Signal] = {}
    for piece, shift_ns in zip(pieces, shifts_ns, strict=True):
        for reference, other in piece:
            references[id(reference)] = reference
            moved = Signal(other.t_ns - round(float(shift_ns)), other.value)
            joined.setdefault(id(reference), []).append(moved)
    return [
        (
            references[key],
            Signal(
                np.maximum.accumulate(np.concatenate([part.t_ns for part in parts])),
                np.concatenate([part.value for part in parts]),
            ),
        )
        for key, parts in joined.items()
    ]


def _require_steady(
    pairs: Sequence[Pair], estimate: OffsetEstimate, rules: SyncRules, *, is_doubted: bool
) -> None:
    """Raise if the estimate is of little use, or the ends of the signals exclude each other.

    A jump that no grid shows leaves either; within an end it leaves that end unsteady, which is a
    reason to doubt the whole, and no proof.
    """
    if estimate.uncertainty_ns > _WEAK_NS:
        raise ClockError("what two clocks are apart stays uncertain", code="WEAK_EVIDENCE")
    found = []
    first = min(int(other.t_ns[0]) for _, other in pairs)
    last = max(int(other.t_ns[-1]) for _, other in pairs)
    third = (last - first) // 3
    for start, end in ((first, first + third), (last - third, last)):
        part = []
        for reference, other in pairs:
            inside = (other.t_ns >= start) & (other.t_ns <= end)
            if np.count_nonzero(inside) > 1:
                part.append((reference, Signal(other.t_ns[inside], other.value[inside])))
        try:
            found.append(_estimate(part, rules).moved(estimate.anchor_ns))
        except ClockError as error:
            if is_doubted and error.code == "NOT_STEADY":
                raise
            return
    early, late = found
    error_ns = float(np.hypot(early.uncertainty_ns, late.uncertainty_ns))
    if abs(late.offset_ns - early.offset_ns) > max(_STEADY_SCALES * error_ns, _STEADY_NS):
        raise ClockError("what two clocks are apart changes", code="NOT_STEADY")


def _segment(
    estimate: OffsetEstimate,
    pieces: Sequence[Sequence[Pair]],
    jumps: Sequence[Jump],
    number: int,
    *,
    shift_ns: int,
) -> Segment:
    """The segment of a piece whose readings lie `shift_ns` beyond those of the estimate."""
    stamps = [other.t_ns for _, other in pieces[number]]
    start = min((int(t_ns[0]) for t_ns in stamps), default=0)
    end = max((int(t_ns[-1]) for t_ns in stamps), default=0)
    if number:
        start = jumps[number - 1].first_ns
    if number < len(jumps):
        end = jumps[number].last_ns
    ties = np.array(estimate.ties, np.int64).reshape(-1, 2) + shift_ns
    return Segment(
        start_ns=start,
        end_ns=end,
        anchor_ns=estimate.anchor_ns + shift_ns,
        offset_ns=estimate.offset_ns + shift_ns,
        drift_ppb=estimate.drift_ppb,
        offset_error_ns=float(estimate.uncertainty_ns),
        drift_error_ppb=estimate.drift_uncertainty_ppb,
        samples=estimate.samples,
        ties=some_ties(*(ties[(ties[:, 0] >= start) & (ties[:, 0] <= end)]).T),
    )
