"""The plan of a drive: everything that will happen, before any sensor looks at it."""

from __future__ import annotations

import hashlib

import attrs
import numpy as np

from simulation.actors import EGO_FRONT_M, Actor
from simulation.clocks import RecorderClock, draw_clocks, draw_jumps
from simulation.motion import (
    Motions,
    Trajectory,
    drive_along,
    motions_of,
    speed_from_knots,
    time_grid,
)
from simulation.random_streams import random_stream
from simulation.road import Path, Road, lay_centre_line, path_beside
from simulation.scenarios import Scenario, find_scenarios
from simulation.scenery import Scenery, build_scenery
from simulation.story import BLOCK, Act, Conditions, draw_conditions, write_story
from simulation.traffic import EGO_LANE_M, JUNCTION_AHEAD_M, Stage, populate, sway

FIRST_DAY_NS = 1_772_409_600_000_000_000
"""2026-03-02T00:00:00Z."""

_DAY_NS = 86_400_000_000_000
_MINUTE_NS = 60_000_000_000
_START_MINUTE = {"day": 11 * 60, "dusk": 17 * 60 + 40, "night": 21 * 60}
_START_S_M = 130.0
_CROSSING_AHEAD_M = EGO_FRONT_M + 3.2
_VEHICLES = 2


@attrs.frozen(eq=False)
class DrivePlan:
    """A drive with all its truth.

    Attributes:
        seed: Seed of the fleet, from which every part draws its own stream.
        index: Number of the drive in the fleet, from 1.
        drive_id: Its name.
        vehicle_key: Surrogate key of the vehicle.
        t_start_ns: First instant, UTC; a whole second.
        t_end_ns: Last instant, UTC.
        conditions: Weather and light.
        road: The road.
        scenery: What stands beside it.
        ego: The ego's trajectory (with a margin of a second at either end).
        actors: The other road users.
        motions: Their trajectories, in the same order.
        scenarios: What happens.
        clocks: The clock of each recorder.
    """

    seed: int
    index: int
    drive_id: str
    vehicle_key: str
    t_start_ns: int
    t_end_ns: int
    conditions: Conditions
    road: Road
    scenery: Scenery
    ego: Trajectory
    actors: tuple[Actor, ...]
    motions: Motions
    scenarios: tuple[Scenario, ...]
    clocks: dict[str, RecorderClock]

    @property
    def seconds(self) -> float:
        """Length of the drive."""
        return (self.t_end_ns - self.t_start_ns) / 1e9

    def stream(self, *names: str | int) -> np.random.Generator:
        """The random stream of a part of this drive."""
        return random_stream(self.seed, self.drive_id, *names)


def drive_id_of(index: int) -> str:
    """Name of a drive by its number in the fleet, from 1."""
    return f"drive-{index:04d}"


def plan_drive(*, seed: int, index: int, seconds: float, jump_share: float = 0.0) -> DrivePlan:
    """Plan one drive of a fleet; costs milliseconds and touches no file.

    Args:
        seed: Seed of the fleet.
        index: Number of the drive, from 1.
        seconds: Length of the drive.
        jump_share: Share of the drives in which the clock of one recorder is set.

    Returns:
        The plan, a function of the arguments alone.
    """
    drive_id = drive_id_of(index)
    conditions = draw_conditions(seed, index=index)
    t_start_ns = _start_ns(seed, index=index, light=conditions.light)
    t_end_ns = t_start_ns + round(seconds * 1e9)
    acts = write_story(seed, index=index, seconds=seconds)
    clocks = draw_clocks(seed, drive_id=drive_id, t_start_ns=t_start_ns)
    jumps = draw_jumps(
        seed, drive_id=drive_id, t_start_ns=t_start_ns, t_end_ns=t_end_ns, share=jump_share
    )
    clocks |= {name: attrs.evolve(clocks[name], jumps=found) for name, found in jumps.items()}
    rng = random_stream(seed, drive_id, "road")
    centre = _lay_road(seconds, rng=rng)
    ego = _drive_ego(centre, acts=acts, t_start_ns=t_start_ns, t_end_ns=t_end_ns, rng=rng)
    road = _mark_road(centre, ego=ego, acts=acts, t_start_ns=t_start_ns)
    stage = Stage(road=road, ego=ego, t_start_ns=t_start_ns, seconds=seconds)
    actors = populate(stage, acts=acts, seed=seed, drive_id=drive_id)
    return DrivePlan(
        seed=seed,
        index=index,
        drive_id=drive_id,
        vehicle_key=_vehicle_key(seed, index=index),
        t_start_ns=t_start_ns,
        t_end_ns=t_end_ns,
        conditions=conditions,
        road=road,
        scenery=build_scenery(road, first_m=60.0, last_m=stage.ego_s_m(seconds) + 140.0, rng=rng),
        ego=ego,
        actors=actors,
        motions=motions_of([actor.trajectory for actor in actors]),
        scenarios=find_scenarios(ego, actors=actors, t_start_ns=t_start_ns, t_end_ns=t_end_ns),
        clocks=clocks,
    )


def plan_ego(*, seed: int, index: int, seconds: float) -> Trajectory:
    """Plan the ego's motion alone; a hundredth of the time where nobody else is needed.

    Args:
        seed: Seed of the fleet.
        index: Number of the drive, from 1.
        seconds: Length of the drive.

    Returns:
        The same as that of `plan_drive`, with its margin of a second at either end.
    """
    t_start_ns = _start_ns(seed, index=index, light=draw_conditions(seed, index=index).light)
    rng = random_stream(seed, drive_id_of(index), "road")
    return _drive_ego(
        _lay_road(seconds, rng=rng),
        acts=write_story(seed, index=index, seconds=seconds),
        t_start_ns=t_start_ns,
        t_end_ns=t_start_ns + round(seconds * 1e9),
        rng=rng,
    )


def _lay_road(seconds: float, *, rng: np.random.Generator) -> Path:
    """Lay a centre line that is long enough for a drive."""
    return lay_centre_line(2 * _START_S_M + 28.0 * (seconds + 2.0), rng=rng)


def _drive_ego(
    centre: Path,
    *,
    acts: tuple[Act, ...],
    t_start_ns: int,
    t_end_ns: int,
    rng: np.random.Generator,
) -> Trajectory:
    """Let the ego follow the story's speeds in its lane, swaying like a human driver."""
    path = path_beside(centre, lateral_m=EGO_LANE_M + sway(len(centre.x_m), rng=rng))
    t_ns = time_grid(t_start_ns, t_end_ns=t_end_ns)
    knots = _in_order([knot for act in acts for knot in act.ego_knots])
    phase = float(rng.uniform(0, 2 * np.pi))
    speed = speed_from_knots(
        t_ns, t_start_ns=t_start_ns, knots=knots, ripple=0.012, phase_rad=phase
    )
    start_u = path.u_from_road_s(_START_S_M)
    return drive_along(path, t_ns=t_ns, speed_m_s=speed, start_u_m=start_u)


def _in_order(knots: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out the knots of an act that come after the next one has begun."""
    kept: list[tuple[float, float]] = []
    for knot in knots:
        while kept and kept[-1][0] >= knot[0]:
            kept.pop()
        kept.append(knot)
    return kept


def _mark_road(centre: Path, *, ego: Trajectory, acts: tuple[Act, ...], t_start_ns: int) -> Road:
    """Put a crossing or a junction where each act makes the ego stop."""
    crossings, junctions = [], []
    for act in acts:
        if act.stop_s is None:
            continue
        stop_ns = np.array([t_start_ns + round(act.stop_s * 1e9)])
        stop_m = float(ego.at(np.minimum(stop_ns, ego.t_ns[-1])).road_s_m[0])
        if act.kind == "junction":
            junctions.append(stop_m + JUNCTION_AHEAD_M)
            crossings.append(stop_m + EGO_FRONT_M + 2.2)
        else:
            crossings.append(stop_m + _CROSSING_AHEAD_M)
    return Road(centre=centre, crossings_m=tuple(crossings), junctions_m=tuple(junctions))


def _start_ns(seed: int, *, index: int, light: str) -> int:
    """When a drive begins: one block of three drives a day, at an hour that fits the light."""
    day = (index - 1) // BLOCK
    minute = _START_MINUTE[light] + int(random_stream(seed, "start", index).integers(0, 30))
    return FIRST_DAY_NS + day * _DAY_NS + minute * _MINUTE_NS


def _vehicle_key(seed: int, *, index: int) -> str:
    """The surrogate key of the vehicle that makes a drive; the fleet's vehicles take turns."""
    vehicle = (index - 1) % _VEHICLES
    return "veh-" + hashlib.sha256(f"{seed}/vehicle/{vehicle}".encode()).hexdigest()[:12]
