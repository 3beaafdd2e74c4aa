"""DST005: models are judged by frames whose time is known."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.judged import judged_fault
from quality.rule import Rule, Severity

RULE = Rule(
    id="DST005",
    name="judged-times-known",
    severity=Severity.ERROR,
    description="In the frame of every sample to choose or judge by, the standard error of the "
    f"clocks is at most {LIMITS.clock_uncertainty_ns / 1e6:g} ms.",
    failing=judged_fault("r.unsure > 0"),
)
