"""DEC006: every byte of a recording has one fate."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

# A db3's ranges are rows, so they say nothing of bytes.
_QUERY = """
SELECT s.recording_id FROM (
    SELECT r.recording_id, r.size_bytes, l.offset + l.length AS end_bytes, l.offset AS start_bytes,
        LAG(l.offset + l.length) OVER (
            PARTITION BY r.recording_id ORDER BY l.offset, l.length
        ) AS previous_bytes,
        LEAD(l.offset) OVER (PARTITION BY r.recording_id ORDER BY l.offset, l.length) AS next_bytes
    FROM {rows} AS r
    LEFT JOIN bronze.decode_ledger AS l ON r.recording_id = l.recording_id
    WHERE r.format <> 'rosbag2_db3'
) AS s
WHERE s.end_bytes IS NULL OR s.start_bytes <> COALESCE(s.previous_bytes, 0)
    OR (s.next_bytes IS NULL AND s.end_bytes <> s.size_bytes)
GROUP BY s.recording_id
"""

RULE = Rule(
    id="DEC006",
    name="bytes-have-one-fate",
    severity=Severity.ERROR,
    description="The ranges of the ledger tile a recording from its first byte to its last: no gap "
    "and no overlap.",
    failing=query_on("bronze.recordings", query=_QUERY, reads=("bronze.decode_ledger",)),
)
