"""What is known of an MCAP file while it is being indexed.

Source: https://mcap.dev/spec
"""

from __future__ import annotations

import attrs

from contracts.errors import PlatformError
from contracts.recording import Attachment, Channel, Finding, LedgerEntry, Schema, Unit
from udfs.decode import mcap_records as rec


@attrs.define
class Scan:
    """What the walk has found so far.

    Attributes:
        ranges: Bytes outside the units that are damaged or refused.
        refused: Why, in order.
        statistics: What the file counts of itself.
        data_end: File offset of the DataEnd record, None until it is met.
        data_crc: CRC-32 that it states, 0 for none.
        chunk_crcs: Whether chunks state a CRC-32: all, none or some.
        others: Records that hold no messages.
        lost_sync: Whether damage leads nowhere, so that the rest of the file is not visited.
    """

    profile: str = ""
    library: str = ""
    schemas: dict[int, Schema] = attrs.field(factory=dict)
    channels: dict[int, Channel] = attrs.field(factory=dict)
    units: list[Unit] = attrs.field(factory=list)
    attachments: list[Attachment] = attrs.field(factory=list)
    metadata: dict[str, dict[str, str]] = attrs.field(factory=dict)
    findings: list[Finding] = attrs.field(factory=list)
    ranges: list[LedgerEntry] = attrs.field(factory=list)
    refused: list[PlatformError] = attrs.field(factory=list)
    statistics: rec.Statistics | None = None
    data_end: int | None = None
    data_crc: int = 0
    chunk_crcs: set[bool] = attrs.field(factory=set)
    lost_sync: bool = False
    others: int = 0

    def add_definition(self, op: int, fields: rec.Fields, offset: int) -> None:
        """Take in a schema or channel record; DecodeError BAD_RECORD if it does not read."""
        if op == rec.OP_SCHEMA:
            self.add_schema(rec.parse_schema(fields), offset)
        else:
            self.add_channel(rec.parse_channel(fields), offset)

    def add_schema(self, schema: Schema, offset: int) -> None:
        """Keep a schema; another one of the same id is a conflict, and the first stays."""
        first = self.schemas.setdefault(schema.id, schema)
        if first.hash != schema.hash:
            what = f"schema {schema.id} is defined twice: {first.name} and {schema.name}"
            self._add_conflict(what, offset)

    def add_channel(self, channel: Channel, offset: int) -> None:
        """Keep a channel; another one of the same id is a conflict, and the first stays."""
        first = self.channels.setdefault(channel.id, channel)
        if is_conflict(first, channel):
            what = f"channel {channel.id} is defined twice: {first.topic} and {channel.topic}"
            self._add_conflict(what, offset)

    def _add_conflict(self, what: str, offset: int) -> None:
        if not any(f.code == "SCHEMA_CONFLICT" and f.detail == what for f in self.findings):
            self.findings.append(Finding("SCHEMA_CONFLICT", what, offset))

    def add_damage(self, start: int, end: int, code: str, what: str) -> None:
        """Quarantine bytes that hold an unknown number of messages."""
        detail = f"{what}; bytes {start} to {end} are not decoded"
        self.findings.append(Finding(code, detail, start, loses=True, lost_messages=None))
        self.ranges.append(
            LedgerEntry(
                start,
                end - start,
                "quarantined",
                code,
                what,
                messages_declared=None,
                messages_lost=None,
            )
        )


def is_conflict(first: Channel, again: Channel) -> bool:
    """Whether two definitions of a channel id mean different messages."""
    return (first.topic, first.message_encoding, first.schema_id) != (
        again.topic,
        again.message_encoding,
        again.schema_id,
    )
