"""EVL001: a metric lies in its interval."""

from __future__ import annotations

from quality.rule import Rule, Severity, on

RULE = Rule(
    id="EVL001",
    name="metric-in-interval",
    severity=Severity.ERROR,
    description="A metric and its interval lie between 0 and 1, and the metric in the interval.",
    failing=on(
        "gold.evaluations",
        condition="r.value < 0 OR r.value > 1 OR r.lower < 0 OR r.upper > 1"
        " OR r.lower > r.value OR r.value > r.upper",
    ),
)
