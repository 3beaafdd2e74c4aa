"""DST003: no image in two splits."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT r.dataset_id, r.image_jpeg FROM {rows} AS r
GROUP BY r.dataset_id, r.image_jpeg HAVING COUNT(DISTINCT r.split) > 1
"""

RULE = Rule(
    id="DST003",
    name="image-in-one-split",
    severity=Severity.ERROR,
    description="The same image bytes never stand in two splits of a dataset, whatever their "
    "drive.",
    failing=query_on("gold.dataset_samples", query=_QUERY),
)
