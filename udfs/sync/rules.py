"""The rules of synchronisation as values: which column is which quantity, and how far is too far.

A recorder or a vehicle that names its signals otherwise needs another `SyncRules`, no code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import attrs

from contracts.ids import content_hash
from contracts.limits import SYNC_TOLERANCES

Method = Literal["nearest", "linear"]

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
_STANDARD_GRAVITY_M_S2 = 9.80665
_SI_FACTORS: Mapping[str, Mapping[str, float]] = {
    "m_s": {"m/s": 1.0, "km/h": 1 / 3.6, "kph": 1 / 3.6, "kmh": 1 / 3.6, "mph": 0.44704},
    "rad_s": {
        "rad/s": 1.0,
        "deg/s": math.pi / 180,
        "°/s": math.pi / 180,
        "degree/s": math.pi / 180,
    },
    "rad": {"rad": 1.0, "deg": math.pi / 180, "°": math.pi / 180, "degree": math.pi / 180},
    "m_s2": {
        "m/s2": 1.0,
        "m/s^2": 1.0,
        "m/s²": 1.0,
        "m/s/s": 1.0,
        "g": _STANDARD_GRAVITY_M_S2,
    },
}


def signal_key(name: str) -> str:
    """Form of a signal's name that spelling does not change.

    >>> signal_key("Vehicle_Speed"), signal_key("VehicleSpeed")
    ('vehiclespeed', 'vehiclespeed')
    """
    return _NOT_A_WORD.sub("", name.lower())


def si_factor(unit: str | None, *, si_unit: str) -> float | None:
    """Factor from a unit to the SI unit of a suffix; None if the unit is not known to be one.

    A value whose unit is not stated is not guessed at.

    >>> si_factor("km/h", si_unit="m_s") == 1 / 3.6, si_factor("", si_unit="m_s")
    (True, None)
    """
    plain = (unit or "").strip().lower().replace(" ", "")
    return _SI_FACTORS[si_unit].get(plain)


@attrs.frozen
class Quantity:
    """A scalar that several recorders may know.

    Attributes:
        name: Column name with its SI suffix, e.g. `speed_m_s`.
        si_unit: The suffix: a key of the unit table.
        columns: (silver table, column) that hold it in SI, in any order.
        signals: Names of bus or measured signals that hold it, as `signal_key`.
        prefer: Silver tables in order of trust; a table that is not named is used for clocks only.
    """

    name: str
    si_unit: str
    columns: tuple[tuple[str, str], ...]
    signals: frozenset[str]
    prefer: tuple[str, ...] = ()


@attrs.frozen
class WeekTime:
    """A column in which a receiver tells GPS time as time of week.

    Attributes:
        table: Silver table without the layer; its messages are stamped in a header.
        column: Time since the start of the week.
        unit_ns: Nanoseconds of one.
    """

    table: str
    column: str
    unit_ns: int


@attrs.frozen
class AlignRule:
    """How a stream is brought to an instant.

    Attributes:
        method: `nearest` sample, or `linear` between the two around the instant.
        max_gap_ns: Widest hole that is interpolated over; state `gap` beyond it.
        max_error_ns: Farthest that the nearest sample may be; state `stale` beyond it.
        unique: Whether a sample serves one instant only: the nearest; for others it is `stale`.
        period: Period by column of values that wrap, e.g. {"yaw_rad": 2π}.
    """

    method: Method
    max_gap_ns: int
    max_error_ns: int
    unique: bool = False
    period: Mapping[str, float] = attrs.field(factory=dict)


_QUANTITIES = (
    Quantity(
        "speed_m_s",
        "m_s",
        (("odometry", "linear_velocity_x_m_s"),),
        frozenset({"vehiclespeed", "vehiclespd", "vehspd", "vehspeed", "speed", "egospeed"}),
        ("signals", "odometry"),
    ),
    Quantity(
        "yaw_rate_rad_s",
        "rad_s",
        (
            ("imu", "angular_velocity_z_rad_s"),
            ("odometry", "angular_velocity_z_rad_s"),
        ),
        frozenset({"yawrate", "vehicleyawrate", "vehyawrate", "yawvelocity"}),
        ("imu", "signals", "odometry"),
    ),
    Quantity(
        "acceleration_m_s2",
        "m_s2",
        (("imu", "linear_acceleration_x_m_s2"),),
        frozenset(
            {
                "longaccel",
                "longacceleration",
                "longitudinalacceleration",
                "longitudinalaccel",
                "accelerationx",
                "accelx",
                "ax",
            }
        ),
        ("signals", "imu"),
    ),
    Quantity(
        "lateral_acceleration_m_s2",
        "m_s2",
        (("imu", "linear_acceleration_y_m_s2"),),
        frozenset(
            {
                "lataccel",
                "latacceleration",
                "lateralacceleration",
                "lateralaccel",
                "accelerationy",
                "accely",
                "ay",
            }
        ),
    ),
    Quantity(
        "steering_angle_rad",
        "rad",
        (),
        frozenset(
            {
                "steeringangle",
                "steeringwheelangle",
                "steerangle",
                "steerwheelangle",
                "steeringwheel",
            }
        ),
        ("signals",),
    ),
)


def _align_rule(
    stream: str, *, unique: bool = False, period: Mapping[str, float] | None = None
) -> AlignRule:
    """The rule that keeps to a stream's tolerance."""
    found = SYNC_TOLERANCES[stream]
    method: Method = "linear" if found.is_interpolated else "nearest"
    return AlignRule(method, found.max_gap_ns, found.max_error_ns, unique, period or {})


_LINEAR = _align_rule("speed")


@attrs.frozen
class SyncRules:
    """Everything that decides what `silver.clocks` and `silver.frames` hold.

    Attributes:
        quantities: Scalars; those that two recorders share tie their clocks.
        camera_table, lidar_table, gnss_table, pose_table, gnss_time_table: Silver tables by role.
        gnss_week_times: Columns that hold GPS time as time of week.
        align: Rule by stream; a quantity without one of its own takes `quantity_align`.
        max_offset_ns: How far apart two recorder clocks are looked for.
        min_overlap_ns: Shortest common span of two recorders that is evidence.
        min_correlation: Correlation below which two signals are not the same motion.
        max_ambiguity: Score of the second-best offset over the best, above which there is none.
        max_drift_ppm: Drift that a recorder's oscillator hardly exceeds; it goes into the
            uncertainty where the evidence does not tell the drift.
        max_latency_ns: Farthest that a sensor stamp may be from the log time to be on the same
            clock; streams beyond it are placed by their log time.
    """

    quantities: tuple[Quantity, ...] = _QUANTITIES
    camera_table: str = "images"
    lidar_table: str = "point_clouds"
    gnss_table: str = "gnss"
    pose_table: str = "odometry"
    gnss_time_table: str = "sensor_msgs_timereference"
    gnss_week_times: tuple[WeekTime, ...] = (
        WeekTime("sbg_driver_sbgutctime", "gps_tow", 1_000_000),
    )
    align: Mapping[str, AlignRule] = attrs.field(
        factory=lambda: {
            "lidar": _align_rule("lidar", unique=True),
            "gnss": _align_rule("gnss", period={"longitude_deg": 360.0}),
            "pose": _align_rule("pose", period={"yaw_rad": 2 * math.pi}),
        }
    )
    quantity_align: AlignRule = _LINEAR
    max_offset_ns: int = 40_000_000_000
    min_overlap_ns: int = 5_000_000_000
    min_correlation: float = 0.8
    max_ambiguity: float = 0.8
    max_drift_ppm: float = 50.0
    max_latency_ns: int = 2_000_000_000

    @cached_property
    def version(self) -> str:
        """First 16 hex digits of the hash of the rules."""
        return content_hash(attrs.asdict(self, value_serializer=_plain))[:16]

    @property
    def reach_ns(self) -> int:
        """Farthest that a sample may be from an instant to matter to it in any way.

        Twice the widest hole or error of any stream: beyond it a stream has ended.
        """
        every = (*self.align.values(), self.quantity_align)
        return 2 * max(max(each.max_gap_ns, each.max_error_ns) for each in every)

    def quantity(self, name: str) -> Quantity:
        """The quantity of a name."""
        return next(each for each in self.quantities if each.name == name)

    @property
    def tables(self) -> frozenset[str]:
        """Silver tables, without the layer, that synchronisation reads."""
        named = {table for each in self.quantities for table, _ in each.columns}
        roles = {self.camera_table, self.lidar_table, self.gnss_table, self.pose_table}
        timed = {self.gnss_time_table, *(each.table for each in self.gnss_week_times)}
        return frozenset(named | roles | timed | {"signals"})


def _plain(_owner: object, _field: object, value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value
