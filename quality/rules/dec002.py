"""DEC002: an upload ends in one outcome, with its reason."""

from __future__ import annotations

from quality.rule import Rule, Severity, on

RULE = Rule(
    id="DEC002",
    name="one-stated-outcome",
    severity=Severity.ERROR,
    description="Every upload has one outcome: quarantined and partial ones name a reason, "
    "duplicates name their first, and only recordings that were kept name a recording.",
    failing=on(
        "bronze.uploads",
        condition="r.state IS NULL"
        " OR (r.state <> 'PENDING' AND r.state <> 'QUARANTINED' AND r.sha256 IS NULL)"
        " OR (r.state IN ('QUARANTINED', 'PARTIAL') AND COALESCE(r.reason_code, '') = '')"
        " OR ((r.state = 'DUPLICATE') <> (r.duplicate_of IS NOT NULL))"
        " OR (r.state = 'QUARANTINED' AND r.recovered_messages > 0)",
    ),
)
