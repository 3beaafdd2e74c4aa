"""The truth beside the recordings: only tests and evaluations may read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simulation.actors import Actor
from simulation.observation import Observations, Shot
from simulation.plan import DrivePlan
from simulation.projection import box_corners, box_outline_points, clipped_box2d
from simulation.rig import Camera, base_from_world, camera_from_base
from simulation.road import FloatArray

MAX_DISTANCE_M = 150.0

EGO_SCHEMA = pa.schema(
    [
        ("t_ns", pa.int64()),
        *(
            (name, pa.float64())
            for name in (
                "x_m", "y_m", "z_m", "yaw_rad", "speed_m_s", "accel_m_s2", "yaw_rate_rad_s",
                "steering_angle_rad",
            )
        ),
    ]
)  # fmt: skip
OBJECTS_SCHEMA = pa.schema(
    [
        ("t_ns", pa.int64()),
        ("frame_number", pa.int64()),
        ("frame_recorded", pa.bool_()),
        ("object_id", pa.int64()),
        ("class_name", pa.string()),
        *(
            (name, pa.float64())
            for name in (
                "world_x_m", "world_y_m", "world_z_m", "world_yaw_rad",
                "base_x_m", "base_y_m", "base_z_m", "base_yaw_rad",
                "length_m", "width_m", "height_m", "speed_m_s",
                "box2d_x0_px", "box2d_y0_px", "box2d_x1_px", "box2d_y1_px",
                "visible_fraction",
            )
        ),
        ("lidar_points", pa.int64()),
        ("distance_m", pa.float64()),
    ]
)  # fmt: skip
"""One row an object and camera frame, dropped frames included.

Positions are of the middle of the box; world is the flat world, base the ego's base_link at the
exposure. The 2D box encloses the projected 3D box, clipped to the image; null where nothing of the
object shows. lidar_points is the number of points on it in the recorded sweep nearest in time;
distance_m runs from base_link's origin to the middle of the box.
"""


def write_truth(plan: DrivePlan, *, seen: Observations, folder: Path) -> None:
    """Write all the truth of a drive; `clocks.json` comes last and marks it complete.

    Args:
        plan: The drive.
        seen: What camera and lidar saw.
        folder: The folder to write into; must exist.
    """
    pq.write_table(ego_table(plan), folder / "ego.parquet")
    pq.write_table(objects_table(plan, seen=seen), folder / "objects.parquet")
    _write_json(folder / "scenarios.json", [attrs.asdict(one) for one in plan.scenarios])
    _write_json(folder / "conditions.json", attrs.asdict(plan.conditions))
    clocks = {
        name: attrs.asdict(clock, filter=lambda field, value: field.name != "jumps" or value)
        for name, clock in plan.clocks.items()
    }
    _write_json(folder / "clocks.json", clocks)


def ego_table(plan: DrivePlan) -> pa.Table:
    """The ego's motion at 100 Hz, both ends of the drive included."""
    inside = (plan.ego.t_ns >= plan.t_start_ns) & (plan.ego.t_ns <= plan.t_end_ns)
    ego = plan.ego.at(plan.ego.t_ns[inside])
    columns = {name: getattr(ego, name, None) for name in EGO_SCHEMA.names}
    columns["z_m"] = np.zeros(len(ego.t_ns))
    return pa.table(columns, schema=EGO_SCHEMA)


def objects_table(plan: DrivePlan, *, seen: Observations) -> pa.Table:
    """The road users within `MAX_DISTANCE_M` at every camera frame."""
    rows = [row for shot in seen.shots for row in _frame_rows(plan, shot=shot, seen=seen)]
    return pa.Table.from_pylist(rows, schema=OBJECTS_SCHEMA)


def _frame_rows(plan: DrivePlan, *, shot: Shot, seen: Observations) -> Iterator[dict[str, Any]]:
    """Rows of one camera frame."""
    ego = plan.ego.at([shot.t_ns])
    states = plan.motions.at(shot.t_ns)
    bottoms = np.stack([states.x_m, states.y_m, np.zeros(len(states.t_ns))], -1)
    sizes = np.array([attrs.astuple(actor.size) for actor in plan.actors])
    corners = box_corners(bottoms, yaw_rad=states.yaw_rad, size_m=sizes)
    corners = camera_from_base(base_from_world(corners, ego=ego))
    world = bottoms + sizes * np.array([0.0, 0.0, 0.5])
    base = base_from_world(world, ego=ego)
    distance = np.linalg.norm(base, axis=-1)
    hits = _nearest_hits(shot.t_ns, seen=seen)
    for row in np.flatnonzero(distance <= MAX_DISTANCE_M):
        actor = plan.actors[row]
        world_yaw, base_yaw = states.yaw_rad[row], states.yaw_rad[row] - ego.yaw_rad[0]
        yield {
            "t_ns": shot.t_ns,
            "frame_number": shot.number,
            "frame_recorded": shot.recorded,
            "object_id": actor.object_id,
            "class_name": actor.class_name,
            **_pose_columns("world", world[row], yaw_rad=float(world_yaw)),
            **_pose_columns("base", base[row], yaw_rad=float(base_yaw)),
            **attrs.asdict(actor.size),
            "speed_m_s": float(states.speed_m_s[row]),
            **_box_columns(actor, corners[row], shot=shot, camera=seen.camera),
            "lidar_points": hits.get(actor.object_id, 0),
            "distance_m": float(distance[row]),
        }


def _pose_columns(frame: str, xyz_m: FloatArray, *, yaw_rad: float) -> dict[str, float]:
    """Position and heading in a coordinate frame."""
    columns = {f"{frame}_{axis}_m": float(v) for axis, v in zip("xyz", xyz_m, strict=True)}
    return columns | {f"{frame}_yaw_rad": (yaw_rad + np.pi) % (2 * np.pi) - np.pi}


def _box_columns(
    actor: Actor, corners_camera: FloatArray, *, shot: Shot, camera: Camera
) -> dict[str, float | None]:
    """The 2D box and how much of the object shows; no box where nothing does."""
    fraction = shot.visible_fraction.get(actor.object_id, 0.0)
    outline = box_outline_points(corners_camera, camera=camera)
    box = clipped_box2d(outline, camera=camera) if fraction > 0 else None
    sides = box or (None, None, None, None)
    names = ("box2d_x0_px", "box2d_y0_px", "box2d_x1_px", "box2d_y1_px")
    return dict(zip(names, sides, strict=True)) | {"visible_fraction": fraction if box else 0.0}


def _nearest_hits(t_ns: int, *, seen: Observations) -> dict[int, int]:
    """Lidar points by object_id in the recorded sweep whose start is nearest."""
    recorded = [sweep for sweep, kept in zip(seen.sweeps, seen.sweep_recorded, strict=True) if kept]
    if not recorded:
        return {}
    return min(recorded, key=lambda sweep: abs(sweep.t_ns - t_ns)).hits


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
