"""Rigid transforms between coordinate frames. `a_from_b` maps coordinates in b to those in a."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import ContractViolation

FloatArray = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Transform:
    """A rotation and a translation.

    Attributes:
        rotation: (3, 3) float64, orthonormal.
        translation: (3,) float64, metres.
    """

    rotation: FloatArray
    translation: FloatArray

    @classmethod
    def identity(cls) -> Transform:
        """The transform that changes nothing."""
        return cls(np.eye(3), np.zeros(3))

    def apply(self, points: FloatArray) -> FloatArray:
        """Map points.

        Args:
            points: (..., 3) float64.

        Returns:
            (..., 3) float64.
        """
        return np.asarray(points @ self.rotation.T + self.translation, dtype=np.float64)

    def inverse(self) -> Transform:
        """The way back."""
        return Transform(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: Transform) -> Transform:
        """`a_from_b @ b_from_c` is `a_from_c`."""
        return Transform(
            self.rotation @ other.rotation, self.rotation @ other.translation + self.translation
        )


def rotation_from_quaternion(xyzw: npt.ArrayLike) -> FloatArray:
    """Rotation matrix of a quaternion.

    Args:
        xyzw: (4,) x, y, z, w; normalised here.

    Returns:
        (3, 3) float64.

    Raises:
        ContractViolation: A quaternion of zeros, or one that is not finite.
    """
    quaternion = np.asarray(xyzw, dtype=np.float64)
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite(norm) or norm < 1e-9:
        raise ContractViolation(f"{quaternion.tolist()} is no rotation", code="NO_ROTATION")
    x, y, z, w = quaternion / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def planar_transform(x_m: float, y_m: float, yaw_rad: float) -> Transform:
    """Transform of a vehicle that moved on the ground: the old frame from the new one."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return Transform(rotation, np.array([x_m, y_m, 0.0]))


@attrs.frozen(eq=False)
class TransformTree:
    """Static transforms as a graph; the later of two edges between the same frames counts.

    Attributes:
        parent_from_child: Transform by (parent frame, child frame).
    """

    parent_from_child: Mapping[tuple[str, str], Transform]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, object]]) -> TransformTree:
        """Build it from rows of `silver.transforms`; rows without a rotation are passed over."""
        edges: dict[tuple[str, str], Transform] = {}
        for row in rows:
            xyzw = [float(str(row[f"rotation_{axis}"])) for axis in "xyzw"]
            xyz = [float(str(row[f"translation_{axis}_m"])) for axis in "xyz"]
            if np.linalg.norm(xyzw) > 1e-9 and np.all(np.isfinite([*xyzw, *xyz])):
                key = _plain(str(row["frame_id"])), _plain(str(row["child_frame_id"]))
                edges[key] = Transform(rotation_from_quaternion(xyzw), np.array(xyz))
        return cls(edges)

    def find(self, target: str, source: str) -> Transform | None:
        """`target_from_source` along the shortest way; None if the frames are not connected."""
        target, source = _plain(target), _plain(source)
        steps: dict[str, list[tuple[str, Transform]]] = {}
        for (parent, child), transform in self.parent_from_child.items():
            steps.setdefault(child, []).append((parent, transform))
            steps.setdefault(parent, []).append((child, transform.inverse()))
        reached = {source: Transform.identity()}
        queue = deque([source])
        while queue and target not in reached:
            frame = queue.popleft()
            for neighbour, neighbour_from_frame in steps.get(frame, ()):
                if neighbour not in reached:
                    reached[neighbour] = neighbour_from_frame @ reached[frame]
                    queue.append(neighbour)
        return reached.get(target)


def _plain(frame_id: str) -> str:
    """Frame id without the leading slash that ROS 1 allowed."""
    return frame_id.removeprefix("/")
