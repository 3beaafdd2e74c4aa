"""A sweep takes a tenth of a second: bring its points to one instant of the moving vehicle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def points_at_instant(
    points: FloatArray,
    *,
    elapsed_ns: npt.NDArray[np.int64],
    speed_m_s: float,
    yaw_rate_rad_s: float,
) -> FloatArray:
    """Express points that were seen while the vehicle moved in base_link of one instant.

    The vehicle drives a circle; the world is taken to stand still.

    Args:
        points: (N, 3) float64 in base_link at the time each was seen.
        elapsed_ns: (N,) int64, that time minus the instant.
        speed_m_s: Speed of the vehicle.
        yaw_rate_rad_s: Its yaw rate.

    Returns:
        (N, 3) float64 in base_link at the instant.
    """
    elapsed_s = elapsed_ns / 1e9
    turn = yaw_rate_rad_s * elapsed_s
    travelled = speed_m_s * elapsed_s
    # Chord of the circle: sin(x)/x stays defined on a straight road.
    chord = travelled * np.sinc(turn / (2 * np.pi))
    cos, sin = np.cos(turn), np.sin(turn)
    x = cos * points[:, 0] - sin * points[:, 1] + chord * np.cos(turn / 2)
    y = sin * points[:, 0] + cos * points[:, 1] + chord * np.sin(turn / 2)
    return np.column_stack([x, y, points[:, 2]])
