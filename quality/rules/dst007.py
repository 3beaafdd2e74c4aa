"""DST007: models are judged by recordings that checksums cover."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT r.dataset_id, r.sample_id, k.recording_id FROM {rows} AS r
JOIN bronze.recordings AS k ON r.recording_id = k.recording_id
WHERE r.split <> 'train' AND k.integrity <> 'CRC'
"""

RULE = Rule(
    id="DST007",
    name="judged-recordings-have-checksums",
    severity=Severity.WARN,
    description="In validation and in test, images come from recordings whose checksums cover "
    "them; of others only the hash of the upload tells what they were when they came in.",
    failing=query_on("gold.dataset_samples", query=_QUERY, reads=("bronze.recordings",)),
)
