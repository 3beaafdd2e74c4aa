"""DST006: models are judged by frames that are complete."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.judged import judged_fault
from quality.rule import Rule, Severity

RULE = Rule(
    id="DST006",
    name="judged-frames-complete",
    severity=Severity.WARN,
    description=f"In validation and in test, at least {1 - LIMITS.incomplete_frame_share:.0%} of "
    "the samples of a dataset are of frames that have every stream; a fleet whose cars lack one "
    "that the dataset does not need breaks it rightly and trains all the same.",
    failing=judged_fault(f"r.incomplete > {LIMITS.incomplete_frame_share} * r.samples"),
)
