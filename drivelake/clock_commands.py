"""`drivelake clocks`: how sure of its times a drive is, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer
from rich.table import Table
from rich.text import Text

from contracts.limits import NORMAL_95
from drivelake.environment import load_settings
from drivelake.output import out, print_json, print_line, print_table

if TYPE_CHECKING:
    from drivelake.clock_report import CameraReport, ClockReport

_ALL, _SOME, _NONE, _NO_FRAME = "█", "▄", "·", " "
_LEVELS = "▁▂▃▄▅▆▇█"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog="Example: `drivelake clocks`, or `drivelake clocks drive-0001 --json`")(
        clocks
    )


def clocks(
    drive: Annotated[
        str | None, typer.Argument(help="Drive; without one, all of them.", metavar="DRIVE")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the clocks of a drive: offsets, drifts, jumps, how sure they are, and what it was worth.

    Offsets are those in the middle of the evidence, with the half width of the 95 % interval.
    """
    from drivelake.clock_report import list_drives, report_clocks
    from quality.courses import recorder_of

    settings = load_settings()
    if drive is None:
        drives = list_drives(settings)
        if as_json:
            print_json(drives)
        else:
            print_table(_drives(drives))
        return
    report = report_clocks(settings, drive)
    if as_json:
        print_json(attrs.asdict(report))
        return
    print_table(_segments(report))
    for row in report.segments:
        if row["alert"]:
            print_line(out, f"{recorder_of(row)}: {row['alert']}", style="red")
    if report.sensors:
        print_table(_sensors(report))
    if report.courses:
        print_table(_courses(report))
    if any(course.ties for course in report.courses):
        print_table(_residuals(report))
    for camera in report.cameras:
        print_table(_streams(camera))
    if report.cameras:
        out.print(f"{_ALL} all frames of that time ok, {_SOME} some, {_NONE} none", style="dim")
    else:
        out.print("No frame was made of this drive yet.")


def _drives(drives: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("drive", "recorders", "jumps", "least sure, ms", title="Clocks")
    for row in drives:
        recorders = "; ".join(f"{how}: {', '.join(who)}" for how, who in row["recorders"].items())
        table.add_row(
            Text(row["drive_id"]),
            Text(recorders),
            str(row["jumps"]),
            _half_width(row["uncertainty_ns"]),
        )
    return table


def _segments(report: ClockReport) -> Table:
    from quality.courses import recorder_of

    table = Table(
        "recorder", "from, s", "to, s", "offset, ms", "± 95 %", "drift, ppm", "± 95 %",
        "jump, ms", "against", "how", "by", title=f"Clocks of {report.drive_id}",
    )  # fmt: skip
    first: dict[str, int] = {}
    for row in report.segments:
        name = recorder_of(row)
        begin = first.setdefault(name, row["valid_from_ns"])
        is_known = row["method"] != "assumed"
        drift_error = row["drift_uncertainty_ppb"]
        table.add_row(
            Text(name),
            f"{(row['valid_from_ns'] - begin) / 1e9:.2f}",
            f"{(row['valid_to_ns'] - begin) / 1e9:.2f}",
            f"{row['offset_ns'] / 1e6:,.3f}" if is_known else "unknown",
            _half_width(row["uncertainty_ns"]),
            f"{row['drift_ppb'] / 1e3:.2f}" if is_known else "",
            f"{NORMAL_95 * drift_error / 1e3:.2f}" if drift_error is not None else "",
            "" if row["jump_ns"] is None else f"{row['jump_ns'] / 1e6:,.3f}",
            Text(row["reference"]),
            Text(row["method"]),
            Text(row["evidence"] or ""),
        )
    return table


def _courses(report: ClockReport) -> Table:
    table = Table(
        "recorder", f"offset since start, 0 s to {report.seconds:.1f} s", "lowest, ms",
        "highest, ms", "± 95 %", "least, ms", "most, ms", title="How they ran",
    )  # fmt: skip
    for course in report.courses:
        row: list[str | Text] = [Text(course.recorder)]
        for values in (course.offset_ms, course.half_width_ms):
            known = [value for value in values if value is not None]
            row += [
                Text(_bars(values), no_wrap=True),
                *(f"{pick(known, default=0.0):,.3f}" for pick in (min, max)),
            ]
        table.add_row(*row)
    return table


def _residuals(report: ClockReport) -> Table:
    table = Table(
        "recorder", "ties", "median, ms", "largest, ms",
        f"how far off, 0 s to {report.seconds:.1f} s", "lowest, ms", "highest, ms",
        title="How far ties were off the line",
    )  # fmt: skip
    for course in report.courses:
        if course.usual_residual_ms is None or course.largest_residual_ms is None:
            continue
        known = [value for value in course.residual_ms if value is not None]
        table.add_row(
            Text(course.recorder),
            str(course.ties),
            f"{course.usual_residual_ms:.3f}",
            f"{course.largest_residual_ms:.3f}",
            Text(_bars(course.residual_ms), no_wrap=True),
            *(f"{pick(known, default=0.0):+.3f}" for pick in (min, max)),
        )
    return table


def _sensors(report: ClockReport) -> Table:
    table = Table(
        "recorder", "sensor", "for, s", "offset, s", "± 95 %, ms", "drift, ppm", "± 95 %",
        "messages", title="Clocks that sensors have of their own, against the recorder's",
    )  # fmt: skip
    for row in report.sensors:
        table.add_row(
            Text(row["recorder"]),
            Text(row["topic"]),
            f"{(row['valid_to_ns'] - row['valid_from_ns']) / 1e9:.2f}",
            f"{row['offset_ns'] / 1e9:,.6f}",
            _half_width(row["uncertainty_ns"]),
            f"{row['drift_ppb'] / 1e3:.2f}",
            f"{NORMAL_95 * row['drift_uncertainty_ppb'] / 1e3:.2f}",
            f"{row['samples']:,}",
        )
    return table


def _bars(values: Sequence[float | None]) -> str:
    """A bar a value, from the least to the most of them; a blank for none."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    top = len(_LEVELS) - 1
    return "".join(
        _NO_FRAME
        if value is None
        else _LEVELS[round(top * (value - low) / (high - low)) if high > low else 0]
        for value in values
    )


def _heights(counts: Sequence[int]) -> str:
    """A bar a count, on a scale from 0; a blank for none, and the least bar for a few."""
    most = max(counts, default=0)
    return "".join(_LEVELS[(len(_LEVELS) - 1) * n // most] if n else _NO_FRAME for n in counts)


def _streams(camera: CameraReport) -> Table:
    seconds = (camera.end_ns - camera.start_ns) / 1e9
    table = Table(
        "stream", "frames ok", "median, ms", "99 %, ms", "frames by distance", "0 to, ms",
        f"0 s to {seconds:.1f} s", "else",
        title=f"Frames of {camera.topic}: {camera.complete:,} of {camera.frames:,} complete, clock"
        f" {camera.clock} ± {NORMAL_95 * camera.uncertainty_ms:.3f} ms",
    )  # fmt: skip
    for stream in camera.streams:
        lost = {state: n for state, n in stream.frames.items() if state != "ok"}
        table.add_row(
            stream.name,
            f"{stream.frames.get('ok', 0):,}",
            "" if stream.median_ms is None else f"{stream.median_ms:.2f}",
            "" if stream.p99_ms is None else f"{stream.p99_ms:.2f}",
            Text(_heights(stream.histogram), no_wrap=True),
            "" if stream.largest_ms is None else f"{stream.largest_ms:.2f}",
            Text("".join(_cell(share) for share in stream.timeline), no_wrap=True),
            ", ".join(f"{n:,} {state}" for state, n in lost.items()),
        )
    return table


def _cell(share: float | None) -> str:
    if share is None:
        return _NO_FRAME
    return _ALL if share == 1.0 else _SOME if share > 0.0 else _NONE


def _half_width(uncertainty_ns: int | None) -> str:
    return "unknown" if uncertainty_ns is None else f"{NORMAL_95 * uncertainty_ns / 1e6:.3f}"
