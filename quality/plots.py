"""Pictures of data quality as PNG bytes, the same bytes for the same rows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ERROR = "_sync_error_ns"


def plot_sync_errors(frames: pa.Table) -> bytes:
    """PNG: how far the sample of each stream lies from its frame.

    Args:
        frames: Rows of `silver.frames`; only columns `<stream>_sync_error_ns` are looked at.
    """
    figure, axes = _figure()
    names = [name for name in frames.column_names if name.endswith(_ERROR) and name != _ERROR[1:]]
    for name in names:
        errors = frames[name].drop_null().to_numpy() / 1e6
        if errors.size:
            stream = name.removesuffix(_ERROR).replace("_", " ")
            label = f"{stream} (median {np.median(np.abs(errors)):.1f})"
            axes.hist(errors, bins=60, histtype="step", label=label)
    axes.set(xlabel="sample minus frame, ms", ylabel="frames", yscale="symlog", title="Sync error")
    return _png(figure, axes)


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


def _figure() -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure, axes: Any) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
