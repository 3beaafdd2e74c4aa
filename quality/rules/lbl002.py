"""LBL002: a confidence is a probability."""

from __future__ import annotations

from quality.rule import Rule, Severity, on

RULE = Rule(
    id="LBL002",
    name="confidence-is-probability",
    severity=Severity.ERROR,
    description="Every label states a confidence between 0 and 1.",
    failing=on(
        "gold.labels", condition="NOT COALESCE(r.confidence >= 0 AND r.confidence <= 1, FALSE)"
    ),
)
