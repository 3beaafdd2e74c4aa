"""Points of a sweep by the layout it states."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DecodeError
from udfs.geometry.points import points_table, read_points

XYZ = [{"name": name, "offset": 4 * i, "datatype": 7, "count": 1} for i, name in enumerate("xyz")]


def test_points_and_their_times():
    """Coordinates are read at their offsets, times in ns; a point that is not finite is dropped."""
    layout = np.dtype(
        {
            "names": list("xyzt"),
            "formats": ["<f4"] * 3 + ["<u4"],
            "offsets": [0, 4, 8, 16],
            "itemsize": 24,
        }
    )
    points = np.zeros(3, layout)
    points["x"] = [1, np.nan, 3]
    points["t"] = [10, 20, 30]
    fields = [*XYZ, {"name": "t", "offset": 16, "datatype": 6, "count": 1}]
    cloud = read_points(points.tobytes(), fields=fields, point_step_bytes=24)
    assert cloud.xyz[:, 0].tolist() == [1, 3]
    assert cloud.offset_ns.tolist() == [10, 30]


def test_times_in_seconds():
    """A field `time` holds float seconds."""
    points = np.array([(1, 2, 3, 0.25)], [(name, "<f4") for name in ("x", "y", "z", "time")])
    fields = [*XYZ, {"name": "time", "offset": 12, "datatype": 7, "count": 1}]
    cloud = read_points(points.tobytes(), fields=fields, point_step_bytes=16)
    assert cloud.offset_ns.tolist() == [250_000_000]


def test_big_endian_doubles():
    """Byte order and type are those of the layout."""
    fields = [
        {"name": name, "offset": 8 * i, "datatype": 8, "count": 1} for i, name in enumerate("xyz")
    ]
    data = np.array([1.5, -2.5, 3.5], ">f8").tobytes()
    cloud = read_points(data, fields=fields, point_step_bytes=24, is_bigendian=True)
    assert cloud.xyz.tolist() == [[1.5, -2.5, 3.5]]


def test_a_sweep_as_a_table():
    """Every field that is one number is a column; times are those of the sweep plus their own."""
    kinds = [*((name, ">f4") for name in "xyz"), ("rings", ">u2", 2), ("ring", ">u2"), ("t", ">u4")]
    points = np.zeros(2, kinds)
    points["x"], points["ring"], points["t"] = [1, np.nan], [7, 8], [10, 20]
    names = points.dtype.names
    row = {
        "data": points.tobytes(),
        "fields": [
            {"name": name, "offset": offset, "datatype": kind, "count": 1 + (name == "rings")}
            for name, kind, offset in zip(
                names, (7, 7, 7, 4, 4, 6), [points.dtype.fields[each][1] for each in names],
                strict=True,
            )
        ],
        "point_step_bytes": points.dtype.itemsize,
        "is_bigendian": True,
        "sensor_time_ns": 10**18,
    }  # fmt: skip
    found = points_table(row)
    assert found.column_names == ["x", "y", "z", "ring", "t", "t_ns"]
    assert found["ring"].to_pylist() == [7, 8]
    assert found["t_ns"].to_pylist() == [10**18 + 10, 10**18 + 20]
    assert np.isnan(found["x"].to_numpy()).tolist() == [False, True]
    assert "t_ns" not in points_table({**row, "sensor_time_ns": None}).column_names


def test_half_a_point_at_the_end_is_left():
    """Bytes that do not make a whole point are no point."""
    assert len(read_points(b"\0" * 30, fields=XYZ, point_step_bytes=12)) == 2


@pytest.mark.parametrize(
    ("fields", "step"), [(XYZ[:2], 12), (XYZ, 8), ([{**XYZ[0], "datatype": 99}, *XYZ[1:]], 12)]
)
def test_a_layout_that_cannot_be_is_refused(fields, step):
    """No z, fields beyond the point, an unknown type: an error with a reason."""
    with pytest.raises(DecodeError, match="POINT_LAYOUT"):
        read_points(b"\0" * 48, fields=fields, point_step_bytes=step)
