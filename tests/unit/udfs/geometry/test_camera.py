"""The camera model and the rectangles of boxes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from udfs.geometry.boxes import Boxes
from udfs.geometry.camera import Pinhole, project_boxes
from udfs.geometry.transforms import Transform, rotation_from_quaternion

K = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
CAMERA_FROM_BASE = Transform(
    rotation_from_quaternion([-0.5, 0.5, -0.5, 0.5]), np.array([0.0, 0.0, 1.5])
).inverse()


def camera(**changes):
    """A camera from a CameraInfo row."""
    row = {"width": 640, "height": 480, "k": K, "d": [], "distortion_model": "plumb_bob"}
    return Pinhole.from_camera_info({**row, **changes})


def box(x, y, z=0.75, yaw=0.0, size=(4.0, 2.0, 1.5)):
    """One box in base_link."""
    return Boxes(np.array([[x, y, z]]), np.array([yaw]), np.array([size]))


@pytest.mark.parametrize("distortion", [[], [-0.2, 0.05, 0.001, -0.002, 0.01]])
def test_projection_agrees_with_opencv(distortion):
    """Points project to the pixels that OpenCV gives, with and without lens distortion."""
    points = np.random.default_rng(1).uniform([-3, -2, 4], [3, 2, 40], (50, 3))
    found = camera(d=distortion).project(points)
    wanted, _ = cv2.projectPoints(
        points, np.zeros(3), np.zeros(3), np.reshape(K, (3, 3)), np.array(distortion or [0.0] * 5)
    )
    assert np.allclose(found, wanted[:, 0], atol=1e-6)


def test_ros1_spelling_is_the_same_camera():
    """CameraInfo of ROS 1 spells K and D in capitals."""
    assert camera(K=K, D=[0.1]).distortion[0] == 0.1
    assert np.array_equal(camera(K=K, D=[]).matrix, camera().matrix)


def test_a_camera_that_is_not_calibrated_is_none():
    """K of zeros says uncalibrated; a fisheye model is not taken for a pinhole."""
    assert camera(k=[0.0] * 9) is None
    assert camera(distortion_model="equidistant") is None


def test_a_box_ahead_covers_its_corners():
    """The rectangle of a box ahead spans the projections of its near face."""
    (found,) = project_boxes(box(12.0, 0.0), camera=camera(), camera_from_base=CAMERA_FROM_BASE)
    half = 500 * 1.0 / 10
    assert found == pytest.approx([320 - half, 240, 320 + half, 240 + 510 * 1.5 / 10])


def test_boxes_out_of_sight_have_no_rectangle():
    """Behind, far to the side, above: NaN."""
    for x, y, z in ((-10, 0, 0), (10, 40, 0), (10, 0, 60)):
        rectangle = project_boxes(box(x, y, z), camera=camera(), camera_from_base=CAMERA_FROM_BASE)
        assert np.isnan(rectangle).all()


def test_a_box_around_the_camera_fills_the_image():
    """A box that reaches behind the camera is cut at the near plane, not mirrored."""
    huge = box(1.0, -1.5, 1.0, size=(8.0, 2.0, 3.0))
    (found,) = project_boxes(huge, camera=camera(), camera_from_base=CAMERA_FROM_BASE)
    assert found[2] == 640
    assert found[3] == 480
    assert 320 < found[0] < 640


def test_rectangles_stay_in_the_image():
    """Any box that is seen has a rectangle inside the image, left of right and top over bottom."""
    rng = np.random.default_rng(2)
    many = Boxes(
        rng.uniform([-20, -20, 0], [60, 20, 2], (300, 3)),
        rng.uniform(-np.pi, np.pi, 300),
        rng.uniform([1, 1, 1], [10, 3, 4], (300, 3)),
    )
    found = project_boxes(many, camera=camera(), camera_from_base=CAMERA_FROM_BASE)
    seen = found[np.isfinite(found).all(axis=1)]
    assert len(seen) > 100
    assert (seen >= 0).all()
    assert (seen[:, [0, 2]] <= 640).all()
    assert (seen[:, [1, 3]] <= 480).all()
    assert (seen[:, :2] < seen[:, 2:]).all()
