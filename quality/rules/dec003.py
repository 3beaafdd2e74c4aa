"""DEC003: the ledger and the recording tell the same numbers."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_QUERY = """
SELECT r.recording_id FROM {rows} AS r
LEFT JOIN (
    SELECT recording_id, SUM(messages_written) AS written, SUM(messages_bad) AS bad
    FROM bronze.decode_ledger GROUP BY recording_id
) AS l ON r.recording_id = l.recording_id
WHERE r.messages_written <> COALESCE(l.written, 0) OR r.messages_bad <> COALESCE(l.bad, 0)
"""

RULE = Rule(
    id="DEC003",
    name="ledger-agrees",
    severity=Severity.ERROR,
    description="Messages written and bad in bronze.recordings are the sums of its ledger.",
    failing=query_on("bronze.recordings", query=_QUERY, reads=("bronze.decode_ledger",)),
)
