"""CAN logs made with python-can, and what python-can reads in them."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import attrs
import can
import pyarrow as pa

from contracts.recording import BadMessage, LedgerEntry, RecordingIndex
from udfs.decode.context import DecodeContext
from udfs.decode.recording import index_recording, iter_table_groups
from udfs.decode.source import BytesSource

CONTEXT = DecodeContext("ab" * 32, dt.date(2026, 2, 3))
START_S = 1_700_000_000
WRITERS = {
    "asc": can.ASCWriter,
    "blf": can.BLFWriter,
    "trc": can.TRCWriter,
    "candump": can.CanutilsLogWriter,
}
SUFFIXES = {"asc": ".asc", "blf": ".blf", "trc": ".trc", "candump": ".log"}


@attrs.frozen
class Outcome:
    """All that decode says of a log."""

    index: RecordingIndex
    tables: dict[str, pa.Table]
    ledger: tuple[LedgerEntry, ...]
    bad: tuple[BadMessage, ...]
    size_bytes: int

    def rows(self, table: str = "can_frames") -> list[dict[str, Any]]:
        """Rows of a table by time."""
        found = self.tables[table].to_pylist() if table in self.tables else []
        return sorted(found, key=lambda row: (row["log_time_ns"], row["topic"], row["sequence"]))

    @property
    def tiles(self) -> bool:
        """Whether the ledger gives every byte of the log exactly one fate (rule DEC006)."""
        at = 0
        for entry in sorted((*self.index.structure, *self.ledger), key=lambda one: one.offset):
            if entry.offset != at:
                return False
            at += entry.length
        return at == self.size_bytes

    @property
    def balance(self) -> tuple[int, int, int]:
        """Messages written, bad, and declared by the units."""
        return (
            sum(entry.messages_written for entry in self.ledger),
            sum(entry.messages_bad for entry in self.ledger),
            sum(unit.message_count or 0 for unit in self.index.units),
        )


def decoded(data: bytes, **definitions: bytes) -> Outcome:
    """Decode a log; `bus_1=…` is the definition of bus 1, `bus_all=…` that of every bus."""
    bindings = {
        f"can:{'*' if name == 'bus_all' else name.removeprefix('bus_')}": value
        for name, value in definitions.items()
    }
    context = attrs.evolve(CONTEXT, definitions=bindings)
    source = BytesSource(data)
    index = index_recording(source)
    batches: dict[str, list[pa.RecordBatch]] = {}
    ledger: list[LedgerEntry] = []
    bad: list[BadMessage] = []
    for group in iter_table_groups(source, index, context=context):
        for table, rows in group.tables:
            batches.setdefault(table, []).append(rows)
        ledger += group.ledger
        bad += group.bad
    tables = {name: pa.Table.from_batches(parts) for name, parts in batches.items()}
    return Outcome(index, tables, tuple(ledger), tuple(bad), len(data))


def messages(count: int, *, form: str, seed: int = 7) -> list[can.Message]:
    """Frames of every kind that the writer of a format has, 1 ms and a bit apart."""
    chance = random.Random(seed)  # noqa: S311
    found = []
    for i in range(count):
        kind = chance.choice(["data", "data", "remote", "error", "fd"])
        if form == "trc":
            kind = "data"
        extended = chance.random() < 0.5
        length = chance.choice([0, 3, 8, 12, 64]) if kind == "fd" else chance.randrange(9)
        found.append(
            can.Message(
                timestamp=START_S + i * 0.001234,
                channel=chance.randrange(3),
                arbitration_id=0
                if kind == "error"
                else chance.randrange(1 << (29 if extended else 11)),
                is_extended_id=extended and kind != "error",
                is_remote_frame=kind == "remote",
                is_error_frame=kind == "error",
                is_fd=kind == "fd",
                is_rx=chance.random() < 0.5 or kind == "error",
                dlc=0 if kind == "error" else length,
                data=chance.randbytes(length) if kind in ("data", "fd") else None,
            )
        )
    return found


def written(folder: Path, form: str, frames: list[can.Message]) -> bytes:
    """A log of frames as python-can writes it."""
    path = folder / f"log{SUFFIXES[form]}"
    writer = WRITERS[form](str(path))
    for frame in frames:
        writer.on_message_received(frame)
    writer.stop()
    return path.read_bytes()
