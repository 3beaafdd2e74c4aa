"""LBL003: a label belongs to a frame."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT r.label_id FROM {rows} AS r
LEFT JOIN silver.frames AS f
    ON r.drive_id = f.drive_id AND r.camera_topic = f.camera_topic AND r.t_ns = f.t_ns
WHERE f.t_ns IS NULL
"""

RULE = Rule(
    id="LBL003",
    name="label-has-frame",
    severity=Severity.ERROR,
    description="Every label belongs to a frame of silver.frames.",
    failing=query_on("gold.labels", query=_QUERY, reads=("silver.frames",)),
)
