"""Boxes out of lidar sweeps: made by hand, and of a simulated drive."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from udfs.geometry.boxes import Boxes, iou_bev
from udfs.perception.clusters import cluster_points, fit_rectangle
from udfs.perception.ground import height_above_ground
from udfs.perception.labeller import label_sweep
from udfs.perception.rules import LabelRules

LIDAR = np.array([1.3, 0.0, 1.95])
AZIMUTHS = np.linspace(-np.pi, np.pi, 720, endpoint=False)
RINGS = np.radians(np.linspace(-25.0, 4.0, 48))


def cast(*solids, tilt=0.0):
    """Points of a sweep; solids are (x, y, yaw, length, width, height[, bottom])."""
    azimuth, ring = (grid.ravel() for grid in np.meshgrid(AZIMUTHS, RINGS, indexing="ij"))
    ray = np.column_stack(
        [np.cos(azimuth) * np.cos(ring), np.sin(azimuth) * np.cos(ring), np.sin(ring)]
    )
    with np.errstate(divide="ignore"):
        distance = np.where(ray[:, 2] < 0, -LIDAR[2] / ray[:, 2], np.inf)
    for x, y, yaw, length, width, height, *bottom in solids:
        cos, sin = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        start, way = turn @ (LIDAR - [x, y, 0]), ray @ turn.T
        low = np.array([-length / 2, -width / 2, bottom[0] if bottom else 0.0])
        high = np.array([length / 2, width / 2, height])
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = (low - start) / way, (high - start) / way
        enter, leave = np.minimum(near, far).max(axis=1), np.maximum(near, far).min(axis=1)
        hit = (enter < leave) & (enter > 0)
        distance = np.where(hit, np.minimum(distance, enter), distance)
    points = (LIDAR + ray * np.minimum(distance, 100)[:, None])[distance < 90]
    points += np.random.default_rng(0).normal(0, 0.01, points.shape)
    return points + np.column_stack([np.zeros((len(points), 2)), tilt * points[:, 0]])


def labelled(*solids, **options):
    """Labels of a hand-made sweep."""
    return label_sweep(cast(*solids, **options), lidar_xyz=LIDAR)


CAR = (4.4, 1.85, 1.5, 0.2)
TRUCK = (8.0, 2.5, 3.3, 0.4)


def test_an_empty_road_has_no_objects():
    """Ground alone gives no label, level or sloping."""
    assert len(labelled()) == 0
    assert len(labelled(tilt=0.04)) == 0


def test_no_points_give_no_labels():
    """A sweep without a point is an empty answer."""
    assert len(label_sweep(np.empty((0, 3)), lidar_xyz=LIDAR)) == 0


@pytest.mark.parametrize(
    ("name", "solid"),
    [
        ("car", (15.0, 0.5, 0.05, *CAR)),
        ("car", (30.0, -3.0, np.pi, *CAR)),
        ("car", (12.0, 5.0, 0.3, *CAR)),
        ("car", (20.0, 8.0, np.pi / 2, *CAR)),
        ("car", (-14.0, 3.5, 0.0, *CAR)),
        ("truck", (28.0, 3.5, 0.0, *TRUCK)),
        ("truck", (14.0, -5.0, 0.0, *TRUCK)),
        ("pedestrian", (10.0, 3.0, 0.0, 0.45, 0.5, 1.75)),
        ("pedestrian", (25.0, -6.0, 0.0, 0.45, 0.5, 1.7)),
        ("cyclist", (12.0, 4.0, np.pi / 2, 1.75, 0.35, 0.95)),
    ],
)
def test_one_object_gives_one_box_at_its_place(name, solid):
    """A road user alone is found once, as what it is, with its centre within 1.5 m."""
    solids = [solid]
    if name == "cyclist":
        solids.append((*solid[:3], 0.5, 0.45, 1.75, 0.9))
    found = labelled(*solids)
    assert found.class_name == (name,)
    assert np.hypot(*(found.boxes.centre[0, :2] - solid[:2])) < 1.5
    assert 0.3 < found.confidence[0] <= 1
    assert found.points[0] >= 4


def test_a_box_near_by_fits_tightly():
    """A car whose side and rear are seen has its box on the true footprint."""
    solid = (12.0, 5.0, 0.3, *CAR)
    true = Boxes(np.array([[12.0, 5.0, 0.75]]), np.array([0.3]), np.array([[4.4, 1.85, 1.5]]))
    found = labelled(solid)
    assert iou_bev(found.boxes, true)[0, 0] > 0.8
    assert abs(found.boxes.size[0, 2] - 1.5) < 0.25


def test_objects_on_a_slope_are_found():
    """Height counts from the ground, not from base_link."""
    assert labelled((25.0, 2.0, 0.0, *CAR), tilt=0.05).class_name == ("car",)


def test_walls_poles_and_trees_are_no_road_users():
    """A house, a lamp post and a tree with its crown give no label."""
    house = (30.0, 15.0, 0.0, 12.0, 9.0, 8.0)
    lamp = (12.0, -6.0, 0.0, 0.15, 0.15, 7.0)
    trunk, crown = (18.0, 8.0, 0.0, 0.34, 0.34, 2.4), (18.0, 8.0, 0.0, 2.4, 2.4, 6.0, 2.2)
    assert labelled(house, lamp, trunk, crown).class_name == ()


def test_neighbours_are_told_apart():
    """Two cars a lane apart and a pedestrian are three objects."""
    found = labelled(
        (20.0, 0.0, 0.0, *CAR), (20.0, 3.5, 0.0, *CAR), (14.0, -4.0, 0.0, 0.45, 0.5, 1.75)
    )
    assert sorted(found.class_name) == ["car", "car", "pedestrian"]


def test_the_vehicle_itself_is_not_labelled():
    """Points on the ego's own bonnet are left out."""
    assert len(labelled((2.8, 0.0, 0.0, 1.5, 1.6, 1.2))) == 0


def test_nothing_is_labelled_beyond_the_range():
    """Range and least number of points are those of the rules."""
    points = cast((30.0, 0.0, 0.0, *CAR))
    assert len(label_sweep(points, lidar_xyz=LIDAR)) == 1
    near = attrs.evolve(LabelRules(), max_range_m=20.0)
    assert len(label_sweep(points, lidar_xyz=LIDAR, rules=near)) == 0
    many = attrs.evolve(LabelRules(), min_points=10_000)
    assert len(label_sweep(points, lidar_xyz=LIDAR, rules=many)) == 0
    assert near.version != many.version != LabelRules().version


def test_labels_do_not_depend_on_the_order_of_points():
    """The same points in another order give the same boxes."""
    points = cast((20.0, 0.0, 0.0, *CAR), (14.0, -4.0, 0.0, 0.45, 0.5, 1.75))
    mixed = points[np.random.default_rng(1).permutation(len(points))]
    first, second = (label_sweep(each, lidar_xyz=LIDAR) for each in (points, mixed))
    assert sorted(first.class_name) == sorted(second.class_name)
    assert np.allclose(
        np.sort(first.boxes.centre[:, 0]), np.sort(second.boxes.centre[:, 0]), atol=0.3
    )


def test_ground_of_a_slope_is_at_zero():
    """Points of a sloping road are within a few centimetres of the ground that is found."""
    road = cast(tilt=0.06)
    assert np.abs(height_above_ground(road)[np.hypot(*road[:, :2].T) < 40]).max() < 0.1


def test_clusters_follow_the_spacing_of_the_lidar():
    """Points 0.8 m apart across the line of sight are one thing at 50 m and two at 10 m."""
    options = {"min_gap_m": 0.5, "radial_gap_m": 1.5, "column_step_rad": 0.0125}
    for distance, clusters in ((50.0, 1), (10.0, 2)):
        xy = np.array([[distance, -0.4], [distance, 0.4]])
        assert len(set(cluster_points(xy, **options).tolist())) == clusters
    assert len(cluster_points(np.empty((0, 2)), **options)) == 0


@pytest.mark.parametrize("yaw", np.radians([0.0, 12.0, 40.0, 77.0]))
def test_the_rectangle_of_an_l_has_its_angle(yaw):
    """Two sides of a turned rectangle give its angle within three degrees."""
    sides = np.concatenate(
        [
            np.column_stack([np.linspace(0, 4.4, 40), np.zeros(40)]),
            np.column_stack([np.zeros(18), np.linspace(0, 1.8, 18)]),
        ]
    )
    cos, sin = np.cos(yaw), np.sin(yaw)
    xy = sides @ np.array([[cos, sin], [-sin, cos]]) + [15.0, 4.0]
    found = fit_rectangle(xy)
    assert abs((found.yaw_rad - yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4) < np.radians(3)
