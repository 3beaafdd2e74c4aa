"""CLK002: a clock is known well enough to synchronise by."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.rule import Rule, Severity, on

RULE = Rule(
    id="CLK002",
    name="uncertainty-small",
    severity=Severity.WARN,
    description=f"The standard error of a clock is at most {LIMITS.clock_uncertainty_ns / 1e6:g} "
    "ms.",
    failing=on("silver.clocks", condition=f"r.uncertainty_ns > {LIMITS.clock_uncertainty_ns}"),
)
