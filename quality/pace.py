"""How the channels of a sensor were paced: one row a channel, from one pass over its stamps."""

from __future__ import annotations

from contracts.limits import GAP_PERIODS, LIMITS, PACES
from contracts.tables import TableContract
from quality.rule import Failing

# The stamp of a message is its sensor's; its arrival where the sensor gave none, as drivers do that
# leave 0. Steps are taken in the order of arrival. A step counts for the pace if time went on in
# it, for the sensor as long as for the recorder: at a jump of a clock the two differ, in a gap both
# are long. Steps are rounded to a microsecond, so that the median has few values to hold.
_STAMP = "COALESCE(NULLIF(r.sensor_time_ns, 0), r.log_time_ns)"
_IN_ORDER = "PARTITION BY r.recording_id, r.channel_id ORDER BY r.log_time_ns, r.sequence"
_PACE = f"""
WITH steps AS (
    SELECT s.* FROM (
        SELECT r.recording_id, r.channel_id,
            ROUND(({_STAMP} - LAG({_STAMP}) OVER ({_IN_ORDER})) / 1000.0) * 1000.0 AS step_ns,
            r.log_time_ns - LAG(r.log_time_ns) OVER ({_IN_ORDER}) AS log_step_ns,
            r.sensor_time_ns <> 0 AND r.sensor_time_ns
                = LAG(r.sensor_time_ns, {LIMITS.stuck_messages - 1}) OVER ({_IN_ORDER}) AS is_stuck
        FROM {{rows}} AS r
    ) AS s
    WHERE s.step_ns IS NOT NULL
),
usual AS (
    SELECT m.*, GREATEST({{max_gap_ns}}, {GAP_PERIODS} * m.usual_ns) AS limit_ns FROM (
        SELECT s.recording_id, s.channel_id,
            MEDIAN(CASE WHEN s.step_ns > 0 THEN s.step_ns END) AS usual_ns
        FROM steps AS s GROUP BY s.recording_id, s.channel_id
        HAVING COUNT(*) >= {LIMITS.paced_messages - 1}
    ) AS m
)
SELECT p.recording_id, p.channel_id, p.usual_ns, p.limit_ns,
    SUM(CASE WHEN p.is_steady THEN 1 ELSE 0 END) AS steps,
    SUM(CASE WHEN p.is_steady THEN p.step_ns ELSE 0 END) AS span_ns,
    SUM(CASE WHEN p.is_steady
        AND ABS(p.step_ns - p.usual_ns * ROUND(p.step_ns / p.usual_ns))
            > {LIMITS.jitter_period} * p.usual_ns
        THEN 1 ELSE 0 END) AS uneven_steps,
    MAX(LEAST(p.step_ns, p.log_step_ns)) AS hole_ns,
    SUM(CASE WHEN p.is_stuck THEN 1 ELSE 0 END) AS stuck
FROM (
    SELECT s.*, u.usual_ns, u.limit_ns,
        s.step_ns > 0 AND LEAST(s.step_ns, s.log_step_ns) <= u.limit_ns
            AND ABS(s.step_ns - s.log_step_ns) <= u.limit_ns AS is_steady
    FROM steps AS s
    JOIN usual AS u ON s.recording_id = u.recording_id AND s.channel_id = u.channel_id
) AS p
GROUP BY p.recording_id, p.channel_id, p.usual_ns, p.limit_ns
"""


def pace_fault(table: TableContract, condition: str) -> Failing | None:
    """Channels whose pace fulfils a condition; None for tables that have no pace.

    Args:
        table: The table.
        condition: SQL on `r.usual_ns`, the usual step; `r.steps` and `r.span_ns`, steps outside of
            gaps and jumps, and their length; `r.uneven_steps` of these; `r.hole_ns`, the longest
            silence, and `r.limit_ns`, how long it may be; `r.stuck`, messages with the stamp
            of several before. `{least_hz}` and `{most_hz}` stand for the contract's.
    """
    pace = PACES.get(table.name)
    if pace is None:
        return None
    source = _PACE.replace("{max_gap_ns}", f"{float(pace.max_gap_ns)}")
    text = condition.replace("{least_hz}", f"{pace.least_hz}")
    return Failing(condition=text.replace("{most_hz}", f"{pace.most_hz}"), source=source)
