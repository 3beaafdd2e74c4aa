"""DST002: every split has samples."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.rule import Rule, Severity, on

_SAMPLES = "(r.train_samples + r.validation_samples + r.test_samples)"

RULE = Rule(
    id="DST002",
    name="splits-not-empty",
    severity=Severity.ERROR,
    description="There is a dataset, and each holds samples to train on and at least "
    f"{LIMITS.split_share:.0%} in each of validation and test.",
    failing=on(
        "gold.datasets",
        condition="NOT COALESCE(r.train_samples > 0"
        f" AND r.validation_samples > 0 AND r.validation_samples >= {LIMITS.split_share}"
        f" * {_SAMPLES} AND r.test_samples > 0"
        f" AND r.test_samples >= {LIMITS.split_share} * {_SAMPLES}, FALSE)",
    ),
    minimum_rows=1,
)
