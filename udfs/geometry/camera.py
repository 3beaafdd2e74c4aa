"""A pinhole camera with lens distortion, and the rectangle that a box covers in its image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from udfs.geometry.boxes import Boxes
from udfs.geometry.transforms import Transform

FloatArray = npt.NDArray[np.float64]

_NEAR_M = 0.1
_EDGES = np.array(
    [
        *((0, 1), (1, 2), (2, 3), (3, 0)),
        *((4, 5), (5, 6), (6, 7), (7, 4)),
        *((0, 4), (1, 5), (2, 6), (3, 7)),
    ]
)


@attrs.frozen(eq=False)
class Pinhole:
    """Intrinsics of a camera; its frame is optical: z forward, x right, y down.

    Attributes:
        width_px: Columns.
        height_px: Rows.
        matrix: (3, 3) float64, the intrinsic matrix K.
        distortion: (5,) float64: k1, k2, p1, p2, k3 of the plumb-bob model; zeros if none.

    Source:
        REP-104; sensor_msgs/CameraInfo.
    """

    width_px: int
    height_px: int
    matrix: FloatArray
    distortion: FloatArray = attrs.field(factory=lambda: np.zeros(5))

    @classmethod
    def from_camera_info(cls, row: Mapping[str, Any]) -> Pinhole | None:
        """Build it from a row of `silver.sensor_msgs_camerainfo`.

        ROS 1 spells the matrices in capitals. None for a camera that is not calibrated (K[0] of
        zero) and for distortion models other than plumb_bob.
        """
        plain = {name.lower(): value for name, value in row.items()}
        matrix = np.array(plain["k"], dtype=np.float64)
        model = plain.get("distortion_model") or ""
        if matrix.shape != (9,) or matrix[0] == 0.0 or model not in {"", "plumb_bob"}:
            return None
        given = np.array(plain.get("d") or [], dtype=np.float64)[:5]
        distortion = np.pad(given, (0, 5 - len(given)))
        return cls(int(plain["width"]), int(plain["height"]), matrix.reshape(3, 3), distortion)

    def project(self, points: FloatArray) -> FloatArray:
        """Project points that lie in front of the camera.

        Args:
            points: (..., 3) float64 in the camera's optical frame, z > 0.

        Returns:
            (..., 2) float64 pixels; the centre of the first pixel is (0, 0).
        """
        x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        k = self.matrix
        return np.stack([k[0, 0] * u + k[0, 1] * v + k[0, 2], k[1, 1] * v + k[1, 2]], axis=-1)


def project_boxes(boxes: Boxes, *, camera: Pinhole, camera_from_base: Transform) -> FloatArray:
    """Rectangles that boxes cover in the image.

    Edges are cut at the near plane, so a box that reaches behind the camera projects right.

    Args:
        boxes: In base_link.
        camera: Intrinsics.
        camera_from_base: Where the camera sits.

    Returns:
        (N, 4) float64 left, top, right, bottom in pixels, right and bottom exclusive, clipped to
        the image; NaN where nothing of the box is in it.
    """
    corners = camera_from_base.apply(boxes.corners())
    rectangles = np.full((len(boxes), 4), np.nan)
    for i, box in enumerate(corners):
        visible = _in_front(box)
        if len(visible) == 0:
            continue
        pixels = camera.project(visible)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        size = np.array([camera.width_px, camera.height_px], dtype=np.float64)
        if np.all(high > 0.0) and np.all(low < size):
            rectangles[i] = [*np.clip(low, 0.0, size), *np.clip(high, 0.0, size)]
    return rectangles


def _in_front(corners: FloatArray) -> FloatArray:
    """(M, 3) vertices of the part of a box (8, 3) that is in front of the near plane."""
    start, end = corners[_EDGES[:, 0]], corners[_EDGES[:, 1]]
    crosses = (start[:, 2] < _NEAR_M) != (end[:, 2] < _NEAR_M)
    start, end = start[crosses], end[crosses]
    share = (_NEAR_M - start[:, 2]) / (end[:, 2] - start[:, 2])
    cut = start + share[:, None] * (end - start)
    return np.concatenate([corners[corners[:, 2] >= _NEAR_M], cut])
