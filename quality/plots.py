"""Pictures of data quality as PNG bytes, the same bytes for the same rows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quality.courses import Course, courses_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ERROR, _STATE = "_sync_error_ns", "_state"
_DRIVES = 6
_CELLS = 120
_CLOCK_DRIVES = 4
_INSTANTS = 400
_COLOURS = ("#ffffff", "#d62728", "#ff9f4a", "#4a9a5c")  # no frame, none ok, some, all


def plot_sync_errors(frames: pa.Table) -> bytes:
    """PNG: how far the sample of each stream lies from its frame, a row a stream on one scale.

    Args:
        frames: Rows of `silver.frames`; only columns `<stream>_sync_error_ns` are looked at.
    """
    errors = {
        name.removesuffix(_ERROR).replace("_", " "): frames[name].drop_null().to_numpy() / 1e6
        for name in frames.column_names
        if name.endswith(_ERROR) and name != _ERROR[1:]
    }
    errors = {stream: values for stream, values in errors.items() if values.size}
    if not errors:
        figure, axes = _figure()
        axes.set(xlabel="sample minus frame, ms", title="Sync error")
        return _png(figure, axes)
    figure = _sheet(height=1.2 + 0.6 * max(len(errors), 3))
    rows = figure.subplots(len(errors), 1, sharex=True, squeeze=False)[:, 0]
    # A scale on which a hundredth of a second and a lost second can both be seen, the sign kept.
    farthest = np.abs(np.concatenate(list(errors.values()))).max()
    reach = np.arcsinh(max(1.05 * farthest, 1.0))
    edges = np.sinh(np.linspace(-reach, reach, 121))
    for axes, (stream, values) in zip(rows, errors.items(), strict=True):
        axes.hist(values, bins=edges, color="#1f77b4")
        middle, worst = np.median(np.abs(values)), np.abs(values).max()
        told = f"{stream}: half within {middle:.1f} ms, all within {worst:.1f} ms"
        axes.set_title(told, fontsize="small", loc="left", pad=2)
        axes.axvline(0, color="#888888", linewidth=0.8)
        _lay(axes, labels="x-small")
        axes.set_xscale("symlog", linthresh=1.0)
    figure.suptitle("Frames by sync error")
    rows[-1].set_xlabel("sample minus frame, ms", fontsize="small")
    return _png(figure, rows[-1])


def plot_clock_offsets(clocks: pa.Table) -> bytes:
    """PNG: offset of each recorder from UTC by drive, with two standard errors.

    Args:
        clocks: Rows of `silver.clocks`; segments without an uncertainty are drawn hollow.
    """
    figure, axes = _figure()
    drives = sorted(set(clocks["drive_id"].to_pylist()))
    place = {drive: index for index, drive in enumerate(drives)}
    rows = clocks.to_pylist()
    for recorder in sorted({row["recorder"] or "unknown" for row in rows}):
        mine = [row for row in rows if (row["recorder"] or "unknown") == recorder]
        mine = [row for row in mine if row["offset_ns"] is not None]
        axes.errorbar(
            [place[row["drive_id"]] for row in mine],
            [row["offset_ns"] / 1e9 for row in mine],
            yerr=[2 * (row["uncertainty_ns"] or 0) / 1e9 for row in mine],
            fmt="o",
            label=recorder,
            markerfacecolor="none" if any(row["uncertainty_ns"] is None for row in mine) else None,
        )
    axes.set_xticks(range(len(drives)), [drive[:12] for drive in drives], rotation=45, ha="right")
    axes.set(ylabel="recorder minus UTC, s", title="Clock offsets")
    return _png(figure, axes)


def plot_clock_courses(clocks: pa.Table) -> bytes:
    """PNG: how far the clocks of a drive went, how surely that is known, and what ties were off.

    Args:
        clocks: Rows of `silver.clocks`; of many drives, those whose clocks went farthest are drawn.
    """
    courses = {
        drive: courses_of(
            clocks.filter(pc.equal(clocks["drive_id"], drive)).to_pylist(), points=_INSTANTS
        )
        for drive in sorted(pc.unique(clocks["drive_id"].drop_null()).to_pylist())
    }
    chosen = sorted(courses, key=lambda drive: (-_farthest_ms(courses[drive]), drive))
    chosen = [drive for drive in chosen if courses[drive]][:_CLOCK_DRIVES]
    figure = _sheet(height=max(4.0, 1.9 * len(chosen)))
    grid = figure.subplots(max(len(chosen), 1), 3, squeeze=False, sharex="row")
    for drive, (left, middle, right) in zip(chosen, grid, strict=False):
        for course in courses[drive]:
            (line,) = left.plot(course.seconds, course.offset_ms, label=course.recorder)
            low, high = (course.offset_ms + sign * course.half_width_ms for sign in (-1, 1))
            left.fill_between(course.seconds, low, high, alpha=0.3, linewidth=0)
            middle.plot(course.seconds, course.half_width_ms, color=line.get_color())
            right.plot(
                course.tie_seconds, course.residual_ms, ".", markersize=2, color=line.get_color()
            )
        left.set_title(drive[:24], fontsize="small", loc="left")
        left.legend(frameon=False, fontsize="x-small")
        middle.set_ylim(bottom=0)
    for axes in grid.flat:
        _lay(axes, labels="small")
    grid[0, 0].set_ylabel("offset since start, ms", fontsize="small")
    for axes, title in zip(grid[0, 1:], ("± 95 %, ms", "ties off the line, ms"), strict=True):
        axes.set_title(title, fontsize="small", loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("s", fontsize="small")
    return _png(figure, grid[0, 1])


def _farthest_ms(courses: list[Course]) -> float:
    """How far any clock of a drive went; 0 for none."""
    spans = [np.ptp(one.offset_ms[~np.isnan(one.offset_ms)]) for one in courses]
    return max(map(float, spans), default=0.0)


def plot_timeline(frames: pa.Table) -> bytes:
    """PNG: when each stream was ok in the frames, from the first frame of a drive to its last.

    Args:
        frames: Rows of `silver.frames`; of many drives, those with the most gaps are drawn.
    """
    streams = [name.removesuffix(_STATE) for name in frames.column_names if name.endswith(_STATE)]
    by_drive = {
        drive: frames.filter(pc.equal(frames["drive_id"], drive))
        for drive in sorted(pc.unique(frames["drive_id"]).to_pylist())
    }
    by_drive = {
        drive: rows for drive, rows in by_drive.items() if rows["t_ns"].null_count < len(rows)
    }
    cells = cells_of(min(map(len, by_drive.values()), default=0), most=_CELLS)
    shares = {
        drive: np.array([ok_shares(rows, f"{stream}{_STATE}", cells=cells) for stream in streams])
        for drive, rows in by_drive.items()
    }
    worst = sorted(shares, key=lambda drive: (float(np.nanmean(shares[drive])), drive))[:_DRIVES]
    figure, axes = _figure(height=max(4.0, 0.7 + 0.17 * len(streams) * len(worst)))
    if worst:
        grid = np.concatenate([shares[drive] for drive in worst])
        kind = np.select([np.isnan(grid), grid == 0.0, grid < 1.0], [0, 1, 2], 3)
        axes.imshow(
            kind, aspect="auto", interpolation="nearest", extent=(0, 100, len(kind), 0),
            cmap=_colours(), vmin=-0.5, vmax=3.5,
        )  # fmt: skip
        names = [stream.replace("_", " ") for _ in worst for stream in streams]
        axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
        for i, drive in enumerate(worst):
            axes.axhline(i * len(streams), color="black", linewidth=0.8)
            axes.text(
                101, (i + 0.5) * len(streams), drive[:16], rotation=90, va="center", fontsize=7
            )
    axes.grid(visible=False)
    axes.set(xlabel="% of the drive; green: all ok, orange: some, red: none", title="Streams")
    return _png(figure, axes)


def ok_shares(frames: pa.Table, state: str, *, cells: int) -> npt.NDArray[np.float64]:
    """(cells,) share of the frames of each part of a drive that are ok; NaN without a frame.

    Args:
        frames: Rows of `silver.frames` of one drive, at least one with a time.
        state: Column of the stream.
        cells: Parts of equal time, from the first frame to the last.
    """
    rows = frames.filter(pc.is_valid(frames["t_ns"]))
    t_ns = rows["t_ns"].to_numpy()
    span = max(int(t_ns.max() - t_ns.min()), 1)
    cell = np.minimum((t_ns - t_ns.min()) * cells // span, cells - 1)
    is_ok = pc.fill_null(pc.equal(rows[state], "ok"), False).to_numpy()
    count = np.bincount(cell, minlength=cells)
    ok = np.bincount(cell, is_ok, minlength=cells)
    return np.divide(ok, count, out=np.full(cells, np.nan), where=count > 0)


def cells_of(frames: int, *, most: int) -> int:
    """Parts to cut that many frames into: with fewer than two in one, images would look lost."""
    return min(max(frames // 2, 10), most)


def _colours() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(_COLOURS)


def _figure(*, height: float = 4.0) -> tuple[Figure, Any]:
    figure = _sheet(height=height)
    axes = figure.add_subplot()
    _lay(axes, labels="medium")
    return figure, axes


def _sheet(*, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _lay(axes: Any, *, labels: str) -> None:
    """A faint grid, two of four edges, and the size of the numbers along them."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=labels)


def _png(figure: Figure, axes: Any) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
