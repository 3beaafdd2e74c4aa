"""SYN005: a sensor sends as often as it is to, and as it usually does."""

from __future__ import annotations

from contracts.limits import LIMITS, PACES
from quality.pace import pace_fault
from quality.rule import Rule, Severity

_RATES = ", ".join(
    f"{name.removeprefix('silver.')} {pace.least_hz:g} to {pace.most_hz:g}"
    for name, pace in PACES.items()
)

RULE = Rule(
    id="SYN005",
    name="rate-kept",
    severity=Severity.WARN,
    description=f"Outside of gaps, a channel has as many messages as its usual step makes, within "
    f"{LIMITS.lost_share:.0%}, and a rate that its kind may have, in Hz: {_RATES}.",
    failing=lambda table: pace_fault(
        table,
        f"r.steps > 0 AND (ABS(1 - r.steps * r.usual_ns / r.span_ns) > {LIMITS.lost_share}"
        " OR 1e9 * r.steps / r.span_ns NOT BETWEEN {least_hz} AND {most_hz})",
    ),
)
