"""What a recorder's clock hangs on, and how several sorts of evidence for it become one."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from udfs.sync.fusion import TRUST, Evidence, fuse
from udfs.sync.segments import Segment, some_ties

_SHARED = 0.5
"""Part of the shorter of two segments that both must cover to be of the same piece of a clock."""


@attrs.frozen
class Piece:
    """One piece of a clock, between two jumps.

    Attributes:
        segment: Against the root of all clocks.
        method: Kind of the evidence that leads: a key of `TRUST`.
        reference: Clock that it was compared with.
        evidence: What was compared, for people.
        correlation: Of shared signals; None where nothing was correlated.
        alerts: Evidence that contradicts it, for people.
    """

    segment: Segment
    method: str
    reference: str
    evidence: str
    correlation: float | None = None
    alerts: tuple[str, ...] = ()

    @property
    def as_evidence(self) -> Evidence:
        """For the fusion; two comparisons of a kind have this recorder's own noise in common."""
        source = f"{self.reference} ({self.evidence})"
        return Evidence(self.method, source, self.segment, errs_with=self.method)


@attrs.frozen
class Tie:
    """What a clock hangs on; without a piece it is itself the root.

    Attributes:
        method: Of what leads.
        pieces: In the order in which the clock ran through them.
    """

    method: str
    pieces: tuple[Piece, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Of the pieces."""
        return tuple(each.segment for each in self.pieces)

    @property
    def rank(self) -> tuple[int, float]:
        """Less is better: by trust, then by the largest standard error at an anchor."""
        error = max((each.segment.offset_error_ns for each in self.pieces), default=0.0)
        return TRUST.get(self.method, 0), error


def fused(ties: Sequence[Tie]) -> Tie:
    """All evidence for one clock: each piece of the best by itself, with what covers it.

    Pieces that the best evidence lacks are taken from the others.

    Args:
        ties: At least one, each with a piece.
    """
    best, *rest = sorted(ties, key=lambda tie: tie.rank)
    others = [piece for tie in rest for piece in tie.pieces]
    pieces = [_weighed(piece, others) for piece in best.pieces]
    for other in others:
        if all(_common_ns(other.segment, piece.segment) < 0 for piece in pieces):
            pieces.append(other)
    pieces.sort(key=lambda piece: piece.segment.reference_at(piece.segment.start_ns))
    return Tie(best.method, tuple(pieces))


def _weighed(piece: Piece, others: Sequence[Piece]) -> Piece:
    """A piece with all that covers it."""
    mine = piece.segment
    same = [
        other
        for other in others
        if _common_ns(mine, other.segment)
        >= _SHARED * min(_length_ns(mine), _length_ns(other.segment))
    ]
    if not same:
        return piece
    evidence = piece.as_evidence
    found = fuse([evidence, *(other.as_evidence for other in same)])
    added = [each.name for each in found.used if each != evidence]
    ties = np.array([tie for each in found.used for tie in each.segment.ties], np.int64)
    return attrs.evolve(
        piece,
        segment=attrs.evolve(
            found.segment,
            # Where it holds was cut at jumps, which another may not have seen.
            start_ns=mine.start_ns,
            end_ns=mine.end_ns,
            ties=some_ties(*ties.reshape(-1, 2).T),
        ),
        evidence="; ".join([piece.evidence, *added]),
        alerts=(*piece.alerts, *(str(alert) for alert in found.alerts)),
    )


def _common_ns(left: Segment, right: Segment) -> int:
    """Length of what two segments cover together; negative if there is none."""
    return min(left.end_ns, right.end_ns) - max(left.start_ns, right.start_ns)


def _length_ns(segment: Segment) -> int:
    return segment.end_ns - segment.start_ns
