"""Boxes: upright cuboids on the ground and rectangles in an image, and how far they agree."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Boxes:
    """N upright boxes in base_link (x forward, y left, z up).

    Attributes:
        centre: (N, 3) float64, metres.
        yaw_rad: (N,) float64, heading.
        size: (N, 3) float64 length, width, height, metres.
    """

    centre: FloatArray
    yaw_rad: FloatArray
    size: FloatArray

    def __len__(self) -> int:
        return len(self.yaw_rad)

    def corners(self) -> FloatArray:
        """(N, 8, 3) corners: the floor counter-clockwise from front left, then the roof."""
        ahead = np.array([1, -1, -1, 1, 1, -1, -1, 1]) / 2
        left = np.array([1, 1, -1, -1, 1, 1, -1, -1]) / 2
        up = np.array([-1, -1, -1, -1, 1, 1, 1, 1]) / 2
        local = self.size[:, None, :] * np.stack([ahead, left, up], axis=-1)[None]
        cos, sin = np.cos(self.yaw_rad)[:, None], np.sin(self.yaw_rad)[:, None]
        x = local[..., 0] * cos - local[..., 1] * sin
        y = local[..., 0] * sin + local[..., 1] * cos
        return np.stack([x, y, local[..., 2]], axis=-1) + self.centre[:, None, :]

    def footprints(self) -> FloatArray:
        """(N, 4, 2) corners seen from above, counter-clockwise."""
        return self.corners()[:, :4, :2]

    def contain(self, points: FloatArray, *, margin_m: float = 0.0) -> npt.NDArray[np.bool_]:
        """Which points are in which box.

        Args:
            points: (P, 3) float64.
            margin_m: How much larger the boxes are taken to every side.

        Returns:
            (N, P) bool.
        """
        offset = points[None, :, :] - self.centre[:, None, :]
        cos, sin = np.cos(self.yaw_rad)[:, None], np.sin(self.yaw_rad)[:, None]
        ahead = offset[..., 0] * cos + offset[..., 1] * sin
        left = offset[..., 1] * cos - offset[..., 0] * sin
        half = self.size[:, None, :] / 2 + margin_m
        inside = np.abs(np.stack([ahead, left, offset[..., 2]], axis=-1)) <= half
        return np.asarray(inside.all(axis=-1))


def iou_2d(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of rectangles.

    Args:
        a: (N, 4) float64 left, top, right, bottom, ends exclusive.
        b: (M, 4) float64.

    Returns:
        (N, M) float64 in [0, 1]; 0 where either is NaN or empty.
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=-1)
    union = np.prod(a[:, 2:] - a[:, :2], axis=-1)[:, None]
    union = union + np.prod(b[:, 2:] - b[:, :2], axis=-1)[None, :] - common
    overlaps = (common > 0) & (union > 0)  # False for NaN
    return np.divide(common, union, out=np.zeros_like(union), where=overlaps)


def iou_bev(a: Boxes, b: Boxes) -> FloatArray:
    """Intersection over union of footprints, seen from above.

    Args:
        a: N boxes.
        b: M boxes.

    Returns:
        (N, M) float64 in [0, 1].
    """
    result = np.zeros((len(a), len(b)))
    reach_a, reach_b = (np.hypot(each.size[:, 0], each.size[:, 1]) / 2 for each in (a, b))
    distance = np.linalg.norm(a.centre[:, None, :2] - b.centre[None, :, :2], axis=-1)
    area_a, area_b = (each.size[:, 0] * each.size[:, 1] for each in (a, b))
    feet_a, feet_b = a.footprints(), b.footprints()
    for i, j in np.argwhere(distance < reach_a[:, None] + reach_b[None, :]):
        common = _area(_clip(feet_a[i], feet_b[j]))
        result[i, j] = common / max(area_a[i] + area_b[j] - common, 1e-12)
    return result


def _clip(subject: FloatArray, window: FloatArray) -> FloatArray:
    """Cut a convex polygon (K, 2) by another one (4, 2), both counter-clockwise.

    Source:
        Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    """
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        if len(subject) == 0:
            break
        edge = end - start
        side = edge[0] * (subject[:, 1] - start[1]) - edge[1] * (subject[:, 0] - start[0])
        kept = []
        for i in range(len(subject)):
            j = (i + 1) % len(subject)
            if side[i] >= 0:
                kept.append(subject[i])
            if (side[i] >= 0) != (side[j] >= 0):
                share = side[i] / (side[i] - side[j])
                kept.append(subject[i] + share * (subject[j] - subject[i]))
        subject = np.array(kept).reshape(-1, 2)
    return subject


def _area(polygon: FloatArray) -> float:
    """Area of a polygon (K, 2), counter-clockwise."""
    if len(polygon) < 3:
        return 0.0
    x, y = polygon.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)
