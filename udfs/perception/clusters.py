"""Points that belong together, and the rectangle on the ground that holds them."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_CELL_M = 0.12
_ANGLES = np.radians(np.arange(0.0, 90.0, 2.0))
_COS, _SIN = np.cos(_ANGLES)[:, None], np.sin(_ANGLES)[:, None]
_POINTS_ENOUGH = 60
_CLOSE_M = 0.08
_RADIAL_SHARE = 0.07
_AREA = 0.05
_ASKEW = 0.2


@attrs.frozen
class Rectangle:
    """A rectangle on the ground.

    Attributes:
        yaw_rad: Direction of the first axis, in [0, π/2).
        low: (2,) least coordinate of the points along the first and the second axis.
        high: (2,) greatest.
    """

    yaw_rad: float
    low: tuple[float, float]
    high: tuple[float, float]

    def along(self, xy: FloatArray) -> FloatArray:
        """(N, 2) coordinates of points (N, 2) along its axes."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        placed = np.empty((len(xy), 2))
        placed[:, 0] = cos * xy[:, 0] + sin * xy[:, 1]
        placed[:, 1] = cos * xy[:, 1] - sin * xy[:, 0]
        return placed


def cluster_points(
    xy: FloatArray, *, min_gap_m: float, radial_gap_m: float, column_step_rad: float
) -> Int64Array:
    """Group points that are connected by steps no longer than the lidar's own spacing allows.

    Args:
        xy: (N, 2) float64 metres, sensor at the origin.
        min_gap_m: Longest step across the line of sight, close by.
        radial_gap_m: Longest step along the line of sight, far away: the side of a car that is
            seen at a grazing angle has points far apart, and so have bonnet and windscreen.
        column_step_rad: Angle between columns; twice the spacing that it makes is a step, too.

    Returns:
        (N,) int64 cluster of each point, from 0.
    """
    if len(xy) == 0:
        return np.empty(0, dtype=np.int64)
    # Points of one cell are together anyway, and close objects have thousands of pairs.
    cells, cell_of = np.unique(np.floor(xy / _CELL_M).astype(np.int64), axis=0, return_inverse=True)
    count = np.bincount(cell_of.ravel())
    centre = np.column_stack([np.bincount(cell_of.ravel(), xy[:, axis]) / count for axis in (0, 1)])
    radius = np.linalg.norm(centre, axis=1)
    across = np.maximum(min_gap_m, 2.0 * column_step_rad * radius)
    along = np.maximum(across, np.minimum(radial_gap_m, _RADIAL_SHARE * radius))
    pairs = cKDTree(centre).query_pairs(float(along.max()), output_type="ndarray")
    first, second = pairs.T
    step = np.sum((centre[first] - centre[second]) ** 2, axis=1)
    radial = (radius[first] - radius[second]) ** 2
    limits = [np.minimum(limit[first], limit[second]) ** 2 for limit in (across, along)]
    pairs = pairs[(step - radial) / limits[0] + radial / limits[1] <= 1.0]
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(cells), len(cells)))
    labels = connected_components(links, directed=False)[1]
    return np.asarray(labels[cell_of.ravel()], dtype=np.int64)


def fit_rectangle(xy: FloatArray) -> Rectangle:
    """Fit the rectangle whose sides the points are closest to.

    A lidar sees the sides that face it: an L, or one side. The angle is searched that brings the
    points nearest to a side.

    Args:
        xy: (N, 2) float64 metres, N >= 1.

    Source:
        Zhang, Xu, Dong and Dolan, "Efficient L-shape fitting for vehicle detection using laser
        scanners", 2017: the closeness criterion.
    """
    few = xy[:: max(1, len(xy) // _POINTS_ENOUGH)]
    along = np.stack([_COS * few[:, 0] + _SIN * few[:, 1], _COS * few[:, 1] - _SIN * few[:, 0]])
    low, high = along.min(axis=2), along.max(axis=2)  # (axes, angles)
    middle = along.mean(axis=2)
    # The side that faces the lidar is the one that the points crowd at.
    near_low = middle - low < high - middle
    to_side = np.where(near_low[..., None], along - low[..., None], high[..., None] - along)
    score = np.sum(1.0 / np.maximum(to_side.min(axis=0), _CLOSE_M), axis=1)
    # Many angles fit a few points as well: of those a small rectangle, and one along or across the
    # way ahead, as road users mostly are.
    area = np.prod(np.maximum(high - low, 0.1), axis=0)
    doubt = _AREA * area / area.min() + _ASKEW * np.sin(2 * _ANGLES) ** 2
    best = int(np.argmax(score / score.max() - doubt))
    rectangle = Rectangle(float(_ANGLES[best]), (0.0, 0.0), (0.0, 0.0))
    ends = rectangle.along(xy)
    low_all, high_all = ends.min(axis=0).tolist(), ends.max(axis=0).tolist()
    return attrs.evolve(rectangle, low=tuple(low_all), high=tuple(high_all))
