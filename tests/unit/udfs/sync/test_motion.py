"""Points of a sweep brought to one instant, against a vehicle whose way is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from contracts.errors import ContractViolation
from simulation.lidar import Lidar
from simulation.plan import plan_drive
from simulation.rig import LIDAR_MOUNT
from tests.unit.udfs.sync.moving import MOUNT, Drive, columns, turned_left
from udfs.geometry.transforms import Transform
from udfs.sync.limits import NOWHERE, Boundaries
from udfs.sync.motion import EgoMotion, move_to_instant, move_to_times
from udfs.sync.states import words_of

MS = 1_000_000
AT_NS = 5_012_345_678


def errors(found, expected):
    """(N,) metres."""
    return np.linalg.norm(np.stack(found.xyz_m, axis=1) - expected, axis=1)


@given(
    hz=st.sampled_from([10, 20, 50, 100, 1000]),
    speed=st.floats(10, 30),
    turn=st.floats(-np.radians(30), np.radians(30)),
    acceleration=st.floats(-8, 4),
    late_ms=st.integers(-200, 200),
    into_base=st.booleans(),
)
def test_a_scene_that_stands_still_comes_back(*, hz, speed, turn, acceleration, late_ms, into_base):
    """Within 2 cm at up to 30 m/s and 30 °/s, from 20 poses a second on also under full braking."""
    drive = Drive(speed, turn, acceleration if hz >= 20 else 0.0)
    scene = drive.scene_around(AT_NS, count=100)
    t_ns = AT_NS + late_ms * MS + np.arange(100) * MS
    found = move_to_instant(
        columns(drive.seen(scene, t_ns, mount=MOUNT)), t_ns, at_ns=AT_NS,
        motion=drive.motion(hz=hz), base_from_sensor=MOUNT, into_base=into_base,
    )  # fmt: skip
    frame = Transform.identity() if into_base else MOUNT
    assert found.lost == 0
    assert errors(found, drive.seen(scene, np.full(100, AT_NS), mount=frame)).max() < 0.02


def test_the_way_back_is_the_way_back():
    """What stands in base_link of an instant is found where the sensor saw it, to a millimetre."""
    drive = Drive()
    scene = drive.scene_around(AT_NS, count=500)
    t_ns = AT_NS + np.linspace(-300 * MS, 100 * MS, 500).astype(np.int64)
    seen = drive.seen(scene, t_ns, mount=MOUNT)
    of_base = drive.seen(scene, np.full(500, AT_NS), mount=Transform.identity())
    found = move_to_times(
        columns(of_base), t_ns, at_ns=AT_NS, motion=drive.motion(hz=20), base_from_sensor=MOUNT
    )
    assert errors(found, seen).max() < 1e-3


def test_a_vehicle_that_stands_changes_nothing():
    """The points stay where they are, whenever each was seen."""
    drive = Drive(speed_m_s=0.0, turn_rad_s=0.0)
    points = np.random.default_rng(1).uniform(-80, 80, (300, 3))
    found = move_to_instant(
        columns(points), AT_NS + np.arange(300) * MS, at_ns=AT_NS, motion=drive.motion(hz=50),
        base_from_sensor=MOUNT,
    )  # fmt: skip
    assert errors(found, points.astype(np.float32)).max() < 1e-6


@given(st.integers(0, 2**32 - 1), st.floats(1e-9, np.pi - 1e-3))
def test_a_turn_on_the_spot_is_slerp(seed, angle):
    """From no turn at all to nearly half of one in a piece, the signs of the quaternions apart."""
    random = np.random.default_rng(seed)
    first = Rotation.random(random_state=seed)
    axis = random.normal(size=3)
    second = first * Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    rotations = Rotation.concatenate([first, second])
    signs = random.choice([-2.0, 2.0], (2, 1))
    motion = EgoMotion.from_arrays(
        np.array([0, 100]), np.zeros((2, 3)), signs * rotations.as_quat(), NOWHERE
    )
    t_ns = np.arange(101)
    points = random.uniform(-1, 1, (101, 3)).astype(np.float32)
    found = move_to_instant(
        columns(points), t_ns, at_ns=37, motion=motion, base_from_sensor=Transform.identity()
    )
    slerp = Slerp([0, 100], rotations)
    expected = slerp([37]).inv().apply(slerp(t_ns).apply(points))
    assert errors(found, expected).max() < 1e-6


@pytest.mark.parametrize("order", ["rings", "random"])
def test_the_order_of_the_points_is_none_of_its_business(order):
    """Points ring by ring, or in no order, among more poses than are kept at a time."""
    drive = Drive()
    count = 2000
    t_ns = np.linspace(3e9, 4e9, count).astype(np.int64)
    points = drive.seen(drive.scene_around(AT_NS, count=count), t_ns, mount=MOUNT)
    motion = drive.motion(hz=1000)
    in_order = move_to_instant(
        columns(points), t_ns, at_ns=4_000 * MS, motion=motion, base_from_sensor=MOUNT
    )
    index = np.arange(count).reshape(-1, 20).T.ravel()
    if order == "random":
        index = np.random.default_rng(0).permutation(count)
    found = move_to_instant(
        columns(points[index]), t_ns[index], at_ns=4_000 * MS, motion=motion, base_from_sensor=MOUNT
    )
    for axis, other in zip(found.xyz_m, in_order.xyz_m, strict=True):
        np.testing.assert_array_equal(axis, other[index])


def reasons(t_ns, *, poses_ns, at_ns=100, jumps_ns=(), gaps_ns=(), max_gap_ns=50):
    """States of points at some times, of a vehicle with poses at others."""
    motion = EgoMotion.from_arrays(
        np.array(poses_ns, np.int64), np.zeros((len(poses_ns), 3)),
        np.tile([0.0, 0, 0, 1], (len(poses_ns), 1)),
        Boundaries.of(jumps_ns=jumps_ns, gaps_ns=gaps_ns),
    )  # fmt: skip
    found = move_to_instant(
        columns(np.ones((len(t_ns), 3))), np.array(t_ns, np.int64), at_ns=at_ns, motion=motion,
        base_from_sensor=MOUNT, max_gap_ns=max_gap_ns,
    )  # fmt: skip
    states = words_of(found.state).tolist()
    for axis in found.xyz_m:
        assert [value is None for value in states] == [False] * len(states)
        assert np.isfinite(axis).tolist() == [state == "ok" for state in states]
    assert found.lost == sum(state != "ok" for state in states)
    return states


def test_what_is_not_known_has_a_reason():
    """Before the first pose, behind the last, in a hole: a reason each; at a pose itself none."""
    poses = [50, 100, 150, 250, 300]
    assert reasons([49, 50, 60, 150, 151, 249, 250, 300, 301], poses_ns=poses) == [
        "stale", "ok", "ok", "ok", "gap", "gap", "ok", "ok", "stale",
    ]  # fmt: skip
    assert reasons([60, 151], poses_ns=poses, max_gap_ns=100) == ["ok", "ok"]


def test_nothing_reaches_across_a_boundary():
    """Beyond a jump of the poses' clock, or where they begin anew, a point has no place."""
    poses = [0, 50, 100, 150, 200]
    times = [0, 40, 60, 74, 75, 100, 150, 175, 200]
    jump = ["jump"] * 4
    assert reasons(times, poses_ns=poses, jumps_ns=[75]) == [*jump, "jump", *["ok"] * 4]
    assert reasons(times, poses_ns=poses, gaps_ns=[150]) == ["ok"] * 6 + ["gap"] * 3
    assert reasons(times, poses_ns=poses, at_ns=0, jumps_ns=[75]) == ["ok"] * 2 + ["jump"] * 7


@pytest.mark.parametrize(
    ("at_ns", "more", "reason"),
    [
        (20, {}, "gap"),
        (-1, {}, "stale"),
        (201, {}, "stale"),
        (120, {"jumps_ns": [130]}, "jump"),
        (120, {"poses_ns": []}, "missing"),
    ],
)
def test_an_instant_that_is_not_known_has_no_points(at_ns, more, reason):
    """Where the vehicle was at the reference counts for all points."""
    given_ = {"poses_ns": [0, 100, 150, 200], **more}
    assert reasons([100, 150], at_ns=at_ns, **given_) == [reason] * 2


def test_rows_that_are_no_poses_are_passed_over():
    """A pose of zeros or NaN is a hole; a repeated one does no harm; times must be in order."""
    names = [*(f"position_{axis}_m" for axis in "xyz"), *(f"orientation_{axis}" for axis in "xyzw")]
    rows = {name: [0.0] * 5 for name in names} | {"orientation_w": [1.0, 0.0, 1.0, 1.0, 1.0]}
    rows |= {"position_x_m": [0.0, 0.0, float("nan"), None, 1.0], "t_ns": [0, 10, 20, 30, 40]}
    motion = EgoMotion.of(rows)
    assert motion.t_ns.tolist() == [0, 40]
    again = EgoMotion.of(rows | {"t_ns": [40] * 5, "position_x_m": [1.0] * 5})
    found = move_to_instant(
        columns(np.ones((1, 3))), np.array([40]), at_ns=40, motion=again, base_from_sensor=MOUNT
    )
    assert found.lost == 0
    with pytest.raises(ContractViolation, match="not in time order"):
        EgoMotion.of(rows | {"t_ns": [0, 10, 5, 30, 40]})
    with pytest.raises(ContractViolation, match="no column orientation_w"):
        EgoMotion.of({name: values for name, values in rows.items() if name != "orientation_w"})
    with pytest.raises(ContractViolation, match="no column stamp"):
        EgoMotion.of(rows, time="stamp")


def test_times_at_the_ends_of_what_there_is():
    """The earliest and the latest time that int64 holds are far away, and nothing else."""
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    assert reasons([low, 100, high], poses_ns=[100, 150]) == ["stale", "ok", "stale"]
    assert reasons([low, high], poses_ns=[low, high], at_ns=low, max_gap_ns=2**64 - 1) == ["ok"] * 2
    assert reasons([0], poses_ns=[low, high], at_ns=low, max_gap_ns=2**63) == ["gap"]


def test_a_sweep_of_the_simulated_lidar():
    """Rays that each went out at its own time give one scene: to 2 mm that of the true way."""
    plan = plan_drive(seed=7, index=1, seconds=2.0)
    start_ns = plan.t_start_ns + 500 * MS
    sweep = Lidar(plan).sweep(start_ns, number=5)
    t_ns = start_ns + sweep.points["t"].astype(np.int64)
    points = np.stack([sweep.points[axis] for axis in "xyz"], axis=1).astype(np.float64)
    mount = Transform(np.eye(3), np.array(LIDAR_MOUNT.xyz_m))

    def to_world(ego, local):
        turn = turned_left(ego.yaw_rad)
        return turn.apply(local) + np.c_[ego.x_m, ego.y_m, 0 * ego.x_m]

    poses_ns = plan.t_start_ns + np.arange(100) * 20 * MS
    ego = plan.ego.at(poses_ns)
    motion = EgoMotion.from_arrays(
        poses_ns, np.c_[ego.x_m, ego.y_m, 0 * ego.x_m],
        turned_left(ego.yaw_rad).as_quat(), NOWHERE,
    )  # fmt: skip
    at_ns = start_ns + 17 * MS
    found = move_to_instant(
        columns(points), t_ns, at_ns=at_ns, motion=motion, base_from_sensor=mount, into_base=True
    )
    then = plan.ego.at(np.full(len(t_ns), at_ns))
    expected = to_world(plan.ego.at(t_ns), mount.apply(points))
    got = to_world(then, np.stack(found.xyz_m, axis=1).astype(np.float64))
    assert found.lost == 0
    assert np.linalg.norm(got - expected, axis=1).max() < 2e-3
    assert np.linalg.norm(to_world(then, mount.apply(points)) - expected, axis=1).max() > 0.3


def test_points_are_brought_to_one_instant():
    """A wall that stands still is straight again after the ego's own motion is taken out."""
    elapsed_s = np.linspace(-0.05, 0.05, 101)
    speed, yaw_rate = 14.0, 0.4
    turn = yaw_rate * elapsed_s
    here = np.column_stack([np.sin(turn), 1 - np.cos(turn)]) * speed / yaw_rate
    wall = np.column_stack([np.full(101, 20.0), np.linspace(-5, 5, 101)])
    cos, sin = np.cos(turn), np.sin(turn)
    offset = wall - here
    seen = np.column_stack(
        [
            cos * offset[:, 0] + sin * offset[:, 1],
            cos * offset[:, 1] - sin * offset[:, 0],
            elapsed_s,
        ]
    )
    axes = np.ascontiguousarray(seen.T, np.float32)
    t_ns = AT_NS + np.rint(elapsed_s * 1e9).astype(np.int64)
    ends = (int(t_ns[0]), int(t_ns[-1]))
    motion = EgoMotion.on_a_circle(ends, at_ns=AT_NS, speed_m_s=speed, yaw_rate_rad_s=yaw_rate)
    found = move_to_instant(
        axes, t_ns, at_ns=AT_NS, motion=motion, base_from_sensor=Transform.identity()
    )
    assert found.lost == 0
    assert np.abs(np.stack(found.xyz_m[:2], axis=1) - wall).max() < 1e-5
    alone = EgoMotion.on_a_circle((AT_NS, AT_NS), at_ns=AT_NS, speed_m_s=speed, yaw_rate_rad_s=0.0)
    still = move_to_instant(
        axes, np.full(101, AT_NS), at_ns=AT_NS, motion=alone, base_from_sensor=Transform.identity()
    )
    assert np.array_equal(np.stack(still.xyz_m), axes)
