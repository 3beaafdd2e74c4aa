"""Rows of a recording for whoever reads it by itself, away from the lake."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import pyarrow as pa

from contracts.errors import ContractViolation, DecodeError
from contracts.recording import LedgerEntry, RecordingIndex, Source, TableGroup, Unit
from udfs.decode.context import DecodeContext
from udfs.decode.recording import iter_selected_groups, resolve_pointers
from udfs.decode.selection import Selection

LAKE_COLUMNS = frozenset({"recording_id", "ingest_date"})
"""What a row says of its place in the lake."""
POINTER_COLUMNS = ("unit_offset", "data_offset", "data_length")
PAYLOAD = pa.field("data", pa.binary())
Time = int | str | dt.datetime
"""Nanoseconds since 1970, or a time in ISO 8601; one without a zone is UTC."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@attrs.define
class Account:
    """What became of the messages that were read.

    `lost` counts what is known; `lost_unknown` says that there may be more.
    """

    written: int = 0
    bad: int = 0
    lost: int = 0
    lost_unknown: bool = False
    reasons: dict[str, str] = attrs.field(factory=dict)

    @classmethod
    def of_index(cls, index: RecordingIndex) -> Account:
        """What the index has found, before anything is decoded."""
        account = cls()
        account.add_index(index)
        return account

    def add_index(self, index: RecordingIndex) -> None:
        """Take in what an index has found."""
        self.add_ledger(index.structure)
        for finding in index.findings:
            if finding.loses:
                self.lost_unknown |= finding.lost_messages is None
                self.reasons.setdefault(finding.code, finding.detail)

    def add(self, group: TableGroup) -> None:
        """Take in what was read."""
        self.add_ledger(group.ledger)
        for message in group.bad:
            self.reasons.setdefault(message.error_class, f"{message.topic}: {message.error}")

    def add_ledger(self, entries: Sequence[LedgerEntry]) -> None:
        """Take in the fates of byte ranges."""
        for entry in entries:
            self.written += entry.messages_written
            self.bad += entry.messages_bad
            self.lost += entry.messages_lost or 0
            self.lost_unknown |= entry.messages_lost is None
            if entry.is_damaged:
                self.reasons.setdefault(entry.reason_code or "LOST", entry.detail)

    def add_untimely(self, count: int) -> None:
        """Take in messages whose time the target can't hold: they were read, but not written."""
        if count:
            self.written -= count
            self.bad += count
            self.reasons["TIME_OUT_OF_RANGE"] = f"{count} messages with times before 1970"

    @property
    def is_whole(self) -> bool:
        """Whether nothing that was asked for is missing, as far as is known."""
        return not (self.bad or self.lost or self.lost_unknown or self.reasons)

    def check(self, uri: str) -> None:
        """Raise DecodeError INCOMPLETE unless everything is there."""
        if self.is_whole:
            return
        lost = f"{self.lost} {'or more ' if self.lost_unknown else ''}lost"
        code, words = next(iter(self.reasons.items()), ("BAD_MESSAGES", ""))
        what = f"{self.written} messages read, {self.bad} would not decode, {lost}; {code}: {words}"
        raise DecodeError(
            what.rstrip(": "),
            code="INCOMPLETE",
            uri=uri,
            remedy="`drivelake doctor` says what is damaged; allow_loss takes what there is",
        )


def iter_rows(
    source: Source,
    index: RecordingIndex,
    *,
    selection: Selection,
    account: Account,
    definitions: Mapping[str, bytes] | None = None,
    units: Sequence[Unit] | None = None,
    payloads: bool = False,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield table and rows of what is asked for, in file order by groups of about 32 MB.

    Args:
        source: The recording.
        index: Its index.
        selection: What is asked for.
        account: Takes the counts as rows are read.
        definitions: Bus definitions by binding, as in `DecodeContext`.
        units: Of these units; of all by default.
        payloads: Whether images and sweeps come along, in a column `data`.

    Raises:
        ContractViolation: USAGE, a topic is not in the recording.
    """
    context = DecodeContext("", dt.date(1970, 1, 1), definitions=definitions or {})
    groups = iter_selected_groups(source, index, context=context, selection=selection, units=units)
    for group in groups:
        account.add(group)
        for table, rows in group.tables:
            kept = rows.drop_columns([name for name in LAKE_COLUMNS if name in rows.schema.names])
            if payloads and has_pointers(kept.schema):
                kept = _with_payloads(source, index, kept)
            yield table, kept


def has_pointers(schema: pa.Schema) -> bool:
    """Whether rows point to bytes in the recording."""
    return set(POINTER_COLUMNS) <= set(schema.names) and PAYLOAD.name not in schema.names


def _with_payloads(source: Source, index: RecordingIndex, rows: pa.RecordBatch) -> pa.RecordBatch:
    pointers = {
        name: rows.column(name).to_numpy(zero_copy_only=False).astype(np.int64)
        for name in POINTER_COLUMNS
    }
    data = resolve_pointers(source, format=index.format, **pointers)
    return rows.append_column(PAYLOAD, data)


def selection_of(
    *,
    topics: str | Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    tables: str | Sequence[str] | None = None,
    signals: str | Sequence[str] | None = None,
) -> Selection:
    """What is asked for, from what people write.

    Args:
        topics: A name or pattern, or several; so are the signals.
        start: First log time, inclusive.
        end: End of the log times, exclusive.
        tables: Silver tables, with or without `silver.`.
        signals: See `topics`.

    Raises:
        ContractViolation: USAGE, a time that is none, or a span that holds no time.
    """
    kinds = _listed(tables)
    start_ns = None if start is None else time_ns_of(start)
    end_ns = None if end is None else time_ns_of(end)
    if start_ns is not None and end_ns is not None and end_ns <= start_ns:
        what = f"The end {end} is not after the start {start}"
        raise ContractViolation(what, code="USAGE", remedy="Name a later end; it is not included")
    return Selection(
        topics=_listed(topics),
        start_ns=start_ns,
        end_ns=end_ns,
        tables=None if kinds is None else frozenset(k.removeprefix("silver.") for k in kinds),
        signals=_listed(signals),
    )


def _listed(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)


def time_ns_of(value: Time) -> int:
    """Nanoseconds since 1970 UTC of a time; one without a zone is UTC.

    Raises:
        ContractViolation: USAGE, the text is neither ISO 8601 nor a whole number of nanoseconds.
    """
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError as error:
            what = f"'{value}' is no time"
            remedy = "Write 2026-11-20T10:00:00Z, or nanoseconds since 1970"
            raise ContractViolation(what, code="USAGE", remedy=remedy) from error
    if value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    return (value - _EPOCH) // dt.timedelta(microseconds=1) * 1000
