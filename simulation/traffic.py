"""Who else is on the road: the road users that an act needs, and the ordinary traffic around."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from simulation.actors import (
    EGO_FRONT_M,
    EGO_REAR_M,
    EGO_WIDTH_M,
    Actor,
    ClassName,
    draw_size,
    footprint_circles,
)
from simulation.motion import Trajectory, drive_along, speed_from_knots
from simulation.random_streams import random_stream
from simulation.road import (
    CYCLE_STRIP_M,
    INNER_LANE_M,
    LANE_WIDTH_M,
    OUTER_LANE_M,
    PARKING_M,
    SIDEWALK_M,
    STEP_M,
    FloatArray,
    Path,
    Road,
    path_beside,
    straight_path,
)
from simulation.story import Act

EGO_LANE_M = -OUTER_LANE_M
JUNCTION_AHEAD_M = EGO_FRONT_M + 9.5
LANE_CHANGE_S = 2.4
CLEARANCE_M = 0.25
CROSS_ROAD_REACH_M = 60.0
_OVERLAP_STRIDE = 10
_QUEUE_GAP_M = 10.0
_MOVE_UP_S = 4.0


@attrs.frozen(eq=False)
class Stage:
    """What traffic is placed on: the road, the ego's motion and the times of the drive.

    Attributes:
        road: The road with its crossings and junctions.
        ego: The ego's trajectory; its `t_ns` is the grid of everybody.
        t_start_ns: Start of the drive, UTC.
        seconds: Length of the drive.
    """

    road: Road
    ego: Trajectory
    t_start_ns: int
    seconds: float

    @property
    def seconds_at_grid(self) -> FloatArray:
        """Seconds into the drive at every point of the grid."""
        return (self.ego.t_ns - self.t_start_ns) / 1e9

    def ego_s_m(self, seconds: float) -> float:
        """Where the ego is along the road, some seconds into the drive."""
        at = np.array([self.t_start_ns + round(seconds * 1e9)])
        return float(self.ego.at(np.clip(at, self.ego.t_ns[0], self.ego.t_ns[-1])).road_s_m[0])

    def speed(self, knots: tuple[tuple[float, float], ...], rng: np.random.Generator) -> FloatArray:
        """A human driver's speed through the knots, on the drive's grid."""
        phase = float(rng.uniform(0, 2 * np.pi))
        return speed_from_knots(
            self.ego.t_ns, t_start_ns=self.t_start_ns, knots=knots, ripple=0.012, phase_rad=phase
        )


@attrs.frozen(eq=False)
class Candidate:
    """A road user that takes part unless it would touch somebody already there."""

    class_name: ClassName
    trajectory: Trajectory
    rng: np.random.Generator


def populate(stage: Stage, *, acts: tuple[Act, ...], seed: int, drive_id: str) -> tuple[Actor, ...]:
    """Fill a drive with road users; whoever would touch another is left out.

    Args:
        stage: Road, ego and times.
        acts: The story; its road users come first.
        seed: Seed of the fleet.
        drive_id: The drive.

    Returns:
        The road users, numbered from 1.
    """
    ego = footprint_circles(
        stage.ego, front_m=EGO_FRONT_M + 0.5, rear_m=EGO_REAR_M + 0.5, width_m=EGO_WIDTH_M
    )
    taken = [ego]
    actors: list[Actor] = []
    for candidate in _candidates(stage, acts=acts, seed=seed, drive_id=drive_id):
        size = draw_size(candidate.class_name, rng=candidate.rng)
        reach = size.length_m / 2 + CLEARANCE_M
        circles = footprint_circles(
            candidate.trajectory, front_m=reach, rear_m=reach, width_m=size.width_m
        )
        if any(_touch(circles, other) for other in taken):
            continue
        taken.append(circles)
        look = int(candidate.rng.integers(1 << 16))
        actors.append(
            Actor(len(actors) + 1, candidate.class_name, size, look, candidate.trajectory)
        )
    return tuple(actors)


def _candidates(
    stage: Stage, *, acts: tuple[Act, ...], seed: int, drive_id: str
) -> Iterator[Candidate]:
    """All who would take part, the important ones first; those who leave the map stay out."""
    queue: list[float] = []
    for number, act in enumerate(acts):
        rng = random_stream(seed, drive_id, "act", number)
        if act.cut_in_s is not None:
            yield from _rival(stage, act=act, queue=queue, rng=rng)
            queue.append(act.start_s)
        if act.kind == "pedestrian":
            yield from _crossing_pedestrians(stage, act=act, rng=rng)
        if act.kind == "junction":
            yield from _cross_traffic(stage, act=act, rng=rng)
    rng = random_stream(seed, drive_id, "traffic")
    for make in (_parked, _same_direction, _oncoming, _cyclists, _walkers):
        yield from make(stage, rng)


def _rival(
    stage: Stage, *, act: Act, queue: Sequence[float], rng: np.random.Generator
) -> Iterator[Candidate]:
    """The car that overtakes and changes into the ego's lane close ahead.

    Until its act it follows in the next lane, behind the rivals of earlier acts, and moves up when
    one of them leaves; `queue` holds the seconds at which they do.
    """
    assert act.cut_in_s is not None
    own = np.clip(stage.seconds_at_grid - act.start_s, 0.0, 1.0)
    speed = (1 - own) * stage.ego.speed_m_s + own * stage.speed(act.rival_knots, rng)
    for start_s in queue:
        share = np.clip((stage.seconds_at_grid - start_s) / _MOVE_UP_S, 0.0, 1.0)
        speed = speed + _QUEUE_GAP_M / _MOVE_UP_S * (1 - np.cos(2 * np.pi * share))
    ahead = EGO_FRONT_M + 2.3 + rng.uniform(8.0, 12.0)
    index = int(np.searchsorted(stage.ego.t_ns, stage.t_start_ns + round(act.cut_in_s * 1e9)))
    travelled = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 200)])
    middle_s = stage.ego_s_m(act.cut_in_s) + ahead
    half = LANE_CHANGE_S / 2 * float(speed[index])
    s_m = stage.road.centre.road_s_m
    blend = _smooth_step((s_m - middle_s + half) / (2 * half))
    lateral = -INNER_LANE_M + (EGO_LANE_M + INNER_LANE_M) * blend
    path = path_beside(stage.road.centre, lateral_m=lateral)
    start_u = path.u_from_road_s(middle_s) - travelled[index]
    yield from _along(stage, "car", path=path, speed=speed, start_u_m=start_u, rng=rng)


def _crossing_pedestrians(
    stage: Stage, *, act: Act, rng: np.random.Generator
) -> Iterator[Candidate]:
    """The one who makes the ego brake, then some who use the chance."""
    assert act.stop_s is not None
    assert act.go_s is not None
    crossing_s = stage.ego_s_m(act.stop_s) + EGO_FRONT_M + 3.2
    for number, offset in enumerate((0.0, 0.9, -0.8)):
        to_left = number != 2
        walk = float(rng.uniform(1.5, 1.8))
        # The first is in the ego's lane when the ego stands still; the others follow.
        reach = SIDEWALK_M + (EGO_LANE_M + 1.2 if to_left else -EGO_LANE_M + 1.5)
        meet_s = act.stop_s - 0.2 + 1.1 * number
        start_s = meet_s - reach / walk
        side = -1.0 if to_left else 1.0
        xy = stage.road.xy_from_sd(crossing_s + offset, side * SIDEWALK_M)
        yaw = float(stage.road.centre.at(crossing_s).yaw_rad) - side * np.pi / 2
        yield from _walk_across(stage, xy=xy, yaw_rad=yaw, start_s=start_s, walk=walk, rng=rng)


def _walk_across(
    stage: Stage,
    *,
    xy: FloatArray,
    yaw_rad: float,
    start_s: float,
    walk: float,
    rng: np.random.Generator,
) -> Iterator[Candidate]:
    """A pedestrian who waits at a kerb, walks over the road and stops on the other side."""
    width = 2 * SIDEWALK_M + 1.0
    end_s = start_s + width / walk
    knots = ((start_s - 0.2, 0.0), (start_s + 0.2, walk), (end_s - 0.2, walk), (end_s + 0.2, 0.0))
    path = straight_path(xy, yaw_rad=yaw_rad, length_m=width + 4.0)
    speed = stage.speed(knots, rng)
    yield from _along(stage, "pedestrian", path=path, speed=speed, start_u_m=0.0, rng=rng)


def _cross_traffic(stage: Stage, *, act: Act, rng: np.random.Generator) -> Iterator[Candidate]:
    """Vehicles on the crossing road, passing while the ego waits."""
    assert act.stop_s is not None
    assert act.go_s is not None
    junction_s = stage.ego_s_m(act.stop_s) + JUNCTION_AHEAD_M
    yaw = float(stage.road.centre.at(junction_s).yaw_rad)
    for number in range(4):
        side = -1.0 if number % 2 else 1.0
        heading = yaw + side * np.pi / 2
        speed_m_s = float(rng.uniform(8.0, 11.0))
        middle_s = rng.uniform(act.stop_s + 0.3, act.go_s - 0.3)
        length = speed_m_s * (stage.seconds + 4.0) + 10.0
        lane = side * LANE_WIDTH_M / 2
        reach = speed_m_s * (middle_s + 1.0)
        xy = stage.road.xy_from_sd(junction_s + lane, 0.0)
        start = xy - (reach + 2.0) * np.array([np.cos(heading), np.sin(heading)])
        path = straight_path(start, yaw_rad=heading, length_m=length)
        speed = stage.speed(((0.0, speed_m_s),), rng)
        kind: ClassName = "truck" if number == 2 else "car"
        yield from _along(stage, kind, path=path, speed=speed, start_u_m=2.0, rng=rng)


def _parked(stage: Stage, rng: np.random.Generator) -> Iterator[Candidate]:
    """Cars (and a few lorries) parked on both sides, away from crossings and junctions."""
    first, last = stage.ego_s_m(0.0), stage.ego_s_m(stage.seconds) + 80.0
    still = np.zeros(len(stage.ego.t_ns))
    for side in (-1.0, 1.0):
        path = _lane(stage, lateral_m=side * PARKING_M, reverse=side > 0)
        s_m = first + rng.uniform(4.0, 25.0)
        while s_m < last:
            if not stage.road.near_feature(s_m, margin_m=17.0):
                kind: ClassName = "truck" if rng.random() < 0.08 else "car"
                start = path.u_from_road_s(s_m)
                yield from _along(stage, kind, path=path, speed=still, start_u_m=start, rng=rng)
            s_m += rng.uniform(8.0, 45.0)


def _same_direction(stage: Stage, rng: np.random.Generator) -> Iterator[Candidate]:
    """Vehicles in the ego's direction, in both lanes, mostly ahead."""
    ego_speed = float(stage.ego.speed_m_s[0])
    for lateral, ahead in ((EGO_LANE_M, 48.0), (-INNER_LANE_M, 22.0), (-INNER_LANE_M, 62.0)):
        path = _lane(stage, lateral_m=lateral, rng=rng)
        start = path.u_from_road_s(stage.ego_s_m(-1.0) + ahead + rng.uniform(-6.0, 12.0))
        kind: ClassName = "truck" if rng.random() < 0.35 else "car"
        speed = stage.speed(((0.0, ego_speed + float(rng.uniform(-0.6, 1.2))),), rng)
        yield from _along(stage, kind, path=path, speed=speed, start_u_m=start, rng=rng)


def _oncoming(stage: Stage, rng: np.random.Generator) -> Iterator[Candidate]:
    """Vehicles that come towards the ego, spread over the whole drive."""
    reach = stage.ego_s_m(stage.seconds) + 12.0 * stage.seconds
    for lateral, spacing in ((INNER_LANE_M, 75.0), (OUTER_LANE_M, 60.0)):
        s_m = stage.ego_s_m(0.0) + rng.uniform(15.0, 60.0)
        cruise = float(rng.uniform(10.0, 13.0))
        path = _lane(stage, lateral_m=lateral, reverse=True, rng=rng)
        while s_m < reach:
            kind: ClassName = "truck" if rng.random() < 0.22 else "car"
            speed = stage.speed(((0.0, cruise),), rng)
            start = path.u_from_road_s(s_m)
            yield from _along(stage, kind, path=path, speed=speed, start_u_m=start, rng=rng)
            s_m += spacing * rng.uniform(0.5, 1.5)


def _cyclists(stage: Stage, rng: np.random.Generator) -> Iterator[Candidate]:
    """Cyclists on the strips at either side."""
    for side in (-1.0, 1.0):
        path = _lane(stage, lateral_m=side * CYCLE_STRIP_M, reverse=side > 0, rng=rng)
        s_m = stage.ego_s_m(0.0) + rng.uniform(12.0, 25.0)
        while s_m < stage.ego_s_m(stage.seconds) + 40.0:
            speed = stage.speed(((0.0, float(rng.uniform(3.8, 6.0))),), rng)
            start = path.u_from_road_s(s_m)
            yield from _along(stage, "cyclist", path=path, speed=speed, start_u_m=start, rng=rng)
            s_m += rng.uniform(35.0, 75.0)


def _walkers(stage: Stage, rng: np.random.Generator) -> Iterator[Candidate]:
    """Pedestrians on the pavements, in both directions."""
    for side in (-1.0, 1.0):
        s_m = stage.ego_s_m(0.0) + rng.uniform(8.0, 20.0)
        while s_m < stage.ego_s_m(stage.seconds) + 60.0:
            lateral = side * (SIDEWALK_M + rng.uniform(-0.5, 1.2))
            path = _lane(stage, lateral_m=lateral, reverse=bool(rng.random() < 0.5))
            speed = stage.speed(((0.0, float(rng.uniform(0.9, 1.7))),), rng)
            start = path.u_from_road_s(s_m)
            yield from _along(stage, "pedestrian", path=path, speed=speed, start_u_m=start, rng=rng)
            s_m += rng.uniform(12.0, 45.0)


def _lane(
    stage: Stage,
    *,
    lateral_m: float,
    reverse: bool = False,
    rng: np.random.Generator | None = None,
) -> Path:
    """A path at a constant place across the road, with a driver's sway if a stream is given."""
    lateral = np.full(len(stage.road.centre.x_m), lateral_m)
    if rng is not None:
        lateral = lateral + sway(len(lateral), rng=rng)
    return path_beside(stage.road.centre, lateral_m=lateral, reverse=reverse)


def sway(count: int, *, rng: np.random.Generator) -> FloatArray:
    """A driver's slow wandering within the lane, in metres at every sample of the centre line."""
    s_m = np.arange(count) * STEP_M
    waves = [(0.10, 85.0), (0.05, 47.0)]
    return sum(
        (
            amplitude * np.sin(2 * np.pi * s_m / length + rng.uniform(0, 2 * np.pi))
            for amplitude, length in waves
        ),
        start=np.zeros(count),
    )


def _along(
    stage: Stage,
    class_name: ClassName,
    *,
    path: Path,
    speed: FloatArray,
    start_u_m: float,
    rng: np.random.Generator,
) -> Iterator[Candidate]:
    """A candidate that moves along a path, or none when it would leave it."""
    travelled = float(np.sum(speed)) / 100
    if start_u_m < 0 or start_u_m + travelled > path.length_m:
        return
    trajectory = drive_along(path, t_ns=stage.ego.t_ns, speed_m_s=speed, start_u_m=start_u_m)
    yield Candidate(class_name, trajectory, rng)


def _smooth_step(x: FloatArray) -> FloatArray:
    """Blend from 0 to 1 with continuous second derivative."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10 - 15 * x + 6 * x**2)


def _touch(a: tuple[FloatArray, float], b: tuple[FloatArray, float]) -> bool:
    """Whether two moving sets of circles ever overlap (looked at every 0.1 s)."""
    first, second = a[0][::_OVERLAP_STRIDE, :, None], b[0][::_OVERLAP_STRIDE, None, :]
    return bool((np.linalg.norm(first - second, axis=-1) < a[1] + b[1]).any())
