"""Labels of frames: each sweep brought to the instant of its image, labelled, projected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.ids import content_hash
from contracts.tables import TABLES
from udfs.geometry.camera import project_boxes
from udfs.geometry.points import read_points
from udfs.perception.calibration import Calibration
from udfs.perception.labeller import LabelledBoxes, label_sweep
from udfs.perception.rules import LabelRules
from udfs.sync.motion import EgoMotion, move_to_instant

LABELS = TABLES["gold.labels"].schema
LABELLER = "lidar-clusters"
FRAME_COLUMNS = (
    "drive_id",
    "t_ns",
    "camera_topic",
    "camera_frame_id",
    "lidar_recording_id",
    "lidar_frame_id",
    "lidar_unit_offset",
    "lidar_data_offset",
    "lidar_data_length",
    "lidar_point_step_bytes",
    "lidar_fields",
    "lidar_t_ns",
    "speed_m_s",
    "yaw_rate_rad_s",
    "sync_version",
)
"""Columns of `silver.frames` that labelling needs."""


def label_frames(
    frames: Iterable[Mapping[str, Any]],
    *,
    sweeps: Iterable[bytes],
    calibration: Calibration,
    rules: LabelRules,
) -> pa.Table:
    """Label the sweeps of some frames of one drive.

    Args:
        frames: Rows of `silver.frames` with `FRAME_COLUMNS`, whose lidar state is ok.
        sweeps: The bytes of their points, in the same order.
        calibration: Of the drive.
        rules: Sizes and limits.

    Returns:
        Rows of `gold.labels`. A frame whose lidar is not connected to base_link has none; the 2D
        box is null where the object is not in the image, or the camera is not calibrated.
    """
    rows: list[dict[str, Any]] = []
    for frame, data in zip(frames, sweeps, strict=True):
        rows += _label_frame(frame, data, calibration=calibration, rules=rules)
    return pa.Table.from_pylist(rows, LABELS)


def _label_frame(
    frame: Mapping[str, Any], data: bytes, *, calibration: Calibration, rules: LabelRules
) -> list[dict[str, Any]]:
    base_from_lidar = calibration.base_from(frame["lidar_frame_id"])
    if base_from_lidar is None:
        return []
    cloud = read_points(
        data, fields=frame["lidar_fields"], point_step_bytes=frame["lidar_point_step_bytes"]
    )
    seen_ns = cloud.offset_ns + frame["lidar_t_ns"]
    first_ns, last_ns = (int(end(seen_ns, initial=frame["t_ns"])) for end in (np.min, np.max))
    motion = EgoMotion.on_a_circle(
        (first_ns, last_ns),
        at_ns=frame["t_ns"],
        speed_m_s=frame["speed_m_s"] or 0.0,
        yaw_rate_rad_s=frame["yaw_rate_rad_s"] or 0.0,
    )
    moved = move_to_instant(
        list(np.ascontiguousarray(cloud.xyz.T, np.float32)),
        seen_ns,
        at_ns=frame["t_ns"],
        motion=motion,
        base_from_sensor=base_from_lidar,
        into_base=True,
        max_gap_ns=last_ns - first_ns,
    )
    points = np.stack(moved.xyz_m, axis=1).astype(np.float64)
    found = label_sweep(points, lidar_xyz=base_from_lidar.translation, rules=rules)
    camera = calibration.camera(frame["camera_frame_id"])
    rectangles = np.full((len(found), 4), np.nan)
    if camera is not None and len(found):
        intrinsics, camera_from_base = camera
        rectangles = project_boxes(
            found.boxes, camera=intrinsics, camera_from_base=camera_from_base
        )
    return [
        _row(frame, found, rectangles[i].tolist(), ordinal=i, rules=rules)
        for i in range(len(found))
    ]


def _row(
    frame: Mapping[str, Any],
    found: LabelledBoxes,
    rectangle: list[float],
    *,
    ordinal: int,
    rules: LabelRules,
) -> dict[str, Any]:
    identity = (frame["drive_id"], frame["camera_topic"], frame["t_ns"], ordinal)
    x, y, z = found.boxes.centre[ordinal].tolist()
    length, width, height = found.boxes.size[ordinal].tolist()
    left, top, right, bottom = (None if np.isnan(each) else each for each in rectangle)
    return {
        "drive_id": frame["drive_id"],
        "t_ns": frame["t_ns"],
        "camera_topic": frame["camera_topic"],
        "label_id": content_hash([*identity, LABELLER, rules.version]),
        "class_name": found.class_name[ordinal],
        "position_x_m": x,
        "position_y_m": y,
        "position_z_m": z,
        "yaw_rad": float(found.boxes.yaw_rad[ordinal]),
        "length_m": length,
        "width_m": width,
        "height_m": height,
        "box_x0_px": left,
        "box_y0_px": top,
        "box_x1_px": right,
        "box_y1_px": bottom,
        "distance_m": float(np.hypot(x, y)),
        "lidar_points": int(found.points[ordinal]),
        "confidence": float(found.confidence[ordinal]),
        "labeller": LABELLER,
        "labeller_version": rules.version,
        "sync_version": frame["sync_version"],
    }
