"""Where the flat world lies on the Earth."""

from __future__ import annotations

import numpy as np

from simulation.road import FloatArray

ORIGIN_LATITUDE_DEG = 48.7
ORIGIN_LONGITUDE_DEG = 9.1
ORIGIN_ALTITUDE_M = 410.0

_EQUATOR_M = 6_378_137.0
_ECCENTRICITY_2 = 6.694_379_990_14e-3


def geodetic_from_local(
    x_m: FloatArray, *, y_m: FloatArray, z_m: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Convert metres east, north and up of the origin to WGS 84.

    Linear in both directions with the radii of curvature at the origin: within a kilometre of it
    the error stays below a decimetre, which the simulated world does not notice, being flat.

    Args:
        x_m: (N,) metres east.
        y_m: (N,) metres north.
        z_m: (N,) metres up.

    Returns:
        Latitude and longitude in degrees, altitude in metres above the ellipsoid.
    """
    latitude = np.radians(ORIGIN_LATITUDE_DEG)
    shrink = 1.0 - _ECCENTRICITY_2 * np.sin(latitude) ** 2
    meridian_m = _EQUATOR_M * (1.0 - _ECCENTRICITY_2) / shrink**1.5
    parallel_m = _EQUATOR_M / np.sqrt(shrink) * np.cos(latitude)
    return (
        ORIGIN_LATITUDE_DEG + np.degrees(y_m / meridian_m),
        ORIGIN_LONGITUDE_DEG + np.degrees(x_m / parallel_m),
        ORIGIN_ALTITUDE_M + z_m,
    )
