"""What the lidar labeller takes for a car, a truck, a pedestrian or a cyclist, as values."""

from __future__ import annotations

from functools import cached_property

import attrs

from contracts.ids import content_hash

_ALGORITHM = 1


@attrs.frozen
class ClassRule:
    """Sizes of a class of road users, metres.

    Attributes:
        name: The class.
        length_m, width_m, height_m: Usual size: what a box that is seen in part is completed to.
        max_length_m, max_width_m: Largest footprint seen.
        min_height_m, max_height_m: Height of the top above the ground.
    """

    name: str
    length_m: float
    width_m: float
    height_m: float
    max_length_m: float
    max_width_m: float
    min_height_m: float
    max_height_m: float


PEDESTRIAN = ClassRule("pedestrian", 0.55, 0.55, 1.74, 0.95, 0.95, 1.15, 1.95)
CYCLIST = ClassRule("cyclist", 1.8, 0.6, 1.76, 2.2, 1.0, 1.35, 2.05)
CAR = ClassRule("car", 4.4, 1.83, 1.52, 5.4, 2.25, 1.05, 1.85)
TRUCK = ClassRule("truck", 8.2, 2.48, 3.35, 10.5, 2.95, 2.25, 3.8)


@attrs.frozen
class LabelRules:
    """Everything that decides which boxes a sweep gives.

    Attributes:
        max_range_m: Farthest centre of a label.
        min_points: Fewest points of a label.
        ground_margin_m: Height up to which a point is the ground.
        slab_top_m: Points between ground and this height are clustered; what is higher joins the
            cluster below it, so that a tree's crown does not bind a pedestrian to a house.
        column_step_rad: Angle between two columns of the lidar; sets how far apart the points of
            one object may be at a distance.
        row_step_rad: Angle between two rows; a gap of several rows parts what is above from what is
            below it.
        min_gap_m: How far apart they may be close by, across the line of sight.
        radial_gap_m: How far apart they may be along it.
        upward_slope: Tangent of a ray that the lidar surely sends upwards: under an open sky its
            highest rays have no echo that would tell.
        ego_half_width_m, ego_front_m, ego_rear_m: Where the lidar sees the vehicle itself.
    """

    max_range_m: float = 60.0
    min_points: int = 4
    ground_margin_m: float = 0.25
    slab_top_m: float = 1.7
    column_step_rad: float = 0.0125
    row_step_rad: float = 0.0105
    min_gap_m: float = 0.5
    radial_gap_m: float = 1.5
    upward_slope: float = 0.035
    ego_half_width_m: float = 1.1
    ego_front_m: float = 3.9
    ego_rear_m: float = 1.2

    @cached_property
    def version(self) -> str:
        """First 16 hex digits of the hash of rules, classes and algorithm."""
        classes = [attrs.asdict(each) for each in (PEDESTRIAN, CYCLIST, CAR, TRUCK)]
        return content_hash([attrs.asdict(self), classes, _ALGORITHM])[:16]
