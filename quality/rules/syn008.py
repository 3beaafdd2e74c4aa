"""SYN008: a sensor's stamps go on."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.pace import pace_fault
from quality.rule import Rule, Severity

RULE = Rule(
    id="SYN008",
    name="stamps-move",
    severity=Severity.WARN,
    description=f"No {LIMITS.stuck_messages} messages of a channel in a row have the same sensor's "
    "stamp.",
    failing=lambda table: pace_fault(table, "r.stuck > 0"),
)
