"""STR005: rows come from recordings that are known."""

from __future__ import annotations

from contracts.tables import TableContract
from quality.rule import Failing, Rule, Severity

_QUERY = """
SELECT DISTINCT r.recording_id FROM {rows} AS r
LEFT JOIN bronze.recordings AS k ON r.recording_id = k.recording_id
WHERE r.recording_id IS NOT NULL AND k.recording_id IS NULL
"""


def _failing(table: TableContract) -> Failing | None:
    if table.name == "bronze.recordings" or "recording_id" not in table.schema.names:
        return None
    return Failing(query=_QUERY, reads=("bronze.recordings",))


RULE = Rule(
    id="STR005",
    name="recordings-known",
    severity=Severity.ERROR,
    description="Every recording that a row names is registered in bronze.recordings.",
    failing=_failing,
)
