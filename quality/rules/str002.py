"""STR002: a key names one row."""

from __future__ import annotations

from contracts.tables import SILVER_KINDS, TableContract
from quality.rule import Failing, Rule, Severity


def _failing(table: TableContract) -> Failing | None:
    # Messages are kept as recorded, repeats included; DEC004 counts them instead.
    if not table.keys or (table.layer == "silver" and table.table in SILVER_KINDS):
        return None
    keys = ", ".join(f"r.{key}" for key in table.keys)
    return Failing(query=f"SELECT {keys} FROM {{rows}} AS r GROUP BY {keys} HAVING COUNT(*) > 1")


RULE = Rule(
    id="STR002",
    name="keys-unique",
    severity=Severity.ERROR,
    description="The key columns of the contract name at most one row.",
    failing=_failing,
)
