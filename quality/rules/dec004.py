"""DEC004: silver holds each message once."""

from __future__ import annotations

from contracts.tables import SILVER_KINDS, TableContract
from quality.rule import Failing, Rule, Severity

_MANY_ROWS_A_MESSAGE = ("transforms", "objects", "signals")
_QUERY = """
SELECT c.recording_id, c.channel_id FROM {channels} AS c
FULL OUTER JOIN (
    SELECT recording_id, channel_id, COUNT(*) AS found FROM {rows} AS t
    GROUP BY recording_id, channel_id
) AS r ON c.recording_id = r.recording_id AND c.channel_id = r.channel_id
WHERE COALESCE(c.message_count, 0) <> COALESCE(r.found, 0)
"""


def _failing(table: TableContract) -> Failing | None:
    if table.layer != "silver" or table.table not in SILVER_KINDS:
        return None
    if table.table in _MANY_ROWS_A_MESSAGE:
        return None
    channels = f"(SELECT * FROM bronze.channels WHERE table_name = '{table.name}' AND {{day}})"
    query = _QUERY.replace("{channels}", channels)
    return Failing(query=query, reads=("bronze.channels",))


RULE = Rule(
    id="DEC004",
    name="messages-once",
    severity=Severity.ERROR,
    description="The rows of a channel are as many as bronze.channels says were written: none "
    "lost, none twice.",
    failing=_failing,
)
