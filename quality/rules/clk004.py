"""CLK004: what is known of a clock agrees."""

from __future__ import annotations

from quality.rule import Rule, Severity, on

RULE = Rule(
    id="CLK004",
    name="evidence-agrees",
    severity=Severity.WARN,
    description="No evidence contradicts a clock segment beyond the errors that both state; where "
    "one does, its `alert` says which, and by how much.",
    failing=on("silver.clocks", condition="r.alert IS NOT NULL"),
)
