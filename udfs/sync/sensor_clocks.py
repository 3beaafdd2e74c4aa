"""Sensors that stamp by a clock of their own: that clock against the recorder's, from arrivals.

A stamp that is within `max_latency_ns` of the log time is taken to be the recorder's own time. A
sensor that counts since it was switched on, or that was set to another time than the recorder, is
not near; its stamps are still worth more than log times, since they do not scatter as latencies do.
How its clock ran against the recorder's follows from the quickest messages (`envelope`), and with
it a stamp becomes a reading of the recorder's clock: that at which its message would have arrived
had it been as quick as those. What these took stays in it, as it does in a log time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.envelope import fit_envelope
from udfs.sync.segments import Segment, segment_of

SensorKey = tuple[str, str]
"""Recorder and topic."""
SensorClocks = Mapping[SensorKey, Sequence[Segment]]

_MOST_DRIFT_PPB = 500_000.0
"""A count that runs faster or slower against the log is none of nanoseconds."""
_MOST_PIECES = 64
_LEAST_SHARE = 0.5


def fit_sensor_clock(stamp_ns: Int64Array, log_ns: Int64Array) -> tuple[Segment, ...]:
    """A sensor's clock against its recorder's; nothing where the stamps are those of no clock.

    Args:
        stamp_ns: (N,) int64, sensor's stamps in any order.
        log_ns: (N,) int64, log times of the same messages.

    Returns:
        Segments over the sensor's stamps. Where the sensor began to count again they overlap: the
        log time tells which one holds (`on_recorder`).
    """
    order = np.lexsort((stamp_ns, log_ns))
    try:
        found = fit_envelope(stamp_ns[order], log_ns[order])
    except ClockError:
        return ()
    pieces = [piece for piece in found.pieces if piece.line is not None]
    lines = tuple(piece.line for piece in pieces if piece.line is not None)
    held = sum(piece.messages for piece in pieces)
    if (
        len(lines) > _MOST_PIECES
        or held < _LEAST_SHARE * len(log_ns)
        or any(abs(line.drift_ppb) > _MOST_DRIFT_PPB for line in lines)
    ):
        return ()
    return lines


def on_recorder(
    stamp_ns: Int64Array, log_ns: Int64Array, pieces: Sequence[Segment]
) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
    """Stamps of a sensor on its recorder's clock.

    Args:
        stamp_ns: (N,) int64.
        log_ns: (N,) int64, log times of the same messages.
        pieces: From `fit_sensor_clock`.

    Returns:
        (N,) int64 readings of the recorder's clock, each by the piece that brings it nearest to its
        log time; and (N,) whether there is one that holds for it.
    """
    found, known = np.zeros(len(stamp_ns), np.int64), np.zeros(len(stamp_ns), np.bool_)
    away = np.full(len(stamp_ns), np.inf)
    for piece in pieces:
        mine = np.flatnonzero((stamp_ns >= piece.start_ns) & (stamp_ns <= piece.end_ns))
        t_ns = stamp_ns[mine] - piece.offset_at(stamp_ns[mine])
        late = np.abs((log_ns[mine] - t_ns).astype(np.float64))
        nearer = late < away[mine]
        found[mine[nearer]], away[mine[nearer]] = t_ns[nearer], late[nearer]
        known[mine[nearer]] = True
    return found, known


def sensor_rows(sensors: SensorClocks, recorder: str) -> list[dict[str, Any]]:
    """What `silver.clocks` has in the column `sensors` of a recorder's rows."""
    return [
        {
            "topic": topic,
            "valid_from_ns": piece.start_ns,
            "valid_to_ns": piece.end_ns,
            "anchor_ns": piece.anchor_ns,
            "offset_ns": piece.offset_ns,
            "drift_ppb": piece.drift_ppb,
            "uncertainty_ns": round(piece.offset_error_ns),
            "drift_uncertainty_ppb": piece.drift_error_ppb,
            "samples": piece.samples,
        }
        for (name, topic), pieces in sorted(sensors.items())
        if name == recorder
        for piece in pieces
    ]


def sensors_of(
    rows: Iterable[Mapping[str, Any]], *, recorders: Mapping[str, str]
) -> dict[SensorKey, tuple[Segment, ...]]:
    """The sensors' clocks that rows of `silver.clocks` hold.

    Args:
        rows: Of one drive.
        recorders: Recorder by recording_id.
    """
    found: dict[SensorKey, dict[Segment, None]] = {}
    for row in rows:
        for each in row.get("sensors") or ():
            segment = segment_of(each)
            # Rows of one recorder repeat what its sensors are.
            found.setdefault((recorders[row["recording_id"]], each["topic"]), {})[segment] = None
    return {key: tuple(pieces) for key, pieces in found.items()}
