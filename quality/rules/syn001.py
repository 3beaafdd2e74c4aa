"""SYN001: a value that is called ok is near its frame, as near as its stream can be."""

from __future__ import annotations

from contracts.limits import SYNC_TOLERANCES
from quality.rule import Rule, Severity, on

_REACH = ", ".join(
    f"{stream} {tolerance.reach_ns / 1e6:g} ms" for stream, tolerance in SYNC_TOLERANCES.items()
)

RULE = Rule(
    id="SYN001",
    name="sync-error-small",
    severity=Severity.ERROR,
    description="A value in state ok states the distance of its sample from the frame, which is at "
    "most half the hole that its stream is interpolated over, or what a nearest sample may be "
    f"off: {_REACH}.",
    failing=on(
        "silver.frames",
        condition=" OR ".join(
            f"(r.{stream}_state = 'ok' AND (r.{stream}_sync_error_ns IS NULL"
            f" OR ABS(r.{stream}_sync_error_ns) > {tolerance.reach_ns}))"
            for stream, tolerance in SYNC_TOLERANCES.items()
        ),
    ),
)
