from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from simulation.clocks import RecorderClock
from simulation.scenarios import Scenario


@pytest.fixture(scope="module", params=[0, 1])
def told(request, fleet):
    """The truth of a drive as its files tell it, and the plan."""
    files, plan = fleet.drives[request.param], fleet.plans[request.param]
    objects = pq.read_table(files.truth / "objects.parquet").to_pylist()
    ego = pq.read_table(files.truth / "ego.parquet").to_pandas()
    return files, objects, ego, plan


def messages(files, topic):
    with (files.folder / "adas.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        return [(m, decoded) for _, _, m, decoded in reader.iter_decoded_messages(topics=[topic])]


def test_clocks_and_conditions_are_those_of_the_plan(told):
    """clocks.json, conditions.json and scenarios.json tell exactly the plan."""
    files, _, _, plan = told
    clocks = json.loads((files.truth / "clocks.json").read_text())
    assert {name: RecorderClock(**fields) for name, fields in clocks.items()} == plan.clocks
    conditions = json.loads((files.truth / "conditions.json").read_text())
    assert conditions == {"weather": plan.conditions.weather, "light": plan.conditions.light}
    scenarios = json.loads((files.truth / "scenarios.json").read_text())
    assert tuple(Scenario(**fields) for fields in scenarios) == plan.scenarios


def test_ego_covers_the_drive_at_100_hz(told):
    """The ego's truth runs from the first to the last instant, both included, every 10 ms."""
    _, _, ego, plan = told
    t_ns = ego["t_ns"].to_numpy()
    assert t_ns[0] == plan.t_start_ns
    assert t_ns[-1] == plan.t_end_ns
    assert (np.diff(t_ns) == 10_000_000).all()
    assert not ego.isna().to_numpy().any()


def test_ego_derivatives_agree(told):
    """Speed, acceleration and yaw rate are the derivatives of position, speed and heading."""
    _, _, ego, _ = told
    dt = 0.01
    speed = ego["speed_m_s"].to_numpy()
    moved = np.hypot(np.diff(ego["x_m"]), np.diff(ego["y_m"])) / dt
    assert np.abs(moved - (speed[1:] + speed[:-1]) / 2).max() < 0.02
    assert np.abs(np.gradient(speed, dt) - ego["accel_m_s2"])[1:-1].max() < 1e-6
    turned = np.diff(np.unwrap(ego["yaw_rad"])) / dt
    rate = ego["yaw_rate_rad_s"].to_numpy()
    assert np.abs(turned - (rate[1:] + rate[:-1]) / 2).max() < 0.01


def test_frames_say_which_were_recorded(told):
    """Every exposure has rows; those marked recorded are the ones in the recording."""
    files, objects, _, plan = told
    frames = {row["frame_number"]: row["frame_recorded"] for row in objects}
    assert set(frames) == set(range(round(10 * plan.seconds)))
    recorded = {m.sequence for m, _ in messages(files, "/camera/front/image/compressed")}
    assert {number for number, kept in frames.items() if kept} == recorded


def test_boxes_are_the_projected_cuboids(told):
    """2D boxes are the projections of the 3D boxes, by the calibration that was recorded.

    The oracle projects homogeneous corners with the recorded intrinsics and sensor pose, for boxes
    that lie wholly in front of the camera.
    """
    files, objects, ego, _ = told
    info = messages(files, "/camera/front/camera_info")[0][1]
    transforms = messages(files, "/tf_static")[0][1].transforms
    mount = next(one.transform for one in transforms if one.child_frame_id == "camera_front")
    camera_from_base = np.linalg.inv(_matrix(mount))
    k = np.array(info.k).reshape(3, 3)
    checked = 0
    poses = {row.t_ns: row for row in ego.itertuples()}
    for row in objects:
        if row["box2d_x0_px"] is None:
            continue
        pose = _ego_at(poses, row["t_ns"])
        corners = camera_from_base @ np.linalg.inv(pose) @ _cuboid(row)
        if corners[2].min() < 0.5:
            continue
        u, v, w = k @ corners[:3]
        box = np.array([(u / w).min(), (v / w).min(), (u / w).max(), (v / w).max()])
        told_box = np.array([row[f"box2d_{side}_px"] for side in ("x0", "y0", "x1", "y1")])
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= info.width and box[3] <= info.height
        if inside:
            assert np.abs(box - told_box).max() < 0.05
            checked += 1
        else:
            assert (told_box[:2] >= np.maximum(box[:2], 0) - 0.05).all()
            assert (told_box[2:] <= np.minimum(box[2:], (info.width, info.height)) + 0.05).all()
    assert checked > 100


def test_world_and_base_poses_agree(told):
    """Positions in base_link turned back by the ego's pose are the positions in the world."""
    _, objects, ego, _ = told
    poses = {row.t_ns: row for row in ego.itertuples()}
    for row in objects[::7]:
        base = np.array([row["base_x_m"], row["base_y_m"], row["base_z_m"], 1.0])
        world = np.array([row["world_x_m"], row["world_y_m"], row["world_z_m"], 1.0])
        assert np.abs(_ego_at(poses, row["t_ns"]) @ base - world).max() < 1e-3
        assert row["distance_m"] == pytest.approx(np.linalg.norm(base[:3]))
        assert row["world_z_m"] == row["height_m"] / 2


def test_lidar_points_lie_in_the_boxes_that_claim_them(told):
    """Points of the paired sweep, moved to the world at their own instants, fill the true boxes."""
    files, objects, _, plan = told
    clouds = {m.sequence: cloud for m, cloud in messages(files, "/lidar/points")}
    actors = {actor.object_id: actor for actor in plan.actors}
    layout = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("t", "<u4")]
    checked = 0
    for row in objects:
        claimed = row["lidar_points"]
        if row["frame_number"] % 7 or claimed < 30 or row["frame_number"] not in clouds:
            continue
        points = np.frombuffer(clouds[row["frame_number"]].data, np.dtype(layout))
        t_ns = plan.t_start_ns + row["frame_number"] * 100_000_000 + points["t"].astype(np.int64)
        ego, actor = plan.ego.at(t_ns), actors[row["object_id"]]
        state = actor.trajectory.at(t_ns)
        cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
        ahead = points["x"] + 1.3
        x = ego.x_m + cos * ahead - sin * points["y"] - state.x_m
        y = ego.y_m + sin * ahead + cos * points["y"] - state.y_m
        cos, sin = np.cos(state.yaw_rad), np.sin(state.yaw_rad)
        along, across = cos * x + sin * y, cos * y - sin * x
        slack = 0.1
        inside = (
            (np.abs(along) < row["length_m"] / 2 + slack)
            & (np.abs(across) < row["width_m"] / 2 + slack)
            & (points["z"] + 1.95 > 0.12)
            & (points["z"] + 1.95 < row["height_m"] + slack)
        )
        assert inside.sum() >= 0.9 * claimed
        assert inside.sum() <= 1.15 * claimed + 8
        checked += 1
    assert checked > 10


def test_hidden_or_absent_objects_have_no_box(told):
    """A box is null exactly when no part of the object shows."""
    _, objects, _, _ = told
    for row in objects:
        corners = [row[f"box2d_{side}_px"] for side in ("x0", "y0", "x1", "y1")]
        assert (row["visible_fraction"] > 0) == all(value is not None for value in corners)
        assert 0 <= row["visible_fraction"] <= 1
        if row["base_x_m"] < -10:
            assert row["visible_fraction"] == 0
    assert {row["class_name"] for row in objects} == {"car", "truck", "pedestrian", "cyclist"}


def _matrix(transform) -> np.ndarray:
    """(4, 4) of a ROS transform."""
    q, t = transform.rotation, transform.translation
    x, y, z, w = q.x, q.y, q.z, q.w
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), t.x],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), t.y],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), t.z],
            [0, 0, 0, 1],
        ]
    )


def _ego_at(poses, t_ns: int) -> np.ndarray:
    """(4, 4) world_from_base, linear between the rows of ego.parquet."""
    before = t_ns // 10_000_000 * 10_000_000
    share = (t_ns - before) / 10_000_000
    a = poses[before]
    b = poses.get(before + 10_000_000, a)
    x, y, yaw = (
        getattr(a, name) + share * (getattr(b, name) - getattr(a, name))
        for name in ("x_m", "y_m", "yaw_rad")
    )
    return np.array(
        [
            [np.cos(yaw), -np.sin(yaw), 0, x],
            [np.sin(yaw), np.cos(yaw), 0, y],
            [0, 0, 1, 0],
            [0, 0, 0, 1],
        ]
    )


def _cuboid(row) -> np.ndarray:
    """(4, 8) homogeneous world corners of a truth row."""
    signs = np.array(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5])).reshape(3, 8)
    local = signs * np.array([[row["length_m"]], [row["width_m"]], [row["height_m"]]])
    yaw = row["world_yaw_rad"]
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    middle = np.array([[row["world_x_m"]], [row["world_y_m"]], [row["world_z_m"]]])
    return np.concatenate([turn @ local + middle, np.ones((1, 8))])
