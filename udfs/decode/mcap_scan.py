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
        defined_at: File offset of each definition in `schemas` and `channels`, by opcode and id.
        conflicts: File offset of the first definition that differs from the one kept.
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
    defined_at: dict[tuple[int, int], int] = attrs.field(factory=dict)
    conflicts: dict[tuple[int, int], int] = attrs.field(factory=dict)
    lost_sync: bool = False
    others: int = 0

    def add_definition(self, op: int, fields: rec.Fields, offset: int) -> None:
        """Take in a schema or channel record; DecodeError BAD_RECORD if it does not read."""
        if op == rec.OP_SCHEMA:
            self.add_schema(rec.parse_schema(fields), offset)
        else:
            self.add_channel(rec.parse_channel(fields), offset)

    def add_schema(self, schema: Schema, offset: int) -> None:
        """Keep a schema; another one of the same id is a conflict: the first in the file stays."""
        kept = self.schemas.get(schema.id, schema)
        differs = kept.hash != schema.hash
        if self._is_first((rec.OP_SCHEMA, schema.id), offset, differs=differs):
            self.schemas[schema.id] = schema
        if differs:
            self._tell(
                f"schema {schema.id} is defined twice: {kept.name} and {schema.name}", offset
            )

    def add_channel(self, channel: Channel, offset: int) -> None:
        """Keep a channel; another one of the same id is a conflict: the first in the file stays."""
        kept = self.channels.get(channel.id, channel)
        differs = is_conflict(kept, channel)
        if self._is_first((rec.OP_CHANNEL, channel.id), offset, differs=differs):
            self.channels[channel.id] = channel
        if differs:
            what = f"channel {channel.id} is defined twice: {kept.topic} and {channel.topic}"
            self._tell(what, offset)

    def is_defined(self, channel_id: int, *, before: int) -> bool:
        """Whether a channel and its schema are defined in front of a file offset."""
        channel = self.channels.get(channel_id)
        if channel is None or self.defined_at[rec.OP_CHANNEL, channel_id] >= before:
            return False
        schema = (rec.OP_SCHEMA, channel.schema_id)
        return channel.schema_id == 0 or self.defined_at.get(schema, before) < before

    def channel_conflicts(self) -> dict[int, int]:
        """File offset behind which a channel, or its schema, is defined differently."""
        found = {}
        for channel in self.channels.values():
            keys = (rec.OP_CHANNEL, channel.id), (rec.OP_SCHEMA, channel.schema_id)
            offsets = [self.conflicts[key] for key in keys if key in self.conflicts]
            if offsets:
                found[channel.id] = min(offsets)
        return found

    def _is_first(self, key: tuple[int, int], offset: int, *, differs: bool) -> bool:
        """Take note of a definition; whether it stands before the one that is kept, if any is."""
        kept = self.defined_at.get(key)
        if differs and kept is not None:
            later = max(offset, kept)
            self.conflicts[key] = min(later, self.conflicts.get(key, later))
        if kept is None or offset < kept:
            self.defined_at[key] = offset
            return True
        return False

    def _tell(self, what: str, offset: int) -> None:
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
