"""Which situations a drive holds, read off the true trajectories by stated thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from simulation.actors import EGO_FRONT_M, Actor
from simulation.motion import GRID_NS, Trajectory
from simulation.road import LANE_WIDTH_M

HARD_BRAKING_M_S2 = -3.5
HARD_BRAKING_MIN_S = 0.5
STANDSTILL_M_S = 0.1
STANDSTILL_MIN_S = 2.0
CUT_IN_START_M = 0.9 * LANE_WIDTH_M
CUT_IN_END_M = 0.5
CUT_IN_GAP_M = (2.0, 30.0)


@attrs.frozen
class Scenario:
    """A situation in `[start_ns, end_ns)` UTC; `actor` is the object_id of the other road user."""

    kind: Literal["hard_braking", "cut_in", "standstill"]
    start_ns: int
    end_ns: int
    actor: int | None = None


def find_scenarios(
    ego: Trajectory, *, actors: tuple[Actor, ...], t_start_ns: int, t_end_ns: int
) -> tuple[Scenario, ...]:
    """Find every situation of the known kinds, clipped to the drive.

    Hard braking: acceleration at or below `HARD_BRAKING_M_S2` for at least half a second.
    Standstill: speed at or below `STANDSTILL_M_S` for at least two seconds.
    Cut-in: a car or truck, ahead by a gap of 2 to 30 m (bumper to bumper), comes from an adjacent
    lane into the ego's; from less than 0.9 lane widths of lateral distance to less than 0.5 m.

    Args:
        ego: The ego's trajectory.
        actors: The other road users.
        t_start_ns: Start of the drive, UTC.
        t_end_ns: End of the drive, UTC.

    Returns:
        The situations by start.
    """
    inside = (ego.t_ns >= t_start_ns) & (ego.t_ns <= t_end_ns)
    found: list[Scenario] = []
    braking = inside & (ego.accel_m_s2 <= HARD_BRAKING_M_S2)
    for start, end in _spans(braking, min_s=HARD_BRAKING_MIN_S):
        found.append(Scenario("hard_braking", int(ego.t_ns[start]), int(ego.t_ns[end])))
    standing = inside & (ego.speed_m_s <= STANDSTILL_M_S)
    for start, end in _spans(standing, min_s=STANDSTILL_MIN_S):
        found.append(Scenario("standstill", int(ego.t_ns[start]), int(ego.t_ns[end])))
    for actor in actors:
        found += _cut_ins(ego, actor, inside=inside)
    return tuple(sorted(found, key=lambda scenario: (scenario.start_ns, scenario.kind)))


def _cut_ins(ego: Trajectory, actor: Actor, *, inside: npt.NDArray[np.bool_]) -> list[Scenario]:
    """Cut-ins of one road user."""
    if actor.class_name not in ("car", "truck"):
        return []
    lateral = np.abs(actor.trajectory.road_d_m - ego.road_d_m)
    ahead = actor.trajectory.road_s_m - ego.road_s_m - EGO_FRONT_M - actor.size.length_m / 2
    same_way = np.cos(actor.trajectory.yaw_rad - ego.yaw_rad) > 0
    near = same_way & (ahead > CUT_IN_GAP_M[0]) & (ahead < CUT_IN_GAP_M[1])
    coming = inside & near & (lateral < CUT_IN_START_M) & (lateral > CUT_IN_END_M)
    spans = _spans(coming, min_s=0.5)
    return [
        Scenario("cut_in", int(ego.t_ns[start]), int(ego.t_ns[end]), actor.object_id)
        for start, end in spans
        if lateral[start] > lateral[end] and lateral[end] <= CUT_IN_END_M
    ]


def _spans(mask: npt.NDArray[np.bool_], *, min_s: float) -> Iterator[tuple[int, int]]:
    """Runs of true of at least `min_s`, as half-open index ranges that end inside the array."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if (end - start) * GRID_NS >= min_s * 1e9:
            yield int(start), min(int(end), len(mask) - 1)
