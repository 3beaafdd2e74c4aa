"""STR004: numbers lie in their physical range."""

from __future__ import annotations

from contracts.limits import RANGES
from contracts.tables import TableContract
from quality.rule import Failing, Rule, Severity, any_of


def _failing(table: TableContract) -> Failing | None:
    conditions = []
    for name in table.schema.names:
        low, high = RANGES.get(name, (None, None))
        conditions += [f"r.{name} < {low}"] if low is not None else []
        conditions += [f"r.{name} > {high}"] if high is not None else []
    return any_of(conditions)


RULE = Rule(
    id="STR004",
    name="values-in-range",
    severity=Severity.WARN,
    description="Coordinates, confidences, counts and sizes lie in their physical range; "
    "NaN does not.",
    failing=_failing,
)
