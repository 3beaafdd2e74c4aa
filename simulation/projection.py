"""3D boxes and their 2D outlines in the image."""

from __future__ import annotations

import cv2
import numpy as np

from simulation.rig import Camera
from simulation.road import FloatArray

NEAR_M = 0.4

_CORNERS = np.array(
    [[x, y, z] for z in (0.0, 1.0) for x, y in ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))]
)
_EDGES = np.array(
    [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)]
)


def box_corners(xyz_m: FloatArray, *, yaw_rad: FloatArray, size_m: FloatArray) -> FloatArray:
    """Corners of upright boxes.

    Args:
        xyz_m: (N, 3) centres of the bottom faces.
        yaw_rad: (N,) headings.
        size_m: (N, 3) length, width, height.

    Returns:
        (N, 8, 3): the bottom face, then the top face, each counter-clockwise from the front left.
    """
    local = _CORNERS[None] * size_m[:, None]
    cos, sin = np.cos(yaw_rad)[:, None], np.sin(yaw_rad)[:, None]
    x = cos * local[..., 0] - sin * local[..., 1]
    y = sin * local[..., 0] + cos * local[..., 1]
    return np.stack([x, y, local[..., 2]], -1) + xyz_m[:, None]


def clip_polygon(points_camera: FloatArray) -> FloatArray:
    """Cut off the part of a convex polygon that is closer to the camera's plane than `NEAR_M`.

    Args:
        points_camera: (K, 3) corners in order, optical frame.

    Returns:
        (M, 3) corners; M may be 0.
    """
    depth = points_camera[:, 2] - NEAR_M
    if depth.min() >= 0:
        return points_camera
    if depth.max() < 0:
        return np.empty((0, 3))
    following = np.roll(points_camera, -1, axis=0)
    next_depth = np.roll(depth, -1)
    kept: list[FloatArray] = []
    for point, after, here, there in zip(points_camera, following, depth, next_depth, strict=True):
        if here >= 0:
            kept.append(point)
        if (here >= 0) != (there >= 0):
            kept.append(point + (after - point) * here / (here - there))
    return np.array(kept).reshape(-1, 3)


def box_outline_points(corners_camera: FloatArray, *, camera: Camera) -> FloatArray:
    """Pixels of the corners of a box, with those behind the camera replaced by where edges leave.

    Args:
        corners_camera: (8, 3) corners in the optical frame.
        camera: The camera.

    Returns:
        (M, 2) pixels whose convex hull is the outline; M is 0 when the box is behind the camera.
    """
    depth = corners_camera[:, 2] - NEAR_M
    points = corners_camera[depth >= 0]
    start, end = corners_camera[_EDGES[:, 0]], corners_camera[_EDGES[:, 1]]
    d0, d1 = depth[_EDGES[:, 0]], depth[_EDGES[:, 1]]
    cut = (d0 >= 0) != (d1 >= 0)
    if cut.any():
        share = (d0[cut] / (d0[cut] - d1[cut]))[:, None]
        points = np.concatenate([points, start[cut] + (end[cut] - start[cut]) * share])
    return camera.project(points)


def clipped_box2d(
    outline: FloatArray, *, camera: Camera
) -> tuple[float, float, float, float] | None:
    """The axis-aligned box around the part of an outline that lies inside the image.

    Args:
        outline: (M, 2) pixels; their convex hull counts.
        camera: The camera.

    Returns:
        x0, y0, x1, y1 in pixels, or None when nothing of it is inside the image.
    """
    if len(outline) == 0:
        return None
    hull = cv2.convexHull(outline.astype(np.float32))
    width, height = camera.width, camera.height
    image = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    area, inside = cv2.intersectConvexConvex(hull, image)
    if area <= 0:
        return None
    low, high = inside[:, 0].min(axis=0), inside[:, 0].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
