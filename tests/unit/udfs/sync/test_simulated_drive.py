"""Frames of a simulated drive against its truth, and in every format."""

from __future__ import annotations

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import drivelake
from simulation.motion import GRID_NS
from simulation.sensors import every
from tests.unit.udfs.sync.simulated import (
    FORMS,
    REFERENCE,
    ROS_FORMS,
    image_times,
    simulate,
)

MS = 1_000_000
NO_SIGNAL = ("gnss", "pose")
"""Streams that an MDF 4 file of signals does not hold: no signal is known to be a position."""


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("drive"))


@pytest.fixture(scope="module")
def poses(drive):
    """What the reference recorder would have written without noise: true poses, its own stamps."""
    ego = drive.plan.ego.at(true_times(drive))
    rows = drive.reference["ros1bag"]["odometry"]
    for name, values in columns_of(ego).items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    return rows


def true_times(drive):
    """(N,) int64 UTC of the odometry, in its order."""
    return every(GRID_NS, t_start_ns=drive.plan.t_start_ns, t_end_ns=drive.plan.t_end_ns)


def columns_of(ego):
    """Poses as silver.odometry has them."""
    return {
        "position_x_m": ego.x_m,
        "position_y_m": ego.y_m,
        "position_z_m": np.zeros(len(ego.t_ns)),
        "orientation_x": np.zeros(len(ego.t_ns)),
        "orientation_y": np.zeros(len(ego.t_ns)),
        "orientation_z": np.sin(ego.yaw_rad / 2),
        "orientation_w": np.cos(ego.yaw_rad / 2),
    }


def assert_on_the_way(x_m, y_m, yaw_rad, truth):
    """Poses within 2 cm and 0.1° of the truth."""
    turned = np.angle(np.exp(1j * (yaw_rad - truth.yaw_rad)))
    assert np.hypot(x_m - truth.x_m, y_m - truth.y_m).max() < 0.02
    assert np.degrees(np.abs(turned)).max() < 0.1


def shared_part(frames):
    """Frames without what MDF 4 does not hold."""
    return frames.drop(
        [
            name
            for name in frames.column_names
            if name.startswith((*NO_SIGNAL, "position", "yaw_rad"))
        ]
    )


def test_the_same_drive_gives_the_same_frames_in_every_format(drive):
    """One recording as MCAP, ROS 1 bag, rosbag2 and MDF 4: clocks and frames equal to the last bit.

    MDF 4 has no positions, so the fixes tell nothing of the clock there, and poses are missing; all
    else is equal, the values as well as their times, errors and reasons.
    """
    whole = {form: drive.frames(form) for form in ROS_FORMS}
    assert pc.all(pc.equal(whole["mcap"]["pose_state"], "ok")).as_py() is False  # at the jump
    assert all(each.equals(whole["mcap"]) for each in whole.values())
    alike = drive.without("gnss")
    clocks = {form: alike.clocks(form) for form in FORMS}
    assert all(each.equals(clocks["mcap"]) for each in clocks.values())
    frames = {form: alike.frames(form) for form in ("mcap", "mdf4")}
    assert set(frames["mdf4"]["pose_state"].to_pylist()) == {"missing"}
    for stem in ("speed", "yaw_rate", "acceleration"):
        assert frames["mdf4"][f"{stem}_state"].to_pylist().count("ok") >= len(frames["mdf4"]) - 1
    assert shared_part(frames["mdf4"]).equals(shared_part(frames["mcap"]))


def test_the_library_gives_the_same_in_every_format(drive):
    """`drivelake.sync` of what `drivelake.read` gave: equal values of every rule in all formats."""

    def streams(form):
        silver = drive.reference[form]
        if form != "mdf4":
            turning = silver["imu"].select(["sensor_time_ns", "angular_velocity_z_rad_s"])
            moving = silver["odometry"].select(["sensor_time_ns", "linear_velocity_x_m_s"])
            return {"turning": turning, "moving": moving}
        rows = silver["signals"]
        named = {"turning": ("YawRate", "imu"), "moving": ("VehicleSpeed", "odom")}
        return {
            stream: rows.filter(
                pc.and_(pc.equal(rows["signal"], name), pc.match_substring(rows["topic"], topic))
            ).select(["log_time_ns", "value"])
            for stream, (name, topic) in named.items()
        }

    rules = {"turning": "hermite", "moving": drivelake.Rule("linear", max_gap_ns=15 * MS)}
    found = {}
    for form in FORMS:
        given = {name: each.rename_columns(["t_ns", "v"]) for name, each in streams(form).items()}
        found[form] = drivelake.sync(given, reference=drivelake.Rate(33.0), rules=rules)
    assert set(found["mcap"]["moving_state"].to_pylist()) >= {"ok", "gap"}
    assert all(each.equals(found["mcap"]) for each in found.values())


def test_poses_of_frames_are_where_the_vehicle_was(drive, poses):
    """Through estimated clocks, over a jump of 48 ms: within 2 cm and 0.1° of the truth at 13 m/s.

    The poses are exact, so that what is left is that of stamps, clocks and interpolation.
    """
    reference = {"ros1bag": {**drive.reference["ros1bag"], "odometry": poses}}
    frames = attrs.evolve(drive, reference=reference).frames("ros1bag")
    at = image_times(drive.plan)
    assert len(frames) == len(at)
    ok = np.array(frames["pose_state"].to_pylist()) == "ok"
    columns = ("position_x_m", "position_y_m", "yaw_rad")
    x_m, y_m, yaw_rad = (frames[name].to_numpy()[ok] for name in columns)
    assert_on_the_way(x_m, y_m, yaw_rad, drive.plan.ego.at(at[ok]))
    (jump,) = drive.plan.clocks[REFERENCE].jumps
    seen = true_times(drive)
    in_the_jump = np.searchsorted(seen, at, side="right") == np.searchsorted(seen, jump.t_ns)
    assert np.flatnonzero(in_the_jump).tolist() == np.flatnonzero(~ok).tolist() != []
    assert {frames["pose_state"].to_pylist()[i] for i in np.flatnonzero(~ok)} == {"jump"}


@pytest.mark.parametrize("hz", [20, 50, 100])
def test_interpolated_poses_are_where_the_vehicle_was(drive, hz):
    """True poses at an odometry's rate, in a drive that turns and brakes hard: Hermite, slerp."""
    plan = drive.plan
    span = {"t_start_ns": plan.t_start_ns, "t_end_ns": plan.t_end_ns}
    t_ns = every(10**9 // hz, **span)
    ego = plan.ego.at(t_ns)
    assert ego.accel_m_s2.min() < -5.0
    assert np.abs(ego.yaw_rate_rad_s).max() > 0.05
    at = every(7_300_000, **span)
    at = at[at <= t_ns[-1]]
    found = drivelake.sync(
        {"frame": pa.table({"t_ns": at}), "ego": pa.table({"t_ns": t_ns, **columns_of(ego)})},
        reference="frame",
        rules={"ego": drivelake.Rule("hermite", max_gap_ns=200 * MS)},
    )
    assert set(found["ego_state"].to_pylist()) == {"ok"}
    x_m, y_m, z, w = (
        found[f"ego_{name}"].to_numpy()
        for name in ("position_x_m", "position_y_m", "orientation_z", "orientation_w")
    )
    assert_on_the_way(x_m, y_m, 2 * np.arctan2(z, w), plan.ego.at(at))


def test_no_value_lies_beyond_its_tolerance(drive, poses):
    """By the true times of images and samples: no pose that is ok is farther than the rule says."""
    rows = poses.filter(pc.less(pc.bit_wise_and(pc.divide(poses["sequence"], 40), 1), 1))
    reference = {"ros1bag": {**drive.reference["ros1bag"], "odometry": rows}}
    frames = attrs.evolve(drive, reference=reference).frames("ros1bag")
    ok = np.array(frames["pose_state"].to_pylist()) == "ok"
    numbers = rows["sequence"].to_numpy()
    seen = true_times(drive)[numbers - poses["sequence"][0].as_py()]
    at = image_times(drive.plan)
    nearest = np.abs(at[:, None] - seen[None, :]).min(axis=1)
    assert 0 < np.count_nonzero(~ok) < len(ok)
    assert nearest[ok].max() < 50 * MS + 2 * MS
    claimed = np.abs(frames["pose_sync_error_ns"].to_numpy())
    assert np.abs(claimed - nearest)[ok].max() < 2 * MS
