"""STR003: closed sets stay closed."""

from __future__ import annotations

from contracts.limits import value_set
from contracts.tables import TableContract
from quality.rule import Failing, Rule, Severity, any_of


def _failing(table: TableContract) -> Failing | None:
    sets = {name: value_set(table.name, name) for name in table.schema.names}
    quoted = {name: ", ".join(f"'{v}'" for v in values) for name, values in sets.items() if values}
    return any_of([f"r.{name} NOT IN ({values})" for name, values in quoted.items()])


RULE = Rule(
    id="STR003",
    name="values-in-closed-sets",
    severity=Severity.ERROR,
    description="States, formats, classes and splits are among the words of the contract.",
    failing=_failing,
)
