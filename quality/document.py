"""Write docs/quality.md from the registry: `python -m quality.document [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path

from contracts.tables import TABLES
from quality.registry import RULES
from quality.rule import FAMILIES, Rule

DEFAULT_FILE = Path(__file__).resolve().parents[1] / "docs" / "quality.md"
_HEAD = """\
<!-- Generated from quality/registry.py by `python -m quality.document`. -->
# What must be true of the data

Every rule is an asset check. A failed ERROR stops what depends on the table; a WARN tells. A rule
counts the rows that break it, over the ingest day of a run or over the whole table, and fails when
their share exceeds what is allowed. The same SQL runs on Spark and on DuckDB.
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


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(quality_text(), encoding="utf-8")
