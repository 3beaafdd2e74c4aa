"""What values a column may hold, and how far data may stray before a quality rule fails.

The closed sets and ranges stand beside the schemas because the open data contracts, the quality
rules and the Great Expectations suites all state the same promise.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

NORMAL_95 = 1.96
"""Standard errors to either side that hold 95 % of a normal law."""

_SYNC_STATES = ("ok", "gap", "stale", "missing", "no_clock", "jump")

VALUE_SETS: Mapping[str, tuple[str, ...]] = {
    "bronze.uploads.state": (
        "PENDING",
        "ACCEPTED",
        "PARTIAL",
        "QUARANTINED",
        "DUPLICATE",
        "ERASED",
    ),
    "bronze.recordings.format": (
        "mcap",
        "ros1bag",
        "rosbag2_db3",
        "mdf3",
        "mdf4",
        "asc",
        "blf",
        "trc",
        "candump",
    ),
    "bronze.recordings.integrity": ("CRC", "NONE"),
    "bronze.recordings.outcome": ("ACCEPTED", "PARTIAL"),
    "bronze.channels.decode_status": (
        "DECODED",
        "NO_DECODER",
        "NO_DEFINITION",
        "QUARANTINED",
    ),
    "bronze.decode_ledger.fate": ("decoded", "quarantined", "skipped"),
    "silver.clocks.method": (
        "gnss_time",
        "bus_frames",
        "shared_signal",
        "reference",
        "assumed",
    ),
    "silver.frames.clock": ("utc", "reference"),
    "silver.frames.lidar_state": _SYNC_STATES,
    "silver.frames.gnss_state": _SYNC_STATES,
    "silver.frames.pose_state": _SYNC_STATES,
    "silver.frames.speed_state": _SYNC_STATES,
    "silver.frames.yaw_rate_state": _SYNC_STATES,
    "silver.frames.acceleration_state": _SYNC_STATES,
    "silver.frames.steering_angle_state": _SYNC_STATES,
    "gold.scenarios.scenario": ("hard_braking", "cut_in", "standstill"),
    "gold.labels.class_name": ("car", "truck", "pedestrian", "cyclist"),
    "gold.dataset_samples.split": ("train", "validation", "test"),
}
"""Closed sets by `layer.table.column`; null is a matter of `TableContract.required`."""

UPLOAD_ALERTS = frozenset({"NAME_REUSE", "SCHEMA_BREAK"})
"""Flags of an upload that a person should look at."""

RANGES: Mapping[str, tuple[float | None, float | None]] = {
    "latitude_deg": (-90.0, 90.0),
    "longitude_deg": (-180.0, 180.0),
    "confidence": (0.0, 1.0),
    "score": (0.0, 1.0),
    "distance_m": (0.0, None),
    "size_bytes": (0.0, None),
    "data_length": (0.0, None),
    "messages_written": (0.0, None),
    "messages_bad": (0.0, None),
    "messages_lost": (0.0, None),
    "message_count": (0.0, None),
    "uncertainty_ns": (0.0, None),
    "drift_uncertainty_ppb": (0.0, None),
    "clock_uncertainty_ns": (0.0, None),
    "lidar_points": (0.0, None),
}
"""Inclusive ranges by column name, in any table; None is no limit."""


@attrs.frozen
class SyncTolerance:
    """How far from a frame a stream may be for its value to be called ok.

    Attributes:
        max_gap_ns: Widest hole between two samples that a value is interpolated over.
        max_error_ns: Farthest that the nearest sample may be where nothing is interpolated.
        is_interpolated: Whether values are, or the nearest sample is taken as it is.
    """

    max_gap_ns: int
    max_error_ns: int
    is_interpolated: bool = True

    @property
    def reach_ns(self) -> int:
        """Largest distance from a frame to the nearest sample of a value that is ok."""
        if not self.is_interpolated:
            return self.max_error_ns
        return max(self.max_gap_ns // 2, self.max_error_ns)


_OFTEN = SyncTolerance(max_gap_ns=200_000_000, max_error_ns=50_000_000)
SYNC_TOLERANCES: Mapping[str, SyncTolerance] = {
    "lidar": SyncTolerance(250_000_000, 60_000_000, is_interpolated=False),
    # Receivers give one fix a second, or ten.
    "gnss": SyncTolerance(1_500_000_000, 100_000_000),
    "pose": _OFTEN,
    "speed": _OFTEN,
    "yaw_rate": _OFTEN,
    "acceleration": _OFTEN,
    "steering_angle": _OFTEN,
}
"""By stream of `silver.frames`."""


@attrs.frozen
class Pace:
    """How a sensor that sends by itself is to send.

    Attributes:
        least_hz, most_hz: Mean rate, inclusive.
        max_gap_ns: Longest silence; of a sensor so slow that this is less than `GAP_PERIODS` of its
            periods, so many of them.
    """

    least_hz: float
    most_hz: float
    max_gap_ns: int


GAP_PERIODS = 3.5
PACES: Mapping[str, Pace] = {
    "silver.imu": Pace(20.0, 4000.0, 200_000_000),
    "silver.odometry": Pace(5.0, 2000.0, 200_000_000),
    "silver.gnss": Pace(0.5, 100.0, 1_500_000_000),
    "silver.images": Pace(0.5, 240.0, 500_000_000),
    "silver.point_clouds": Pace(2.0, 100.0, 500_000_000),
}
"""By table of messages, one a sample, that come at a steady rate."""


@attrs.frozen
class QualityLimits:
    """Thresholds of the quality rules.

    Attributes:
        clock_uncertainty_ns: Largest useful standard error of a clock.
        incomplete_frame_share: Share of frames in which a stream may be missing.
        backward_time_share: Share of messages whose log time may lie before their predecessor's.
        bad_message_share: Share of messages of a channel that may fail to decode; above it the
            channel is quarantined.
        split_share: Least share of the samples in each of validation and test.
        paced_messages: From how many messages on the pace of a channel is judged.
        lost_share: Share of its messages that a channel may lack, or have too many, by the step
            that is usual in it; gaps are a matter of their own.
        jitter_period: How far a step may be from a whole number of usual steps, in usual steps.
        jitter_share: Share of the steps that may be farther.
        stuck_messages: How many messages in a row have the same stamp for it to be stuck.
        stuck_values: How many samples in a row have the same value for it to be stuck, in a signal
            that otherwise changes with `lively_share` of its samples.
        lively_share: Share of the samples of such a signal that differ from the one before.
        out_of_range_share: Share of a signal's samples that may lie outside of its stated range.
    """

    clock_uncertainty_ns: int = 5_000_000
    incomplete_frame_share: float = 0.5
    backward_time_share: float = 0.001
    bad_message_share: float = 0.001
    split_share: float = 0.02
    paced_messages: int = 20
    lost_share: float = 0.1
    jitter_period: float = 0.25
    jitter_share: float = 0.05
    stuck_messages: int = 5
    stuck_values: int = 50
    lively_share: float = 0.9
    out_of_range_share: float = 0.01


LIMITS = QualityLimits()


def value_set(table: str, column: str) -> tuple[str, ...] | None:
    """The closed set of a column, or None if it is open."""
    return VALUE_SETS.get(f"{table}.{column}")
