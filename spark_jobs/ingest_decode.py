"""Second stage of ingest, in the workers: recordings to Parquet parts, and the count of it all."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from contracts.errors import DecodeError, PlatformError
from contracts.limits import LIMITS
from contracts.recording import BadMessage, LedgerEntry, TableGroup, TimeOrder
from contracts.tables import SILVER_KINDS, TABLES
from spark_jobs.guard import ATTEMPTS, Bounds, guarded
from spark_jobs.index_codec import unpack_index
from spark_jobs.parts import Part, PartWriter
from spark_jobs.readers import import_readers
from spark_jobs.stage import pack, run_stage

TASK_BYTES = 64 << 20
TASK_RECORDINGS = 64
HELD_BYTES = 128 << 20
"""Rows that a task holds in memory over all its open files."""
_LEDGER = TABLES["bronze.decode_ledger"].schema
_BAD = TABLES["bronze.bad_messages"].schema


@attrs.frozen
class Claimed:
    """A recording of the batch, ready to be decoded.

    `units` are (ordinal, bytes) of its split units, none where one task takes all of it;
    `quarantined` the channels that stay bytes.
    """

    recording_id: str
    uri: str
    size_bytes: int
    index: bytes = attrs.field(repr=False)
    units: tuple[tuple[int, int], ...] = attrs.field(repr=False)
    quarantined: frozenset[int] = frozenset()


@attrs.frozen
class DecodePlan:
    """What every task of a batch is told.

    Attributes:
        batch_id: Names the folders of the parts.
        ingest_date: The partition.
        lake_uri: Where the tables are.
        schemas: Arrow schemas by table (without `silver.`), kinds left out: one a definition.
        table_names: Table by schema hash.
        definitions: Bus definitions by binding.
    """

    batch_id: str
    ingest_date: dt.date
    lake_uri: str
    schemas: Mapping[str, Sequence[pa.Schema]]
    table_names: Mapping[str, str]
    definitions: Mapping[str, bytes]


@attrs.define
class Counts:
    """What became of the messages of a recording, or of some of its units."""

    written: int = 0
    bad: int = 0
    lost: int = 0
    lost_unknown: bool = False
    quarantined: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    """Reason code → offset and words of the first byte range that was not decoded for it."""
    channels: dict[int, list[int | None]] = attrs.field(factory=dict)
    """Channel → [written, bad, first log time, last log time]."""
    undecoded: dict[int, int] = attrs.field(factory=dict)
    """Channel → messages whose payload would not decode."""
    order: dict[int, list[TimeOrder]] = attrs.field(factory=dict)
    """Channel → how its log times run, part by part of the recording."""
    conflicts: dict[int, int] = attrs.field(factory=dict)
    """Channel → offset of the first unit that defines it anew, differently."""
    miscounted: bool = False
    """Whether a byte range held another number of messages than the file says it does."""

    def add(self, other: Counts) -> None:
        """Take in the counts of other units."""
        self.written += other.written
        self.bad += other.bad
        self.lost += other.lost
        self.lost_unknown |= other.lost_unknown
        self.miscounted |= other.miscounted
        for code, (offset, words) in other.quarantined.items():
            self._quarantine(code, offset, words)
        for channel, (written, bad, first, last) in other.channels.items():
            mine = self.channels.setdefault(channel, [0, 0, None, None])
            mine[0] += written
            mine[1] += bad
            mine[2] = min((t for t in (mine[2], first) if t is not None), default=None)
            mine[3] = max((t for t in (mine[3], last) if t is not None), default=None)
        for channel, count in other.undecoded.items():
            self.undecoded[channel] = self.undecoded.get(channel, 0) + count
        for channel, parts in other.order.items():
            self.order.setdefault(channel, []).extend(parts)
        for channel, offset in other.conflicts.items():
            self.conflicts[channel] = min(offset, self.conflicts.get(channel, offset))

    def add_group(self, group: TableGroup) -> None:
        """Take in what decode says of some units."""
        self.add_ledger(group.ledger)
        self.add(
            Counts(
                undecoded=dict(group.undecoded_by_channel),
                order={channel: [one] for channel, one in group.order_by_channel.items()},
                conflicts=dict(group.conflicts),
            )
        )
        for channel, written in group.rows_by_channel.items():
            self.add(Counts(channels={channel: [written, 0, None, None]}))
        for message in group.bad:
            self.add(Counts(channels={message.channel_id: [0, 1, None, None]}))
        for _, rows in group.tables:
            for channel, first, last in _spans(rows):
                self.add(Counts(channels={channel: [0, 0, first, last]}))

    def steps_back(self) -> tuple[int, int]:
        """Messages older than the one before them in their channel, and the largest step in ns."""
        count = largest = 0
        for parts in self.order.values():
            parts.sort(key=lambda part: part.position)
            seams = [one.last_ns - other.first_ns for one, other in itertools.pairwise(parts)]
            count += sum(part.backward for part in parts) + sum(step > 0 for step in seams)
            largest = max([largest, *seams, *(part.largest_step_ns for part in parts)])
        return count, largest

    def spoiled_channels(self) -> frozenset[int]:
        """Channels of which more messages would not decode than may be."""
        return frozenset(
            channel
            for channel, count in self.undecoded.items()
            if count > LIMITS.bad_message_share * (count + (self.channels[channel][0] or 0))
        )

    def add_ledger(self, entries: Iterable[LedgerEntry]) -> None:
        """Take in the fates of byte ranges."""
        for entry in entries:
            self.written += entry.messages_written
            self.bad += entry.messages_bad
            self.lost += entry.messages_lost or 0
            self.lost_unknown |= entry.messages_lost is None
            self.miscounted |= entry.reason_code == "COUNT_MISMATCH"
            if entry.is_damaged:
                self._quarantine(entry.reason_code or "LOST", entry.offset, entry.detail)

    def _quarantine(self, code: str, offset: int, words: str) -> None:
        """Tasks end in no particular order: the first range in the file speaks for its reason."""
        self.quarantined[code] = min((offset, words), self.quarantined.get(code, (offset, words)))


@attrs.define
class Decoded:
    """Result of the stage: parts by recording group, counts and failures by recording."""

    parts: list[tuple[frozenset[str], Part]] = attrs.field(factory=list)
    counts: dict[str, Counts] = attrs.field(factory=dict)
    failed: dict[str, tuple[str, str, int | None]] = attrs.field(factory=dict)
    left_behind: bool = False
    """Whether a child died, which deletes nothing: there may be files that no part names."""

    def tainted_by(self, recordings: Collection[str]) -> frozenset[str]:
        """Recordings that share a part with one of these, and these."""
        mixed = [ids for ids, _ in self.parts if not ids.isdisjoint(recordings)]
        return frozenset(recordings).union(*mixed)

    def parts_of(self, recordings: Collection[str]) -> list[Part]:
        """The parts that hold rows of these recordings."""
        return [part for ids, part in self.parts if not ids.isdisjoint(recordings)]

    def without(self, recordings: Collection[str]) -> Decoded:
        """This result without some recordings, and without the parts that hold rows of them."""
        return attrs.evolve(
            self,
            parts=[item for item in self.parts if item[0].isdisjoint(recordings)],
            counts={name: one for name, one in self.counts.items() if name not in recordings},
        )

    def joined(self, other: Decoded) -> Decoded:
        """This result and that of other recordings."""
        return Decoded(
            self.parts + other.parts,
            self.counts | other.counts,
            self.failed | other.failed,
            left_behind=self.left_behind or other.left_behind,
        )

    def committable(self) -> list[Part]:
        """The parts that hold rows of no failed recording."""
        return [part for ids, part in self.parts if not ids & self.failed.keys()]

    def discarded(self) -> list[Part]:
        """The parts that may not be committed: split recordings that failed in another task."""
        return [part for ids, part in self.parts if ids & self.failed.keys()]


def decode_recordings(
    spark: SparkSession,
    recordings: Sequence[Claimed],
    plan: DecodePlan,
    *,
    storage_options: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
) -> Decoded:
    """Decode recordings on the Spark server into parts that nobody sees yet.

    Recordings up to a task's size go together, larger ones are split at their units.

    Args:
        spark: Session.
        recordings: What to decode.
        plan: What every task is told.
        storage_options: delta-rs style keys for S3.
        progress: Told the number of recordings that have ended, as far as tasks returned.
    """
    payloads = [payload_of(task, plan) for task in split_tasks(recordings)]
    found = Decoded()
    work = partial(decode_task, storage_options=dict(storage_options))
    for result in run_stage(spark, payloads, work):
        value = json.loads(result)
        found.left_behind |= value["left_behind"]
        ids = frozenset(value["counts"])
        found.parts += [(ids, Part(**part)) for part in value["parts"]]
        for recording_id, counts in value["counts"].items():
            found.counts.setdefault(recording_id, Counts()).add(_counts_of(counts))
        for recording_id, fault in value["failed"].items():
            found.failed[recording_id] = tuple(fault)
        if progress:
            progress(len(found.counts.keys() | found.failed.keys()))
    return found


def split_tasks(recordings: Sequence[Claimed]) -> list[list[tuple[Claimed, list[int] | None]]]:
    """Deal recordings, whole (None) or as lists of unit ordinals, to tasks of about 64 MB."""
    small = [item for item in recordings if item.size_bytes <= TASK_BYTES or not item.units]
    tasks: list[list[tuple[Claimed, list[int] | None]]] = [
        [(small[i], None) for i in task]
        for task in pack([r.size_bytes for r in small], limit=TASK_BYTES, at_most=TASK_RECORDINGS)
    ]
    for item in recordings:
        if item.size_bytes > TASK_BYTES and item.units:
            weights = [weight for _, weight in item.units]
            split = pack(weights, limit=TASK_BYTES, at_most=max(len(weights), 1))
            tasks += [[(item, [item.units[i][0] for i in task])] for task in split]
    return tasks


def payload_of(task: Sequence[tuple[Claimed, list[int] | None]], plan: DecodePlan) -> bytes:
    """What a task is told."""
    return json.dumps(
        {
            "batch_id": plan.batch_id,
            "ingest_date": plan.ingest_date.isoformat(),
            "lake_uri": plan.lake_uri,
            "schemas": {
                name: [_text(schema.serialize()) for schema in schemas]
                for name, schemas in plan.schemas.items()
            },
            "table_names": dict(plan.table_names),
            "definitions": {name: _text(data) for name, data in plan.definitions.items()},
            "splits": [
                {
                    "recording_id": item.recording_id,
                    "uri": item.uri,
                    "size_bytes": item.size_bytes,
                    "index": _text(item.index),
                    "units": units,
                    "quarantined": sorted(item.quarantined),
                }
                for item, units in task
            ],
        }
    ).encode()


def decode_task(payload: bytes, *, storage_options: Mapping[str, str]) -> bytes:
    """Work of one task. What it writes holds rows of recordings that decoded to their end only.

    All splits run in one guarded child. If a recording fails, the child deletes what it wrote and
    the others are decoded again without it; if the child dies, each recording gets one of its own.
    """
    task = json.loads(payload)
    import_readers(split["uri"] for split in task["splits"])
    found: dict[str, Any] = {"parts": [], "counts": {}, "failed": {}, "left_behind": False}
    groups = [task["splits"]]
    while groups:
        splits = groups.pop()
        if not splits:
            continue
        size = sum(split["size_bytes"] for split in splits)
        try:
            answer = guarded(
                lambda splits=splits: _decode_splits({**task, "splits": splits}, storage_options),
                bounds=Bounds.for_input(size),
                attempts=ATTEMPTS if len(splits) == 1 else 1,
            )
        except DecodeError as error:
            found["left_behind"] = True
            if len(splits) == 1:
                found["failed"][splits[0]["recording_id"]] = [error.code, error.what, error.offset]
            else:
                groups += [[split] for split in splits]
            continue
        result = json.loads(answer)
        if result["failed"]:
            found["failed"] |= result["failed"]
            groups.append([s for s in splits if s["recording_id"] not in result["failed"]])
            continue
        found["parts"] += result["parts"]
        found["counts"] |= result["counts"]
    return json.dumps(found).encode()


def _decode_splits(task: Mapping[str, Any], storage_options: Mapping[str, str]) -> bytes:
    """Decode in this process; a recording that fails ends it all, with nothing left behind."""
    writers = _Writers(task, storage_options)
    counts: dict[str, Counts] = {}
    for split in task["splits"]:
        try:
            counts[split["recording_id"]] = _decode_split(split, task, writers, storage_options)
        except PlatformError as error:
            writers.abort()
            failed = {split["recording_id"]: [error.code, error.what, error.offset]}
            return json.dumps({"failed": failed}).encode()
        except BaseException:
            writers.abort()
            raise
    return json.dumps(
        {
            "parts": [attrs.asdict(part) for part in writers.close()],
            "counts": {name: attrs.asdict(value) for name, value in counts.items()},
            "failed": {},
        }
    ).encode()


def _decode_split(
    split: Mapping[str, Any],
    task: Mapping[str, Any],
    writers: _Writers,
    storage_options: Mapping[str, str],
) -> Counts:
    from udfs.decode.context import DecodeContext
    from udfs.decode.recording import iter_table_groups
    from udfs.decode.source import open_source

    index = unpack_index(base64.b64decode(split["index"]))
    wanted = None if split["units"] is None else set(split["units"])
    context = DecodeContext(
        recording_id=split["recording_id"],
        ingest_date=dt.date.fromisoformat(task["ingest_date"]),
        definitions={name: base64.b64decode(data) for name, data in task["definitions"].items()},
        table_names=task["table_names"],
        quarantined=frozenset(split["quarantined"]),
    )
    counts = Counts()
    with open_source(split["uri"], storage_options=storage_options) as source:
        if source.size != split["size_bytes"]:
            what = f"{split['size_bytes']} bytes were hashed, {source.size} are there now"
            raise DecodeError(what, code="OBJECT_CHANGED")
        for group in iter_table_groups(
            source,
            index,
            context=context,
            units=None if wanted is None else [u for u in index.units if u.index in wanted],
        ):
            _take(group, counts, writers, context)
    return counts


def _take(group: TableGroup, counts: Counts, writers: _Writers, context: Any) -> None:
    """Write the rows of a group and count its messages."""
    counts.add_group(group)
    for table, rows in group.tables:
        writers.write(f"silver.{table}", rows)
    writers.write("bronze.decode_ledger", ledger_rows(group.ledger, context))
    writers.write("bronze.bad_messages", _bad_rows(group.bad, context))


def _spans(rows: pa.RecordBatch) -> list[tuple[int, int, int]]:
    """First and last log time of each channel in a batch of rows."""
    if not rows.num_rows:
        return []
    channel = rows.column("channel_id").to_numpy(zero_copy_only=False)
    log_time = rows.column("log_time_ns").to_numpy(zero_copy_only=False)
    ids, inverse = np.unique(channel, return_inverse=True)
    first = np.full(len(ids), np.iinfo(np.int64).max)
    last = np.full(len(ids), np.iinfo(np.int64).min)
    np.minimum.at(first, inverse, log_time)
    np.maximum.at(last, inverse, log_time)
    return list(zip(ids.tolist(), first.tolist(), last.tolist(), strict=True))


def ledger_rows(entries: Sequence[LedgerEntry], context: Any) -> pa.RecordBatch:
    """Rows of `bronze.decode_ledger`; `context` has `recording_id` and `ingest_date`."""
    rows = [_row(entry, context) for entry in entries]
    return pa.RecordBatch.from_pylist(rows, schema=_LEDGER)


def _bad_rows(messages: Sequence[BadMessage], context: Any) -> pa.RecordBatch:
    rows = [_row(message, context) for message in messages]
    return pa.RecordBatch.from_pylist(rows, schema=_BAD)


def _row(value: Any, context: Any) -> dict[str, Any]:
    """An attrs value whose fields are columns, with its recording and day."""
    return {
        "recording_id": context.recording_id,
        **attrs.asdict(value),
        "ingest_date": context.ingest_date,
    }


class _Writers:
    """The open parts of a task, with one limit on what they hold together.

    One a table; of a message type one a set of columns: each part has the columns of its
    definition, and to Delta those of the table that it lacks are null.
    """

    def __init__(self, task: Mapping[str, Any], storage_options: Mapping[str, str]) -> None:
        self._task = task
        self._options = storage_options
        self._open: dict[tuple[str, int], PartWriter] = {}
        self._schemas: dict[str, list[pa.Schema]] = {}

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        if rows.num_rows == 0:
            return
        schemas = self._schemas_of(table)
        fitting = (i for i, one in enumerate(schemas) if one.equals(rows.schema))
        key = (table, next(fitting, 0))  # if none fits, the writer says what differs
        if key not in self._open:
            self._open[key] = self._new(table, schemas[key[1]])
        self._open[key].write(rows)
        if sum(writer.held_bytes for writer in self._open.values()) > HELD_BYTES:
            max(self._open.values(), key=lambda writer: writer.held_bytes).flush()

    def close(self) -> list[Part]:
        parts = [writer.close() for writer in self._open.values()]
        return [part for part in parts if part is not None]

    def abort(self) -> None:
        for writer in self._open.values():
            writer.abort()

    def _new(self, table: str, schema: pa.Schema) -> PartWriter:
        return PartWriter(
            table,
            lake_uri=self._task["lake_uri"],
            schema=schema,
            ingest_date=dt.date.fromisoformat(self._task["ingest_date"]),
            batch_id=self._task["batch_id"],
            storage_options=self._options,
        )

    def _schemas_of(self, table: str) -> list[pa.Schema]:
        if table not in self._schemas:
            name = table.removeprefix("silver.")
            if not table.startswith("silver.") or name in SILVER_KINDS:
                self._schemas[table] = [TABLES[table].schema]
            else:
                texts = [base64.b64decode(text) for text in self._task["schemas"][name]]
                self._schemas[table] = [pa.ipc.read_schema(pa.py_buffer(text)) for text in texts]
        return self._schemas[table]


def _counts_of(value: Mapping[str, Any]) -> Counts:
    """JSON has text keys only."""
    by_channel = ("channels", "undecoded", "conflicts")
    numbered = {name: {int(key): one for key, one in value[name].items()} for name in by_channel}
    quarantined = {code: tuple(first) for code, first in value["quarantined"].items()}
    order = {
        int(channel): [TimeOrder(**one) for one in parts]
        for channel, parts in value["order"].items()
    }
    return Counts(**{**value, **numbered, "quarantined": quarantined, "order": order})


def _text(data: bytes | pa.Buffer) -> str:
    return base64.b64encode(bytes(data)).decode("ascii")
