"""SYN010: a value that lives does not stand still."""

from __future__ import annotations

from contracts.limits import LIMITS
from quality.liveness import STUCK, behaviour_fault
from quality.rule import Rule, Severity

RULE = Rule(
    id="SYN010",
    name="values-move",
    severity=Severity.WARN,
    description=f"A signal that changes with {LIMITS.lively_share:.0%} of its samples never has "
    f"the same value, other than 0, {LIMITS.stuck_values} times in a row.",
    failing=lambda table: behaviour_fault(table, STUCK),
)
