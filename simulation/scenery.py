"""What stands beside the road: buildings, trees and street lamps."""

from __future__ import annotations

import attrs
import numpy as np

from simulation.road import FloatArray, Road

_BUILDING_FRONT_M = 17.0
_TREE_M = 14.8
_LAMP_M = 11.3
_LAMP_SPACING_M = 32.0


@attrs.frozen(eq=False)
class Boxes:
    """Upright boxes on the ground; every array is (N,) float64.

    Attributes:
        x_m: World position of the centre.
        y_m: World position of the centre.
        yaw_rad: Heading.
        length_m: Extent along the heading.
        width_m: Extent across it.
        height_m: Extent upwards from the ground.
        look: A number that picks colours, (N,) int64.
    """

    x_m: FloatArray
    y_m: FloatArray
    yaw_rad: FloatArray
    length_m: FloatArray
    width_m: FloatArray
    height_m: FloatArray
    look: np.ndarray


@attrs.frozen(eq=False)
class Scenery:
    """Everything that doesn't move and is no road user."""

    buildings: Boxes
    trees: Boxes
    lamps: Boxes


def build_scenery(
    road: Road, *, first_m: float, last_m: float, rng: np.random.Generator
) -> Scenery:
    """Line a stretch of road with houses, trees and lamps; crossing roads stay free.

    Args:
        road: The road.
        first_m: Start of the stretch, along the road.
        last_m: End of the stretch.
        rng: Source of sizes and places.

    Returns:
        The scenery.
    """
    buildings, trees, lamps = [], [], []
    for side in (-1.0, 1.0):
        buildings += _houses(road, side=side, span=(first_m, last_m), rng=rng)
        for s_m in np.arange(first_m, last_m, 9.0) + rng.uniform(-2.5, 2.5, 1):
            if rng.random() < 0.6 and not _on_cross_road(road, s_m, margin_m=3.0):
                height = rng.uniform(5.0, 8.5)
                trees.append((s_m, side * _TREE_M, 3.4, 3.4, height, rng.integers(1 << 16)))
        offset = 0.0 if side > 0 else _LAMP_SPACING_M / 2
        for s_m in np.arange(first_m + offset, last_m, _LAMP_SPACING_M):
            lamps += [] if road.near_feature(s_m, margin_m=6.0) else [_lamp(s_m, side)]
    return Scenery(*(_boxes(road, rows) for rows in (buildings, trees, lamps)))


def _houses(
    road: Road, *, side: float, span: tuple[float, float], rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """A row of houses with gaps, as (s, d, length, width, height, look)."""
    rows = []
    s_m = span[0] + rng.uniform(0.0, 8.0)
    while s_m < span[1]:
        length, width = rng.uniform(8.0, 13.0), rng.uniform(8.0, 11.0)
        height = float(rng.choice([4.0, 7.0, 10.0, 13.0])) + rng.uniform(0.0, 1.5)
        lateral = side * (_BUILDING_FRONT_M + width / 2 + rng.uniform(0.0, 3.0))
        if not _on_cross_road(road, s_m, margin_m=length / 2 + 1.5):
            rows.append((s_m, lateral, length, width, height, rng.integers(1 << 16)))
        s_m += length + (rng.uniform(0.5, 3.0) if rng.random() < 0.7 else rng.uniform(8.0, 20.0))
    return rows


def _lamp(s_m: float, side: float) -> tuple[float, ...]:
    """A street lamp at the kerb."""
    return (s_m, side * _LAMP_M, 0.2, 0.2, 7.0, 0)


def _on_cross_road(road: Road, s_m: float, *, margin_m: float) -> bool:
    """Whether a place along the road lies on a crossing road or its pavements."""
    return any(abs(s_m - junction) < margin_m + 8.0 for junction in road.junctions_m)


def _boxes(road: Road, rows: list[tuple[float, ...]]) -> Boxes:
    """Turn rows in road coordinates into boxes that face the road."""
    s_m, d_m, length, width, height, look = np.array(rows, dtype=np.float64).reshape(-1, 6).T
    xy = road.xy_from_sd(s_m, d_m)
    yaw = road.centre.at(s_m).yaw_rad
    return Boxes(xy[:, 0], xy[:, 1], yaw, length, width, height, look.astype(np.int64))
