"""One line for a clock out of independent evidence, in order of trust.

Evidence that agrees is weighed by its errors. Evidence that contradicts what is trusted more, by
more than both claim to be wrong, is never averaged in: the trusted one stands, and the result says
which one disagrees and by how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt
from scipy import stats

from contracts.errors import ClockError
from udfs.sync.clock_line import ClockLine

FloatArray = npt.NDArray[np.float64]

TRUST: Mapping[str, int] = {
    "ptp": 0,
    "gnss_time": 0,
    "envelope": 1,
    "shared_signal": 2,
    "bus_frames": 2,
    "assumed": 3,
}
"""Rank of each kind of evidence; those of a lower rank are trusted more, equals by their errors.

Frames that two loggers share and signals that they share are equals: the frames carry errors so
small that they come first by these.
"""

MAX_STANDARD_ERRORS = 4.0


@attrs.frozen
class Evidence:
    """One line from one method.

    Attributes:
        kind: Method: a key of `TRUST`, or of what is given instead.
        source: What it was made of, for people: a topic, signals, buses.
        line: The clock against the reference that all evidence here is against.
    """

    kind: str
    source: str
    line: ClockLine


@attrs.frozen
class Alert:
    """Evidence that contradicts what is trusted more.

    Attributes:
        evidence: That was left out.
        against: Kinds and sources of what stands.
        at_ns: Instant on the clock at which they were compared: the middle of what both cover.
        difference_ns: The evidence's offset there minus the one that stands.
        standard_errors: How unlikely this is, as multiples of a normal standard error; of offset
            and drift together.
    """

    evidence: Evidence
    against: tuple[str, ...]
    at_ns: int
    difference_ns: int
    standard_errors: float


@attrs.frozen
class Fused:
    """What all evidence says together.

    Attributes:
        line: Valid where the evidence that was used is.
        used: Evidence in it, the most trusted first.
        alerts: Evidence that contradicts it.
        apart: Evidence that covers no instant that the rest covers, and so says nothing about it.
    """

    line: ClockLine
    used: tuple[Evidence, ...]
    alerts: tuple[Alert, ...]
    apart: tuple[Evidence, ...]


def fuse(
    evidence: Sequence[Evidence],
    *,
    trust: Mapping[str, int] = TRUST,
    max_standard_errors: float = MAX_STANDARD_ERRORS,
) -> Fused:
    """Weigh independent evidence of one piece of a clock, between two jumps.

    Args:
        evidence: At least one; in any order.
        trust: Rank by kind; lower is trusted more.
        max_standard_errors: Disagreement that is still chance.

    Raises:
        ClockError: NO_EVIDENCE, nothing was given; UNKNOWN_EVIDENCE, a kind without a rank.
    """
    if not evidence:
        raise ClockError("nothing tells how the clock runs", code="NO_EVIDENCE")
    unknown = sorted({each.kind for each in evidence} - set(trust))
    if unknown:
        raise ClockError(f"no trust is stated for {', '.join(unknown)}", code="UNKNOWN_EVIDENCE")
    first, *rest = sorted(evidence, key=lambda each: (trust[each.kind], each.line.offset_error_ns))
    line, used = first.line, [first]
    alerts: list[Alert] = []
    apart: list[Evidence] = []
    for each in rest:
        start = max(line.valid_from_ns, each.line.valid_from_ns)
        end = min(line.valid_to_ns, each.line.valid_to_ns)
        if start > end:
            apart.append(each)
            continue
        at_ns = (start + end) // 2
        difference_ns, apart_by = disagreement(line, each.line, at_ns=at_ns)
        if apart_by > max_standard_errors:
            names = tuple(f"{one.kind} {one.source}" for one in used)
            alerts.append(Alert(each, names, at_ns, difference_ns, apart_by))
        else:
            line = _weighed(line, each.line, at_ns=at_ns)
            used.append(each)
    return Fused(line, tuple(used), tuple(alerts), tuple(apart))


def disagreement(left: ClockLine, right: ClockLine, *, at_ns: int) -> tuple[int, float]:
    """How far two lines are apart.

    Args:
        left: A line.
        right: Another, of independent evidence.
        at_ns: Instant on the clock.

    Returns:
        Offset of the right minus the left in ns, and the multiple of a normal standard error that
        is as unlikely as offset and drift together are; where a drift is unknown, the offset.
    """
    left, right = left.at(at_ns), right.at(at_ns)
    offset = right.offset_ns - left.offset_ns
    if math.isinf(left.drift_error_ppb) or math.isinf(right.drift_error_ppb):
        return offset, abs(offset) / math.hypot(left.offset_error_ns, right.offset_error_ns)
    gap = np.array([offset, right.drift_ppb - left.drift_ppb], dtype=np.float64)
    square = float(gap @ np.linalg.solve(_covariance(left) + _covariance(right), gap))
    chance = float(stats.chi2.sf(square, 2))
    # Beyond what a float holds as a chance, two numbers differ about as one does.
    return offset, float(stats.norm.isf(chance / 2.0)) if chance > 1e-300 else math.sqrt(square)


def _covariance(line: ClockLine) -> FloatArray:
    """(2, 2) of offset in ns and drift in ppb."""
    mixed = line.correlation * line.offset_error_ns * line.drift_error_ppb
    return np.array([[line.offset_error_ns**2, mixed], [mixed, line.drift_error_ppb**2]])


def _information(line: ClockLine) -> FloatArray:
    """(2, 2) inverse of the covariance; an unknown drift carries none."""
    if math.isinf(line.drift_error_ppb):
        return np.array([[line.offset_error_ns**-2.0, 0.0], [0.0, 0.0]])
    return np.asarray(np.linalg.inv(_covariance(line)))


def _weighed(left: ClockLine, right: ClockLine, *, at_ns: int) -> ClockLine:
    """Both lines by the inverse of their covariances."""
    left, right = left.at(at_ns), right.at(at_ns)
    base = left.offset_ns
    informations = [_information(each) for each in (left, right)]
    states = [np.array([each.offset_ns - base, each.drift_ppb]) for each in (left, right)]
    total = informations[0] + informations[1]
    weighed = informations[0] @ states[0] + informations[1] @ states[1]
    whole = {
        "at_ns": at_ns,
        "valid_from_ns": min(left.valid_from_ns, right.valid_from_ns),
        "valid_to_ns": max(left.valid_to_ns, right.valid_to_ns),
    }
    if total[1, 1] <= 0.0:
        offset = weighed[0] / total[0, 0]
        return ClockLine(
            offset_ns=base + round(float(offset)),
            drift_ppb=left.drift_ppb,
            offset_error_ns=float(total[0, 0] ** -0.5),
            drift_error_ppb=math.inf,
            **whole,
        )
    covariance = np.linalg.inv(total)
    offset, drift = covariance @ weighed
    errors = np.sqrt(np.diag(covariance))
    limit = 1.0 - 1e-12
    return ClockLine(
        offset_ns=base + round(float(offset)),
        drift_ppb=float(drift),
        offset_error_ns=float(errors[0]),
        drift_error_ppb=float(errors[1]),
        correlation=float(np.clip(covariance[0, 1] / (errors[0] * errors[1]), -limit, limit)),
        **whole,
    )
