from __future__ import annotations

import json
from collections import Counter

import attrs
import numpy as np
import pytest

from simulation.actors import EGO_FRONT_M, EGO_REAR_M, EGO_WIDTH_M
from simulation.clocks import ClockJump, RecorderClock, draw_jumps
from simulation.plan import plan_drive, plan_ego
from simulation.scenarios import HARD_BRAKING_M_S2, STANDSTILL_M_S
from simulation.story import write_story

SEEDS = (0, 7, 21, 1234)
EXPECTED = {
    "pedestrian": {"hard_braking", "standstill"},
    "cut_in": {"cut_in", "hard_braking"},
    "junction": {"cut_in", "standstill"},
}


@pytest.fixture(scope="module", params=SEEDS)
def block(request):
    """The first three drives of a fleet at full length."""
    return [plan_drive(seed=request.param, index=index, seconds=20.0) for index in (1, 2, 3)]


def test_three_drives_hold_every_scenario(block):
    """Each drive holds the situations of its act, and the first three hold all kinds."""
    kinds = set()
    for plan in block:
        act = write_story(plan.seed, index=plan.index, seconds=20.0)[0]
        found = Counter(one.kind for one in plan.scenarios)
        assert set(found) == EXPECTED[act.kind]
        kinds |= set(found)
    assert kinds == {"hard_braking", "cut_in", "standstill"}


def test_three_drives_hold_day_and_night(block):
    """Every block of three drives has a day, a dusk and a night, at hours that fit."""
    assert {plan.conditions.light for plan in block} == {"day", "dusk", "night"}
    assert {plan.conditions.weather for plan in block} == {"clear", "rain", "fog"}
    hours = {plan.conditions.light: plan.t_start_ns // 3_600_000_000_000 % 24 for plan in block}
    assert 9 <= hours["day"] < 16
    assert 17 <= hours["dusk"] < 19
    assert hours["night"] >= 20


def test_scenarios_are_what_their_thresholds_say(block):
    """Intervals are half-open, inside the drive, and the trajectory obeys the threshold there."""
    for plan in block:
        for one in plan.scenarios:
            assert plan.t_start_ns <= one.start_ns < one.end_ns <= plan.t_end_ns
            inside = (plan.ego.t_ns >= one.start_ns) & (plan.ego.t_ns < one.end_ns)
            if one.kind == "hard_braking":
                assert (plan.ego.accel_m_s2[inside] <= HARD_BRAKING_M_S2).all()
                assert plan.ego.accel_m_s2[inside].min() < -5.5
            if one.kind == "standstill":
                assert (plan.ego.speed_m_s[inside] <= STANDSTILL_M_S).all()
            assert (one.actor is not None) == (one.kind == "cut_in")


def test_cut_in_ends_ahead_in_the_ego_lane(block):
    """The car of a cut-in starts beside the ego's lane and ends in it, ahead and close."""
    for plan in block:
        for one in plan.scenarios:
            if one.kind != "cut_in":
                continue
            car = next(actor for actor in plan.actors if actor.object_id == one.actor).trajectory
            for t_ns, lateral in ((one.start_ns, (2.5, 3.3)), (one.end_ns, (-0.6, 0.6))):
                ego, other = plan.ego.at([t_ns]), car.at([t_ns])
                dx, dy = other.x_m - ego.x_m, other.y_m - ego.y_m
                aside = np.cos(ego.yaw_rad) * dy - np.sin(ego.yaw_rad) * dx
                assert 5 < np.hypot(dx, dy)[0] < 35
                assert lateral[0] - 1.5 < aside[0] < lateral[1] + 1.5


def test_nobody_touches_anybody(block):
    """No two footprints, the ego's included, ever overlap (separating axes as the oracle)."""
    for plan in block:
        ego_half = np.array([(EGO_FRONT_M + EGO_REAR_M) / 2, EGO_WIDTH_M / 2])
        shift = (EGO_FRONT_M - EGO_REAR_M) / 2
        boxes = [(plan.ego, ego_half, shift)]
        for actor in plan.actors:
            half = np.array([actor.size.length_m, actor.size.width_m]) / 2
            boxes.append((actor.trajectory, half, 0.0))
        times = plan.ego.t_ns[::25]
        states = [(body.at(times), half, shift) for body, half, shift in boxes]
        for first in range(len(states)):
            for second in range(first + 1, len(states)):
                assert not _overlap(states[first], states[second]).any()


def test_traffic_is_mixed(block):
    """All four classes take part, some parked, and ids count from 1."""
    for plan in block:
        classes = Counter(actor.class_name for actor in plan.actors)
        assert classes["car"] >= 10
        assert classes["pedestrian"] >= 3
        assert classes["cyclist"] >= 1
        assert any(actor.parked for actor in plan.actors)
        assert [actor.object_id for actor in plan.actors] == list(range(1, len(plan.actors) + 1))
    assert sum(actor.class_name == "truck" for plan in block for actor in plan.actors) >= 1


def test_motion_is_human(block):
    """Accelerations, jerks and turn rates stay within what people drive."""
    for plan in block:
        ego = plan.ego
        assert ego.accel_m_s2.min() > -9.0
        assert ego.accel_m_s2.max() < 3.5
        assert np.abs(np.diff(ego.accel_m_s2) / 0.01).max() < 60.0
        assert np.abs(ego.speed_m_s * ego.yaw_rate_rad_s).max() < 3.5
        assert np.abs(ego.yaw_rate_rad_s).max() > 0.03


def test_plan_is_a_function_of_its_arguments():
    """Planning twice gives equal trajectories, scenery and clocks; another seed does not."""
    first, second, other = (plan_drive(seed=seed, index=2, seconds=6.0) for seed in (5, 5, 6))
    assert first.clocks == second.clocks != other.clocks
    for one, two in zip(first.actors, second.actors, strict=True):
        for a, b in zip(
            attrs.astuple(one.trajectory, recurse=False),
            attrs.astuple(two.trajectory, recurse=False),
            strict=True,
        ):
            assert np.array_equal(a, b, equal_nan=True)
    assert not np.array_equal(first.ego.x_m, other.ego.x_m)


def test_clock_errors_stay_in_their_bounds():
    """Offsets, drifts and jitters of many drives are within the stated bounds and differ."""
    offsets = set()
    for index in range(1, 9):
        clocks = plan_drive(seed=2, index=index, seconds=1.0).clocks
        for recorder, bound in (("adas", 0.5e9), ("bus", 5e9), ("reference", 2e9)):
            assert abs(clocks[recorder].offset_ns) <= bound
            assert abs(clocks[recorder].drift_ppm) <= 20
            assert 100_000 <= clocks[recorder].jitter_ns <= 1_000_000
            offsets.add(clocks[recorder].offset_ns)
    assert len(offsets) == 24


def test_jumps_are_drawn_for_their_share_of_the_drives():
    """About a share of the drives has one jump of one clock, in bounds; the rest is the same."""
    jumps = []
    for index in range(1, 101):
        name = f"drive-{index:04d}"
        found = draw_jumps(2, drive_id=name, t_start_ns=0, t_end_ns=10**11, share=0.2)
        assert found == draw_jumps(2, drive_id=name, t_start_ns=0, t_end_ns=10**11, share=0.2)
        jumps += [jump for each in found.values() for jump in each]
    assert 10 <= len(jumps) <= 30
    for jump in jumps:
        assert 15 * 10**9 <= jump.t_ns <= 85 * 10**9
        assert 5_000_000 <= abs(jump.size_ns) <= 2_000_000_000
    assert {jump.size_ns > 0 for jump in jumps} == {True, False}
    plain, set_once = (
        plan_drive(seed=2, index=1, seconds=2.0, jump_share=share) for share in (0.0, 1.0)
    )
    assert sum(len(clock.jumps) for clock in set_once.clocks.values()) == 1
    assert plain.clocks == {
        name: attrs.evolve(clock, jumps=()) for name, clock in set_once.clocks.items()
    }


def test_a_clock_that_is_set_stamps_by_the_new_setting_from_then_on():
    """The jump is in every stamp from its instant on, and the truth's JSON gives the clock back."""
    clock = RecorderClock(7, 0.0, 0, 0, jumps=(ClockJump(100, -30), ClockJump(50, 4)))
    t_ns = np.array([49, 50, 99, 100], np.int64)
    assert clock.exact_stamp(t_ns).tolist() == [56, 61, 110, 81]
    assert RecorderClock(**json.loads(json.dumps(attrs.asdict(clock)))) == clock
    with pytest.raises(ValueError, match="no inverse"):
        clock.utc_from_stamp(t_ns)


def test_the_ego_alone_moves_as_in_its_drive():
    """Planned without the others, the ego has the same trajectory."""
    alone = plan_ego(seed=5, index=2, seconds=6.0)
    assert np.array_equal(
        alone.table, plan_drive(seed=5, index=2, seconds=6.0).ego.table, equal_nan=True
    )


def test_long_drives_go_on():
    """A minute holds three acts, so at least four situations."""
    plan = plan_drive(seed=7, index=1, seconds=60.0)
    assert len(plan.scenarios) >= 4
    assert {one.kind for one in plan.scenarios} >= {"hard_braking", "standstill"}


def _overlap(first, second) -> np.ndarray:
    """(T,) whether two oriented boxes overlap: no axis of either separates them."""
    boxes = []
    for state, half, shift in (first, second):
        heading = np.stack([np.cos(state.yaw_rad), np.sin(state.yaw_rad)], -1)
        left = np.stack([-heading[:, 1], heading[:, 0]], -1)
        centre = np.stack([state.x_m, state.y_m], -1) + shift * heading
        boxes.append((centre, heading, left, half))
    (c1, h1, l1, s1), (c2, h2, l2, s2) = boxes
    apart = np.zeros(len(c1), dtype=bool)
    for axis in (h1, l1, h2, l2):
        reach = sum(
            half[k] * np.abs((direction * axis).sum(-1))
            for half, directions in ((s1, (h1, l1)), (s2, (h2, l2)))
            for k, direction in enumerate(directions)
        )
        apart |= np.abs(((c2 - c1) * axis).sum(-1)) > reach
    return ~apart
