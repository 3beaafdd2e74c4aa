"""From the messages of a group to rows of silver tables, with every message accounted for."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import UnsupportedFormatError
from contracts.ids import table_slug
from contracts.recording import (
    BadMessage,
    Channel,
    Int64Array,
    LedgerEntry,
    MessageBatch,
    MessageGroup,
    RecordingIndex,
    Schema,
    TableGroup,
    TimeOrder,
)
from contracts.tables import MESSAGE_COLUMNS, TABLES, message_table_schema
from udfs.decode.can_log_rows import BusRows
from udfs.decode.can_messages import frames_of
from udfs.decode.context import DecodeContext
from udfs.decode.kinds import POINTER_FIELD, Kind, fits, kind_of, kind_rows
from udfs.decode.limits import FIRST_BYTES, MAX_BAD_ROWS
from udfs.encodings.columns import gather_bytes
from udfs.encodings.payload import BadPayload, Decoded, PayloadDecoder
from udfs.encodings.registry import decoder_for
from udfs.memory.constants import constant_column

DecodeStatus = Literal["DECODED", "NO_DECODER", "NO_DEFINITION", "QUARANTINED"]
RAW_TABLE = "raw_messages"
FRAME_TABLE = "can_frames"
_NEEDS_DEFINITION = {"cdr", "ros1", "protobuf"}
_EMPTY_TYPE = re.compile(r"(^|/)Empty\w*$")
_STAMP_PATHS = (("header", "stamp_ns"), ("timestamp_ns",))
_FRAME_PATHS = (("header", "frame_id"), ("frame_id",))
_TEXT = pa.string()


@attrs.frozen(eq=False)
class ChannelPlan:
    """How the messages of a channel become rows.

    Attributes:
        channel: The channel.
        table: Silver table, without `silver.`.
        schema: Arrow schema of the table.
        status: Whether its messages decode.
        reason: Why not.
        decoder: What decodes them, or tells the bad ones of a quarantined channel; None where they
            are kept raw unseen.
        kind: The kind they are of; None where the message type has a table of its own.
        schema_hash: Of the channel's definition, "" without one.
    """

    channel: Channel
    table: str
    schema: pa.Schema
    status: DecodeStatus
    reason: str = ""
    decoder: PayloadDecoder | None = None
    kind: Kind | None = None
    schema_hash: str = ""


def plan_of_channel(
    index: RecordingIndex, channel: Channel, *, table_names: Mapping[str, str]
) -> ChannelPlan:
    """Plan a channel from its definition alone; never raises for what a definition holds."""
    schema = next((one for one in index.schemas if one.id == channel.schema_id), None)
    if _lacks_definition(channel, schema):
        return _raw_plan(channel, schema, "NO_DEFINITION", "the recording holds no definition")
    try:
        kind, decoder, arrow = _way_of(channel.message_encoding, schema)
    except UnsupportedFormatError as error:
        return _raw_plan(channel, schema, "NO_DECODER", error.what)
    if decoder is None:
        encoding = schema.encoding if schema else "none"
        what = f"no decoder for {channel.message_encoding} with definitions in {encoding}"
        return _raw_plan(channel, schema, "NO_DECODER", what)
    digest = schema.hash if schema else ""
    if kind is not None:
        return ChannelPlan(channel, kind.table, kind.schema, "DECODED", "", decoder, kind, digest)
    name = schema.name if schema else f"{channel.message_encoding}_messages"
    table = table_names.get(digest) or own_table(name)
    return ChannelPlan(channel, table, arrow, "DECODED", "", decoder, None, digest)


@functools.lru_cache(maxsize=256)
def _way_of(
    message_encoding: str, schema: Schema | None
) -> tuple[Kind | None, PayloadDecoder | None, pa.Schema | None]:
    """Kind, decoder and table schema of a definition, kept: a fleet has few in many recordings."""
    kind = kind_of(schema.name) if schema else None
    pointers = frozenset({POINTER_FIELD}) if kind and kind.has_pointer else frozenset[str]()
    decoder = decoder_for(message_encoding, schema, pointer_fields=pointers)
    if kind and decoder and not fits(kind, decoder.schema):
        kind, decoder = None, decoder_for(message_encoding, schema)
    if decoder is None or kind is not None:
        return kind, decoder, kind.schema if kind else None
    return None, decoder, message_table_schema(_own_fields(decoder.schema))


def own_table(schema_name: str) -> str:
    """Table of a message type that has no kind; never the name of a table with another meaning."""
    slug = table_slug(schema_name)
    return f"message_{slug}" if f"silver.{slug}" in TABLES else slug


def table_groups(
    groups: Iterator[MessageGroup],
    *,
    index: RecordingIndex,
    context: DecodeContext,
    selection: Collection[int] | None = None,
) -> Iterator[TableGroup]:
    """Decode groups of messages to rows by table, and complete their ledgers.

    Args:
        groups: From a container reader.
        index: Of the recording.
        context: Values that go into every row.
        selection: Channel ids that the reader was asked for, so that the rest counts as skipped.
    """
    decoder = _Decoder(index, context)
    for group in groups:
        yield decoder.decode(group, selection=selection)


@attrs.define(eq=False)
class _Decoder:
    """Decodes the groups of one recording; plans each channel when it first occurs."""

    index: RecordingIndex
    context: DecodeContext
    plans: dict[int, ChannelPlan] = attrs.field(factory=dict)
    buses: BusRows = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.buses = BusRows(self.context, encoding=self.index.format)

    def decode(self, group: MessageGroup, *, selection: Collection[int] | None) -> TableGroup:
        tables: list[tuple[str, pa.RecordBatch]] = []
        bad = list(group.bad)
        written: dict[int, int] = {}
        undecoded: dict[int, int] = {}
        order: dict[int, TimeOrder] = {}
        ledger = _Ledger(group.ledger)
        self.buses.begin()
        for batch in group.batches:
            plan = self._plan(batch.channel_id)
            if len(batch.log_time_ns):
                position = group.ledger[0].offset
                order[batch.channel_id] = TimeOrder.of(batch.log_time_ns, position=position)
            found, index, bad_payloads = self._rows(plan, batch)
            tables += [(table, rows) for table, rows in found if rows.num_rows]
            if len(index):
                written[batch.channel_id] = written.get(batch.channel_id, 0) + len(index)
            if bad_payloads:
                count = undecoded.get(batch.channel_id, 0)
                undecoded[batch.channel_id] = count + len(bad_payloads)
            ledger.add(batch, index, bad_payloads)
            bad += _bad_messages(plan, batch, bad_payloads[:MAX_BAD_ROWS])
        entries = ledger.entries(skips=selection is not None, untold=self.buses.reason())
        return TableGroup(
            tuple(tables), entries, tuple(bad), written, undecoded, order, group.conflicts
        )

    def _plan(self, channel_id: int) -> ChannelPlan:
        if channel_id not in self.plans:
            channel = next(one for one in self.index.channels if one.id == channel_id)
            names = self.context.table_names
            plan = plan_of_channel(self.index, channel, table_names=names)
            if channel_id in self.context.quarantined:
                plan = _quarantined(plan)
            self.plans[channel_id] = plan
        return self.plans[channel_id]

    def _rows(
        self, plan: ChannelPlan, batch: MessageBatch
    ) -> tuple[list[tuple[str, pa.RecordBatch]], Int64Array, tuple[BadPayload, ...]]:
        """Rows by table, which messages gave them, and the bad ones."""
        if plan.decoder is None:
            every = np.arange(len(batch.starts))
            return [(plan.table, self._raw_rows(plan, batch))], every, ()
        decoded = _decoded(plan.decoder, batch)
        good = batch if len(decoded.index) == len(batch.starts) else batch.where(decoded.index)
        return self._decoded_rows(plan, good, decoded.rows), decoded.index, decoded.bad

    def _decoded_rows(
        self, plan: ChannelPlan, batch: MessageBatch, rows: pa.RecordBatch
    ) -> list[tuple[str, pa.RecordBatch]]:
        """Rows by table, of messages that have decoded; those of frames of a bus may be of two."""
        if not rows.num_rows:
            return []
        if plan.table == RAW_TABLE:
            return [(plan.table, self._raw_rows(plan, batch))]
        if plan.kind is None:
            names = plan.schema.names[len(MESSAGE_COLUMNS) : -1]
            own = dict(zip(names, rows.columns, strict=True)) | _header_columns(rows)
            return [(plan.table, self._conformed(plan, batch, own))]
        found = kind_rows(
            plan.kind, rows, payload_offset=batch.payload_offset, unit_offset=batch.unit_offset
        )
        if plan.table == FRAME_TABLE:
            return self._frame_rows(plan, batch, found.columns)
        if found.message is not None:
            batch = batch.where(found.message)
        return [(plan.table, self._conformed(plan, batch, found.columns))]

    def _frame_rows(
        self, plan: ChannelPlan, batch: MessageBatch, said: Mapping[str, pa.Array]
    ) -> list[tuple[str, pa.RecordBatch]]:
        """Frames of a bus that were recorded as messages, and the signals in them."""
        frames = frames_of(said, sequence=batch.sequence, log_time_ns=batch.log_time_ns)
        times = {"publish_time_ns": pa.array(batch.publish_time_ns)}
        rows = self._conformed(plan, batch, {**said, **frames.columns(), **times})
        return [(plan.table, rows), *self.buses.of_signals(frames, channel=plan.channel)]

    def _raw_rows(self, plan: ChannelPlan, batch: MessageBatch) -> pa.RecordBatch:
        rows = len(batch.starts)
        own = {
            "message_encoding": constant_column(plan.channel.message_encoding, _TEXT, rows),
            "schema_hash": constant_column(plan.schema_hash, _TEXT, rows),
            "data": gather_bytes(batch.arena, batch.starts, batch.lengths),
        }
        return self._conformed(plan, batch, own)

    def _conformed(
        self, plan: ChannelPlan, batch: MessageBatch, own: Mapping[str, pa.Array]
    ) -> pa.RecordBatch:
        """All columns in the order and types of the table; what a message lacks is null."""
        rows = len(batch.starts)
        columns: dict[str, pa.Array] = {
            "recording_id": constant_column(self.context.recording_id, _TEXT, rows),
            "channel_id": constant_column(plan.channel.id, pa.int32(), rows),
            "topic": constant_column(plan.channel.topic, _TEXT, rows),
            "sequence": pa.array(batch.sequence),
            "log_time_ns": pa.array(batch.log_time_ns),
            "publish_time_ns": pa.array(batch.publish_time_ns),
            **own,
            "ingest_date": constant_column(self.context.ingest_date, pa.date32(), rows),
        }
        if plan.table == "transforms":
            is_static = plan.channel.topic.rstrip("/").endswith("tf_static")
            columns["is_static"] = constant_column(is_static, pa.bool_(), rows)
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(rows, field.type)
            for field in plan.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=plan.schema)


@attrs.define(eq=False)
class _Ledger:
    """The ledger of a group, to which the outcome of each message is added."""

    given: Sequence[LedgerEntry]
    written: Int64Array = attrs.field(init=False)
    bad: Int64Array = attrs.field(init=False)
    seen: Int64Array = attrs.field(init=False)
    _order: Int64Array = attrs.field(init=False)
    _offsets: Int64Array = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        count = len(self.given)
        offsets = np.array([entry.offset for entry in self.given], np.int64)
        self._order = np.argsort(offsets, kind="stable")
        self._offsets = offsets[self._order]
        self.written, self.bad, self.seen = (np.zeros(count, np.int64) for _ in range(3))

    def add(self, batch: MessageBatch, index: Int64Array, bad: Sequence[BadPayload]) -> None:
        """Count the messages of a batch at the entries whose ranges they are in."""
        many, count = len(batch.unit_offset), len(self.given)
        if not many:
            return
        position = np.where(batch.unit_offset < 0, batch.payload_offset, batch.unit_offset)
        # Messages of a unit stand together: it is looked for once.
        firsts = np.flatnonzero(np.concatenate([[True], position[1:] != position[:-1]]))
        found = np.searchsorted(self._offsets, position[firsts], side="right") - 1
        run, lengths = self._order[found], np.diff(firsts, append=many)
        seen = np.zeros(count, np.int64)
        np.add.at(seen, run, lengths)
        self.seen += seen
        if len(index) == many:
            self.written += seen
            return
        entry = np.repeat(run, lengths)
        self.written += np.bincount(entry[index], minlength=count)
        rows = np.array([one.message for one in bad], np.int64)
        self.bad += np.bincount(entry[rows], minlength=count)

    def entries(self, *, skips: bool, untold: tuple[str, str]) -> tuple[LedgerEntry, ...]:
        """The entries with their counts; what a selection left out stands in entries of its own.

        Args:
            skips: Whether channels were selected.
            untold: Code and words for what bus definitions could not tell of the group's frames;
                the first entry with messages says so, if it has nothing else to say.
        """
        entries: list[LedgerEntry] = []
        for i, entry in enumerate(self.given):
            declared, bad = entry.messages_declared, entry.messages_bad + int(self.bad[i])
            skipped = 0
            if skips and declared is not None:
                lost = entry.messages_lost or 0
                skipped = max(declared - lost - entry.messages_bad - int(self.seen[i]), 0)
                declared -= skipped
            fate = "skipped" if skipped and not self.seen[i] else entry.fate
            entries.append(
                attrs.evolve(
                    entry,
                    fate=fate,
                    reason_code=entry.reason_code or ("SELECTION" if fate == "skipped" else ""),
                    detail=f"{entry.detail}; {skipped} messages not selected".lstrip("; ")
                    if skipped
                    else entry.detail,
                    messages_declared=declared,
                    messages_written=int(self.written[i]),
                    messages_bad=bad,
                )
            )
        if untold[0]:
            free = (i for i, one in enumerate(entries) if self.seen[i] and not one.reason_code)
            if (at := next(free, None)) is not None:
                code, words = untold
                entries[at] = attrs.evolve(entries[at], reason_code=code, detail=words)
        return tuple(entries)


def _decoded(decoder: PayloadDecoder, batch: MessageBatch) -> Decoded:
    """Decode a batch; should a decoder itself fail, its messages are bad and the rest goes on."""
    try:
        return decoder.decode(batch)
    except Exception as error:  # noqa: BLE001, the boundary that house style allows
        rows = pa.RecordBatch.from_pylist([], schema=decoder.schema)
        what = f"{type(error).__name__}: {error}"[:200]
        bad = tuple(BadPayload(i, "DECODER_ERROR", what) for i in range(len(batch.starts)))
        return Decoded(rows, np.zeros(0, np.int64), bad)


def _lacks_definition(channel: Channel, schema: Schema | None) -> bool:
    """Whether an encoding that needs a definition has none; an empty message has an empty one."""
    if channel.message_encoding not in _NEEDS_DEFINITION:
        return False
    return schema is None or not (schema.data.strip() or _EMPTY_TYPE.search(schema.name))


def _raw_plan(
    channel: Channel, schema: Schema | None, status: DecodeStatus, reason: str
) -> ChannelPlan:
    arrow = TABLES[f"silver.{RAW_TABLE}"].schema
    digest = schema.hash if schema else ""
    return ChannelPlan(channel, RAW_TABLE, arrow, status, reason, schema_hash=digest)


def _quarantined(plan: ChannelPlan) -> ChannelPlan:
    """The plan of a channel whose messages stay bytes, still told by its decoder which are bad."""
    raw = _raw_plan(plan.channel, None, "QUARANTINED", "too many messages would not decode")
    return attrs.evolve(raw, decoder=plan.decoder, schema_hash=plan.schema_hash)


def _own_fields(schema: pa.Schema) -> list[pa.Field]:
    """Columns of a message beside the common ones: a name that is taken gets a line behind it."""
    taken = {*MESSAGE_COLUMNS, "ingest_date"}
    fields = []
    for field in schema:
        name = field.name
        while name in taken:
            name += "_"
        taken.add(name)
        fields.append(field.with_name(name))
    return fields


def _header_columns(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    """Sensor time and frame of messages that have them."""
    found = {}
    for column, paths, kind in (
        ("sensor_time_ns", _STAMP_PATHS, pa.int64()),
        ("frame_id", _FRAME_PATHS, pa.string()),
    ):
        for path in paths:
            values = _at(rows, path)
            if values is not None and values.type == kind:
                found[column] = values
                break
    return found


def _at(rows: pa.RecordBatch, path: Sequence[str]) -> pa.Array | None:
    if path[0] not in rows.schema.names:
        return None
    column = rows.column(path[0])
    for name in path[1:]:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return None
        column = pc.struct_field(column, [name])
    return column


def _bad_messages(
    plan: ChannelPlan, batch: MessageBatch, bad: Sequence[BadPayload]
) -> Iterator[BadMessage]:
    for one in bad:
        start, length = int(batch.starts[one.message]), int(batch.lengths[one.message])
        yield BadMessage(
            channel_id=plan.channel.id,
            topic=plan.channel.topic,
            unit_offset=int(batch.unit_offset[one.message]),
            offset=int(batch.payload_offset[one.message]),
            log_time_ns=int(batch.log_time_ns[one.message]),
            error_class=one.error_class,
            error=one.error,
            first_bytes=batch.arena[start : start + min(length, FIRST_BYTES)].tobytes(),
        )
