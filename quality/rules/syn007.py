"""SYN007: the stamps of a sensor are evenly spaced."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.pace import pace_fault
from quality.rule import Rule, Severity

RULE = Rule(
    id="SYN007",
    name="jitter-small",
    severity=Severity.WARN,
    description=f"But for {LIMITS.jitter_share:.0%}, the steps between the stamps of a channel are "
    f"whole numbers of its usual step, to {LIMITS.jitter_period:.0%} of it; messages that were "
    "dropped make no jitter.",
    failing=lambda table: pace_fault(table, f"r.uneven_steps > {LIMITS.jitter_share} * r.steps"),
)
