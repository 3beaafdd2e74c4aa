"""Sweeps as tables: what comes out, and what is said of a request that can't be right."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from contracts.errors import ContractViolation
from tests.unit.udfs.sync.moving import MOUNT, Drive
from udfs.sync.sweeps import compensate, spread_times

MS = 1_000_000
AT_NS = 5_000 * MS
DRIVE = Drive()


def poses(*, hz=50):
    """As `silver.odometry` has them."""
    motion = DRIVE.motion(hz=hz)
    columns = {"t_ns": motion.t_ns}
    for axis, values in zip("xyz", motion.position_m.T, strict=True):
        columns[f"position_{axis}_m"] = values
    for axis, values in zip("xyzw", motion.rotation_xyzw.T, strict=True):
        columns[f"orientation_{axis}"] = values
    return pa.table(columns)


def sweep(t_ns):
    """Points seen at some times, and where they are at the instant."""
    scene = DRIVE.scene_around(AT_NS, count=len(t_ns))
    seen = DRIVE.seen(scene, t_ns, mount=MOUNT).astype(np.float32)
    table = pa.table({axis: seen[:, i] for i, axis in enumerate("xyz")} | {"t_ns": t_ns})
    return table, DRIVE.seen(scene, np.full(len(t_ns), AT_NS), mount=MOUNT)


def xyz(table):
    """(N, 3), NaN where it is null."""
    return np.stack([table[axis].to_numpy() for axis in "xyz"], axis=1)


def test_a_table_of_points_keeps_its_columns():
    """Points move, the rest stays; each has its time and state, the sweep its begin and end."""
    t_ns = AT_NS - 50 * MS + np.arange(100) * MS
    points, expected = sweep(t_ns)
    points = points.append_column("ring", pa.array(range(100)))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = MOUNT.rotation, MOUNT.translation
    for mount in (MOUNT, matrix.tolist()):
        found = compensate(points, poses(), at_ns=AT_NS, base_from_sensor=mount)
        assert np.abs(xyz(found) - expected).max() < 0.01
    assert found.column_names == ["x", "y", "z", "t_ns", "ring", "state"]
    assert found["ring"].to_pylist() == list(range(100))
    assert found["t_ns"].to_numpy().tolist() == t_ns.tolist()
    assert found.schema.metadata == {
        b"at_ns": b"5000000000", b"start_ns": b"4950000000", b"end_ns": b"5049000000"
    }  # fmt: skip


def test_a_point_without_a_place_is_null_with_a_reason():
    """Beyond the last pose: no number, and why."""
    t_ns = np.array([8_979 * MS, 8_990 * MS])
    points, _ = sweep(t_ns)
    found = compensate(points, poses(), at_ns=8_900 * MS, base_from_sensor=MOUNT)
    assert found["state"].to_pylist() == ["ok", "stale"]
    assert [value is None for value in found["x"].to_pylist()] == [False, True]
    jumped = compensate(points, poses(), at_ns=8_900 * MS, jumps_ns=[8_950 * MS])
    assert jumped["state"].to_pylist() == ["jump", "jump"]
    assert jumped["z"].null_count == 2


def test_points_that_were_no_returns_stay_none():
    """A null, or NaN, among the coordinates is not made into a point."""
    points = pa.table({axis: [1.0, None, float("nan")] for axis in "xyz"} | {"t_ns": [AT_NS] * 3})
    found = compensate(points, poses(), at_ns=AT_NS)
    assert np.isnan(xyz(found)).any(axis=1).tolist() == [False, True, True]


def test_a_sweep_without_times_is_spread_over_its_own():
    """In the order of the points, or by column; what was assumed stands in the result."""
    assert spread_times(5, start_ns=100, end_ns=200).tolist() == [100, 125, 150, 175, 200]
    assert spread_times(6, start_ns=0, end_ns=10, columns=3).tolist() == [0, 5, 10] * 2
    assert spread_times(1, start_ns=7, end_ns=9).tolist() == [7]
    assert spread_times(0, start_ns=7, end_ns=9).tolist() == []
    t_ns = spread_times(200, start_ns=AT_NS, end_ns=AT_NS + 100 * MS, columns=50)
    points, expected = sweep(t_ns)
    found = compensate(
        points.drop_columns("t_ns"), poses(), at_ns=AT_NS, base_from_sensor=MOUNT,
        sweep_ns=(AT_NS, AT_NS + 100 * MS), columns=50,
    )  # fmt: skip
    assert np.abs(xyz(found) - expected).max() < 0.01
    assert found["t_ns"].to_numpy().tolist() == t_ns.tolist()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"points": {"x": [1.0], "y": [1.0], "t_ns": [0]}}, "no column z"),
        ({"points": {"x": [1.0], "y": [1.0], "z": [1.0]}}, "Give the time of each point"),
        ({"sweep_ns": (0, 1)}, "a column t_ns and a sweep"),
        ({"base_from_sensor": np.ones((4, 4))}, "no 4×4 matrix"),
        ({"base_from_sensor": np.eye(3)}, "no 4×4 matrix"),
        ({"base_from_sensor": np.diag([1, 1, -1, 1])}, "no 4×4 matrix"),
        ({"points": {key: [1] for key in ("x", "y", "z", "t_ns", "state")}}, "a column state"),
        ({"points": {key: [1.0] for key in ("x", "y", "z", "t_ns")}}, "not int64"),
    ],
)
def test_a_request_that_cannot_be_right_is_refused(change, says):
    """One sentence that names what is wrong."""
    request = {"points": {key: [1] for key in ("x", "y", "z", "t_ns")}, "poses": poses(), **change}
    with pytest.raises(ContractViolation, match=says):
        compensate(request.pop("points"), request.pop("poses"), at_ns=0, **request)
    with pytest.raises(ContractViolation, match="not rings of 4"):
        spread_times(6, start_ns=0, end_ns=10, columns=4)
    with pytest.raises(ContractViolation, match="before it begins"):
        spread_times(6, start_ns=10, end_ns=0)
