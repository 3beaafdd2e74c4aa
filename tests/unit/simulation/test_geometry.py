"""Roads, clocks and motion: the small laws everything else stands on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.clocks import RecorderClock
from simulation.motion import drive_along, speed_from_knots, time_grid
from simulation.random_streams import random_stream
from simulation.road import STEP_M, lay_centre_line, path_beside, straight_path

T0_NS = 1_772_409_600_000_000_000


@given(
    offset=st.integers(-5_000_000_000, 5_000_000_000),
    drift=st.floats(-20, 20),
    elapsed=st.integers(0, 3_600_000_000_000),
)
def test_clock_law_inverts(offset, drift, elapsed):
    """Mapping UTC to a clock and back gives the same nanosecond, to one."""
    clock = RecorderClock(offset, drift, 0, T0_NS)
    t_ns = np.array([T0_NS + elapsed])
    stamp = clock.exact_stamp(t_ns)
    assert abs(int(clock.utc_from_stamp(stamp)[0]) - int(t_ns[0])) <= 1
    expected = elapsed + offset + drift * 1e-6 * elapsed
    assert abs(int(stamp[0]) - T0_NS - expected) <= 1


def test_clock_jitter_is_bounded():
    """No stamp is further from the law than the stated jitter."""
    clock = RecorderClock(0, 0.0, 1000, T0_NS)
    t_ns = np.full(20_000, T0_NS)
    jitter = clock.stamp(t_ns, rng=random_stream(1, "jitter")) - t_ns
    assert np.abs(jitter).max() <= 1000
    assert 250 < jitter.std() < 400


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), lateral=st.floats(-10, 10), reverse=st.booleans())
def test_a_parallel_path_keeps_its_distance(seed, lateral, reverse):
    """A path beside the centre line stays at its distance and is sampled evenly."""
    centre = lay_centre_line(300.0, rng=random_stream(seed, "road"))
    path = path_beside(centre, lateral_m=np.full(len(centre.x_m), lateral), reverse=reverse)
    steps = np.hypot(np.diff(path.x_m), np.diff(path.y_m))
    assert np.abs(steps - STEP_M).max() < 1e-3
    at = centre.at(path.road_s_m)
    dx, dy = path.x_m - at.x_m, path.y_m - at.y_m
    aside = np.cos(at.yaw_rad) * dy - np.sin(at.yaw_rad) * dx
    assert np.abs(aside - lateral).max() < 5e-3
    heading = np.arctan2(np.diff(path.y_m), np.diff(path.x_m))
    middle = (path.yaw_rad[1:] + path.yaw_rad[:-1]) / 2
    assert np.abs((heading - middle + np.pi) % (2 * np.pi) - np.pi).max() < 2e-3


def test_speed_knots_are_met_and_smooth():
    """Speeds hold between knots, standstill is exactly zero, accelerations don't jump."""
    t_ns = time_grid(T0_NS, t_end_ns=T0_NS + 10_000_000_000)
    knots = ((0.0, 10.0), (3.0, 10.0), (5.0, 0.0), (8.0, 0.0), (9.0, 3.0))
    speed = speed_from_knots(t_ns, t_start_ns=T0_NS, knots=knots, ripple=0.01)
    at = {seconds: speed[100 + round(seconds * 100)] for seconds in (1.0, 6.5, 10.0)}
    assert at[1.0] == pytest.approx(10.0, rel=0.02)
    assert at[6.5] == 0.0
    assert at[10.0] == pytest.approx(3.0, rel=0.02)
    assert (speed >= 0).all()
    assert np.abs(np.diff(speed, 2)).max() / 1e-4 < 40


def test_motion_that_leaves_its_path_is_refused():
    """Nobody is moved beyond the end of a path."""
    path = straight_path(np.zeros(2), yaw_rad=0.0, length_m=20.0)
    t_ns = time_grid(T0_NS, t_end_ns=T0_NS + 1_000_000_000)
    with pytest.raises(ValueError, match="20 m of path"):
        drive_along(path, t_ns=t_ns, speed_m_s=np.full(len(t_ns), 10.0), start_u_m=0.0)


def test_streams_are_independent_and_stable():
    """A named stream is the same on every call, and differs from its neighbours."""
    draws = [random_stream(7, *name).random(4).tolist() for name in (("a",), ("a",), ("b",))]
    assert draws[0] == draws[1] != draws[2]
    assert random_stream(7, "a", 1).random() != random_stream(8, "a", 1).random()
