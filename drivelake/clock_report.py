"""What is known of the clocks of a drive, and what its frames were worth, from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import ContractViolation
from contracts.settings import Settings
from drivelake.catalogue import open_table
from quality.courses import Course, FloatArray, courses_of, recorder_of
from quality.plots import cells_of, ok_shares
from spark_jobs import delta

CLOCKS, FRAMES = "silver.clocks", "silver.frames"
_STATE, _ERROR = "_state", "_sync_error_ns"
_MOST_CELLS = 60
_COURSE_CELLS = 30
_HISTOGRAM_CELLS = 16
_SEGMENT_COLUMNS = (
    "drive_id", "recording_id", "recorder", "reference", "valid_from_ns", "valid_to_ns",
    "anchor_ns", "offset_ns", "uncertainty_ns", "drift_ppb", "drift_uncertainty_ppb", "method",
    "evidence", "samples", "correlation", "alert", "sensors", "residuals",
)  # fmt: skip
_OF_A_ROW = frozenset({"sensors", "residuals"})


@attrs.frozen
class StreamReport:
    """A stream in the frames of one camera.

    Attributes:
        name: As in the columns of `silver.frames`.
        frames: By state.
        median_ms, p99_ms, largest_ms: Distance of its samples from the frames, where there is one.
        histogram: How many are how far, in equal steps from 0 to the largest; empty without one.
        timeline: Share of ok frames in equal parts of the drive, 0 to 1; None without a frame.
    """

    name: str
    frames: Mapping[str, int]
    median_ms: float | None
    p99_ms: float | None
    largest_ms: float | None
    histogram: Sequence[int]
    timeline: Sequence[float | None]


@attrs.frozen
class CameraReport:
    """The frames of one camera of a drive.

    Attributes:
        topic: The camera.
        clock: utc, or reference.
        frames: How many.
        complete: Of these, those in which every stream is ok.
        start_ns, end_ns: First and last instant, inclusive.
        uncertainty_ms: The largest standard error of the clocks in any of them.
        streams: By name.
    """

    topic: str
    clock: str
    frames: int
    complete: int
    start_ns: int
    end_ns: int
    uncertainty_ms: float
    streams: Sequence[StreamReport]


@attrs.frozen
class CourseReport:
    """How the clock of a recorder ran, in equal parts of the drive; None where it is not known.

    Attributes:
        recorder: Name, or the first characters of the recording's hash.
        offset_ms: How far it has gone from its first offset.
        half_width_ms: Half of the 95 % interval of the offset.
        residual_ms: Median of how far ties were off the line.
        ties: How many of them are known.
        usual_residual_ms, largest_residual_ms: Median and maximum of their absolute values.
    """

    recorder: str
    offset_ms: Sequence[float | None]
    half_width_ms: Sequence[float | None]
    residual_ms: Sequence[float | None]
    ties: int
    usual_residual_ms: float | None
    largest_residual_ms: float | None


@attrs.frozen
class ClockReport:
    """The clocks of a drive.

    Attributes:
        drive_id: The drive.
        segments: Rows of `silver.clocks`, by recorder and time, each with `jump_ns`: how far the
            clock jumped between the segment before and this one; None for a first one.
        seconds: Of the drive, in which a clock is known.
        courses: Of the clocks that are known, by recorder.
        sensors: Clocks that sensors have of their own, by recorder, topic and time: as in
            `silver.clocks.sensors`, with the `recorder` that they are placed on.
        cameras: What was synchronised with them; empty before it is.
    """

    drive_id: str
    segments: Sequence[Mapping[str, Any]]
    seconds: float
    courses: Sequence[CourseReport]
    sensors: Sequence[Mapping[str, Any]]
    cameras: Sequence[CameraReport]


def list_drives(settings: Settings) -> list[dict[str, Any]]:
    """A row a drive: recorders, those by each method, jumps, and the largest standard error."""
    rows = _read(settings, CLOCKS, _SEGMENT_COLUMNS).to_pylist()
    found = []
    for drive in sorted({row["drive_id"] for row in rows if row["drive_id"] is not None}):
        mine = [row for row in rows if row["drive_id"] == drive]
        methods: dict[str, set[str]] = {}
        for row in mine:
            methods.setdefault(row["method"], set()).add(recorder_of(row))
        errors = [row["uncertainty_ns"] for row in mine if row["uncertainty_ns"] is not None]
        found.append(
            {
                "drive_id": drive,
                "recorders": {method: sorted(names) for method, names in sorted(methods.items())},
                "jumps": sum(row["jump_ns"] is not None for row in _with_jumps(mine)),
                "uncertainty_ns": max(errors, default=None),
            }
        )
    return found


def report_clocks(settings: Settings, drive_id: str) -> ClockReport:
    """What is known of one drive.

    Raises:
        ContractViolation: UNKNOWN_TABLE before any clock was estimated; USAGE, no such drive.
    """
    segments = _read(settings, CLOCKS, _SEGMENT_COLUMNS, drive_id=drive_id).to_pylist()
    if not segments:
        raise ContractViolation(
            f"There are no clocks of a drive {drive_id}",
            code="USAGE",
            remedy="`drivelake clocks` lists those that there are",
        )
    cameras: list[CameraReport] = []
    if FRAMES in delta.table_names(settings):
        frames = _read(settings, FRAMES, _frame_columns(settings), drive_id=drive_id)
        cameras = [
            _camera(topic, frames.filter(pc.equal(frames["camera_topic"], topic)))
            for topic in sorted(pc.unique(frames["camera_topic"]).to_pylist())
        ]
    courses = courses_of(segments, points=_COURSE_CELLS)
    return ClockReport(
        drive_id=drive_id,
        segments=[
            {name: value for name, value in row.items() if name not in _OF_A_ROW}
            for row in _with_jumps(segments)
        ],
        seconds=float(courses[0].seconds[-1]) if courses else 0.0,
        courses=[_course(one) for one in courses],
        sensors=_sensors(segments),
        cameras=cameras,
    )


def _course(course: Course) -> CourseReport:
    edges = np.linspace(0.0, course.seconds[-1], _COURSE_CELLS + 1)
    cell = np.clip(np.searchsorted(edges, course.tie_seconds, side="right") - 1, 0, None)
    of_cell = [course.residual_ms[cell == number] for number in range(_COURSE_CELLS)]
    residual = np.array([np.median(mine) if len(mine) else np.nan for mine in of_cell])
    away = np.abs(course.residual_ms)
    offset, width, middle = (
        [None if np.isnan(value) else float(value) for value in values]
        for values in (course.offset_ms, course.half_width_ms, residual)
    )
    return CourseReport(
        course.recorder,
        offset,
        width,
        middle,
        ties=len(away),
        usual_residual_ms=float(np.median(away)) if len(away) else None,
        largest_residual_ms=float(away.max()) if len(away) else None,
    )


def _sensors(segments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Clocks of sensors, each once: rows of one recorder repeat them."""
    found = {
        (recorder_of(row), *each.values()): {"recorder": recorder_of(row), **each}
        for row in segments
        for each in row["sensors"] or ()
    }
    return sorted(
        found.values(), key=lambda row: (row["recorder"], row["topic"], row["valid_from_ns"])
    )


def _read(
    settings: Settings, name: str, columns: Sequence[str], *, drive_id: str | None = None
) -> pa.Table:
    known = _names_of(settings, name)
    if missing := sorted(set(columns) - set(known)):
        raise ContractViolation(
            f"{name} was written by an earlier version: it has no {', '.join(missing)}",
            code="OLD_TABLE",
            remedy="Materialise it anew: `drivelake ingest --frames`, or the assets in Dagster",
        )
    mine = pc.scalar(True) if drive_id is None else pc.field("drive_id") == drive_id
    return delta.read_where(settings, name, mine, columns=columns)


def _names_of(settings: Settings, name: str) -> list[str]:
    return pa.schema(open_table(settings, name).schema().to_arrow()).names


def _frame_columns(settings: Settings) -> list[str]:
    of_frame = {"drive_id", "clock", "t_ns", "camera_topic", "clock_uncertainty_ns", "is_complete"}
    return [
        name
        for name in _names_of(settings, FRAMES)
        if name in of_frame or (name.endswith((_STATE, _ERROR)) and name != _ERROR[1:])
    ]


def _with_jumps(segments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Segments by recorder and time, each with how far the clock jumped in front of it."""
    ordered = sorted(
        segments,
        key=lambda row: (row["recorder"] or "", row["recording_id"], row["valid_from_ns"]),
    )
    found: list[dict[str, Any]] = []
    for row in ordered:
        before = found[-1] if found else None
        jump = None
        if before is not None and before["recording_id"] == row["recording_id"]:
            old = _offset_at(before, before["valid_to_ns"])
            jump = _offset_at(row, row["valid_from_ns"]) - old
        found.append({**row, "jump_ns": jump})
    return found


def _offset_at(segment: Mapping[str, Any], t_ns: int) -> int:
    drifted = 1e-9 * (segment["drift_ppb"] or 0.0) * (t_ns - segment["anchor_ns"])
    return int(segment["offset_ns"] + round(drifted))


def _histogram(distance_ms: FloatArray) -> list[int]:
    if not len(distance_ms):
        return []
    counts, _ = np.histogram(distance_ms, _HISTOGRAM_CELLS, (0.0, float(distance_ms.max())))
    return [int(count) for count in counts]


def _camera(topic: str, frames: pa.Table) -> CameraReport:
    cells = cells_of(len(frames), most=_MOST_CELLS)
    streams = []
    for column in frames.column_names:
        if not column.endswith(_STATE):
            continue
        name = column.removesuffix(_STATE)
        states = frames[column].to_pylist()
        is_ok = np.array([state == "ok" for state in states])
        distance = np.abs(frames[name + _ERROR].to_numpy()[is_ok].astype(np.float64)) / 1e6
        streams.append(
            StreamReport(
                name=name,
                frames={state: states.count(state) for state in sorted(set(states), key=str)},
                median_ms=float(np.median(distance)) if len(distance) else None,
                p99_ms=float(np.percentile(distance, 99)) if len(distance) else None,
                largest_ms=float(distance.max()) if len(distance) else None,
                histogram=_histogram(distance),
                timeline=[
                    None if np.isnan(share) else float(share)
                    for share in ok_shares(frames, column, cells=cells)
                ],
            )
        )
    return CameraReport(
        topic=topic,
        clock=frames["clock"][0].as_py(),
        frames=len(frames),
        complete=pc.sum(frames["is_complete"]).as_py() or 0,
        start_ns=pc.min(frames["t_ns"]).as_py(),
        end_ns=pc.max(frames["t_ns"]).as_py(),
        uncertainty_ms=(pc.max(frames["clock_uncertainty_ns"]).as_py() or 0) / 1e6,
        streams=streams,
    )
