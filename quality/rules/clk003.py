"""CLK003: at any log time one clock segment holds."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT s.recording_id, s.valid_from_ns FROM (
    SELECT r.recording_id, r.valid_from_ns, r.valid_to_ns,
        LEAD(r.valid_from_ns) OVER (PARTITION BY r.recording_id ORDER BY r.valid_from_ns) AS next_ns
    FROM {rows} AS r
) AS s
WHERE s.valid_to_ns < s.valid_from_ns OR s.next_ns <= s.valid_to_ns
"""

RULE = Rule(
    id="CLK003",
    name="segments-disjoint",
    severity=Severity.ERROR,
    description="Clock segments of a recording run forwards and do not overlap.",
    failing=query_on("silver.clocks", query=_QUERY),
)
