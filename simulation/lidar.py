"""The spinning lidar on the roof: casts every ray at its own instant from a moving car.

A sweep starts 60 degrees left of the front and turns clockwise seen from above, as most lidars do:
it passes the front 17 ms after its start, when the camera exposes. Points are in the sensor's frame
at the instant of their own ray, as a real sensor reports them.
"""

from __future__ import annotations

import math

import attrs
import numpy as np

from contracts.recording import Int64Array
from simulation.actors import Actor
from simulation.motion import Trajectory
from simulation.plan import DrivePlan
from simulation.rig import LIDAR_MOUNT, LIDAR_PERIOD_NS
from simulation.road import FloatArray
from simulation.scenery import Boxes

COLUMNS = 512
RINGS_DEG = np.concatenate([np.linspace(-24.0, -9.0, 10), np.linspace(-8.0, 3.5, 20)])
START_AZIMUTH_RAD = np.radians(60.0)
MAX_RANGE_M = 100.0
MIN_RANGE_M = 1.5
RANGE_NOISE_M = 0.02

POINT_DTYPE = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("t", "<u4")]
)

_GROUND, _SCENERY = -1, 0
_NOTHING = -2
_WEATHER_LOSS_1_M = {"clear": 0.0008, "rain": 0.004, "fog": 0.012}
_WEATHER_ECHO = {"clear": 0.0, "rain": 0.002, "fog": 0.008}
_REFLECTIVITY = {"car": 60.0, "truck": 75.0, "pedestrian": 35.0, "cyclist": 40.0}
_SLACK_RAD = np.radians(4.0)
_MIN_SLOPE = 1e-9
_GROUND_REFLECTIVITY = 18.0
_SWEEP_TRAVEL_M = 2.0


@attrs.frozen(eq=False)
class Sweep:
    """One turn of the lidar.

    Attributes:
        t_ns: Start of the sweep, UTC.
        points: (N,) of `POINT_DTYPE`, in order of time; t is nanoseconds after the start.
        hits: Number of points by object_id.
    """

    t_ns: int
    points: np.ndarray
    hits: dict[int, int]


@attrs.frozen(eq=False)
class Solid:
    """An upright box at every column of a sweep, in world coordinates.

    Attributes:
        object_id: Road user, or 0.
        x_m: (C,) centre.
        y_m: (C,) centre.
        yaw_rad: (C,) heading.
        half_length_m: Half the extent along the heading.
        half_width_m: Half the extent across it.
        bottom_m: Height of the bottom face.
        top_m: Height of the top face.
        reflectivity: Mean intensity of its echoes.
        moves_m: How far it can get from where it is at mid-sweep.
    """

    object_id: int
    x_m: FloatArray
    y_m: FloatArray
    yaw_rad: FloatArray
    half_length_m: float
    half_width_m: float
    bottom_m: float
    top_m: float
    reflectivity: float
    moves_m: float = 0.0


@attrs.frozen(eq=False)
class Rays:
    """Where the rays of each column of a sweep start and point, in the world; arrays are (C,)."""

    x_m: FloatArray
    y_m: FloatArray
    bearing_rad: FloatArray


@attrs.frozen(eq=False)
class Returns:
    """The nearest thing on each ray so far; arrays are (columns, rings) and change."""

    range_m: FloatArray
    owner: np.ndarray
    intensity: FloatArray


class Lidar:
    """Casts the sweeps of one drive."""

    def __init__(self, plan: DrivePlan) -> None:
        """Prepare the rays.

        Args:
            plan: The drive.
        """
        self.plan = plan
        turn = np.arange(COLUMNS) / COLUMNS
        self.azimuth_rad = START_AZIMUTH_RAD - 2 * np.pi * turn
        self.column_ns: Int64Array = np.rint(turn * LIDAR_PERIOD_NS).astype(np.int64)
        self.elevation_rad = np.radians(RINGS_DEG)
        self.level, self.rise = np.cos(self.elevation_rad), np.sin(self.elevation_rad)
        self.fixed, self.fixed_reach_m = _fixed_solids(plan)
        self.fixed_xy = np.array([(solid.x_m[0], solid.y_m[0]) for solid in self.fixed])

    def sweep(self, t_ns: int, *, number: int) -> Sweep:
        """Cast one sweep.

        Args:
            t_ns: Its start, UTC.
            number: Number of the sweep in the drive; picks the noise.

        Returns:
            The sweep.
        """
        rng = self.plan.stream("lidar", number)
        ego = self.plan.ego.at(t_ns + self.column_ns)
        mount_x = LIDAR_MOUNT.xyz_m[0]
        rays = Rays(
            x_m=ego.x_m + mount_x * np.cos(ego.yaw_rad),
            y_m=ego.y_m + mount_x * np.sin(ego.yaw_rad),
            bearing_rad=ego.yaw_rad + self.azimuth_rad,
        )
        returns = self._ground()
        for solid in self._nearby(ego):
            self._cast(solid, rays=rays, returns=returns)
        return self._measure(t_ns, returns, rng=rng)

    def _ground(self) -> Returns:
        """The returns of an empty plane."""
        down = np.maximum(-self.rise, _MIN_SLOPE)
        flat = np.where(self.rise < -_MIN_SLOPE, LIDAR_MOUNT.xyz_m[2] / down, np.inf)
        shape = (COLUMNS, len(flat))
        owner = np.where(flat < MAX_RANGE_M, _GROUND, _NOTHING)
        return Returns(
            range_m=np.broadcast_to(flat, shape).copy(),
            owner=np.broadcast_to(owner, shape).copy(),
            intensity=np.full(shape, _GROUND_REFLECTIVITY),
        )

    def _nearby(self, ego: Trajectory) -> list[Solid]:
        """Solids within range, road users where they are at every column's instant."""
        here = np.array([ego.x_m[0], ego.y_m[0]])
        near = np.hypot(*(self.fixed_xy - here).T) < self.fixed_reach_m
        solids = [self.fixed[index] for index in np.flatnonzero(near)]
        states = self.plan.motions.at(int(ego.t_ns[0]))
        away = np.hypot(states.x_m - here[0], states.y_m - here[1])
        for row in np.flatnonzero(away < MAX_RANGE_M):
            solids += _solids_of(self.plan.actors[row], t_ns=ego.t_ns)
        return solids

    def _cast(self, solid: Solid, *, rays: Rays, returns: Returns) -> None:
        """Shorten the rays that meet a solid."""
        columns = _columns_towards(solid, rays=rays)
        if len(columns) == 0:
            return
        pick = columns if len(solid.x_m) > 1 else 0
        heading = solid.yaw_rad[pick]
        dx, dy = rays.x_m[columns] - solid.x_m[pick], rays.y_m[columns] - solid.y_m[pick]
        cos, sin = np.cos(heading), np.sin(heading)
        bearing = rays.bearing_rad[columns] - heading
        ahead = np.cos(bearing)[:, None] * self.level
        aside = np.sin(bearing)[:, None] * self.level
        near_x, far_x = _slab((cos * dx + sin * dy)[:, None], ahead, half_m=solid.half_length_m)
        near_y, far_y = _slab((cos * dy - sin * dx)[:, None], aside, half_m=solid.half_width_m)
        middle_z, half_z = (solid.top_m + solid.bottom_m) / 2, (solid.top_m - solid.bottom_m) / 2
        above = np.array(LIDAR_MOUNT.xyz_m[2] - middle_z)
        near_z, far_z = _slab(above, self.rise, half_m=half_z)
        enter = np.maximum(np.maximum(near_x, near_y), near_z)
        leave = np.minimum(np.minimum(far_x, far_y), far_z)
        hit = (enter <= leave) & (enter > MIN_RANGE_M) & (enter < returns.range_m[columns])
        row, ring = np.nonzero(hit)
        returns.range_m[columns[row], ring] = enter[row, ring]
        returns.owner[columns[row], ring] = solid.object_id
        returns.intensity[columns[row], ring] = solid.reflectivity

    def _measure(self, t_ns: int, returns: Returns, *, rng: np.random.Generator) -> Sweep:
        """Turn ideal ranges into what a sensor reports: noise, lost echoes, echoes of rain."""
        weather = self.plan.conditions.weather
        range_m = returns.range_m
        ideal = np.minimum(range_m, MAX_RANGE_M)
        echo = rng.random(range_m.shape) < _WEATHER_ECHO[weather] * np.exp(-0.02 * ideal)
        drop_m = rng.uniform(MIN_RANGE_M, 12.0, range_m.shape)
        echo &= drop_m < range_m
        lost = rng.random(range_m.shape) > np.exp(-_WEATHER_LOSS_1_M[weather] * ideal) * 0.995
        kept = echo | ((range_m < MAX_RANGE_M) & ~lost)
        measured = np.where(echo, drop_m, range_m) + rng.normal(0, RANGE_NOISE_M, range_m.shape)
        bright = np.where(echo, 3.0, returns.intensity) * rng.uniform(0.8, 1.2, range_m.shape)
        column, ring = np.nonzero(kept)
        points = np.zeros(len(column), POINT_DTYPE)
        distance = measured[column, ring]
        flat = distance * self.level[ring]
        points["x"] = flat * np.cos(self.azimuth_rad[column])
        points["y"] = flat * np.sin(self.azimuth_rad[column])
        points["z"] = distance * self.rise[ring]
        points["intensity"] = np.rint(bright[column, ring])
        points["t"] = self.column_ns[column]
        owners = np.where(echo, _NOTHING, returns.owner)[column, ring]
        ids, counts = np.unique(owners[owners > 0], return_counts=True)
        hits = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        return Sweep(t_ns, points, hits)


def _columns_towards(solid: Solid, *, rays: Rays) -> Int64Array:
    """Columns whose rays could meet a solid, by its circumscribed circle at mid-sweep."""
    middle = COLUMNS // 2
    at = middle if len(solid.x_m) > 1 else 0
    dx, dy = solid.x_m[at] - rays.x_m[middle], solid.y_m[at] - rays.y_m[middle]
    distance = math.hypot(dx, dy)
    radius = math.hypot(solid.half_length_m, solid.half_width_m) + solid.moves_m
    if distance <= radius:
        return np.arange(COLUMNS)
    first = math.asin(radius / distance) + _SLACK_RAD
    # Columns turn clockwise from the first; the ego's own turn in 0.1 s is within the slack.
    lead = float(rays.bearing_rad[0]) - math.atan2(dy, dx)
    centre = (lead % (2 * math.pi)) / (2 * math.pi) * COLUMNS
    reach = first / (2 * math.pi) * COLUMNS
    span = np.arange(math.floor(centre - reach), math.ceil(centre + reach) + 1)
    return np.unique(span % COLUMNS)


def _slab(
    start: FloatArray, direction: FloatArray, *, half_m: float
) -> tuple[FloatArray, FloatArray]:
    """Where rays enter and leave the space within `half_m` of a plane.

    Args:
        start: Signed distance of the ray's origin from the plane.
        direction: The ray's direction across the plane.
        half_m: Half the width of the space.

    Returns:
        Distances along the rays.
    """
    safe = np.where(np.abs(direction) < _MIN_SLOPE, _MIN_SLOPE, direction)
    middle, half = -start / safe, np.abs(half_m / safe)
    return middle - half, middle + half


def _solids_of(actor: Actor, *, t_ns: Int64Array) -> list[Solid]:
    """The boxes of a road user at the instants of the columns."""
    path = actor.trajectory.at(t_ns)
    cos, sin = np.cos(path.yaw_rad), np.sin(path.yaw_rad)
    return [
        Solid(
            object_id=actor.object_id,
            x_m=path.x_m + along * cos,
            y_m=path.y_m + along * sin,
            yaw_rad=path.yaw_rad,
            half_length_m=length / 2,
            half_width_m=width / 2,
            bottom_m=bottom * actor.size.height_m,
            top_m=top * actor.size.height_m,
            reflectivity=_REFLECTIVITY[actor.class_name],
            moves_m=_SWEEP_TRAVEL_M,
        )
        for along, length, width, bottom, top in _parts_of(actor)
    ]


def _parts_of(actor: Actor) -> tuple[tuple[float, float, float, float, float], ...]:
    """Boxes that make up a road user: offset along x, length, width, bottom and top (shares)."""
    length_m, width_m = actor.size.length_m, actor.size.width_m
    if actor.class_name == "car":
        body = (0.0, length_m, width_m, 0.12, 0.56)
        cabin = (-0.12 * length_m, 0.56 * length_m, 0.86 * width_m, 0.56, 1.0)
        return body, cabin
    if actor.class_name == "truck":
        cab = (length_m / 2 - 0.95, 1.9, 0.97 * width_m, 0.13, 0.82)
        cargo = (-1.02, length_m - 2.05, width_m, 0.16, 1.0)
        return cab, cargo
    if actor.class_name == "cyclist":
        bicycle = (0.0, length_m, 0.12, 0.0, 0.55)
        rider = (0.0, 0.65, 0.45, 0.45, 1.0)
        return bicycle, rider
    return ((0.0, 0.75 * length_m, 0.85 * width_m, 0.0, 1.0),)


def _fixed_solids(plan: DrivePlan) -> tuple[list[Solid], FloatArray]:
    """Houses, trunks, crowns and lamp posts, and from how far each is worth casting at."""
    scenery = plan.scenery
    groups = [
        (100.0, _standing(scenery.buildings, bottom=0.0, top=1.0, width_m=None, reflectivity=30.0)),
        (55.0, _standing(scenery.trees, bottom=0.0, top=0.38, width_m=0.34, reflectivity=25.0)),
        (75.0, _standing(scenery.trees, bottom=0.34, top=0.95, width_m=2.4, reflectivity=22.0)),
        (40.0, _standing(scenery.lamps, bottom=0.0, top=1.0, width_m=0.14, reflectivity=70.0)),
    ]
    reach = np.concatenate([np.full(len(solids), reach_m) for reach_m, solids in groups])
    return [solid for _, solids in groups for solid in solids], reach


def _standing(
    boxes: Boxes, *, bottom: float, top: float, width_m: float | None, reflectivity: float
) -> list[Solid]:
    """Solids of one kind of scenery; a given width replaces both horizontal extents."""
    return [
        Solid(
            object_id=_SCENERY,
            x_m=boxes.x_m[index : index + 1],
            y_m=boxes.y_m[index : index + 1],
            yaw_rad=boxes.yaw_rad[index : index + 1],
            half_length_m=(width_m or float(boxes.length_m[index])) / 2,
            half_width_m=(width_m or float(boxes.width_m[index])) / 2,
            bottom_m=bottom * float(boxes.height_m[index]),
            top_m=top * float(boxes.height_m[index]),
            reflectivity=reflectivity,
        )
        for index in range(len(boxes.x_m))
    ]
