"""LBL004: a scenario is a span of its drive."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT r.drive_id, r.scenario, r.start_ns FROM {rows} AS r
LEFT JOIN (
    SELECT drive_id, MIN(t_ns) AS first_ns, MAX(t_ns) AS last_ns
    FROM silver.frames GROUP BY drive_id
) AS d ON r.drive_id = d.drive_id
WHERE r.end_ns <= r.start_ns OR d.drive_id IS NULL
    OR r.end_ns <= d.first_ns OR r.start_ns > d.last_ns
"""

RULE = Rule(
    id="LBL004",
    name="scenario-in-drive",
    severity=Severity.ERROR,
    description="A scenario is a span [start_ns, end_ns) that is not empty and meets its drive.",
    failing=query_on("gold.scenarios", query=_QUERY, reads=("silver.frames",)),
)
