from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation, Slerp

from udfs.sync.interpolation import (
    breaks_of,
    interpolate_cubic,
    interpolate_linear,
    interpolate_spherical,
)
from udfs.sync.limits import NO_LIMIT, NOWHERE, Boundaries, Limits
from udfs.sync.pairing import pair_samples

SECOND_NS = 1_000_000_000


def between(at, t_ns):
    """What lies around each instant."""
    return pair_samples(
        np.array(at, np.int64), np.array(t_ns, np.int64), method="between", limits=Limits()
    )


def turned(values, at, t_ns):
    """(M, 4) quaternions at instants."""
    found = between(at, t_ns)
    axes = [np.ascontiguousarray(axis) for axis in np.asarray(values, np.float64).T]
    return np.column_stack(interpolate_spherical(axes, found.left, found.share))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_lines_are_those_of_numpy(count):
    """Many columns at once, whatever the length, are what numpy.interp gives."""
    random = np.random.default_rng(count)
    t_ns = np.cumsum(random.integers(1, 100, 200))
    at = np.sort(random.integers(t_ns[0], t_ns[-1] + 1, count))
    columns = {name: random.normal(size=200) for name in "abc"}
    found = between(at, t_ns)
    values = interpolate_linear(columns, found.left, found.share, period={})
    for name, column in columns.items():
        assert values[name] == pytest.approx(np.interp(at, t_ns, column), rel=1e-12, abs=1e-12)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_sample_is_itself_to_the_last_bit(value):
    """At a sample no rule computes: its value comes back, beside whatever neighbour."""
    found = between([0, 10], [0, 10])
    column = np.array([value, np.inf])
    line = interpolate_linear({"v": column}, found.left, found.share, period={})["v"]
    breaks = breaks_of(np.array([0, 10]), boundaries=NOWHERE, max_gap_ns=NO_LIMIT)
    t_ns = np.array([0, 10])
    curve = interpolate_cubic(t_ns, column, found.left, found.share, breaks=breaks)
    assert np.array_equal(line, column, equal_nan=True)
    assert np.array_equal(curve, column, equal_nan=True)


@pytest.mark.parametrize("spread", [1e-9, 1e-3, 0.1, 1.0, 3.0])
def test_rotations_are_those_of_scipy(spread):
    """From steps that are hardly any to half a turn, of either sign and any length."""
    random = np.random.default_rng(5)
    rotations = Rotation.from_rotvec(np.cumsum(random.normal(0, spread, (300, 3)), axis=0))
    t_ns = np.cumsum(random.integers(1, 50, 300))
    at = np.sort(random.integers(t_ns[0], t_ns[-1] + 1, 1000))
    scale = random.choice([-1.0, 1.0], (300, 1)) * random.uniform(0.5, 2, (300, 1))
    found = turned(rotations.as_quat() * scale, at, t_ns)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-12)
    off = (Rotation.from_quat(found).inv() * Slerp(t_ns, rotations)(at)).magnitude()
    assert off.max() < 1e-7  # what scipy's own magnitude can tell
    same = np.abs(np.sum(found * Slerp(t_ns, rotations)(at).as_quat(), axis=1))
    assert same == pytest.approx(1, abs=1e-13)


def test_half_a_turn_is_halved():
    """Opposite orientations are interpolated on one of the two shortest arcs, evenly."""
    found = turned([[0, 0, 0, 1], [0, 0, 1, 0]], [1, 2, 3], [0, 4])
    angle = np.array([1, 2, 3]) * np.pi / 8
    assert found[:, 3] == pytest.approx(np.cos(angle), abs=1e-15)
    assert np.abs(found[:, 2]) == pytest.approx(np.sin(angle), abs=1e-15)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_what_is_no_rotation_is_not_a_number(bad):
    """All zero, as drivers fill in what they don't know, NaN and infinity give no rotation."""
    found = turned(
        [[0, 0, 0, 1], [bad] * 4, [0, 0, 0, 1], [0, 0, 0, 1]], [0, 5, 10, 25], range(0, 40, 10)
    )
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, False]


def test_cubics_with_velocities_are_those_of_scipy():
    """Position and velocity at both ends make the Hermite cubic."""
    random = np.random.default_rng(6)
    t_ns = np.cumsum(random.integers(1, SECOND_NS, 50))
    values, velocities = random.normal(size=(2, 50))
    at = np.sort(random.integers(t_ns[0], t_ns[-1] + 1, 500))
    found = between(at, t_ns)
    breaks = breaks_of(t_ns, boundaries=NOWHERE, max_gap_ns=NO_LIMIT)
    curve = interpolate_cubic(
        t_ns, values, found.left, found.share, breaks=breaks, velocities=velocities
    )
    wanted = CubicHermiteSpline(t_ns / SECOND_NS, values, velocities)(at / SECOND_NS)
    assert curve == pytest.approx(wanted, abs=1e-6)


def test_cubics_from_neighbours_follow_a_parabola():
    """Uneven samples of a constant acceleration give it back, at both ends and beside a break."""
    t_ns = np.array([0, 1, 3, 4, 7, 9, 12]) * SECOND_NS
    values = (t_ns / SECOND_NS) ** 2
    at = np.arange(0, 12 * SECOND_NS, SECOND_NS // 4)
    found = between(at, t_ns)
    for cuts in (NOWHERE, Boundaries.of(jumps_ns=[4 * SECOND_NS])):
        breaks = breaks_of(t_ns, boundaries=cuts, max_gap_ns=NO_LIMIT)
        curve = interpolate_cubic(t_ns, values, found.left, found.share, breaks=breaks)
        inside = (at < 3 * SECOND_NS) | (at >= 4 * SECOND_NS)
        assert curve[inside] == pytest.approx((at[inside] / SECOND_NS) ** 2, abs=1e-9)


def test_cubics_take_no_slope_from_across_a_break():
    """A value behind a boundary, a hole or at the same time changes nothing in front of it."""
    t_ns = np.array([0, 10, 20, 30], np.int64)
    found = between([15], t_ns)
    for cuts, most in ((Boundaries.of(jumps_ns=[30]), NO_LIMIT), (NOWHERE, 9)):
        breaks = breaks_of(t_ns, boundaries=cuts, max_gap_ns=most)
        near, far = (
            interpolate_cubic(t_ns, np.array(v), found.left, found.share, breaks=breaks)
            for v in ([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 1e9])
        )
        assert near.tolist() == far.tolist()
    assert breaks_of(np.array([0, 0, 1]), boundaries=NOWHERE, max_gap_ns=5).tolist() == [1, 1, 0]


def test_cubics_of_angles_take_the_short_way():
    """A heading that wraps is followed across the wrap."""
    t_ns = np.array([0, 10, 20, 30], np.int64)
    yaw = np.array([3.0, 3.1, -3.0832, -2.9832])  # 0.1 rad a sample
    found = between([15], t_ns)
    breaks = breaks_of(t_ns, boundaries=NOWHERE, max_gap_ns=NO_LIMIT)
    curve = interpolate_cubic(t_ns, yaw, found.left, found.share, breaks=breaks, period=2 * np.pi)
    assert abs(curve[0]) == pytest.approx(np.pi, abs=0.02)
