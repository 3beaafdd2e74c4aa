"""DEC001: messages are conserved in every recording."""

from __future__ import annotations

from quality.rule import Rule, Severity, on

RULE = Rule(
    id="DEC001",
    name="messages-conserved",
    severity=Severity.ERROR,
    description="Declared messages equal written plus bad plus lost, unless the loss is unknown.",
    failing=on(
        "bronze.recordings",
        "bronze.decode_ledger",
        condition="r.messages_declared IS NOT NULL AND r.messages_lost IS NOT NULL "
        "AND r.messages_declared <> r.messages_written + r.messages_bad + r.messages_lost",
    ),
)
