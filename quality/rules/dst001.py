"""DST001: no drive in two splits."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT r.dataset_id, r.drive_id FROM {rows} AS r
GROUP BY r.dataset_id, r.drive_id HAVING COUNT(DISTINCT r.split) > 1
"""

RULE = Rule(
    id="DST001",
    name="drive-in-one-split",
    severity=Severity.ERROR,
    description="All samples of a drive are in one split of a dataset.",
    failing=query_on("gold.dataset_samples", query=_QUERY),
)
