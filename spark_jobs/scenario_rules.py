"""The situations that are looked for, as SQL over the silver tables. A rule is its text.

Placeholders: `{frames}` is `silver.frames` of the drives; `{tracks}` is `silver.objects` of those
drives with `drive_id` and `t_ns` (UTC). A query gives drive_id, start_ns, end_ns, actor and
parameters (JSON), one row a situation in `[start_ns, end_ns)`.
"""

from __future__ import annotations

import attrs

from contracts.ids import content_hash


@attrs.frozen
class ScenarioRule:
    """A situation and how it is found.

    Attributes:
        scenario: Kind of situation.
        name: Identity of the rule.
        sql: The query.
    """

    scenario: str
    name: str
    sql: str

    @property
    def version(self) -> str:
        """First 16 hex digits of the hash of the rule."""
        return content_hash([self.scenario, self.name, self.sql])[:16]


HARD_BRAKING = ScenarioRule(
    "hard_braking",
    "deceleration of 3.5 m/s² for half a second",
    """
    WITH smooth AS (
      SELECT drive_id, t_ns, speed_m_s,
        AVG(acceleration_m_s2) OVER (
          PARTITION BY drive_id ORDER BY t_ns
          RANGE BETWEEN 100000000 PRECEDING AND 100000000 FOLLOWING
        ) AS acceleration_m_s2
      FROM {frames}
      WHERE acceleration_state = 'ok'
    ),
    braking AS (
      SELECT *, t_ns - LAG(t_ns) OVER (PARTITION BY drive_id ORDER BY t_ns) AS step_ns
      FROM smooth WHERE acceleration_m_s2 <= -3.5
    ),
    grouped AS (
      SELECT *, SUM(IF(step_ns > 350000000, 1, 0)) OVER (
        PARTITION BY drive_id ORDER BY t_ns
      ) AS island
      FROM braking
    )
    SELECT drive_id, MIN(t_ns) AS start_ns, MAX(t_ns) AS end_ns, CAST(NULL AS STRING) AS actor,
      to_json(named_struct(
        'min_acceleration_m_s2', ROUND(MIN(acceleration_m_s2), 2),
        'entry_speed_m_s', ROUND(MAX(speed_m_s), 2),
        'exit_speed_m_s', ROUND(MIN(speed_m_s), 2)
      )) AS parameters
    FROM grouped
    GROUP BY drive_id, island
    HAVING MAX(t_ns) - MIN(t_ns) >= 500000000
    """,
)

STANDSTILL = ScenarioRule(
    "standstill",
    "speed below 0.15 m/s for two seconds",
    """
    WITH standing AS (
      SELECT drive_id, t_ns, speed_m_s,
        t_ns - LAG(t_ns) OVER (PARTITION BY drive_id ORDER BY t_ns) AS step_ns
      FROM {frames}
      WHERE speed_state = 'ok' AND ABS(speed_m_s) < 0.15
    ),
    grouped AS (
      SELECT *, SUM(IF(step_ns > 350000000, 1, 0)) OVER (
        PARTITION BY drive_id ORDER BY t_ns
      ) AS island
      FROM standing
    )
    SELECT drive_id, MIN(t_ns) AS start_ns, MAX(t_ns) AS end_ns, CAST(NULL AS STRING) AS actor,
      to_json(named_struct('seconds', ROUND((MAX(t_ns) - MIN(t_ns)) / 1e9, 2))) AS parameters
    FROM grouped
    GROUP BY drive_id, island
    HAVING MAX(t_ns) - MIN(t_ns) >= 1900000000
    """,
)

CUT_IN = ScenarioRule(
    "cut_in",
    "a vehicle comes from beside into the lane within 30 m ahead",
    # The ego's lane bends with its path: lateral distance is measured from the circle it drives.
    # 3.7 m is from the rear axle, the origin of base_link, to the front bumper.
    """
    WITH path AS (
      SELECT drive_id, FLOOR(t_ns / 200000000) AS slot,
        AVG(yaw_rate_rad_s) / GREATEST(AVG(speed_m_s), 1.0) AS curvature_1_m,
        AVG(speed_m_s) AS speed_m_s
      FROM {frames}
      WHERE speed_state = 'ok' AND yaw_rate_state = 'ok'
      GROUP BY drive_id, FLOOR(t_ns / 200000000)
    ),
    placed AS (
      SELECT t.drive_id, t.t_ns, t.object_id, p.speed_m_s,
        t.position_x_m - t.size_x_m / 2 - 3.7 AS gap_m,
        AVG(t.position_y_m - p.curvature_1_m * t.position_x_m * t.position_x_m / 2) OVER (
          PARTITION BY t.drive_id, t.topic, t.object_id ORDER BY t.t_ns
          RANGE BETWEEN 150000000 PRECEDING AND 150000000 FOLLOWING
        ) AS lateral_m
      FROM {tracks} AS t
      JOIN path AS p ON p.drive_id = t.drive_id AND p.slot = FLOOR(t.t_ns / 200000000)
      WHERE LOWER(t.class_name) IN ('car', 'truck', 'bus', 'van', 'motorcycle')
        AND t.position_x_m > 0
        AND 1 - 2 * (t.orientation_y * t.orientation_y + t.orientation_z * t.orientation_z) > 0.7
    ),
    beside AS (
      SELECT *, t_ns - LAG(t_ns) OVER (
        PARTITION BY drive_id, object_id ORDER BY t_ns
      ) AS step_ns
      FROM placed
      WHERE gap_m BETWEEN 2 AND 30 AND ABS(lateral_m) BETWEEN 0.5 AND 3.15
    ),
    grouped AS (
      SELECT *, SUM(IF(step_ns > 450000000, 1, 0)) OVER (
        PARTITION BY drive_id, object_id ORDER BY t_ns
      ) AS island
      FROM beside
    )
    SELECT drive_id, MIN(t_ns) AS start_ns, MAX(t_ns) AS end_ns, object_id AS actor,
      to_json(named_struct(
        'min_gap_m', ROUND(MIN(gap_m), 1),
        'from_lateral_m', ROUND(MAX_BY(lateral_m, -t_ns), 2),
        'ego_speed_m_s', ROUND(AVG(speed_m_s), 2)
      )) AS parameters
    FROM grouped
    GROUP BY drive_id, object_id, island
    HAVING MAX(t_ns) - MIN(t_ns) BETWEEN 400000000 AND 6000000000
      AND ABS(MIN_BY(lateral_m, t_ns)) > 2.2
      AND ABS(MAX_BY(lateral_m, t_ns)) < 1.1
    """,
)

RULES = (HARD_BRAKING, STANDSTILL, CUT_IN)
