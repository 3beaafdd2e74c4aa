"""The sensors on the ego vehicle: where they sit, how they look, how often they fire.

`base_link` is the middle of the rear axle on the ground: x forward, y left, z up (REP-103,
REP-105). The camera's frame is optical: z forward, x right, y down.
"""

from __future__ import annotations

import attrs
import numpy as np

from simulation.motion import Trajectory
from simulation.road import FloatArray

CAMERA_PERIOD_NS = 100_000_000
LIDAR_PERIOD_NS = 100_000_000

CAMERA_DELAY_NS = 17_000_000
"""The camera exposes when the sweep that starts at each 0.1 s has just passed the front."""

OPTICAL_XYZW = (-0.5, 0.5, -0.5, 0.5)
UPRIGHT_XYZW = (0.0, 0.0, 0.0, 1.0)


@attrs.frozen
class Mount:
    """Pose of a sensor in base_link: `base_from_sensor`."""

    frame_id: str
    xyz_m: tuple[float, float, float]
    xyzw: tuple[float, float, float, float] = UPRIGHT_XYZW


CAMERA_MOUNT = Mount("camera_front", (1.9, 0.0, 1.4), OPTICAL_XYZW)
LIDAR_MOUNT = Mount("lidar_top", (1.3, 0.0, 1.95))
IMU_MOUNT = Mount("imu", (0.0, 0.0, 0.5))
GNSS_MOUNT = Mount("gnss", (0.4, 0.0, 1.6))
_CAMERA_XYZ_M = np.array(CAMERA_MOUNT.xyz_m)
_BASE_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
MOUNTS = (CAMERA_MOUNT, LIDAR_MOUNT, IMU_MOUNT, GNSS_MOUNT)


@attrs.frozen
class Camera:
    """A pinhole camera without distortion; pixel centres are at whole coordinates."""

    width: int
    height: int
    focal_px: float
    cx: float
    cy: float

    def project(self, points_camera: FloatArray) -> FloatArray:
        """Project points that lie in front of the camera.

        Args:
            points_camera: (..., 3) float64 in the optical frame, z > 0.

        Returns:
            (..., 2) float64 pixels.
        """
        scaled = self.focal_px * points_camera[..., :2] / points_camera[..., 2:]
        return scaled + np.array([self.cx, self.cy])


def camera_of_size(size: tuple[int, int]) -> Camera:
    """The front camera for an image size: 70 degrees wide, horizon a little above the middle.

    Args:
        size: Width and height in pixels.

    Returns:
        The camera.
    """
    width, height = size
    focal = width / 2 / np.tan(np.radians(35.0))
    return Camera(width, height, round(float(focal), 3), (width - 1) / 2, round(0.44 * height, 1))


def base_from_world(points_world: FloatArray, *, ego: Trajectory) -> FloatArray:
    """Express world points in base_link.

    Args:
        points_world: (..., 3) float64.
        ego: The ego's state at one instant (arrays of length 1).

    Returns:
        (..., 3) float64.
    """
    cos, sin = np.cos(ego.yaw_rad[0]), np.sin(ego.yaw_rad[0])
    world_from_base = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return (points_world - np.array([ego.x_m[0], ego.y_m[0], 0.0])) @ world_from_base


def camera_from_base(points_base: FloatArray) -> FloatArray:
    """Express base_link points in the camera's optical frame.

    Args:
        points_base: (..., 3) float64.

    Returns:
        (..., 3) float64: right, down, forward.
    """
    return (points_base - _CAMERA_XYZ_M) @ _BASE_FROM_OPTICAL


def camera_from_world(points_world: FloatArray, *, ego: Trajectory) -> FloatArray:
    """Express world points in the camera's optical frame at one instant of the ego."""
    return camera_from_base(base_from_world(points_world, ego=ego))
