"""The spinning lidar on the roof: casts every ray at its own instant from a moving car.

A sweep starts 60 degrees left of the front and turns clockwise seen from above, as most lidars do, so
it passes the front 17 ms after its start: when the camera exposes. Points are in the sensor's frame
at the instant of their own ray, as a real sensor reports them.
"""

from __future__ import annotations

import attrs
import numpy as np

from contracts.recording import Int64Array
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
_SLACK_RAD = np.radians(3.0)
_MIN_SLOPE = 1e-9


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
        self.fixed = _fixed_solids(plan)
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
        range_m, owner, reflectivity = self._ground()
        for solid in self._nearby(ego):
            self._cast(solid, ego=ego, range_m=range_m, owner=owner, reflectivity=reflectivity)
        return self._measure(t_ns, range_m, owner, reflectivity, rng=rng)

    def _ground(self) -> tuple[FloatArray, np.ndarray, FloatArray]:
        """Ranges, owners and intensities of (columns, rings) on an empty plane."""
        down = -np.sin(self.elevation_rad)
        height = LIDAR_MOUNT.xyz_m[2]
        flat = np.where(down > _MIN_SLOPE, height / np.maximum(down, _MIN_SLOPE), np.inf)
        shape = (COLUMNS, len(flat))
        range_m = np.broadcast_to(flat, shape).copy()
        owner = np.where(range_m < MAX_RANGE_M, _GROUND, _NOTHING)
        return range_m, owner, np.full(shape, 18.0)

    def _nearby(self, ego: Trajectory) -> list[Solid]:
        """Solids within range, road users where they are at every column's instant."""
        here = np.array([ego.x_m[0], ego.y_m[0]])
        near = np.hypot(*(self.fixed_xy - here).T) < MAX_RANGE_M
        solids = [self.fixed[index] for index in np.flatnonzero(near)]
        for actor in self.plan.actors:
            path = actor.trajectory.at(ego.t_ns)
            if np.hypot(path.x_m[0] - here[0], path.y_m[0] - here[1]) < MAX_RANGE_M:
                for part in _parts_of(actor.class_name, actor.size.length_m, actor.size.width_m):
                    along, length, width, bottom, top = part
                    solids.append(
                        Solid(
                            object_id=actor.object_id,
                            x_m=path.x_m + along * np.cos(path.yaw_rad),
                            y_m=path.y_m + along * np.sin(path.yaw_rad),
                            yaw_rad=path.yaw_rad,
                            half_length_m=length / 2,
                            half_width_m=width / 2,
                            bottom_m=bottom * actor.size.height_m,
                            top_m=top * actor.size.height_m,
                            reflectivity=_REFLECTIVITY[actor.class_name],
                        )
                    )
        return solids

    def _cast(
        self,
        solid: Solid,
        *,
        ego: Trajectory,
        range_m: FloatArray,
        owner: np.ndarray,
        reflectivity: FloatArray,
    ) -> None:
        """Shorten the rays that meet a solid; the three (columns, rings) arrays change."""
        mount_x, _, mount_z = LIDAR_MOUNT.xyz_m
        origin_x = ego.x_m + mount_x * np.cos(ego.yaw_rad)
        origin_y = ego.y_m + mount_x * np.sin(ego.yaw_rad)
        columns = self._columns_towards(solid, ego=ego, origin_x=origin_x, origin_y=origin_y)
        if len(columns) == 0:
            return
        pick = columns % len(solid.x_m)
        heading = solid.yaw_rad[pick]
        dx, dy = origin_x[columns] - solid.x_m[pick], origin_y[columns] - solid.y_m[pick]
        cos, sin = np.cos(heading), np.sin(heading)
        start = (cos * dx + sin * dy, cos * dy - sin * dx)
        bearing = ego.yaw_rad[columns] + self.azimuth_rad[columns] - heading
        flat = np.cos(self.elevation_rad)
        ray_x = np.cos(bearing)[:, None] * flat
        ray_y = np.sin(bearing)[:, None] * flat
        rise = np.sin(self.elevation_rad)[None, :]
        near_x, far_x = _slab(start[0][:, None], ray_x, -solid.half_length_m, solid.half_length_m)
        near_y, far_y = _slab(start[1][:, None], ray_y, -solid.half_width_m, solid.half_width_m)
        near_z, far_z = _slab(np.full((1, 1), mount_z), rise, solid.bottom_m, solid.top_m)
        enter = np.maximum(np.maximum(near_x, near_y), near_z)
        leave = np.minimum(np.minimum(far_x, far_y), far_z)
        hit = (enter <= leave) & (enter > MIN_RANGE_M) & (enter < range_m[columns])
        row, ring = np.nonzero(hit)
        range_m[columns[row], ring] = enter[row, ring]
        owner[columns[row], ring] = solid.object_id
        reflectivity[columns[row], ring] = solid.reflectivity

    def _columns_towards(
        self, solid: Solid, *, ego: Trajectory, origin_x: FloatArray, origin_y: FloatArray
    ) -> Int64Array:
        """Columns whose rays could meet a solid, by its circumscribed circle at mid-sweep."""
        middle = COLUMNS // 2
        at = middle % len(solid.x_m)
        dx, dy = solid.x_m[at] - origin_x[middle], solid.y_m[at] - origin_y[middle]
        distance = float(np.hypot(dx, dy))
        radius = float(np.hypot(solid.half_length_m, solid.half_width_m)) + 2.0
        if distance <= radius:
            return np.arange(COLUMNS)
        bearing = np.arctan2(dy, dx) - ego.yaw_rad[middle]
        off = np.abs((self.azimuth_rad - bearing + np.pi) % (2 * np.pi) - np.pi)
        return np.flatnonzero(off < np.arcsin(radius / distance) + _SLACK_RAD)

    def _measure(
        self,
        t_ns: int,
        range_m: FloatArray,
        owner: np.ndarray,
        reflectivity: FloatArray,
        *,
        rng: np.random.Generator,
    ) -> Sweep:
        """Turn ideal ranges into what a sensor reports: noise, lost echoes, echoes of rain."""
        weather = self.plan.conditions.weather
        ideal = np.minimum(range_m, MAX_RANGE_M)
        echo = rng.random(range_m.shape) < _WEATHER_ECHO[weather] * np.exp(-0.02 * ideal)
        drop_m = rng.uniform(MIN_RANGE_M, 12.0, range_m.shape)
        echo &= drop_m < range_m
        lost = rng.random(range_m.shape) > np.exp(-_WEATHER_LOSS_1_M[weather] * ideal) * 0.995
        kept = echo | ((range_m < MAX_RANGE_M) & ~lost)
        measured = np.where(echo, drop_m, range_m) + rng.normal(0, RANGE_NOISE_M, range_m.shape)
        bright = np.where(echo, 3.0, reflectivity) * rng.uniform(0.8, 1.2, range_m.shape)
        column, ring = np.nonzero(kept)
        points = np.zeros(len(column), POINT_DTYPE)
        distance = measured[column, ring]
        flat = distance * np.cos(self.elevation_rad[ring])
        points["x"] = flat * np.cos(self.azimuth_rad[column])
        points["y"] = flat * np.sin(self.azimuth_rad[column])
        points["z"] = distance * np.sin(self.elevation_rad[ring])
        points["intensity"] = np.rint(bright[column, ring])
        points["t"] = self.column_ns[column]
        owners = np.where(echo, _NOTHING, owner)[column, ring]
        ids, counts = np.unique(owners[owners > 0], return_counts=True)
        hits = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        return Sweep(t_ns, points, hits)


def _slab(
    start: FloatArray, direction: FloatArray, low: float, high: float
) -> tuple[FloatArray, FloatArray]:
    """Where rays enter and leave the space between two parallel planes."""
    safe = np.where(np.abs(direction) < _MIN_SLOPE, _MIN_SLOPE, direction)
    first, second = (low - start) / safe, (high - start) / safe
    return np.minimum(first, second), np.maximum(first, second)


def _parts_of(
    class_name: str, length_m: float, width_m: float
) -> tuple[tuple[float, float, float, float, float], ...]:
    """Boxes that make up a road user: offset along x, length, width, bottom and top (shares)."""
    if class_name == "car":
        body = (0.0, length_m, width_m, 0.12, 0.56)
        cabin = (-0.12 * length_m, 0.56 * length_m, 0.86 * width_m, 0.56, 1.0)
        return body, cabin
    if class_name == "truck":
        nose = length_m / 2 - 0.95
        cab = (nose, 1.9, 0.97 * width_m, 0.13, 0.82)
        cargo = (-1.02, length_m - 2.05, width_m, 0.16, 1.0)
        return cab, cargo
    if class_name == "cyclist":
        bicycle = (0.0, length_m, 0.12, 0.0, 0.55)
        rider = (0.0, 0.65, 0.45, 0.45, 1.0)
        return bicycle, rider
    return ((0.0, 0.75 * length_m, 0.85 * width_m, 0.0, 1.0),)


def _fixed_solids(plan: DrivePlan) -> list[Solid]:
    """Houses, trunks, crowns and lamp posts."""
    scenery = plan.scenery
    return [
        *_standing(scenery.buildings, bottom=0.0, top=1.0, width_m=None, reflectivity=30.0),
        *_standing(scenery.trees, bottom=0.0, top=0.38, width_m=0.34, reflectivity=25.0),
        *_standing(scenery.trees, bottom=0.34, top=0.95, width_m=2.4, reflectivity=22.0),
        *_standing(scenery.lamps, bottom=0.0, top=1.0, width_m=0.14, reflectivity=70.0),
    ]


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
