"""SYN002: most frames have every sensor."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.rule import Rule, Severity, on

RULE = Rule(
    id="SYN002",
    name="frames-complete",
    severity=Severity.WARN,
    description=f"At least {1 - LIMITS.incomplete_frame_share:.0%} of the frames have every "
    "stream in state ok.",
    failing=on("silver.frames", condition="r.is_complete IS NULL OR NOT r.is_complete"),
    allowed_share=LIMITS.incomplete_frame_share,
)
