"""SYN009: the clocks of a frame are known well enough at its own instant."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.rule import Rule, Severity, on

RULE = Rule(
    id="SYN009",
    name="frame-times-known",
    severity=Severity.WARN,
    description="The standard error of the clocks in a frame, at its instant, is at most "
    f"{LIMITS.clock_uncertainty_ns / 1e6:g} ms.",
    failing=on(
        "silver.frames",
        condition="COALESCE(r.clock_uncertainty_ns, 9e18) > " + str(LIMITS.clock_uncertainty_ns),
    ),
)
