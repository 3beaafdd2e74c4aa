"""From the readings of a clock to the time it is measured against, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from contracts.recording import Int64Array
from udfs.sync.segments import FloatArray, Segment

NO_PIECE = -1


@attrs.frozen(eq=False)
class Placed:
    """Readings of a clock on the reference.

    Attributes:
        t_ns: (N,) int64, the reference; a guess where there is no piece.
        error_ns: (N,) float64, standard error of it; infinite where there is no piece and more than
            one to choose from.
        piece: (N,) int64, which piece each is in; -1 for readings between two, whose time is not
            known.
    """

    t_ns: Int64Array
    error_ns: FloatArray
    piece: Int64Array


def place(readings_ns: Int64Array, pieces: Sequence[Segment], *, slack_ns: int) -> Placed:
    """Map readings of a clock to its reference.

    Args:
        readings_ns: (N,) int64, in any order.
        pieces: Segments without a common reading, in any order; one alone holds everywhere.
        slack_ns: How far the outer ones of several hold beyond their ends: a sensor's stamp may
            lie before the first log time.

    Returns:
        The readings on the reference, each by the piece that it is in, else by the nearest one.
    """
    readings_ns = np.asarray(readings_ns, np.int64)
    if len(pieces) == 1:
        t_ns = readings_ns - pieces[0].offset_at(readings_ns)
        first = np.zeros(len(readings_ns), np.int64)
        return Placed(t_ns, pieces[0].error_at(readings_ns), first)
    ordered = sorted(range(len(pieces)), key=lambda i: pieces[i].start_ns)
    starts = np.array([pieces[i].start_ns for i in ordered], np.int64)
    ends = np.array([pieces[i].end_ns for i in ordered], np.int64)
    starts[0] -= slack_ns
    ends[-1] += slack_ns
    below = np.clip(np.searchsorted(starts, readings_ns, side="right") - 1, 0, None)
    above = np.minimum(below + 1, len(ordered) - 1)
    is_above = starts[above] - readings_ns < readings_ns - ends[below]
    nearest = np.where(is_above & (readings_ns > ends[below]), above, below)
    inside = (readings_ns >= starts[nearest]) & (readings_ns <= ends[nearest])
    t_ns, error_ns = readings_ns.copy(), np.zeros(len(readings_ns))
    piece = np.full(len(readings_ns), NO_PIECE, np.int64)
    for k, i in enumerate(ordered):
        mine = nearest == k
        t_ns[mine] -= pieces[i].offset_at(readings_ns[mine])
        error_ns[mine] = pieces[i].error_at(readings_ns[mine])
        piece[mine] = i
    return Placed(t_ns, np.where(inside, error_ns, np.inf), np.where(inside, piece, NO_PIECE))
