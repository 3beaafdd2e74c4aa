"""STR001: what a contract requires is there."""

from __future__ import annotations

from contracts.tables import TableContract
from quality.rule import Failing, Rule, Severity, any_of


def _failing(table: TableContract) -> Failing | None:
    return any_of([f"r.{column} IS NULL" for column in table.required])


RULE = Rule(
    id="STR001",
    name="required-not-null",
    severity=Severity.ERROR,
    description="Columns that the contract requires are never null.",
    failing=_failing,
)
