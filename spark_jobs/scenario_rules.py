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
    "a vehicle comes from beside into the path within 30 m ahead",
    # The path is the one that the ego drives afterwards, in cells of four metres of its way: so the
    # bends of the road ahead don't look like lane changes. Where the ego does not get that far,
    # it is the circle that it drives now; a change from one to the other is no lane change.
    # 3.7 m is from base_link to the front bumper.
    """
    WITH way AS (
      SELECT drive_id, t_ns, position_x_m AS x_m, position_y_m AS y_m, yaw_rad, speed_m_s,
        yaw_rate_rad_s,
        SUM(speed_m_s * step_ns / 1e9) OVER (PARTITION BY drive_id ORDER BY t_ns) AS way_m
      FROM (
        SELECT *, COALESCE(
          LEAST(t_ns - LAG(t_ns) OVER (PARTITION BY drive_id ORDER BY t_ns), 1000000000), 0
        ) AS step_ns
        FROM {frames}
        WHERE speed_state = 'ok' AND yaw_rate_state = 'ok' AND pose_state = 'ok'
      )
    ),
    cells AS (
      SELECT drive_id, FLOOR(way_m / 4) AS cell, AVG(x_m) AS x_m, AVG(y_m) AS y_m,
        ATAN2(AVG(SIN(yaw_rad)), AVG(COS(yaw_rad))) AS yaw_rad
      FROM way GROUP BY drive_id, FLOOR(way_m / 4)
    ),
    now AS (
      SELECT drive_id, FLOOR(t_ns / 200000000) AS slot, MIN(t_ns) AS t_ns,
        MIN_BY(x_m, t_ns) AS x_m, MIN_BY(y_m, t_ns) AS y_m, MIN_BY(yaw_rad, t_ns) AS yaw_rad,
        MIN_BY(way_m, t_ns) AS way_m, AVG(speed_m_s) AS speed_m_s,
        AVG(yaw_rate_rad_s) AS yaw_rate_rad_s
      FROM way GROUP BY drive_id, FLOOR(t_ns / 200000000)
    ),
    seen AS (
      SELECT t.drive_id, t.t_ns, t.topic, t.object_id, t.position_x_m, t.position_y_m, n.speed_m_s,
        t.position_x_m - t.size_x_m / 2 - 3.7 AS gap_m,
        n.yaw_rate_rad_s / GREATEST(n.speed_m_s, 1.0) AS curvature_1_m,
        n.speed_m_s * (t.t_ns - n.t_ns) / 1e9 AS driven_m,
        n.yaw_rad + n.yaw_rate_rad_s * (t.t_ns - n.t_ns) / 1e9 AS yaw_rad, n.x_m, n.y_m, n.way_m
      FROM {tracks} AS t
      JOIN now AS n ON n.drive_id = t.drive_id AND n.slot = FLOOR(t.t_ns / 200000000)
      WHERE LOWER(t.class_name) IN ('car', 'truck', 'bus', 'van', 'motorcycle')
        AND t.position_x_m BETWEEN 0 AND 50
        AND 1 - 2 * (t.orientation_y * t.orientation_y + t.orientation_z * t.orientation_z) > 0.7
    ),
    placed AS (
      SELECT s.*, c.cell IS NOT NULL AS is_driven,
        AVG(COALESCE(
          COS(c.yaw_rad) * (s.y_m + SIN(s.yaw_rad) * (s.driven_m + s.position_x_m)
            + COS(s.yaw_rad) * s.position_y_m - c.y_m)
          - SIN(c.yaw_rad) * (s.x_m + COS(s.yaw_rad) * (s.driven_m + s.position_x_m)
            - SIN(s.yaw_rad) * s.position_y_m - c.x_m),
          s.position_y_m - s.curvature_1_m * s.position_x_m * s.position_x_m / 2
        )) OVER (
          PARTITION BY s.drive_id, s.topic, s.object_id ORDER BY s.t_ns
          RANGE BETWEEN 150000000 PRECEDING AND 150000000 FOLLOWING
        ) AS lateral_m
      FROM seen AS s
      LEFT JOIN cells AS c ON c.drive_id = s.drive_id
        AND c.cell = FLOOR((s.way_m + s.driven_m + s.position_x_m) / 4)
    ),
    beside AS (
      SELECT *, t_ns - LAG(t_ns) OVER (
        PARTITION BY drive_id, topic, object_id ORDER BY t_ns
      ) AS step_ns
      FROM placed
      WHERE gap_m BETWEEN 2 AND 30 AND ABS(lateral_m) BETWEEN 0.5 AND 3.15
    ),
    grouped AS (
      SELECT *, SUM(IF(step_ns > 450000000, 1, 0)) OVER (
        PARTITION BY drive_id, topic, object_id ORDER BY t_ns
      ) AS island
      FROM beside
    ),
    entering AS (
      SELECT *, MIN(IF(ABS(lateral_m) < 1.2, t_ns, NULL)) OVER (
        PARTITION BY drive_id, topic, object_id, island
      ) AS settled_ns
      FROM grouped
    )
    SELECT drive_id, MIN(t_ns) AS start_ns, MAX(t_ns) AS end_ns, object_id AS actor,
      to_json(named_struct(
        'min_gap_m', ROUND(MIN(gap_m), 1),
        'from_lateral_m', ROUND(MIN_BY(lateral_m, t_ns), 2),
        'ego_speed_m_s', ROUND(AVG(speed_m_s), 2)
      )) AS parameters
    FROM entering
    WHERE t_ns <= settled_ns
    GROUP BY drive_id, topic, object_id, island
    HAVING MAX(t_ns) - MIN(t_ns) BETWEEN 400000000 AND 6000000000
      AND ABS(MIN_BY(lateral_m, t_ns)) > 2.2
      AND AVG(speed_m_s) > 2
      AND MIN(is_driven) = MAX(is_driven)
    """,
)

RULES = (HARD_BRAKING, STANDSTILL, CUT_IN)
