"""The object list of the ADAS computer: noisy boxes with stable ids, and misses."""

from __future__ import annotations

import numpy as np

from simulation.actors import Actor
from simulation.lidar import Sweep
from simulation.plan import DrivePlan
from simulation.rig import CAMERA_DELAY_NS, base_from_world
from simulation.ros_messages import Detection

MAX_RANGE_M = 80.0
MIN_POINTS = 3
MISS_SHARE = 0.06


def track(plan: DrivePlan, sweep: Sweep, *, number: int) -> list[Detection]:
    """List the road users that the tracker reports at one sweep.

    Only what the lidar hits is seen; a few are missed at random. Positions, headings and sizes have
    errors that grow with distance; the ids are those of the truth, as a perfect association gives.

    Args:
        plan: The drive.
        sweep: The sweep.
        number: Its number; picks the errors.

    Returns:
        The detections, valid at the instant when the sweep passes the front.
    """
    rng = plan.stream("tracker", number)
    t_ns = sweep.t_ns + CAMERA_DELAY_NS
    ego, states = plan.ego.at([t_ns]), plan.motions.at(t_ns)
    found = []
    for row, actor in enumerate(plan.actors):
        # Every road user draws its numbers, seen or not, so that no one shifts another's.
        errors, luck = rng.normal(0, 1, 8), rng.random()
        if sweep.hits.get(actor.object_id, 0) < MIN_POINTS or luck < MISS_SHARE:
            continue
        world = np.array([states.x_m[row], states.y_m[row], actor.size.height_m / 2])
        place = base_from_world(world, ego=ego)
        distance = float(np.hypot(place[0], place[1]))
        if distance <= MAX_RANGE_M:
            yaw = float(states.yaw_rad[row] - ego.yaw_rad[0])
            found.append(_detection(actor, place, yaw, distance=distance, errors=errors))
    return found


def _detection(
    actor: Actor, place: np.ndarray, yaw_rad: float, *, distance: float, errors: np.ndarray
) -> Detection:
    """One road user with the tracker's errors; `errors` are 8 standard normal numbers."""
    sigma = 0.06 + 0.003 * distance
    x, y, z = place + errors[:3] * np.array([sigma, sigma, 0.05])
    size = (actor.size.length_m, actor.size.width_m, actor.size.height_m)
    turned = (yaw_rad + 0.02 * errors[3] + np.pi) % (2 * np.pi) - np.pi
    return Detection(
        track_id=actor.object_id,
        class_name=actor.class_name,
        score=round(float(np.clip(0.97 - 0.004 * distance + 0.02 * errors[4], 0.2, 0.99)), 3),
        xyz_m=(float(x), float(y), float(z)),
        yaw_rad=float(turned),
        size_m=tuple(float(v * (1 + 0.03 * e)) for v, e in zip(size, errors[5:], strict=True)),
    )
