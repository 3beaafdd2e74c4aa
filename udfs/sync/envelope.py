"""A sensor's clock against the log's, from the messages that came through quickest.

A message is stamped by the sensor, and logged a latency later: log = sensor + offset + latency. No
latency is negative, so the fastest messages trace the lower edge of log minus sensor; however heavy
the tail above it is, the edge drifts as the two clocks do.

The edge is found as a lower bound that touches the messages (Moon, Skelly and Towsley), and then as
a line through the fastest message of each of many blocks, whose scatter tells its error. So the
offset is that at which the quickest message of a block arrives: a quantity that has an honest
interval whatever the law of the latencies is. What the quickest one takes, no stamps can tell: it
stays in the offset, and no stated error holds it. Where latencies begin is not asked for either: if
they fade in, as lognormal ones do, nothing in a recording tells.

Source:
    Moon, Skelly, Towsley, "Estimation and removal of clock skew from network delay measurements",
    INFOCOM 1999; Zhang, Liu, Xia, "Clock synchronization algorithms for network measurements",
    INFOCOM 2002 (the convex-hull form and clocks that are set).
"""

from __future__ import annotations

import itertools

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.clock_line import fit_line
from udfs.sync.floor_steps import floor_steps
from udfs.sync.segments import Segment
from udfs.sync.stamps import BACKWARD, OK, WILD, Step, cut_stamps

FloatArray = npt.NDArray[np.float64]

_MIN_MESSAGES = 96
_BLOCK_MESSAGES = 12
_MAX_BLOCKS = 64
_SPREAD = 20.0
_PASSES = 64


@attrs.frozen
class EnvelopePiece:
    """One piece of a sensor's clock, between two times that it was set.

    Attributes:
        line: The sensor's clock against the log's; None where there are too few messages. Its
            offset is below the truth by what the quickest message of a block takes on average,
            which is not part of its error.
        first: First message of the piece.
        last: Last one, inclusive.
        messages: Messages of it that count.
        median_latency_ns: Beyond that of the quickest.
        late_blocks: Stretches that were left out since even their quickest message came late.
    """

    line: Segment | None
    first: int
    last: int
    messages: int
    median_latency_ns: int
    late_blocks: int


@attrs.frozen(eq=False)
class Envelope:
    """What the stamps of one sensor say about its clock.

    Attributes:
        pieces: In the order of arrival.
        steps: Where the sensor's clock was set, between the pieces.
        state: (N,) uint8 as in `stamps`; what is not `OK` was cut.
        counts: Messages by the name of their state.
    """

    pieces: tuple[EnvelopePiece, ...]
    steps: tuple[Step, ...]
    state: npt.NDArray[np.uint8]
    counts: dict[str, int]


def fit_envelope(
    sensor_ns: Int64Array, log_ns: Int64Array, *, min_step_ns: int = 3_000_000
) -> Envelope:
    """Fit a sensor's clock against the log's, piece by piece.

    Args:
        sensor_ns: (N,) int64 sensor's stamps in the order of arrival.
        log_ns: (N,) int64 log times of the same messages.
        min_step_ns: Least step of a clock that is looked for. Smaller ones, and those that latency
            hides, widen the errors.

    Raises:
        ClockError: TOO_FEW, not one piece with enough messages for a line.
    """
    sensor, log = np.asarray(sensor_ns, dtype=np.int64), np.asarray(log_ns, dtype=np.int64)
    # Stamps that step back by less than a second are judged within the pieces that are found here.
    cuts = cut_stamps(sensor, log)
    state = np.where(cuts.state == BACKWARD, OK, cuts.state).astype(np.uint8)
    used = np.flatnonzero(state == OK)
    borders = {step.index: step for step in cuts.steps}
    edges = [0, *sorted(borders), len(sensor)]
    for start, end in itertools.pairwise(edges):
        part = used[(used >= start) & (used < end)]
        found = floor_steps(sensor[part], log[part] - sensor[part], min_step_ns=min_step_ns)
        state[part[found.is_ahead]] = WILD
        for at, size in zip(found.index, found.size_ns, strict=True):
            borders[int(part[at])] = Step(int(part[at]), -int(size), "step")
    pieces = []
    edges = [0, *sorted(borders), len(sensor)]
    for start, end in itertools.pairwise(edges):
        part = start + np.flatnonzero(state[start:end] == OK)
        if len(part):
            stamps = sensor[part]
            state[part[stamps < np.maximum.accumulate(stamps)]] = BACKWARD
            pieces.append(_piece(sensor, log, part[state[part] == OK]))
    if not any(piece.line for piece in pieces):
        raise ClockError("too few messages with stamps for an envelope", code="TOO_FEW")
    steps = tuple(borders[index] for index in sorted(borders))
    return Envelope(tuple(pieces), steps, state, attrs.evolve(cuts, state=state).counts)


def lower_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Level at the mean of x, and slope, of the highest line that no point lies below.

    Highest means the largest sum of its values at the points: the side of the lower convex hull
    that spans the mean of x. It is found by exchanging one of two supports for the point that lies
    farthest below, in a few passes.

    Args:
        x: (N,) float64, not all the same.
        y: (N,) float64.
    """
    x = x - np.mean(x)
    left = int(np.argmin(np.where(x < 0.0, y, np.inf)))
    right = int(np.argmin(np.where(x >= 0.0, y, np.inf)))
    slope = 0.0
    for _ in range(_PASSES):
        slope = (y[right] - y[left]) / (x[right] - x[left])
        height = y - slope * x
        lowest = int(np.argmin(height))
        # The hull has been reached when nothing lies below by more than rounding.
        if height[lowest] >= min(height[left], height[right]) - 1e-6:
            break
        left, right = (lowest, right) if x[lowest] < 0.0 else (left, lowest)
    return float(np.min(y - slope * x)), float(slope)


def _piece(sensor: Int64Array, log: Int64Array, part: Int64Array) -> EnvelopePiece:
    """Fit one piece."""
    stamps, behind = sensor[part], log[part] - sensor[part]
    few = EnvelopePiece(None, int(part[0]), int(part[-1]), len(part), 0, 0)
    if len(part) < _MIN_MESSAGES or stamps[-1] <= stamps[0]:
        return few
    base = int(behind.min())
    x, y = (stamps - stamps[0]) * 1e-9, (behind - base).astype(np.float64)
    level, slope = lower_line(x, y)
    above = y - level - slope * (x - np.mean(x))
    fastest = _fastest_of_blocks(above)
    fit = fit_line(stamps[fastest], -behind[fastest], spread=_SPREAD)
    if np.count_nonzero(fit.is_kept) < _MIN_MESSAGES // _BLOCK_MESSAGES:
        return few
    line = attrs.evolve(fit.line, start_ns=int(stamps[0]), end_ns=int(stamps[-1]))
    latency = behind + line.offset_at(stamps)
    return EnvelopePiece(
        line=line,
        first=int(part[0]),
        last=int(part[-1]),
        messages=len(part),
        median_latency_ns=int(np.median(latency)),
        late_blocks=len(fastest) - int(np.count_nonzero(fit.is_kept)),
    )


def _fastest_of_blocks(above: FloatArray) -> Int64Array:
    """(K,) index of the quickest message of each block."""
    count = min(_MAX_BLOCKS, len(above) // _BLOCK_MESSAGES)
    edges = np.linspace(0, len(above), count + 1).astype(np.int64)
    pairs = itertools.pairwise(edges)
    return np.array([start + int(np.argmin(above[start:end])) for start, end in pairs])
