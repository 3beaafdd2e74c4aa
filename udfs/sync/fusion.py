"""One segment of a clock out of independent evidence, in order of trust.

Evidence that agrees is weighed by its errors. Evidence that contradicts what is trusted more, by
more than both claim to be wrong, is never averaged in: the trusted one stands, and the result says
which one disagrees and by how much. Of two that are trusted alike the surer one stands, with an
error as wide as they are apart, since nothing tells which of them is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from scipy import special

from contracts.errors import ClockError
from contracts.limits import NORMAL_95
from udfs.sync.segments import Segment

TRUST: Mapping[str, int] = {
    "gnss_time": 0,
    "bus_frames": 1,
    "shared_signal": 2,
}
"""Rank of each kind of evidence; those of a lower rank are trusted more, equals by their errors.

Two loggers hold the same frame of the bus at the same time. The same motion in two sensors is late
in each by as much as its filters and its bus take, which no scatter tells.
"""

MAX_STANDARD_ERRORS = 5.0
"""Stated errors have tails: between quantities of 100 simulated drives four happens by chance."""


@attrs.frozen
class Evidence:
    """One segment from one method.

    Attributes:
        kind: Method: a key of `TRUST`, or of what is given instead.
        source: What it was made of, for people: a topic, signals, buses.
        segment: The clock against the reference that all evidence here is against.
        errs_with: Evidence that has this in common errs together (it has one noise in it): the
            surest of it counts, the rest is only compared. Nothing has "" in common.
    """

    kind: str
    source: str
    segment: Segment
    errs_with: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} {self.source}"


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

    def __str__(self) -> str:
        """For people."""
        return (
            f"{self.evidence.name} differs by {self.difference_ns / 1e6:+.3f} ms,"
            f" {self.standard_errors:.0f} standard errors"
        )


@attrs.frozen
class Fused:
    """What all evidence says together.

    Attributes:
        segment: Valid where the evidence that was used is.
        used: Evidence in it, the most trusted first.
        alerts: Evidence that contradicts it.
        apart: Evidence that covers no instant that the rest covers, and so says nothing about it.
    """

    segment: Segment
    used: tuple[Evidence, ...]
    alerts: tuple[Alert, ...]
    apart: tuple[Evidence, ...]


def fuse(
    evidence: Sequence[Evidence],
    *,
    trust: Mapping[str, int] = TRUST,
    max_standard_errors: float = MAX_STANDARD_ERRORS,
) -> Fused:
    """Weigh evidence of one piece of a clock, between two jumps.

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
    first, *rest = sorted(
        evidence, key=lambda each: (trust[each.kind], each.segment.offset_error_ns, each.name)
    )
    segment, used = first.segment, [first]
    alerts: list[Alert] = []
    apart: list[Evidence] = []
    unsettled_ns = 0.0
    for each in rest:
        start = max(segment.start_ns, each.segment.start_ns)
        end = min(segment.end_ns, each.segment.end_ns)
        if start > end:
            apart.append(each)
            continue
        at_ns = (start + end) // 2
        difference_ns, apart_by = disagreement(segment, each.segment, at_ns=at_ns)
        if apart_by > max_standard_errors:
            names = tuple(one.name for one in used)
            alerts.append(Alert(each, names, at_ns, difference_ns, apart_by))
            if trust[each.kind] == trust[first.kind]:
                unsettled_ns = max(unsettled_ns, abs(difference_ns) / NORMAL_95)
        elif not each.errs_with or each.errs_with not in {one.errs_with for one in used}:
            used.append(each)
            segment = weighed([one.segment for one in used])
    if unsettled_ns:
        error_ns = max(segment.offset_error_ns, unsettled_ns)
        segment = attrs.evolve(segment, offset_error_ns=error_ns)
    return Fused(segment, tuple(used), tuple(alerts), tuple(apart))


def disagreement(left: Segment, right: Segment, *, at_ns: int) -> tuple[int, float]:
    """How far two segments of independent evidence are apart.

    Args:
        left: A segment.
        right: Another.
        at_ns: Instant on the clock.

    Returns:
        Offset of the right minus the left in ns, and the multiple of a normal standard error that
        is as unlikely as offset and drift together are.
    """
    at = np.array([at_ns])
    offset = int(right.offset_at(at)[0] - left.offset_at(at)[0])
    covariance = np.zeros((2, 2))
    for each in (left, right):
        away = 1e-9 * (at_ns - each.anchor_ns)
        drift = each.drift_error_ppb**2
        covariance += [
            [each.offset_error_ns**2 + away**2 * drift, away * drift],
            [away * drift, drift],
        ]
    gap = np.array([offset, right.drift_ppb - left.drift_ppb], dtype=np.float64)
    square = float(gap @ np.linalg.solve(covariance, gap))
    chance = float(special.chdtrc(2, square))
    # Beyond what a float holds as a chance, two numbers differ about as one does.
    return offset, -float(special.ndtri(chance / 2.0)) if chance > 1e-300 else math.sqrt(square)


def weighed(segments: Sequence[Segment]) -> Segment:
    """The segment that several agree on, by their errors; it stands at its own best instant.

    Offsets at several instants tell the drift, too.
    """
    first = segments[0]
    weight = np.array([each.offset_error_ns**-2.0 for each in segments])
    away = np.array([1e-9 * (each.anchor_ns - first.anchor_ns) for each in segments])
    offset = np.array([float(each.offset_ns - first.offset_ns) for each in segments])
    of_drift = np.array([each.drift_error_ppb**-2.0 for each in segments])
    drift = np.array([each.drift_ppb for each in segments])
    centre = float(weight @ away) / float(weight.sum())
    away -= centre
    known = float(of_drift.sum() + weight @ away**2)
    found = float(of_drift @ drift + weight @ (away * offset)) / known
    return Segment(
        start_ns=min(each.start_ns for each in segments),
        end_ns=max(each.end_ns for each in segments),
        anchor_ns=first.anchor_ns + round(1e9 * centre),
        offset_ns=first.offset_ns + round(float(weight @ offset) / float(weight.sum())),
        drift_ppb=found,
        offset_error_ns=float(weight.sum() ** -0.5),
        drift_error_ppb=known**-0.5,
        samples=sum(each.samples for each in segments),
    )
