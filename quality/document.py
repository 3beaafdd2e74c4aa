"""Write docs/quality.md and docs/tables.md: `python -m quality.document [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

from contracts.tables import TABLES
from quality.registry import RULES
from quality.rule import FAMILIES, Rule

DOCS = Path(__file__).resolve().parents[1] / "docs"
_HEAD = """\
<!-- Generated from quality/registry.py by `python -m quality.document`. -->
# What must be true of the data

Every rule is an asset check. A failed ERROR stops what depends on the table; a WARN tells. A rule
counts the rows that break it, over the ingest day of a run or over the whole table, and fails when
their share exceeds what is allowed. The same SQL runs on Spark and on DuckDB.
"""

_TABLES_HEAD = """\
<!-- Generated from contracts/tables.py by `python -m quality.document`. -->
# The tables

Times are whole nanoseconds (`_ns`): `log_time_ns` on the recorder's clock, `t_ns` in UTC after the
clocks are known. Other units are suffixes of the names. A message type without a table below has
one of its own, `silver.<package>_<type>`, with the message's fields as nested columns.
"""


def _tables(rule: Rule) -> str:
    names = [table.name for table in TABLES.values() if rule.failing(table) is not None]
    if len(names) == len(TABLES):
        return "every table"
    if len(names) > 6:
        return f"{', '.join(f'`{name}`' for name in names[:3])} and {len(names) - 3} more"
    return ", ".join(f"`{name}`" for name in names)


def _row(rule: Rule) -> str:
    allowed = f"{rule.allowed_share:.1%}" if rule.allowed_share else "none"
    cells = (rule.id, rule.name, rule.severity, rule.description, allowed, _tables(rule))
    return f"| {' | '.join(cells)} |"


def quality_text() -> str:
    """The page: one table of rules for each family."""
    parts = [_HEAD]
    for family, title in FAMILIES.items():
        rules = [rule for rule in RULES if rule.family == family]
        parts.append(f"## {title}\n")
        parts.append("| id | name | severity | what must be true | may break it | tables |")
        parts.append("| --- | --- | --- | --- | --- | --- |")
        parts += [_row(rule) for rule in rules]
        parts.append("")
    return "\n".join(parts)


def tables_text() -> str:
    """The page of the tables: what a row is, what names it, every column with its meaning."""
    parts = [_TABLES_HEAD]
    for contract in TABLES.values():
        keys = ", ".join(f"`{key}`" for key in contract.keys)
        parts.append(f"## {contract.name}\n")
        parts.append(f"{contract.description} Named by {keys}. Owner: {contract.owner}.\n")
        parts.append("| column | type | meaning |")
        parts.append("| --- | --- | --- |")
        parts += [_column(field) for field in contract.schema]
        parts.append("")
    return "\n".join(parts)


def _column(field: pa.Field) -> str:
    kind = "list of struct" if "struct" in str(field.type) else str(field.type)
    kind = kind.replace("element: ", "")
    return f"| `{field.name}` | {kind} | {field.metadata[b'comment'].decode()} |"


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {"quality.md": quality_text(), "tables.md": tables_text()}


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
    target.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (target / name).write_text(text, encoding="utf-8")
