"""SYN004: no image stands in two frames."""

from __future__ import annotations

from quality.rule import Rule, Severity, query_on

_IMAGE = "r.camera_recording_id, r.camera_topic, r.camera_unit_offset, r.camera_data_offset"

RULE = Rule(
    id="SYN004",
    name="image-once",
    severity=Severity.ERROR,
    description="No camera image is repeated to fill a gap: a pointer stands in one frame.",
    failing=query_on(
        "silver.frames",
        query=f"SELECT {_IMAGE} FROM {{rows}} AS r GROUP BY {_IMAGE} HAVING COUNT(*) > 1",
    ),
)
