"""The other road users: their classes, sizes and trajectories."""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np

from simulation.motion import Trajectory
from simulation.road import FloatArray

ClassName = Literal["car", "truck", "pedestrian", "cyclist"]
EGO_FRONT_M = 3.7
EGO_REAR_M = 0.9
EGO_WIDTH_M = 1.9

_SIZE_RANGES: dict[ClassName, tuple[tuple[float, float], ...]] = {
    "car": ((4.0, 4.8), (1.75, 1.9), (1.42, 1.62)),
    "truck": ((7.0, 9.5), (2.4, 2.55), (3.1, 3.6)),
    "pedestrian": ((0.5, 0.6), (0.5, 0.6), (1.6, 1.88)),
    "cyclist": ((1.75, 1.85), (0.55, 0.65), (1.68, 1.85)),
}


@attrs.frozen
class Size:
    """Outer dimensions of a road user."""

    length_m: float
    width_m: float
    height_m: float


@attrs.frozen(eq=False)
class Actor:
    """A road user; its trajectory is that of the centre of its footprint.

    Attributes:
        object_id: Identity within the drive, from 1.
        class_name: What it is.
        size: Outer dimensions.
        look: A number that picks its colour.
        trajectory: Its motion.
    """

    object_id: int
    class_name: ClassName
    size: Size
    look: int
    trajectory: Trajectory

    @property
    def parked(self) -> bool:
        """Whether it never moves."""
        return not self.trajectory.speed_m_s.any()


def draw_size(class_name: ClassName, *, rng: np.random.Generator) -> Size:
    """Draw the dimensions of a road user of a class, to the centimetre."""
    return Size(*(round(float(rng.uniform(*bounds)), 2) for bounds in _SIZE_RANGES[class_name]))


def footprint_circles(
    trajectory: Trajectory, *, front_m: float, rear_m: float, width_m: float
) -> tuple[FloatArray, float]:
    """Cover a moving footprint with circles, for a cheap test of overlap.

    Args:
        trajectory: The motion of its reference point.
        front_m: Reach ahead of the reference point.
        rear_m: Reach behind it.
        width_m: Width.

    Returns:
        (N, K, 2) centres over time, and the radius.
    """
    count = max(1, int(np.ceil((front_m + rear_m) / width_m)))
    half = (front_m + rear_m) / count / 2
    offsets = np.linspace(-rear_m + half, front_m - half, count)
    heading = np.stack([np.cos(trajectory.yaw_rad), np.sin(trajectory.yaw_rad)], -1)
    xy = np.stack([trajectory.x_m, trajectory.y_m], -1)
    return xy[:, None] + offsets[None, :, None] * heading[:, None], float(
        np.hypot(half, width_m / 2)
    )
