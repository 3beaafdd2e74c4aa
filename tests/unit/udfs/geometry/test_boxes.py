"""Boxes and their overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.geometry.boxes import Boxes, iou_2d, iou_bev


def boxes(*rows):
    """Boxes from (x, y, yaw, length, width)."""
    rows = np.array(rows, dtype=np.float64).reshape(-1, 5)
    height = np.ones((len(rows), 1))
    return Boxes(
        np.column_stack([rows[:, :2], height / 2]),
        rows[:, 2],
        np.column_stack([rows[:, 3:], height]),
    )


BOX = st.tuples(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(-7, 7), st.floats(0.5, 6), st.floats(0.5, 3)
)


def test_rectangles_overlap_by_hand():
    """Half of one square in the other: a third; apart, touching or unknown: nothing."""
    a = np.array([[0.0, 0, 2, 2], [np.nan] * 4])
    b = np.array([[1.0, 0, 3, 2], [2, 0, 4, 2], [0, 0, 2, 2]])
    assert iou_2d(a, b) == pytest.approx(np.array([[1 / 3, 0, 1], [0, 0, 0]]))


def test_turned_squares_overlap_by_hand():
    """A square and itself turned by 45 degrees share an octagon."""
    octagon = 2 * (np.sqrt(2) - 1) * 4
    iou = iou_bev(boxes((0, 0, 0, 2, 2)), boxes((0, 0, np.pi / 4, 2, 2)))
    assert iou[0, 0] == pytest.approx(octagon / (8 - octagon))


@given(BOX, BOX)
def test_overlap_is_symmetric_and_a_share(a, b):
    """Overlap is the same both ways, in [0, 1], and 1 with itself."""
    first, second = boxes(a), boxes(b)
    forth, back = iou_bev(first, second)[0, 0], iou_bev(second, first)[0, 0]
    assert forth == pytest.approx(back, abs=1e-9)
    assert -1e-9 <= forth <= 1 + 1e-9
    assert iou_bev(first, first)[0, 0] == pytest.approx(1)


def test_overlap_agrees_with_counting_points():
    """The area of the intersection is that which random points say."""
    rng = np.random.default_rng(3)
    a, b = boxes((0, 0, 0.3, 4, 2)), boxes((1, 0.5, -0.9, 5, 1.5))
    points = np.column_stack([rng.uniform(-5, 5, (200_000, 2)), np.full(200_000, 0.5)])
    in_a, in_b = a.contain(points)[0], b.contain(points)[0]
    counted = (in_a & in_b).sum() / (in_a | in_b).sum()
    assert iou_bev(a, b)[0, 0] == pytest.approx(counted, abs=0.01)


def test_corners_start_front_left():
    """The first corner is front left on the floor, the fifth above it."""
    corners = boxes((10, 0, np.pi / 2, 4, 2)).corners()[0]
    assert corners[0] == pytest.approx([9, 2, 0])
    assert corners[4] == pytest.approx([9, 2, 1])


def test_no_boxes_give_empty_arrays():
    """Nothing in, nothing out, with the right shapes."""
    none = boxes()
    assert iou_bev(none, boxes((0, 0, 0, 1, 1))).shape == (0, 1)
    assert none.corners().shape == (0, 8, 3)
