"""STR006: signals lie in the range that their definition states."""

from __future__ import annotations

from contracts.limits import LIMITS
from contracts.tables import TableContract
from quality.liveness import OUTSIDE, behaviour_fault
from quality.rule import Failing, Rule, Severity


def _failing(table: TableContract) -> Failing | None:
    return behaviour_fault(table, OUTSIDE) if "in_range" in table.schema.names else None


RULE = Rule(
    id="STR006",
    name="signals-in-stated-range",
    severity=Severity.WARN,
    description="A signal lies in the range that its definition states, but for "
    f"{LIMITS.out_of_range_share:.0%} of its samples, which are kept and marked.",
    failing=_failing,
)
