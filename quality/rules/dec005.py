"""DEC005: a channel whose messages fail to decode is seen."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.rule import Rule, Severity, on

RULE = Rule(
    id="DEC005",
    name="few-bad-messages",
    severity=Severity.WARN,
    description=f"At most {LIMITS.bad_message_share:.1%} of a channel's messages fail to decode.",
    failing=on(
        "bronze.channels",
        condition="r.bad_count > "
        f"{LIMITS.bad_message_share} * (COALESCE(r.message_count, 0) + r.bad_count)",
    ),
)
