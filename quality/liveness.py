"""How signals behave: one row a signal of a recording, from one pass over its samples in order.

What lies outside of a stated range is marked row by row (`in_range`). That a value is stuck shows
in no row: it takes the samples around it. A signal that changes with almost every sample, by its
noise or because it counts, does not repeat one value fifty times while it is alive. Signals that
change seldom are not judged, nor is 0, where speeds and torques rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.limits import LIMITS
from contracts.tables import TableContract
from quality.rule import Failing

_IN_ORDER = (
    "PARTITION BY v.recording_id, v.channel_id, v.source, v.signal "
    "ORDER BY v.log_time_ns, v.sequence"
)
_BEHAVIOUR = f"""
SELECT o.recording_id, o.channel_id, o.source, o.signal,
    COUNT(*) AS samples,
    SUM(CASE WHEN o.in_range IS NULL THEN 0 ELSE 1 END) AS stated,
    SUM(CASE WHEN NOT o.in_range THEN 1 ELSE 0 END) AS outside,
    SUM(CASE WHEN o.changed_at = o.place THEN 1 ELSE 0 END) AS changes,
    MAX(CASE WHEN o.value <> 0 THEN o.place - o.changed_at + 1 ELSE 0 END) AS longest
FROM (
    SELECT c.*, MAX(CASE WHEN c.is_new THEN c.place END) OVER (
        PARTITION BY c.recording_id, c.channel_id, c.source, c.signal ORDER BY c.place
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS changed_at
    FROM (
        SELECT v.*, ROW_NUMBER() OVER ({_IN_ORDER}) AS place,
            NOT COALESCE(v.value = LAG(v.value) OVER ({_IN_ORDER}), FALSE) AS is_new
        FROM ({{values}}) AS v
        WHERE v.value IS NOT NULL
    ) AS c
) AS o
GROUP BY o.recording_id, o.channel_id, o.source, o.signal
"""
_COLUMN = """
SELECT r.recording_id, r.channel_id, r.topic AS source, '{name}' AS signal, r.log_time_ns,
    r.sequence, r.{name} AS value, CAST(NULL AS BOOLEAN) AS in_range
FROM {rows} AS r
"""
_RATES = [f"angular_velocity_{axis}_rad_s" for axis in "xyz"]
_RATES += [f"linear_acceleration_{axis}_m_s2" for axis in "xyz"]
_VALUES: Mapping[str, str] = {
    "silver.signals": "SELECT r.* FROM {rows} AS r",
    "silver.imu": "UNION ALL".join(_COLUMN.replace("{name}", name) for name in _RATES),
}

STUCK = (
    f"r.longest >= {LIMITS.stuck_values} AND r.samples - r.longest >= {LIMITS.stuck_values} "
    f"AND r.changes >= {LIMITS.lively_share} * (r.samples - r.longest)"
)
OUTSIDE = f"r.outside > {LIMITS.out_of_range_share} * r.stated"


def behaviour_fault(table: TableContract, condition: str) -> Failing | None:
    """Signals whose behaviour fulfils a condition; None for tables that hold no such values.

    Args:
        table: The table.
        condition: SQL on `r.samples` with a value, and of these `r.stated`, which have a stated
            range, `r.outside` of it, and `r.changes`, which differ from the one before; and on
            `r.longest`, how often in a row it had one value other than 0.
    """
    values = _VALUES.get(table.name)
    if values is None:
        return None
    return Failing(condition=condition, source=_BEHAVIOUR.replace("{values}", values))
