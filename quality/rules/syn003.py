"""SYN003: recorders write in the order of time."""

from __future__ import annotations

from contracts.limits import LIMITS
from contracts.tables import SILVER_KINDS, TableContract
from quality.rule import Failing, Rule, Severity

_QUERY = """
SELECT s.recording_id, s.channel_id, s.log_time_ns FROM (
    SELECT r.recording_id, r.channel_id, r.log_time_ns,
        LAG(r.log_time_ns) OVER (
            PARTITION BY r.recording_id, r.channel_id ORDER BY r.sequence, r.log_time_ns
        ) AS previous_ns
    FROM {rows} AS r
) AS s
WHERE s.log_time_ns < s.previous_ns
"""


def _failing(table: TableContract) -> Failing | None:
    if table.layer != "silver" or table.table not in SILVER_KINDS:
        return None
    return Failing(query=_QUERY)


RULE = Rule(
    id="SYN003",
    name="log-time-monotonic",
    severity=Severity.WARN,
    description="In a channel, log times grow with the sequence, but for "
    f"{LIMITS.backward_time_share:.1%} of the messages.",
    failing=_failing,
    allowed_share=LIMITS.backward_time_share,
)
