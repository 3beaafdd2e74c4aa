"""Labels of frames: from the bytes of a sweep to rows of gold.labels."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.tables import TABLES
from udfs.perception.calibration import calibration_from
from udfs.perception.frame_labels import LABELLER, label_frames
from udfs.perception.rules import LabelRules

RULES = LabelRules()
FIELDS = [
    {"name": name, "offset": 4 * i, "datatype": 6 if name == "t" else 7, "count": 1}
    for i, name in enumerate("xyzt")
]
POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("t", "<u4")])
TRANSFORMS = [
    {
        "frame_id": "base_link",
        "child_frame_id": child,
        **{f"translation_{axis}_m": value for axis, value in zip("xyz", xyz, strict=True)},
        **{f"rotation_{axis}": value for axis, value in zip("xyzw", xyzw, strict=True)},
    }
    for child, xyz, xyzw in (
        ("lidar", (1.0, 0.0, 2.0), (0, 0, 0, 1)),
        ("camera", (2.0, 0.0, 1.5), (-0.5, 0.5, -0.5, 0.5)),
    )
]
CAMERA = {
    "frame_id": "camera",
    "width": 640,
    "height": 480,
    "distortion_model": "plumb_bob",
    "d": [],
    "k": [500.0, 0, 320, 0, 500, 240, 0, 0, 1],
}


def sweep(x=20.0, y=0.0, *, elapsed_ns=0):
    """The rear of a car, with some ground around it, as bytes in the lidar's frame."""
    across, up = np.meshgrid(np.arange(-0.9, 0.91, 0.1), np.arange(0.3, 1.5, 0.1))
    ground = np.stack(np.meshgrid(np.arange(3, 40, 0.5), np.arange(-10, 10, 0.5)), -1).reshape(
        -1, 2
    )
    points = np.zeros(across.size + len(ground), POINT)
    points["x"] = np.concatenate([np.full(across.size, x), ground[:, 0]]) - 1.0
    points["y"] = np.concatenate([across.ravel() + y, ground[:, 1]])
    points["z"] = np.concatenate([up.ravel(), np.zeros(len(ground))]) - 2.0
    points["t"] = elapsed_ns
    return points.tobytes()


def frame(**changes):
    """A row of silver.frames with what labelling needs."""
    row = {
        "drive_id": "drive-1",
        "t_ns": 1_000_000_000,
        "camera_topic": "/camera",
        "camera_frame_id": "camera",
        "lidar_frame_id": "lidar",
        "lidar_point_step_bytes": POINT.itemsize,
        "lidar_fields": FIELDS,
        "lidar_t_ns": 1_000_000_000,
        "speed_m_s": 0.0,
        "yaw_rate_rad_s": 0.0,
        "sync_version": "v",
    }
    return {**row, **changes}


def labels(*frames, sweeps=None, transforms=TRANSFORMS, cameras=(CAMERA,)):
    """Rows of gold.labels."""
    found = label_frames(
        frames,
        sweeps=sweeps or [sweep()] * len(frames),
        calibration=calibration_from(transforms, cameras),
        rules=RULES,
    )
    assert found.schema.equals(TABLES["gold.labels"].schema)
    return found.to_pylist()


def test_a_car_ahead_is_one_label_in_both_spaces():
    """The rear of a car gives a 3D box behind it and a rectangle around it."""
    (row,) = labels(frame())
    assert (row["class_name"], row["labeller"]) == ("car", LABELLER)
    assert row["position_x_m"] == pytest.approx(20 + 2.2, abs=0.3)
    assert row["distance_m"] == pytest.approx(np.hypot(row["position_x_m"], row["position_y_m"]))
    assert row["box_x0_px"] == pytest.approx(320 - 500 * 0.915 / 18, abs=3)
    assert row["box_y1_px"] == pytest.approx(240 + 500 * 1.5 / 18, abs=3)
    assert (row["labeller_version"], row["sync_version"]) == (RULES.version, "v")


def test_the_motion_of_the_vehicle_is_taken_out():
    """A sweep 50 ms before the image of a car at 20 m/s: the box is a metre nearer."""
    (still,), (moved,) = (
        labels(frame(speed_m_s=speed, lidar_t_ns=950_000_000)) for speed in (0.0, 20.0)
    )
    assert moved["position_x_m"] - still["position_x_m"] == pytest.approx(-1.0, abs=0.05)
    late = [sweep(elapsed_ns=50_000_000)]
    (row,) = labels(frame(speed_m_s=20.0, lidar_t_ns=950_000_000), sweeps=late)
    assert row["position_x_m"] == pytest.approx(still["position_x_m"], abs=0.05)


def test_without_a_camera_the_rectangle_is_null():
    """No calibration, or an object behind the camera: 3D only."""
    (row,) = labels(frame(), cameras=())
    assert row["box_x0_px"] is row["box_y1_px"] is None
    (row,) = labels(frame(), sweeps=[sweep(x=-15.0)])
    assert row["box_x0_px"] is None
    assert row["position_x_m"] < -10


def test_a_lidar_that_is_nowhere_gives_no_labels():
    """A sweep whose frame is not connected to base_link is not labelled at a guess."""
    assert labels(frame(), transforms=TRANSFORMS[1:]) == []


def test_identities_are_unique_and_repeatable():
    """Every label of every frame has an identity of its own, the same in every run."""
    frames = [frame(t_ns=t, lidar_t_ns=t) for t in (1_000_000_000, 2_000_000_000)]
    first, second = labels(*frames), labels(*frames)
    assert first == second
    assert len({row["label_id"] for row in first}) == len(first) == 2
