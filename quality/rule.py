"""What a rule is: an id, a severity, and the rows of a table that break it.

A rule is SQL that Spark and DuckDB read alike, so it runs on a cluster and in a unit test. It
fails when more than `allowed_share` of the rows break it. It needs no row to be judged: an empty
table breaks nothing unless `minimum_rows` says that it must not be empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

import attrs

from contracts.tables import TableContract

_ID = re.compile(r"(STR|DEC|CLK|SYN|LBL|DST|EVL)\d{3}")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

FAMILIES = {
    "STR": "Structure: columns, keys and values as the contract states them",
    "DEC": "Decode: nothing of a recording is lost silently",
    "CLK": "Clocks: every recorder's time is known, and how well",
    "SYN": "Synchronisation: what stands in one frame happened at one instant",
    "LBL": "Labels: boxes and scenarios that can be true",
    "DST": "Datasets: splits that are independent and not empty",
    "EVL": "Evaluation: metrics that can be true",
}


class Severity(StrEnum):
    """ERROR stops what depends on the table; WARN tells."""

    ERROR = "ERROR"
    WARN = "WARN"


@attrs.frozen
class Failing:
    """The rows of a table that break a rule.

    Attributes:
        condition: SQL that is true for a row `r` that breaks the rule; judged in one scan with
            the other conditions on the same rows. Empty where `query` is set.
        source: SQL that gives the rows `r` of the condition instead of the table's own, written
            like `query`; the rules that share it share its cost.
        query: SQL that gives one row for each fault; `{rows}` stands for the rows in question,
            `{day}` for the condition that other ingested tables are to be read by.
        reads: Other tables that the query reads.
    """

    condition: str = ""
    source: str = ""
    query: str = ""
    reads: tuple[str, ...] = ()

    def select(self, rows: str, *, day: str = "TRUE") -> str:
        """SQL of the rows that break the rule, for a person or a count.

        Args:
            rows: Table name, or a parenthesised query, that holds the rows in question.
            day: SQL condition on `ingest_date`.
        """
        if self.query:
            return self.query.replace("{rows}", rows).replace("{day}", day)
        return f"SELECT * FROM {self.judged_rows(rows, day=day)} AS r WHERE {self.condition}"

    def judged_rows(self, rows: str, *, day: str = "TRUE") -> str:
        """The rows that the condition is about, as a table name or a parenthesised query."""
        if not self.source:
            return rows
        return f"({self.source.replace('{rows}', rows).replace('{day}', day)})"


def _matches(pattern: re.Pattern[str]) -> Callable[[object, attrs.Attribute[str], str], None]:
    def check(_: object, attribute: attrs.Attribute[str], value: str) -> None:
        if not pattern.fullmatch(value):
            msg = f"{attribute.name} {value!r} does not match {pattern.pattern}"
            raise ValueError(msg)

    return check


@attrs.frozen
class Rule:
    """Something that must be true of a table.

    Attributes:
        id: Family and number; never used again for another rule.
        name: In kebab case.
        severity: What a failure means.
        description: What must be true, in one sentence.
        failing: The rows that break it, given the table; None where it does not apply.
        allowed_share: Share of the rows that may break it.
        minimum_rows: Rows that the table must have.
    """

    id: str = attrs.field(validator=_matches(_ID))
    name: str = attrs.field(validator=_matches(_NAME))
    severity: Severity
    description: str
    failing: Callable[[TableContract], Failing | None] = attrs.field(eq=False, repr=False)
    allowed_share: float = 0.0
    minimum_rows: int = 0

    @property
    def family(self) -> str:
        """The three letters in front."""
        return self.id[:3]

    @property
    def check_name(self) -> str:
        """Id and name as one identifier, e.g. `STR001_required_not_null`."""
        return f"{self.id}_{self.name.replace('-', '_')}"

    def judge(self, table: str, *, rows_checked: int, rows_failed: int) -> RuleResult:
        """The verdict over counts."""
        share = rows_failed / rows_checked if rows_checked else float(rows_failed > 0)
        return RuleResult(
            rule=self,
            table=table,
            passed=share <= self.allowed_share and rows_checked >= self.minimum_rows,
            measured=share,
            threshold=self.allowed_share,
            rows_checked=rows_checked,
            rows_failed=rows_failed,
        )


@attrs.frozen
class RuleResult:
    """How a table fared.

    Attributes:
        rule: The rule.
        table: `layer.table`.
        passed: Whether the rule holds.
        measured: Share of the rows that break it.
        threshold: Share that may.
        rows_checked: Rows in question, of the rule's source where it has one.
        rows_failed: Faults; may exceed `rows_checked` where a query reads other tables.
    """

    rule: Rule
    table: str
    passed: bool
    measured: float
    threshold: float
    rows_checked: int
    rows_failed: int


def on(*tables: str, condition: str) -> Callable[[TableContract], Failing | None]:
    """A condition on the rows of named tables."""
    failing = Failing(condition=condition)
    return lambda table: failing if table.name in tables else None


def query_on(
    *tables: str, query: str, reads: tuple[str, ...] = ()
) -> Callable[[TableContract], Failing | None]:
    """A query for the faults of named tables."""
    failing = Failing(query=query, reads=reads)
    return lambda table: failing if table.name in tables else None


def any_of(conditions: list[str]) -> Failing | None:
    """True where one of the conditions is; None if there are none."""
    return Failing(condition=" OR ".join(f"({c})" for c in conditions)) if conditions else None
