"""The road: a curved centre line with lanes, and the paths that road users take along it.

Road coordinates are `s` (metres along the centre line) and `d` (metres to its left). Traffic keeps
right. The world is flat (z = 0); x points east and y north.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

STEP_M = 0.25
LANE_WIDTH_M = 3.5
INNER_LANE_M = LANE_WIDTH_M / 2
OUTER_LANE_M = 3 * LANE_WIDTH_M / 2
CARRIAGEWAY_M = 2 * LANE_WIDTH_M
CYCLE_STRIP_M = 7.75
KERB_M = 10.7
PARKING_M = 9.7
SIDEWALK_M = 12.2
SIDEWALK_END_M = 14.0
JUNCTION_HALF_WIDTH_M = 5.0
CROSSING_HALF_WIDTH_M = 2.0


@attrs.frozen(eq=False)
class Path:
    """A smooth planar curve, sampled every `STEP_M` metres of its own length.

    Attributes:
        x_m: (N,) float64.
        y_m: (N,) float64.
        yaw_rad: (N,) float64, direction of travel, unwrapped.
        curvature_1_m: (N,) float64, positive to the left.
        road_s_m: (N,) float64, position along the road; NaN for a path that does not follow it.
        road_d_m: (N,) float64, position to the left of the centre line; NaN as above.
    """

    x_m: FloatArray
    y_m: FloatArray
    yaw_rad: FloatArray
    curvature_1_m: FloatArray
    road_s_m: FloatArray
    road_d_m: FloatArray

    @property
    def length_m(self) -> float:
        """Length of the curve."""
        return (len(self.x_m) - 1) * STEP_M

    def at(self, u_m: npt.ArrayLike) -> Path:
        """Give the points at some lengths along the path, linear between samples.

        Args:
            u_m: (M,) metres from the start of the path; beyond its ends the end is given.

        Returns:
            The M points.
        """
        scaled = np.clip(np.asarray(u_m, dtype=np.float64) / STEP_M, 0.0, len(self.x_m) - 1)
        row = np.minimum(scaled.astype(np.int64), len(self.x_m) - 2)
        share = scaled - row
        columns = (getattr(self, field.name) for field in attrs.fields(Path))
        return Path(*(column[row] + (column[row + 1] - column[row]) * share for column in columns))

    def u_from_road_s(self, road_s_m: float) -> float:
        """Length along the path at which a position of the road is reached."""
        index = int(np.argmin(np.abs(self.road_s_m - road_s_m)))
        return index * STEP_M


@attrs.frozen(eq=False)
class Road:
    """A road with lanes, at most one crossing road an act, and pedestrian crossings.

    Attributes:
        centre: Centre line; its own length is `s`.
        crossings_m: `s` of every pedestrian crossing.
        junctions_m: `s` of every crossing road, at a right angle.
    """

    centre: Path
    crossings_m: tuple[float, ...] = ()
    junctions_m: tuple[float, ...] = ()

    def frame_at(self, s_m: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Points of the centre line and the directions to its left.

        Args:
            s_m: (N,) metres along the centre line.

        Returns:
            (N, 2) float64 points and (N, 2) float64 unit vectors.
        """
        at = self.centre.at(s_m)
        point = np.stack([at.x_m, at.y_m], -1)
        return point, np.stack([-np.sin(at.yaw_rad), np.cos(at.yaw_rad)], -1)

    def xy_from_sd(self, s_m: npt.ArrayLike, d_m: npt.ArrayLike) -> FloatArray:
        """World positions of road coordinates.

        Args:
            s_m: (N,) metres along the centre line.
            d_m: (N,) metres to its left.

        Returns:
            (N, 2) float64 x and y.
        """
        point, left = self.frame_at(s_m)
        return point + np.asarray(d_m)[..., None] * left

    def near_feature(self, s_m: float, *, margin_m: float) -> bool:
        """Whether a crossing or a junction is within `margin_m` of a position."""
        return any(abs(s_m - at) < margin_m for at in (*self.crossings_m, *self.junctions_m))


def lay_centre_line(length_m: float, *, rng: np.random.Generator) -> Path:
    """Lay a centre line of alternating curves and straights with gradual changes of curvature.

    Args:
        length_m: Length wanted.
        rng: Source of the radii and lengths.

    Returns:
        The centre line, starting at the origin.
    """
    count = int(length_m / STEP_M) + 1
    curvature = np.zeros(count)
    at, side = 0, 1.0 if rng.random() < 0.5 else -1.0
    while at < count:
        curve = int(rng.uniform(40, 70) / STEP_M)
        straight = int(rng.uniform(15, 45) / STEP_M)
        curvature[at : at + curve] = side / rng.uniform(95, 220)
        at, side = at + curve + straight, -side
    window = int(24 / STEP_M)
    kernel = np.ones(window) / window
    curvature = np.convolve(
        np.convolve(curvature, kernel, "same"), kernel[: window // 2] * 2, "same"
    )
    yaw = rng.uniform(-np.pi, np.pi) + _integrate(curvature)
    s_m = np.arange(count) * STEP_M
    return Path(
        x_m=_integrate(np.cos(yaw)),
        y_m=_integrate(np.sin(yaw)),
        yaw_rad=yaw,
        curvature_1_m=curvature,
        road_s_m=s_m,
        road_d_m=np.zeros(count),
    )


def path_beside(centre: Path, *, lateral_m: FloatArray, reverse: bool = False) -> Path:
    """Lay a path that keeps a (varying) distance to the left of a centre line.

    Args:
        centre: The centre line.
        lateral_m: (N,) metres to the left at each sample of the centre line; smooth.
        reverse: Travel against the direction of the centre line.

    Returns:
        The path, sampled evenly over its own length.
    """
    slope = np.gradient(lateral_m, STEP_M)
    along = 1.0 - centre.curvature_1_m * lateral_m
    yaw = centre.yaw_rad + np.arctan2(slope, along)
    x = centre.x_m - lateral_m * np.sin(centre.yaw_rad)
    y = centre.y_m + lateral_m * np.cos(centre.yaw_rad)
    u = _integrate(np.hypot(slope, along))
    columns = [x, y, yaw, centre.road_s_m, lateral_m]
    if reverse:
        u = (u[-1] - u)[::-1]
        columns = [column[::-1] for column in columns]
        columns[2] = columns[2] + np.pi
    even = np.arange(int(u[-1] / STEP_M) + 1) * STEP_M
    x, y, yaw, road_s, road_d = (np.interp(even, u, column) for column in columns)
    return Path(x, y, yaw, np.gradient(yaw, STEP_M), road_s, road_d)


def straight_path(start_xy: FloatArray, *, yaw_rad: float, length_m: float) -> Path:
    """Lay a straight path that does not follow the road, such as a pedestrian's way across.

    Args:
        start_xy: (2,) start.
        yaw_rad: Direction.
        length_m: Length.

    Returns:
        The path; its road coordinates are NaN.
    """
    u = np.arange(int(length_m / STEP_M) + 1) * STEP_M
    unknown = np.full(len(u), np.nan)
    return Path(
        x_m=start_xy[0] + u * np.cos(yaw_rad),
        y_m=start_xy[1] + u * np.sin(yaw_rad),
        yaw_rad=np.full(len(u), float(yaw_rad)),
        curvature_1_m=np.zeros(len(u)),
        road_s_m=unknown,
        road_d_m=unknown,
    )


def _integrate(values: FloatArray) -> FloatArray:
    """Integrate samples at STEP_M by the trapezoidal rule, starting at 0."""
    return np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2) * STEP_M])
