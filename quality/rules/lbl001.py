"""LBL001: boxes that can be true."""

from __future__ import annotations

from quality.rule import Rule, Severity, on

_PIXELS = tuple(f"r.box_{corner}_px" for corner in ("x0", "y0", "x1", "y1"))
_NULLS = " + ".join(f"(CASE WHEN {pixel} IS NULL THEN 1 ELSE 0 END)" for pixel in _PIXELS)

RULE = Rule(
    id="LBL001",
    name="boxes-valid",
    severity=Severity.ERROR,
    description="A 3D box has extent; a 2D box has all four sides or none, and they are in order.",
    failing=on(
        "gold.labels",
        condition="NOT COALESCE(r.length_m > 0 AND r.width_m > 0 AND r.height_m > 0, FALSE)"
        f" OR ({_NULLS}) NOT IN (0, 4)"
        " OR r.box_x1_px <= r.box_x0_px OR r.box_y1_px <= r.box_y0_px",
    ),
)
