"""Rigid transforms and the tree of frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from contracts.errors import ContractViolation
from udfs.geometry.transforms import (
    Transform,
    TransformTree,
    planar_transform,
    rotation_from_quaternion,
)

UNIT = st.floats(-1, 1).filter(lambda value: abs(value) > 1e-3)


def row(parent, child, xyz, xyzw):
    """A row of silver.transforms."""
    return {
        "frame_id": parent,
        "child_frame_id": child,
        **{f"translation_{axis}_m": value for axis, value in zip("xyz", xyz, strict=True)},
        **{f"rotation_{axis}": value for axis, value in zip("xyzw", xyzw, strict=True)},
    }


@given(st.tuples(UNIT, UNIT, UNIT, UNIT))
def test_quaternions_agree_with_scipy(xyzw):
    """Any quaternion gives the rotation that SciPy gives."""
    assert np.allclose(rotation_from_quaternion(xyzw), Rotation.from_quat(xyzw).as_matrix())


def test_a_quaternion_of_zeros_is_refused():
    """No orientation is an error, not the identity."""
    with pytest.raises(ContractViolation):
        rotation_from_quaternion([0, 0, 0, 0])


@given(st.tuples(UNIT, UNIT, UNIT, UNIT), st.tuples(UNIT, UNIT, UNIT))
def test_inverse_and_composition(xyzw, xyz):
    """A transform followed by its inverse changes no point."""
    transform = Transform(rotation_from_quaternion(xyzw), np.array(xyz))
    points = np.arange(12.0).reshape(4, 3)
    assert np.allclose((transform.inverse() @ transform).apply(points), points)
    assert np.allclose(transform.inverse().apply(transform.apply(points)), points)


def test_the_tree_finds_the_way_between_any_frames():
    """Frames are connected over their common parents, slashes of ROS 1 or not."""
    tree = TransformTree.from_rows(
        [
            row("base_link", "/roof", (0, 0, 2), (0, 0, 0, 1)),
            row("roof", "lidar", (1, 0, 0), (0, 0, np.sqrt(0.5), np.sqrt(0.5))),
            row("base_link", "camera", (2, 0, 1), (0, 0, 0, 1)),
            row("map", "odom", (0, 0, 0), (0, 0, 0, 0)),
        ]
    )
    camera_from_lidar = tree.find("camera", "lidar")
    assert np.allclose(camera_from_lidar.apply(np.array([1.0, 0, 0])), [-1, 1, 1])
    assert tree.find("camera", "map") is None
    assert np.allclose(tree.find("lidar", "lidar").apply(np.ones(3)), 1)


def test_the_later_transform_counts():
    """Of two transforms between the same frames the later row is taken."""
    rows = [row("a", "b", (x, 0, 0), (0, 0, 0, 1)) for x in (1, 2)]
    assert TransformTree.from_rows(rows).find("a", "b").translation[0] == 2


def test_planar_motion_turns_left_for_positive_yaw():
    """What is ahead of a car that turned 90 degrees left is to the left of where it came from."""
    old_from_new = planar_transform(1.0, 2.0, np.pi / 2)
    assert np.allclose(old_from_new.apply(np.array([3.0, 0, 0])), [1, 5, 0])
