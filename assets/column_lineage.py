"""Which column is made of which, where it is one step: shown beside the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

_IMAGE_POINTER = ("unit_offset", "data_offset", "data_length")
_FRAMES: Mapping[str, tuple[str, ...]] = {
    "drive_id": ("bronze.recordings.drive_id",),
    "t_ns": (
        "silver.images.sensor_time_ns",
        "silver.clocks.anchor_ns",
        "silver.clocks.offset_ns",
        "silver.clocks.drift_ppb",
    ),
    "clock_uncertainty_ns": (
        "silver.clocks.uncertainty_ns",
        "silver.clocks.drift_uncertainty_ppb",
    ),
    "camera_recording_id": ("silver.images.recording_id",),
    "camera_topic": ("silver.images.topic",),
    "camera_frame_id": ("silver.images.frame_id",),
    "camera_log_time_ns": ("silver.images.log_time_ns",),
    **{f"camera_{name}": (f"silver.images.{name}",) for name in _IMAGE_POINTER},
    "lidar_recording_id": ("silver.point_clouds.recording_id",),
    "lidar_frame_id": ("silver.point_clouds.frame_id",),
    "lidar_point_step_bytes": ("silver.point_clouds.point_step_bytes",),
    "lidar_fields": ("silver.point_clouds.fields",),
    **{f"lidar_{name}": (f"silver.point_clouds.{name}",) for name in _IMAGE_POINTER},
    **{name: (f"silver.gnss.{name}",) for name in ("latitude_deg", "longitude_deg", "altitude_m")},
    "position_x_m": ("silver.odometry.position_x_m",),
    "position_y_m": ("silver.odometry.position_y_m",),
    "yaw_rad": tuple(f"silver.odometry.orientation_{axis}" for axis in "xyzw"),
    "speed_m_s": ("silver.signals.value", "silver.signals.unit"),
    "steering_angle_rad": ("silver.signals.value", "silver.signals.unit"),
    "yaw_rate_rad_s": ("silver.imu.angular_velocity_z_rad_s",),
    "acceleration_m_s2": ("silver.imu.linear_acceleration_x_m_s2",),
}
_BOXES = ("class_name", "box_x0_px", "box_y0_px", "box_x1_px", "box_y1_px")
_SAMPLES: Mapping[str, tuple[str, ...]] = {
    "drive_id": ("silver.frames.drive_id",),
    "t_ns": ("silver.frames.t_ns",),
    "recording_id": ("silver.frames.camera_recording_id",),
    "image_jpeg": tuple(f"silver.frames.camera_{name}" for name in _IMAGE_POINTER),
    "boxes": tuple(f"gold.labels.{name}" for name in (*_BOXES, "distance_m", "confidence")),
}
LINEAGE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "silver.frames": _FRAMES,
    "gold.dataset_samples": _SAMPLES,
}


def column_lineage(table: str) -> dict[str, dg.TableColumnLineage]:
    """Metadata of a table with its column lineage; none where it is not one step.

    Args:
        table: `layer.table`.
    """
    if table not in LINEAGE:
        return {}
    deps = {column: [_dep(place) for place in places] for column, places in LINEAGE[table].items()}
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def _dep(place: str) -> dg.TableColumnDep:
    layer, table, column = place.split(".")
    return dg.TableColumnDep(asset_key=dg.AssetKey([layer, table]), column_name=column)
