"""Rows of `silver.signals`, `silver.can_frames` and `silver.raw_messages` from arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Channel, Int64Array, UInt8Array
from contracts.tables import TABLES
from udfs.decode.context import DecodeContext
from udfs.decode.signal_batches import MOST_ROWS, Constants, SignalBatches
from udfs.decode.signal_parts import block_columns
from udfs.encodings.can import LEAST_ALONE
from udfs.encodings.can_columns import PackedFrames
from udfs.encodings.can_signals import SignalBlock
from udfs.encodings.columns import gather_bytes
from udfs.encodings.samples import Samples
from udfs.memory.constants import constant_column

_LEAST_ROWS = 4096
SIGNALS = TABLES["silver.signals"].schema
CAN_FRAMES = TABLES["silver.can_frames"].schema
RAW_MESSAGES = TABLES["silver.raw_messages"].schema


@attrs.frozen(eq=False)
class SignalPart:
    """Samples of one signal at N times.

    Attributes:
        name: The signal.
        source: Channel group, or message of a bus definition.
        unit: As the definition states it, empty for none.
        definition_hash: SHA-256 of the bus definition, empty for measured signals.
        sequence: (N,) int64, record of the channel.
        log_time_ns: (N,) int64, recorder's clock.
        samples: N samples.
        range: Lowest and highest physical value, None where none is stated.
    """

    name: str
    source: str
    unit: str
    definition_hash: str
    sequence: Int64Array
    log_time_ns: Int64Array
    samples: Samples
    range: tuple[float, float] | None = None


@attrs.define(eq=False)
class RowMaker:
    """Makes rows of one recording; columns of one value are made once and then sliced."""

    context: DecodeContext
    _templates: dict[tuple[object, ...], pa.RecordBatch] = attrs.field(factory=dict)
    _of_channels: dict[int, Constants] = attrs.field(factory=dict)

    def signal_batches(
        self, parts: Sequence[SignalPart], *, channel: Channel
    ) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.signals`: batches for each signal of many samples, one for all others.

        A signal alone takes its columns as they are, nothing is copied; times that several parts
        share are shared by their batches.
        """
        made = SignalBatches(self._constants(channel))
        few: list[SignalPart] = []
        for part in parts:
            if len(part.log_time_ns) < LEAST_ALONE:
                few.append(part)
                continue
            one = part.samples
            columns = {"value": [_values([one])]}
            if one.raw is not None:
                columns["raw_value"] = [_raw_values([one])]
            if one.texts:
                columns["text"] = [_texts([one])]
            if part.range is not None:
                columns["in_range"] = [_in_range([part])]
            made.begin(part.source, part.definition_hash, part.sequence, part.log_time_ns)
            made.add((part.name,), (part.unit or None,), columns)
        return (*made.done(), self.signals(few, channel=channel)) if few else made.done()

    def block_batches(
        self, blocks: Sequence[SignalBlock], *, channel: Channel
    ) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.signals` from the frames of a bus, in batches as `signal_batches`.

        Those of messages of few frames are put together.
        """
        made = SignalBatches(self._constants(channel))
        plain: list[SignalBlock] = []
        few: list[SignalPart] = []
        for block in blocks:
            if len(block) >= LEAST_ALONE:
                self._add_block(made, block)
            elif block.layout.named:
                few += [_part_of(block, at) for at in range(len(block.signals))]
            else:
                plain.append(block)
        found = [*made.done()]
        if plain:
            rows, columns = block_columns(plain)
            if rows:
                found += self._cut(SIGNALS, columns, rows=rows, channel=channel)
        return (*found, self.signals(few, channel=channel)) if few else tuple(found)

    def _add_block(self, made: SignalBatches, block: SignalBlock) -> None:
        layout, rows = block.layout, len(block)
        made.begin(block.message.name, block.definition_hash, block.sequence, block.log_time_ns)
        numbers = pa.array(block.numbers.reshape(-1))
        columns: dict[str, list[pa.Array]] = {
            "value": [],
            "raw_value": [numbers.slice(0, len(layout.signals) * rows)],
        }
        for first, count in layout.runs:
            start = layout.value[first] * rows
            columns["value"].append(numbers.slice(start, count * rows))
        if layout.maps:
            columns["in_range"] = _marks(block, made.nulls("in_range"))
        if layout.named:
            self._name(made, block, columns)
        made.add(layout.names, layout.units, columns)

    def _name(
        self, made: SignalBatches, block: SignalBlock, columns: dict[str, list[pa.Array]]
    ) -> None:
        """Values and texts signal by signal, where some have choices."""
        columns["value"], columns["text"], columns["in_range"] = [], [], []
        for at in range(len(block.signals)):
            part = _part_of(block, at)
            one = part.samples
            columns["value"].append(_values([one]))
            columns["text"] += [_texts([one])] if one.texts else made.nulls("text")
            has_range = part.range is not None
            columns["in_range"] += [_in_range([part])] if has_range else made.nulls("in_range")

    def signals(self, parts: Sequence[SignalPart], *, channel: Channel) -> pa.RecordBatch:
        """Rows of `silver.signals`, one signal behind the other."""
        samples = [part.samples for part in parts]
        counts = [len(part.log_time_ns) for part in parts]
        times = pa.array(_joined([part.log_time_ns for part in parts], np.int64))
        columns = {
            "sequence": pa.array(_joined([part.sequence for part in parts], np.int64)),
            "log_time_ns": times,
            "publish_time_ns": times,
            "signal": self._repeated([part.name for part in parts], counts),
            "source": self._repeated([part.source for part in parts], counts),
            "value": _values(samples),
            "text": _texts(samples),
            "raw_value": _raw_values(samples),
            "in_range": _in_range(parts),
            "unit": self._repeated([part.unit or None for part in parts], counts),
            "definition_hash": self._repeated(
                [part.definition_hash or None for part in parts], counts
            ),
        }
        return self._rows(SIGNALS, columns, rows=sum(counts), channel=channel)

    def can_frames(self, frames: PackedFrames, *, channel: Channel) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.can_frames`, in the order of the frames; an empty batch for none."""
        columns = frames.columns()
        return tuple(self._cut(CAN_FRAMES, columns, rows=len(frames), channel=channel))

    def _cut(
        self, schema: pa.Schema, columns: dict[str, pa.Array], *, rows: int, channel: Channel
    ) -> Iterator[pa.RecordBatch]:
        """Rows in batches of a limited size; an empty batch for none."""
        for start in range(0, max(rows, 1), MOST_ROWS):
            some = min(MOST_ROWS, rows - start)
            own = {name: column.slice(start, some) for name, column in columns.items()}
            yield self._rows(schema, own, rows=some, channel=channel)

    def raw(
        self,
        *,
        arena: UInt8Array,
        starts: Int64Array,
        lengths: Int64Array,
        sequence: Int64Array,
        log_time_ns: Int64Array,
        encoding: str,
        schema_hash: str,
        channel: Channel,
    ) -> pa.RecordBatch:
        """Rows of `silver.raw_messages`: records that nothing here decodes, byte for byte."""
        rows = len(log_time_ns)
        columns = {
            "sequence": pa.array(sequence),
            "log_time_ns": pa.array(log_time_ns),
            "publish_time_ns": pa.array(log_time_ns),
            "message_encoding": constant_column(encoding, pa.string(), rows),
            "schema_hash": constant_column(schema_hash, pa.string(), rows),
            "data": gather_bytes(arena, starts, lengths),
        }
        return self._rows(RAW_MESSAGES, columns, rows=rows, channel=channel)

    def _rows(
        self, schema: pa.Schema, own: dict[str, pa.Array], *, rows: int, channel: Channel
    ) -> pa.RecordBatch:
        """All columns in the order of the table; what there is no value for is null."""
        shared = self._template(schema, rows, channel)
        arrays = [
            own[name] if name in own else shared.column(at).slice(0, rows)
            for at, name in enumerate(schema.names)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _constants(self, channel: Channel) -> Constants:
        found = self._of_channels.get(channel.id)
        if found is None:
            found = Constants(self._template(SIGNALS, MOST_ROWS, channel))
            self._of_channels[channel.id] = found
        return found

    def _template(self, schema: pa.Schema, rows: int, channel: Channel) -> pa.RecordBatch:
        """As many rows, or more, of what all rows of a channel share; the rest is null."""
        key = schema.names[-2], len(schema), channel.id
        found = self._templates.get(key)
        if found is not None and found.num_rows >= rows:
            return found
        same = {
            "recording_id": self.context.recording_id,
            "channel_id": channel.id,
            "topic": channel.topic,
            "ingest_date": self.context.ingest_date,
        }
        room = max(rows, _LEAST_ROWS)
        arrays = [constant_column(same.get(field.name), field.type, room) for field in schema]
        found = pa.RecordBatch.from_arrays(arrays, schema=schema)
        if rows <= MOST_ROWS:
            self._templates[key] = found
        return found

    def _repeated(self, words: Sequence[str | None], counts: Sequence[int]) -> pa.Array:
        """Each word as often as its part has rows."""
        if len(set(words)) == 1:
            return constant_column(words[0], pa.string(), sum(counts))
        codes = np.repeat(np.arange(len(words), dtype=np.int32), counts)
        return pa.array(words, pa.string()).take(pa.array(codes))


def _texts(samples: Sequence[Samples]) -> pa.Array:
    """Texts of all samples, null where a sample has none."""
    if not any(one.texts for one in samples):
        return constant_column(None, pa.string(), sum(len(one.value) for one in samples))
    if len(samples) == 1:
        text = samples[0].text
        return pa.array(samples[0].texts, pa.string()).take(pa.array(text, mask=text < 0))
    words: list[str] = []
    codes = [np.empty(0, np.int64)]
    for one in samples:
        codes.append(np.where(one.text >= 0, one.text + len(words), -1))
        words += one.texts
    joined = np.concatenate(codes)
    return pa.array(words, pa.string()).take(pa.array(joined, mask=joined < 0))


def _raw_values(samples: Sequence[Samples]) -> pa.Array:
    """Values before conversion, null where there is no conversion or the sample is invalid."""
    if all(one.raw is None for one in samples):
        return constant_column(None, pa.float64(), sum(len(one.value) for one in samples))
    if all(one.raw is not None and one.is_invalid is None for one in samples):
        return pa.array(_joined([one.raw for one in samples if one.raw is not None], np.float64))
    values, absent = [], []
    for one in samples:
        values.append(np.zeros(len(one.value)) if one.raw is None else one.raw)
        marks = np.zeros(len(one.value), bool) if one.is_invalid is None else one.is_invalid
        absent.append(marks | (one.raw is None))
    return pa.array(_joined(values, np.float64), mask=_joined(absent, np.bool_))


def _part_of(block: SignalBlock, at: int) -> SignalPart:
    signal = block.signals[at]
    return SignalPart(
        name=signal.name,
        source=block.message.name,
        unit=signal.unit,
        definition_hash=block.definition_hash,
        sequence=block.sequence,
        log_time_ns=block.log_time_ns,
        samples=block.samples(at),
        range=signal.range,
    )


def _marks(block: SignalBlock, nulls: Sequence[pa.Array]) -> list[pa.Array]:
    """Whether values lie in their range, signal by signal; `nulls` where one has none."""
    layout, rows = block.layout, len(block)
    bits = pa.py_buffer(block.bits)
    if layout.maps == len(layout.signals) and rows % 64 == 0:  # no gap between the bitmaps
        return [pa.Array.from_buffers(pa.bool_(), layout.maps * rows, [None, bits])]
    found: list[pa.Array] = []
    size = 8 * block.bits.shape[1]
    for at in layout.range:
        if at < 0:
            found += nulls
        else:
            found.append(pa.Array.from_buffers(pa.bool_(), rows, [None, bits], offset=at * size))
    return found


def _in_range(parts: Sequence[SignalPart]) -> pa.BooleanArray:
    """Whether values lie in their range, its ends included; null without a value or a range."""
    if all(part.range is None for part in parts):
        return constant_column(None, pa.bool_(), sum(len(part.log_time_ns) for part in parts))
    inside, absent = [], []
    for part in parts:
        low, high = part.range or (0.0, 0.0)
        value = part.samples.value
        inside.append((value >= low) & (value <= high))
        absent.append(~part.samples.is_value | (part.range is None))
    return pa.array(_joined(inside, np.bool_), mask=_joined(absent, np.bool_))


def _joined(
    arrays: Sequence[npt.NDArray[np.generic]], kind: type[np.generic]
) -> npt.NDArray[np.generic]:
    """All arrays one behind the other; a single one as it is."""
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, kind), *arrays])


def _values(samples: Sequence[Samples]) -> pa.Array:
    """Physical values, null where a sample has no number."""
    values = _joined([one.value for one in samples], np.float64)
    if all(one.is_whole for one in samples):
        return pa.array(values)
    return pa.array(values, mask=_joined([~one.is_value for one in samples], np.bool_))
