"""SYN006: a sensor is not silent for long."""

from __future__ import annotations

from contracts.limits import GAP_PERIODS, PACES
from quality.pace import pace_fault
from quality.rule import Rule, Severity

_SILENCES = ", ".join(
    f"{name.removeprefix('silver.')} {pace.max_gap_ns / 1e6:g}" for name, pace in PACES.items()
)

RULE = Rule(
    id="SYN006",
    name="no-gaps",
    severity=Severity.WARN,
    description=f"No channel is silent for longer than {GAP_PERIODS:g} of its usual steps and, in "
    f"ms: {_SILENCES}. A recorder's clock that is set forwards looks the same in its own stamps.",
    failing=lambda table: pace_fault(table, "r.hole_ns > r.limit_ns"),
)
