"""SYN001: a value that is called ok is near its frame."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.rule import Rule, Severity, on

_STREAMS = ("lidar", "gnss", "pose", "speed", "yaw_rate", "acceleration", "steering_angle")

RULE = Rule(
    id="SYN001",
    name="sync-error-small",
    severity=Severity.ERROR,
    description="A value in state ok states its sync error, which is at most "
    f"{LIMITS.sync_error_ns / 1e6:g} ms.",
    failing=on(
        "silver.frames",
        condition=" OR ".join(
            f"(r.{stream}_state = 'ok' AND (r.{stream}_sync_error_ns IS NULL"
            f" OR ABS(r.{stream}_sync_error_ns) > {LIMITS.sync_error_ns}))"
            for stream in _STREAMS
        ),
    ),
)
