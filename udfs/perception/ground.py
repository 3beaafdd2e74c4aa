"""Which points of a sweep are the ground, and how high the others are above it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_NEAR_M = 40.0
_START_M = 0.6
_FINAL_M = 0.12
_ROUNDS = 6
_MIN_POINTS = 50


def height_above_ground(points: FloatArray) -> FloatArray:
    """Height of every point above the plane of the road.

    The plane is fitted to the points that lie near the plane of `base_link`, then near the fit, in
    a band that narrows; points below count more, since nothing is under a road.

    Args:
        points: (N, 3) float64 in base_link.

    Returns:
        (N,) float64 metres; plain z where there are too few points to fit.
    """
    plane = np.zeros(3)
    x, y, z = points.T
    near = np.hypot(x, y) < _NEAR_M
    for band in np.geomspace(_START_M, _FINAL_M, _ROUNDS):
        residual = z - (plane[0] * x + plane[1] * y + plane[2])
        chosen = near & (residual < band / 2) & (residual > -band)
        if np.count_nonzero(chosen) < _MIN_POINTS:
            break
        design = np.column_stack([x[chosen], y[chosen], np.ones(np.count_nonzero(chosen))])
        plane = np.linalg.lstsq(design, z[chosen], rcond=None)[0]
    return np.asarray(z - (plane[0] * x + plane[1] * y + plane[2]), dtype=np.float64)
