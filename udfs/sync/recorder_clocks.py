"""The clocks of a drive's recorders as `silver.clocks` has them, and what they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from contracts.recording import Int64Array
from udfs.sync.fusion import TRUST
from udfs.sync.mapping import Placed, place
from udfs.sync.rules import SyncRules
from udfs.sync.segments import FloatArray, Segment, segment_of

RECORDINGS = ("drive_id", "recording_id", "recorder", "start_ns", "end_ns", "ingest_date")
"""Columns of `bronze.recordings` that clocks are made of."""
UTC = "utc"
_OF_RECORDERS = TRUST.keys() - {"gnss_time"}
"""Methods that tie a clock to that of another recorder."""


def recorders_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Recorder by recording_id; a recording without a recorder is one of its own."""
    return {row["recording_id"]: row["recorder"] or row["recording_id"] for row in rows}


@attrs.frozen
class RecorderClock:
    """A recorder's clock: the pieces it ran in, and the clock that they lead to.

    Clocks with the same root can be compared. The errors of the pieces are those against the root.
    """

    root: str
    pieces: tuple[Segment, ...]
    slack_ns: int

    def place(self, t_ns: Int64Array) -> Placed:
        """Stamps of the recorder on the root."""
        return place(t_ns, self.pieces, slack_ns=self.slack_ns)

    @property
    def largest_jump_ns(self) -> float:
        """The largest difference between two pieces that follow each other."""
        offsets = np.array([each.offset_ns for each in self.pieces], np.int64)
        return float(np.max(np.abs(np.diff(offsets)), initial=0))

    def error_at(self, root_ns: Int64Array) -> FloatArray:
        """(N,) float64 ns, standard error at instants of the root, by the nearest piece."""
        shifted = [root_ns + each.offset_ns for each in self.pieces]
        away = [
            np.maximum(np.maximum(each.start_ns - readings, readings - each.end_ns), 0)
            for each, readings in zip(self.pieces, shifted, strict=True)
        ]
        errors = [
            each.error_at(readings) for each, readings in zip(self.pieces, shifted, strict=True)
        ]
        nearest = np.argmin(away, axis=0)
        return np.asarray(np.array(errors)[nearest, np.arange(len(root_ns))])


def clocks_of(rows: Sequence[Mapping[str, Any]], *, rules: SyncRules) -> dict[str, RecorderClock]:
    """The clock of every recorder of a drive.

    Args:
        rows: Rows of `silver.clocks` of one drive.
        rules: `max_latency_ns`.
    """
    recorders = recorders_of(rows)
    by_recorder: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_recorder.setdefault(recorders[row["recording_id"]], []).append(row)
    return {name: _clock_of(name, rows=by_recorder, rules=rules) for name in by_recorder}


def _clock_of(
    recorder: str, *, rows: Mapping[str, Sequence[Mapping[str, Any]]], rules: SyncRules
) -> RecorderClock:
    """Follow the references of a recorder's clock to their root: UTC, or a recorder."""
    root, seen = recorder, {recorder}
    while _first(rows[root])["method"] in _OF_RECORDERS:
        reference = _first(rows[root])["reference"]
        if reference not in rows or reference in seen:
            break
        root = reference
        seen.add(root)
    return RecorderClock(
        root=UTC if _first(rows[root])["method"] == "gnss_time" else root,
        pieces=_pieces_of(rows[recorder]),
        slack_ns=rules.max_latency_ns,
    )


def _first(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A row that says what a recorder's clock hangs on; one recording may lack what others have."""
    return min(rows, key=lambda row: row["method"] == "assumed")


def _pieces_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Segment, ...]:
    """Segments of a recorder's clock: those that recordings share are one."""
    tied = [row for row in rows if row["method"] != "assumed"] or list(rows)
    pieces: dict[tuple[int, int], Segment] = {}
    for row in tied:
        key = (row["anchor_ns"], row["offset_ns"])
        if row["uncertainty_ns"] is None:
            key = (0, row["offset_ns"])
        found = segment_of(row)
        known = pieces.setdefault(key, found)
        pieces[key] = attrs.evolve(
            known,
            start_ns=min(known.start_ns, found.start_ns),
            end_ns=max(known.end_ns, found.end_ns),
        )
    return tuple(sorted(pieces.values(), key=lambda each: each.start_ns))
