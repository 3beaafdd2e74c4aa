"""A vehicle on a curve whose way is known at any instant, without anything interpolated."""

from __future__ import annotations

import attrs
import numpy as np
from scipy.spatial.transform import Rotation

from udfs.geometry.transforms import Transform, rotation_from_quaternion
from udfs.sync.limits import Boundaries
from udfs.sync.motion import EgoMotion

FAR_M = np.array([5e6, -4e5, 300.0])  # as a map projection has it
MOUNT = Transform(rotation_from_quaternion([0.1, 0.2, 0.3, 0.9]), np.array([1.3, 0.2, 1.95]))


@attrs.frozen
class Drive:
    """A circle: speed and turn rate in the middle of the drive, and how the speed changes."""

    speed_m_s: float = 30.0
    turn_rad_s: float = np.radians(30.0)
    acceleration_m_s2: float = 0.0

    def poses(self, t_ns):
        """(N, 3) positions and (N, 4) quaternions of base_link at (N,) instants."""
        seconds = np.asarray(t_ns) / 1e9 - 5
        way_m = self.speed_m_s * seconds + self.acceleration_m_s2 * seconds**2 / 2
        curvature = self.turn_rad_s / self.speed_m_s if abs(self.speed_m_s) > 1 else 0.0
        heading = curvature * way_m
        chord_m = way_m * np.sinc(heading / (2 * np.pi))
        flat = chord_m * np.cos(heading / 2), chord_m * np.sin(heading / 2)
        return FAR_M + np.stack([*flat, 0 * way_m], axis=-1), turned_left(heading).as_quat()

    def motion(self, *, hz, start_s=1.0, end_s=9.0, **boundaries):
        """What an odometry of that rate knows of it."""
        t_ns = np.arange(start_s * 1e9, end_s * 1e9, 1e9 / hz).astype(np.int64)
        return EgoMotion.from_arrays(t_ns, *self.poses(t_ns), Boundaries.of(**boundaries))

    def seen(self, scene, t_ns, *, mount):
        """(N, 3) points of the world, each in the sensor's frame at its time."""
        position, rotation = self.poses(t_ns)
        base = Rotation.from_quat(rotation).inv().apply(scene - position)
        return mount.inverse().apply(base)

    def scene_around(self, t_ns, *, count, seed=0):
        """(N, 3) points of the world within 80 m of where the vehicle is at an instant."""
        random = np.random.default_rng(seed)
        local = np.c_[random.uniform(-80, 80, (count, 2)), random.uniform(-2, 8, count)]
        return self.poses([t_ns])[0] + local


def columns(points):
    """x, y and z as kernels read them."""
    return [np.ascontiguousarray(axis, np.float32) for axis in np.asarray(points).T]


def turned_left(yaw_rad):
    """(N,) rotations about z."""
    return Rotation.from_rotvec(np.multiply.outer(yaw_rad, [0.0, 0.0, 1.0]))
