"""Small recordings made with the reference writers, and everything that a reader says of them."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import attrs
import pyarrow as pa

from contracts.errors import PlatformError
from contracts.recording import BadMessage, LedgerEntry, RecordingIndex
from udfs.decode.context import DecodeContext
from udfs.decode.recording import index_recording, iter_table_groups
from udfs.decode.source import BytesSource

CONTEXT = DecodeContext("ab" * 32, dt.date(2026, 2, 3))
NUMBERS = "int64 number\nstring text\n"


def cdr_number(number: int, text: str = "text") -> bytes:
    """CDR of `int64 number, string text`."""
    data = text.encode() + b"\0"
    return (
        b"\0\1\0\0"
        + number.to_bytes(8, "little", signed=True)
        + len(data).to_bytes(4, "little")
        + data
    )


def mcap_bytes(messages: int = 1000, **options: Any) -> bytes:
    """An MCAP file with messages on /even and /odd, numbered in file order, 1 ms apart."""
    from mcap.writer import CompressionType, Writer

    out = io.BytesIO()
    options = {"chunk_size": 4096, "compression": CompressionType.ZSTD, **options}
    writer = Writer(out, **options)
    writer.start("ros2", "test writer")
    schema = writer.register_schema("pkg/msg/Number", "ros2msg", NUMBERS.encode())
    channels = [writer.register_channel(topic, "cdr", schema) for topic in ("/even", "/odd")]
    for i in range(messages):
        log_time = 1_000_000_000 + i * 1_000_000
        writer.add_message(channels[i % 2], log_time, cdr_number(i), log_time - 5, i)
    writer.finish()
    return out.getvalue()


@attrs.frozen
class Account:
    """All that decode says of a recording."""

    index: RecordingIndex
    rows: list[dict[str, Any]]
    tables: dict[str, pa.Table]
    ledger: tuple[LedgerEntry, ...]
    bad: tuple[BadMessage, ...]

    @property
    def numbers(self) -> list[int]:
        """The field `number` of all rows, in order of log time."""
        return [row["number"] for row in sorted(self.rows, key=lambda row: row["log_time_ns"])]

    @property
    def codes(self) -> set[str]:
        """Codes of all findings and of all ledger entries with a fault."""
        found = {finding.code for finding in self.index.findings}
        return found | {
            e.reason_code for e in self.ledger if e.reason_code not in ("", "STRUCTURE")
        }

    @property
    def lost(self) -> int | None:
        """Messages lost by the ledger; None if any entry does not know."""
        counts = [entry.messages_lost for entry in self.ledger]
        return None if None in counts else sum(count or 0 for count in counts)


def account_of(data: bytes, **options: Any) -> Account:
    """Decode a recording in memory, and check that bytes and messages are all accounted for."""
    source = BytesSource(data)
    index = index_recording(source)
    groups = list(iter_table_groups(source, index, **{"context": CONTEXT, **options}))
    ledger = sorted(
        [*index.structure, *(entry for group in groups for entry in group.ledger)],
        key=lambda entry: (entry.offset, entry.length),
    )
    bad = tuple(one for group in groups for one in group.bad)
    batches = [pair for group in groups for pair in group.tables]
    tables = {
        name: pa.Table.from_batches([rows for table, rows in batches if table == name])
        for name in dict(batches)
    }
    rows = [row for table in tables.values() for row in table.to_pylist()]
    account = Account(index, rows, tables, tuple(ledger), bad)
    if "units" not in options:
        assert_tiled(account, len(data))
    assert_balanced(account)
    return account


def outcome_of(data: bytes, **options: Any) -> str:
    """What became of a damaged recording: refused, reported or whole; the balance is asserted."""
    try:
        account = account_of(data, **options)
    except PlatformError:
        return "refused"
    return "reported" if account.codes else "whole"


def assert_tiled(account: Account, size: int) -> None:
    """Every byte of the file is in exactly one entry of the ledger."""
    at = 0
    for entry in account.ledger:
        assert entry.offset == at or entry.length == 0, (at, entry)
        at = max(at, entry.offset + entry.length)
    assert at == size


def assert_balanced(account: Account) -> None:
    """Declared = written + bad + lost in every entry that knows; written messages are the rows."""
    for entry in account.ledger:
        if entry.messages_declared is not None:
            total = entry.messages_written + entry.messages_bad + (entry.messages_lost or 0)
            assert entry.messages_declared == total, entry
    assert sum(entry.messages_bad for entry in account.ledger) == len(account.bad)
