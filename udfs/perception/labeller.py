"""Boxes out of one lidar sweep: ground away, clusters, rectangles, classes by size."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt

from udfs.geometry.boxes import Boxes, iou_bev
from udfs.perception.clusters import Rectangle, cluster_points, fit_rectangle
from udfs.perception.ground import height_above_ground
from udfs.perception.rules import CAR, CYCLIST, PEDESTRIAN, TRUCK, ClassRule, LabelRules

FloatArray = npt.NDArray[np.float64]

_MAX_EXTENT_M = 11.0
_OPEN_SHARE = 0.9
_CROWN_M = 1.25
_GAP_M = 0.3
_ROWS_WITHOUT_GAP = 2.5
_ABOVE_M = 0.25
_SHOULDER_M = 1.05
_FLOATING_M = 1.3
_MIN_BICYCLE_M = 0.95
_MIN_BICYCLE_SIDE_M = 1.3
_MAX_SHOULDERS_M = 0.8
_MIN_CAR_FACE_M = 1.2
_WIDTHS = 1.3
_OVERLAP = 0.02
_DOUBT = 0.35
_DOUBT_POINTS = 14.0
_ONE_SIDED = 0.75
_MIN_TRUCK_FACE_M = 1.8
_ROADSIDE_M = 11.0
_MIN_TRUCK_DEPTH_M = 1.6


@attrs.frozen(eq=False)
class LabelledBoxes:
    """Objects of one sweep.

    Attributes:
        boxes: Where and how large, in base_link.
        class_name: What each is.
        confidence: (N,) float64 in [0, 1].
        points: (N,) int64 points of the sweep in each.
    """

    boxes: Boxes
    class_name: tuple[str, ...]
    confidence: FloatArray
    points: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_name)


@attrs.frozen(eq=False)
class Cluster:
    """Points that belong together, with what is above them.

    Attributes:
        rectangle: On the ground, seen from the lidar.
        points: Points in it.
        bottom_m: Height of the lowest point above the ground.
        top_m: Height of the highest point.
        free_above_m: How high the lidar looked above the ground at this place: a top below it was
            seen, a top at it may be the middle of something taller.
        shoulder_m: Longer side of the points above the height of a handlebar; 0 if there are none.
        column_gap_m: Distance of two columns of the lidar at this place: how much of a side may
            lie between its outermost points and its ends.
    """

    rectangle: Rectangle
    points: int
    bottom_m: float
    top_m: float
    free_above_m: float
    shoulder_m: float
    column_gap_m: float

    @property
    def is_open(self) -> bool:
        """Whether the top was not seen: what is there may go on above the highest ray."""
        return self.top_m > _OPEN_SHARE * self.free_above_m

    @property
    def is_broadside(self) -> bool:
        """Whether the longer side lies across the line of sight."""
        low, high = self.rectangle.low, self.rectangle.high
        longer = int(np.argmax(np.subtract(high, low)))
        middle = np.abs(np.add(low, high))
        return bool(middle[longer] < middle[1 - longer])

    @property
    def beside_m(self) -> float:
        """How far to the side of the vehicle the middle is."""
        x, y = np.add(self.rectangle.low, self.rectangle.high) / 2
        return abs(float(np.sin(self.rectangle.yaw_rad) * x + np.cos(self.rectangle.yaw_rad) * y))

    @property
    def long_m(self) -> float:
        """Longer side of the rectangle."""
        return max(self._sides)

    @property
    def short_m(self) -> float:
        """Shorter side of the rectangle."""
        return min(self._sides)

    @property
    def _sides(self) -> tuple[float, float]:
        low, high = self.rectangle.low, self.rectangle.high
        return high[0] - low[0], high[1] - low[1]


def label_sweep(
    points: FloatArray, *, lidar_xyz: FloatArray, rules: LabelRules | None = None
) -> LabelledBoxes:
    """Find cars, trucks, pedestrians and cyclists.

    Args:
        points: (N, 3) float64 in base_link, of one instant.
        lidar_xyz: (3,) float64, the lidar in base_link.
        rules: Sizes and limits; the defaults if None.

    Returns:
        Boxes in base_link, completed to the usual size of their class away from the lidar, since
        only the near sides are seen.
    """
    rules = rules or LabelRules()
    found = [
        (cluster, rule, confidence)
        for cluster in find_clusters(points, lidar_xyz=lidar_xyz, rules=rules)
        for rule, confidence in [classify(cluster)]
        if rule is not None
    ]
    # The cluster with most points first: others that overlap its box are parts of the same object.
    found.sort(key=lambda each: -each[0].points)
    boxes = [complete_box(cluster, rule, lidar_xyz=lidar_xyz) for cluster, rule, _ in found]
    rows = np.array(boxes, dtype=np.float64).reshape(-1, 7)
    every = Boxes(rows[:, :3], rows[:, 3], rows[:, 4:])
    is_near = np.hypot(rows[:, 0], rows[:, 1]) <= rules.max_range_m
    kept = np.flatnonzero(is_near & ~_is_part(every))
    return LabelledBoxes(
        boxes=Boxes(every.centre[kept], every.yaw_rad[kept], every.size[kept]),
        class_name=tuple(found[i][1].name for i in kept),
        confidence=np.array([found[i][2] for i in kept], dtype=np.float64),
        points=np.array([found[i][0].points for i in kept], dtype=np.int64),
    )


def find_clusters(
    points: FloatArray, *, lidar_xyz: FloatArray, rules: LabelRules
) -> Iterator[Cluster]:
    """Groups of points on the ground that are not the vehicle itself.

    Coordinates of the rectangles are relative to the lidar's place, axes as in base_link.
    """
    height = height_above_ground(points)
    x, y = points[:, 0], points[:, 1]
    is_ego = (
        (np.abs(y) < rules.ego_half_width_m) & (x < rules.ego_front_m) & (x > -rules.ego_rear_m)
    )
    near = ~is_ego & (np.hypot(x, y) < rules.max_range_m + 5.0)
    xy = points[:, :2] - lidar_xyz[:2]
    distance_of = np.linalg.norm(xy, axis=1)
    slope = _highest_slope(points[near], lidar_xyz=lidar_xyz, least=rules.upward_slope)
    in_slab = np.flatnonzero(near & (height > rules.ground_margin_m) & (height < rules.slab_top_m))
    above = np.flatnonzero(near & (height >= rules.slab_top_m))
    of_point = cluster_points(
        xy[in_slab],
        min_gap_m=rules.min_gap_m,
        radial_gap_m=rules.radial_gap_m,
        column_step_rad=rules.column_step_rad,
    )
    order = np.argsort(of_point, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(of_point[order])) + 1):
        if len(rows) < rules.min_points:
            continue
        members = in_slab[rows]
        if np.ptp(xy[members], axis=0).max() > _MAX_EXTENT_M:
            continue
        rectangle = fit_rectangle(xy[members])
        is_thin = max(np.subtract(rectangle.high, rectangle.low)) < _MIN_CAR_FACE_M
        margin = _CROWN_M if is_thin else _ABOVE_M
        higher = above[_inside(xy[above], rectangle, margin_m=margin)]
        distance = _median(distance_of[members])
        heights = _without_gap(
            height[members],
            height[higher],
            gap_m=max(_GAP_M, _ROWS_WITHOUT_GAP * rules.row_step_rad * distance),
        )
        shoulder = members[height[members] > _SHOULDER_M]
        yield Cluster(
            rectangle=rectangle,
            points=len(heights),
            bottom_m=float(heights.min()),
            top_m=float(heights.max()),
            free_above_m=float(lidar_xyz[2]) + slope * distance,
            shoulder_m=_longer_side(xy[shoulder], rectangle),
            column_gap_m=rules.column_step_rad * distance,
        )


def classify(cluster: Cluster) -> tuple[ClassRule | None, float]:
    """The class whose sizes a cluster fits, and how sure that is; None if it fits none."""
    if cluster.bottom_m > _FLOATING_M:
        return None, 0.0
    for rule, is_it in ((PEDESTRIAN, _is_pedestrian), (CYCLIST, _is_cyclist), (CAR, _is_car)):
        if not cluster.is_open and _fits(rule, cluster) and is_it(cluster):
            return rule, _confidence(cluster, rule)
    if _fits(TRUCK, cluster) and _is_truck(cluster):
        return TRUCK, _confidence(cluster, TRUCK)
    return None, 0.0


def _is_pedestrian(_: Cluster) -> bool:
    return True


def _is_cyclist(cluster: Cluster) -> bool:
    """A long foot under narrow shoulders; across the line of sight it may be the rear of a car."""
    least = _MIN_BICYCLE_SIDE_M if cluster.is_broadside else _MIN_BICYCLE_M
    return cluster.long_m > least and cluster.shoulder_m < _MAX_SHOULDERS_M


def _is_car(cluster: Cluster) -> bool:
    return cluster.long_m + cluster.column_gap_m / 2 > _MIN_CAR_FACE_M


def _is_truck(cluster: Cluster) -> bool:
    """Two sides of a truck, or one near the way ahead: elsewhere one side is likely a house's."""
    if cluster.short_m > _MIN_TRUCK_DEPTH_M:
        return cluster.long_m > _MIN_TRUCK_FACE_M
    longest = TRUCK.max_width_m if cluster.is_open else TRUCK.max_length_m
    return cluster.beside_m < _ROADSIDE_M and _MIN_TRUCK_FACE_M < cluster.long_m < longest


def complete_box(
    cluster: Cluster, rule: ClassRule, *, lidar_xyz: FloatArray
) -> tuple[float, float, float, float, float, float, float]:
    """x, y, z, yaw, length, width, height of the whole object in base_link.

    A side that is seen keeps its near edge; what is hidden behind it is added away from the lidar.
    """
    rectangle = cluster.rectangle
    low, high = np.array(rectangle.low), np.array(rectangle.high)
    sides = high - low
    length_axis = _length_axis(rectangle, rule)
    usual = np.array([rule.width_m, rule.width_m])
    usual[length_axis] = rule.length_m
    size = np.maximum(sides, usual)
    centre = np.empty(2)
    for axis in (0, 1):
        if low[axis] > 0:
            centre[axis] = low[axis] + size[axis] / 2
        elif high[axis] < 0:
            centre[axis] = high[axis] - size[axis] / 2
        else:
            centre[axis] = (low[axis] + high[axis]) / 2
    cos, sin = np.cos(rectangle.yaw_rad), np.sin(rectangle.yaw_rad)
    x = cos * centre[0] - sin * centre[1] + lidar_xyz[0]
    y = sin * centre[0] + cos * centre[1] + lidar_xyz[1]
    yaw = rectangle.yaw_rad + (np.pi / 2 if length_axis == 1 else 0.0)
    if np.cos(yaw) < 0:
        yaw -= np.pi
    height = max(cluster.top_m, rule.min_height_m)
    return (
        float(x),
        float(y),
        height / 2,
        float(yaw),
        float(size[length_axis]),
        float(size[1 - length_axis]),
        height,
    )


def _is_part(boxes: Boxes) -> npt.NDArray[np.bool_]:
    """(N,) whether a box overlaps one before it that is itself no part."""
    on_ground = np.column_stack([boxes.centre[:, :2], boxes.size[:, 2] / 4])
    overlaps = boxes.contain(on_ground) | (iou_bev(boxes, boxes) > _OVERLAP)
    part = np.zeros(len(boxes), dtype=np.bool_)
    for i in range(len(boxes)):
        part[i] = bool(np.any(overlaps[:i, i] & ~part[:i]))
    return part


def _length_axis(rectangle: Rectangle, rule: ClassRule) -> int:
    """Which axis the length is along: the longer side, or the line of sight if both are short.

    No side as short as a width is a whole side of a vehicle: it is its front or its rear.
    """
    low, high = np.array(rectangle.low), np.array(rectangle.high)
    if (high - low).max() > _WIDTHS * rule.width_m or rule in (PEDESTRIAN, CYCLIST):
        return int(np.argmax(high - low))
    return int(np.argmax(np.abs(low + high)))


def _fits(rule: ClassRule, cluster: Cluster) -> bool:
    """Whether a cluster is no larger than the class, and as tall as it."""
    return (
        cluster.long_m <= rule.max_length_m
        and cluster.short_m <= rule.max_width_m
        and rule.min_height_m <= cluster.top_m <= rule.max_height_m
    )


def _without_gap(heights: FloatArray, higher: FloatArray, *, gap_m: float) -> FloatArray:
    """Heights of a cluster with those above it, up to the first gap: a crown over somebody."""
    rising = np.concatenate([[heights.max()], np.sort(higher)])
    gaps = np.flatnonzero(np.diff(rising) > gap_m)
    joined = rising[1 : gaps[0] + 1] if len(gaps) else rising[1:]
    return np.concatenate([heights, joined])


def _longer_side(xy: FloatArray, rectangle: Rectangle) -> float:
    """Longer extent of points along the axes of a rectangle; 0 for none."""
    if len(xy) == 0:
        return 0.0
    return float(np.ptp(rectangle.along(xy), axis=0).max())


def _confidence(cluster: Cluster, rule: ClassRule) -> float:
    """Probability that a box is right: it grows with the points, as measured on simulated drives.

    One side of a truck is often one of a house.
    """
    seen = 1.0 - _DOUBT * float(np.exp(-cluster.points / _DOUBT_POINTS))
    one_sided = rule is TRUCK and cluster.short_m <= _MIN_TRUCK_DEPTH_M
    return seen * (_ONE_SIDED if one_sided else 1.0)


def _highest_slope(points: FloatArray, *, lidar_xyz: FloatArray, least: float) -> float:
    """Tangent of the highest ray of the lidar, as far as its echoes tell; at least `least`."""
    if len(points) == 0:
        return least
    offset = points - lidar_xyz
    slopes = offset[:, 2] / np.hypot(offset[:, 0], offset[:, 1])
    return max(least, float(np.quantile(slopes, 0.999)))


def _median(values: FloatArray) -> float:
    """Of (N,) values, N >= 1; numpy's own takes 0.2 ms for a dozen."""
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle] + ordered[-1 - middle]) / 2


def _inside(xy: FloatArray, rectangle: Rectangle, *, margin_m: float) -> npt.NDArray[np.bool_]:
    """(N,) whether points are in a rectangle, or near it."""
    along = rectangle.along(xy)
    low, high = np.array(rectangle.low) - margin_m, np.array(rectangle.high) + margin_m
    return np.asarray(((along >= low) & (along <= high)).all(axis=1))
