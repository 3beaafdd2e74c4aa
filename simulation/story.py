"""What happens to the ego in a drive: a sequence of acts, each with its speeds and its cause."""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np

from simulation.random_streams import random_stream

ActKind = Literal["pedestrian", "cut_in", "junction"]
Light = Literal["day", "dusk", "night"]
Weather = Literal["clear", "rain", "fog"]

ACT_KINDS: tuple[ActKind, ...] = ("pedestrian", "cut_in", "junction")
LIGHTS: tuple[Light, ...] = ("day", "night", "dusk")
WEATHERS: tuple[Weather, ...] = ("clear", "rain", "fog")
ACT_SECONDS = 20.0
BLOCK = 3
_OVERTAKE_M = 21.0
"""How far a car that cuts in gains on the ego, from behind it to well ahead."""


@attrs.frozen
class Conditions:
    """Weather and light of a drive."""

    weather: Weather
    light: Light


@attrs.frozen
class Act:
    """One act of a drive. All times are seconds into the drive.

    Attributes:
        kind: What causes it.
        start_s: When it begins.
        ego_knots: Speeds of the ego as (seconds, m/s).
        stop_s: When the ego comes to its stop, None without one; there a crossing or a junction is.
        go_s: When it sets off again.
        cut_in_s: When another car is half-way in its change into the ego's lane, None without one.
        rival_knots: Speeds of that car from the start of the act; before, it keeps the ego's.
    """

    kind: ActKind
    start_s: float
    ego_knots: tuple[tuple[float, float], ...]
    stop_s: float | None = None
    go_s: float | None = None
    cut_in_s: float | None = None
    rival_knots: tuple[tuple[float, float], ...] = ()


def draw_conditions(seed: int, *, index: int) -> Conditions:
    """Draw weather and light; every block of three drives has a day, a dusk and a night.

    Args:
        seed: Seed of the fleet.
        index: Number of the drive, from 1.

    Returns:
        The conditions.
    """
    block, place = divmod(index - 1, BLOCK)
    lights = random_stream(seed, "light", block).permutation(len(LIGHTS))
    weathers = random_stream(seed, "weather", block).permutation(len(WEATHERS))
    return Conditions(weather=WEATHERS[weathers[place]], light=LIGHTS[lights[place]])


def write_story(seed: int, *, index: int, seconds: float) -> tuple[Act, ...]:
    """Write the acts of a drive; every block of three drives begins with three different acts.

    Args:
        seed: Seed of the fleet.
        index: Number of the drive, from 1.
        seconds: Length of the drive.

    Returns:
        Acts of about `ACT_SECONDS` each, in order.
    """
    block, place = divmod(index - 1, BLOCK)
    order = random_stream(seed, "acts", block).permutation(len(ACT_KINDS))
    rng = random_stream(seed, "story", index)
    count = max(1, round(seconds / ACT_SECONDS))
    length = seconds / count
    cruise = float(rng.uniform(11.5, 13.5))
    return tuple(
        _ACTS[ACT_KINDS[order[(place + number) % BLOCK]]](number * length, length, cruise, rng)
        for number in range(count)
    )


def _pedestrian_act(
    start_s: float, length_s: float, cruise: float, rng: np.random.Generator
) -> Act:
    """Somebody steps onto the crossing: brake hard, wait, drive on."""
    brake_s = start_s + 0.35 * length_s
    stop_s = brake_s + cruise / rng.uniform(6.5, 7.5)
    go_s = stop_s + rng.uniform(3.6, 4.4)
    knots = ((start_s, cruise), (brake_s, cruise), (stop_s, 0.0), (go_s, 0.0))
    return Act(
        kind="pedestrian",
        start_s=start_s,
        ego_knots=(*knots, _resume(go_s, speed=0.0, cruise=cruise)),
        stop_s=stop_s,
        go_s=go_s,
    )


def _cut_in_act(start_s: float, length_s: float, cruise: float, rng: np.random.Generator) -> Act:
    """A car cuts in, the ego gives way; later that car brakes hard and so must the ego."""
    cut_in_s = start_s + 0.3 * length_s
    slow = cruise - 3.5
    resumed_s = start_s + 0.6 * length_s
    brake_s = start_s + 0.68 * length_s
    low = float(rng.uniform(2.5, 3.5))
    slowed_s = brake_s + (cruise - low) / rng.uniform(6.3, 7.2)
    ego = (
        (start_s, cruise),
        (cut_in_s + 0.6, cruise),
        (cut_in_s + 2.4, slow),
        (cut_in_s + 3.2, slow),
        (resumed_s, cruise),
        (brake_s, cruise),
        (slowed_s, low),
        (slowed_s + 1.0, low),
        _resume(slowed_s + 1.0, speed=low, cruise=cruise),
    )
    lead_s = 0.5
    rival = (
        *_overtake(start_s, cut_in_s=cut_in_s, cruise=cruise),
        (brake_s - lead_s, cruise),
        (slowed_s - lead_s, low),
        (slowed_s, low),
        _resume(slowed_s, speed=low, cruise=cruise + 1.0),
    )
    return Act(kind="cut_in", start_s=start_s, ego_knots=ego, cut_in_s=cut_in_s, rival_knots=rival)


def _junction_act(start_s: float, length_s: float, cruise: float, rng: np.random.Generator) -> Act:
    """A car cuts in and drives off; the ego stops gently at a junction, waits, drives on."""
    cut_in_s = start_s + 0.22 * length_s
    brake_s = start_s + 0.42 * length_s
    stop_s = brake_s + cruise / rng.uniform(2.3, 2.7)
    go_s = stop_s + rng.uniform(3.2, 3.8)
    knots = ((start_s, cruise), (brake_s, cruise), (stop_s, 0.0), (go_s, 0.0))
    rival = (*_overtake(start_s, cut_in_s=cut_in_s, cruise=cruise), (stop_s, cruise + 1.5))
    return Act(
        kind="junction",
        start_s=start_s,
        ego_knots=(*knots, _resume(go_s, speed=0.0, cruise=cruise)),
        stop_s=stop_s,
        go_s=go_s,
        cut_in_s=cut_in_s,
        rival_knots=rival,
    )


def _overtake(start_s: float, *, cut_in_s: float, cruise: float) -> tuple[tuple[float, float], ...]:
    """Speeds of a car that comes from behind, overtakes and cuts in, then keeps the ego's speed."""
    faster = cruise + min(5.0, _OVERTAKE_M / max(0.5, cut_in_s - start_s - 0.5))
    after_s = cut_in_s + 0.8
    return ((start_s, cruise), (start_s + 1.0, faster), (after_s, faster), (after_s + 1.7, cruise))


def _resume(at_s: float, *, speed: float, cruise: float) -> tuple[float, float]:
    """The knot at which a car that sets off at `at_s` is back at its cruising speed."""
    return (at_s + (cruise - speed) / 2.2, cruise)


_ACTS = {"pedestrian": _pedestrian_act, "cut_in": _cut_in_act, "junction": _junction_act}
