"""CLK001: every clock states its uncertainty."""

from __future__ import annotations

from quality.rule import Rule, Severity, on

RULE = Rule(
    id="CLK001",
    name="uncertainty-known",
    severity=Severity.WARN,
    description="Every clock segment states the standard error of its offset; a recorder "
    "without evidence has none and its values are not synchronised.",
    failing=on("silver.clocks", condition="r.uncertainty_ns IS NULL"),
)
