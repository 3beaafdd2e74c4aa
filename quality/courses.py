"""How the clocks of a drive ran, at even instants of it: drawn on a page, or in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from contracts.limits import NORMAL_95

FloatArray = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Course:
    """The clock of a recorder over a drive.

    Attributes:
        recorder: Name, or the first characters of the recording's hash.
        seconds: (N,) float64 since the first instant that a clock of the drive is known at.
        offset_ms: (N,) float64, how far the clock has gone from its offset at its first instant;
            NaN where it is not known.
        half_width_ms: (N,) float64, half of the 95 % interval of the offset; NaN likewise.
        tie_seconds: (K,) float64, ascending: when it was compared, of what is kept of that.
        residual_ms: (K,) float64, how far the clock was off its line there.
    """

    recorder: str
    seconds: FloatArray
    offset_ms: FloatArray
    half_width_ms: FloatArray
    tie_seconds: FloatArray
    residual_ms: FloatArray


def recorder_of(row: Mapping[str, Any]) -> str:
    """Name of a recorder for people; twelve characters of the recording where it has none."""
    return str(row["recorder"] or row["recording_id"][:12])


def courses_of(rows: Iterable[Mapping[str, Any]], *, points: int) -> list[Course]:
    """The clocks of one drive that are known, by recorder.

    Args:
        rows: Of `silver.clocks`.
        points: Instants, from the first that any clock is known at to the last.
    """
    pieces: dict[str, dict[tuple[int, int], Mapping[str, Any]]] = {}
    for row in rows:
        if row["offset_ns"] is not None and row["uncertainty_ns"] is not None:
            # Recordings of one recorder repeat its pieces.
            mine = pieces.setdefault(recorder_of(row), {})
            mine[row["valid_from_ns"], row["offset_ns"]] = row
    spans = [_span(row) for mine in pieces.values() for row in mine.values()]
    if not spans:
        return []
    first_ns, last_ns = min(begin for begin, _ in spans), max(end for _, end in spans)
    # From the first on, so that nothing is lost of nanoseconds since 1970.
    elapsed_ns = np.linspace(0.0, last_ns - first_ns, points)
    return [
        _course(name, [mine[key] for key in sorted(mine)], elapsed_ns, first_ns=first_ns)
        for name, mine in sorted(pieces.items())
    ]


def _course(
    name: str, rows: Sequence[Mapping[str, Any]], elapsed_ns: FloatArray, *, first_ns: int
) -> Course:
    offset, width = np.full(len(elapsed_ns), np.nan), np.full(len(elapsed_ns), np.nan)
    start = _offset_at(rows[0], rows[0]["valid_from_ns"])
    ties = []
    for row in rows:
        ties += [
            (each["clock_ns"] - _offset_at(row, each["clock_ns"]) - first_ns, each["residual_ns"])
            for each in row.get("residuals") or ()
        ]
        begin_ns, end_ns = _span(row)
        known = (elapsed_ns >= begin_ns - first_ns) & (elapsed_ns <= end_ns - first_ns)
        since_anchor = elapsed_ns[known] + (first_ns + row["offset_ns"] - _anchor_of(row))
        drifted = 1e-9 * (row["drift_ppb"] or 0.0) * since_anchor
        offset[known] = (row["offset_ns"] - start + drifted) / 1e6
        drift_error = 1e-9 * (row["drift_uncertainty_ppb"] or 0.0) * since_anchor
        width[known] = NORMAL_95 * np.hypot(row["uncertainty_ns"], drift_error) / 1e6
    tie_ns, residual_ns = np.array(sorted(ties), np.float64).reshape(-1, 2).T
    return Course(name, elapsed_ns / 1e9, offset, width, tie_ns / 1e9, residual_ns / 1e6)


def _span(row: Mapping[str, Any]) -> tuple[int, int]:
    """First and last instant of a piece on the clock that it is measured against, inclusive."""
    begin, end = row["valid_from_ns"], row["valid_to_ns"]
    return begin - _offset_at(row, begin), end - _offset_at(row, end)


def _offset_at(row: Mapping[str, Any], reading_ns: int) -> int:
    drifted = 1e-9 * (row["drift_ppb"] or 0.0) * (reading_ns - _anchor_of(row))
    return int(row["offset_ns"]) + round(drifted)


def _anchor_of(row: Mapping[str, Any]) -> int:
    return int(row["valid_from_ns"] if row["anchor_ns"] is None else row["anchor_ns"])
