"""DST004: a dataset holds what it declares."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT r.dataset_id FROM {rows} AS r
LEFT JOIN (
    SELECT dataset_id,
        SUM(CASE WHEN split = 'train' THEN 1 ELSE 0 END) AS train,
        SUM(CASE WHEN split = 'validation' THEN 1 ELSE 0 END) AS validation,
        SUM(CASE WHEN split = 'test' THEN 1 ELSE 0 END) AS test
    FROM gold.dataset_samples GROUP BY dataset_id
) AS s ON r.dataset_id = s.dataset_id
WHERE r.train_samples <> COALESCE(s.train, 0)
    OR r.validation_samples <> COALESCE(s.validation, 0)
    OR r.test_samples <> COALESCE(s.test, 0)
"""

RULE = Rule(
    id="DST004",
    name="counts-agree",
    severity=Severity.ERROR,
    description="The samples of a dataset are as many a split as it declares.",
    failing=query_on("gold.datasets", query=_QUERY, reads=("gold.dataset_samples",)),
)
