"""Pictures of data quality."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from matplotlib.image import imread

from quality.plots import (
    plot_clock_courses,
    plot_clock_offsets,
    plot_sync_errors,
    plot_timeline,
)
from tests.unit.quality.good_lake import good_tables

PLOTS = [
    ("silver.frames", plot_sync_errors),
    ("silver.clocks", plot_clock_offsets),
    ("silver.clocks", plot_clock_courses),
    ("silver.frames", plot_timeline),
]


@pytest.mark.parametrize(("name", "plot"), PLOTS)
def test_plot_is_a_picture_of_its_rows(name, plot):
    """The same rows give the same bytes of a PNG, other rows others."""
    rows = good_tables()[name]
    png = plot(rows)
    height, width = imread(io.BytesIO(png)).shape[:2]
    assert width == 600
    assert 300 <= height <= 900
    assert plot(rows) == png
    assert plot(rows.slice(0, 1)) != png


@pytest.mark.parametrize(("name", "plot"), PLOTS)
def test_plot_of_nothing_is_empty_axes(name, plot):
    """No rows, or rows whose values are all null, still give a picture."""
    rows = good_tables()[name]
    nulls = pa.table(
        {
            field.name: rows[field.name]
            if field.name in ("drive_id", "recorder")
            else pa.nulls(rows.num_rows, field.type)
            for field in rows.schema
        }
    )
    for empty in (rows.slice(0, 0), nulls):
        assert plot(empty).startswith(b"\x89PNG")
