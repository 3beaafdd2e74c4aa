"""Run rules on tables through any engine that takes SQL: one scan a table for its conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date

import pyarrow as pa

from contracts.tables import TABLES, TableContract
from quality.registry import RULES
from quality.rule import Failing, Rule, RuleResult

Query = Callable[[str], pa.Table]
"""Runs SQL and gives the rows; on Spark `lambda text: spark.sql(text).toArrow()`."""


def rules_for(table: TableContract) -> tuple[tuple[Rule, Failing], ...]:
    """The rules that apply to a table, with the rows that break them."""
    pairs = ((rule, rule.failing(table)) for rule in RULES)
    return tuple((rule, failing) for rule, failing in pairs if failing is not None)


def _day_condition(day: date | None) -> str:
    return f"ingest_date = DATE '{day.isoformat()}'" if day else "TRUE"


def rows_of(table: TableContract, day: date | None = None) -> str:
    """SQL for the rows in question: the table, or one ingest day of it."""
    if day is None or "ingest_date" not in table.partition_by:
        return table.name
    return f"(SELECT * FROM {table.name} WHERE {_day_condition(day)})"


def failing_sql(failing: Failing, *, table: TableContract, day: date | None = None) -> str:
    """SQL of the rows that break a rule, as a person would run it."""
    return failing.select(rows_of(table, day), day=_day_condition(day))


def counts_sql(table: TableContract, *, day: date | None = None) -> str:
    """SQL that gives one row: by rule id the number of faults, and `<id>_rows` that were judged.

    Each source of rows is scanned once, whatever the number of conditions on it.
    """
    rows, when = rows_of(table, day), _day_condition(day)
    columns: dict[str, list[str]] = {rows: []}
    for rule, failing in rules_for(table):
        source = failing.judged_rows(rows, day=when)
        count = (
            f"(SELECT COUNT(*) FROM ({failing_sql(failing, table=table, day=day)}) AS faults)"
            if failing.query
            else f"COALESCE(SUM(CASE WHEN {failing.condition} THEN 1 ELSE 0 END), 0)"
        )
        columns.setdefault(source, []).extend(
            [f"CAST({count} AS BIGINT) AS {rule.id}", f"COUNT(*) AS {rule.id}_rows"]
        )
    counted = [
        f"(SELECT {', '.join(names)} FROM {source} AS r) AS counts_{i}"
        for i, (source, names) in enumerate(columns.items())
        if names
    ]
    return f"SELECT * FROM {' CROSS JOIN '.join(counted)}"


def evaluate(table: TableContract, *, query: Query, day: date | None = None) -> list[RuleResult]:
    """Judge every rule of a table.

    Args:
        table: The table, which must exist; it may be empty.
        query: The engine.
        day: Ingest day to look at; None for the whole table.
    """
    counts = query(counts_sql(table, day=day)).to_pylist()[0]
    return [
        rule.judge(table.name, rows_checked=counts[f"{rule.id}_rows"], rows_failed=counts[rule.id])
        for rule, _ in rules_for(table)
    ]


def evaluate_all(
    names: Iterable[str], *, query: Query, day: date | None = None
) -> list[RuleResult]:
    """Judge every rule of several tables of the contracts, by name."""
    return [result for name in names for result in evaluate(TABLES[name], query=query, day=day)]
