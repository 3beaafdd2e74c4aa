"""Rows of `silver.signals`, `silver.can_frames` and `silver.raw_messages` from arrays."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Channel, Int64Array, UInt8Array
from contracts.tables import TABLES
from udfs.decode.context import DecodeContext
from udfs.encodings.can import CanFrames, SignalBlock
from udfs.encodings.can_kernels import (
    direction_column,
    flag_column,
    number_column,
    payload_column,
)
from udfs.encodings.columns import gather_bytes
from udfs.encodings.samples import Samples
from udfs.memory.constants import constant_column

_ALONE = 512
_LEAST_ROWS = 4096
_MOST_ROWS = 1 << 15
"""Rows of a batch: as many as its columns of one value are made for, once for all batches."""
SIGNALS = TABLES["silver.signals"].schema
_OF_SIGNAL = ("signal", "unit", "value", "raw_value", "text")
_OF_FRAMES = ("sequence", "log_time_ns", "publish_time_ns", "source", "definition_hash")
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
    """

    name: str
    source: str
    unit: str
    definition_hash: str
    sequence: Int64Array
    log_time_ns: Int64Array
    samples: Samples


@attrs.define(eq=False)
class RowMaker:
    """Makes rows of one recording; columns of one value are made once and then sliced."""

    context: DecodeContext
    _templates: dict[tuple[object, ...], pa.RecordBatch] = attrs.field(factory=dict)

    def signal_batches(
        self, parts: Sequence[SignalPart], *, channel: Channel
    ) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.signals`: batches for each signal of many samples, one for all others.

        A signal alone takes its columns as they are, nothing is copied; times that several parts
        share are shared by their batches.
        """
        made = _Batches(self._template(SIGNALS, _MOST_ROWS, channel))
        few: list[SignalPart] = []
        for part in parts:
            if len(part.log_time_ns) < _ALONE:
                few.append(part)
                continue
            made.begin(part.source, part.definition_hash, part.sequence, part.log_time_ns)
            one = part.samples
            made.add(
                [part.name],
                [part.unit],
                value=[_values([one])],
                raw=None if one.raw is None else _raw_values([one]),
                text=[_texts([one]) if one.texts else None],
            )
        return (*made.done(), self.signals(few, channel=channel)) if few else made.done()

    def block_batches(
        self, blocks: Sequence[SignalBlock], *, channel: Channel
    ) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.signals` from the frames of a bus, in batches as `signal_batches`."""
        made = _Batches(self._template(SIGNALS, _MOST_ROWS, channel))
        few: list[SignalPart] = []
        for block in blocks:
            rows = len(block.rows)
            if rows < _ALONE:
                few += _parts_of(block)
                continue
            made.begin(block.message.name, block.definition_hash, block.sequence, block.log_time_ns)
            numbers = pa.array(block.numbers.reshape(-1))
            layout = block.layout
            value: list[pa.DoubleArray] = []
            text: list[pa.StringArray | None] = []
            for first, count in layout.runs:
                if layout.signals[first].choices:
                    samples = [block.samples(first)]
                    value.append(_values(samples))
                    text.append(_texts(samples))
                    continue
                value.append(numbers.slice(layout.value[first] * rows, count * rows))
                text += count * [None]
            made.add(
                layout.names,
                layout.units,
                value=value,
                raw=numbers.slice(0, len(layout.signals) * rows),
                text=text,
            )
        return (*made.done(), self.signals(few, channel=channel)) if few else made.done()

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
            "unit": self._repeated([part.unit or None for part in parts], counts),
            "definition_hash": self._repeated(
                [part.definition_hash or None for part in parts], counts
            ),
        }
        return self._rows(SIGNALS, columns, rows=sum(counts), channel=channel)

    def can_frames(self, frames: CanFrames, *, channel: Channel) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.can_frames`, in the order of the frames; an empty batch for none."""
        times = pa.array(frames.log_time_ns)
        columns = {
            "sequence": pa.array(frames.sequence),
            "log_time_ns": times,
            "publish_time_ns": times,
            "bus": number_column(frames.bus, pa.int32()),
            "can_id": number_column(frames.can_id, pa.int64()),
            "is_extended": flag_column(frames.is_extended),
            "is_fd": flag_column(frames.is_fd),
            "is_remote": flag_column(frames.is_remote),
            "is_error": flag_column(frames.is_error),
            "dlc": number_column(frames.dlc, pa.int32()),
            "data": payload_column(frames),
            "direction": direction_column(frames.is_transmitted),
        }
        found = []
        for start in range(0, max(len(times), 1), _MOST_ROWS):
            rows = min(_MOST_ROWS, len(times) - start)
            own = {name: column.slice(start, rows) for name, column in columns.items()}
            found.append(self._rows(CAN_FRAMES, own, rows=rows, channel=channel))
        return tuple(found)

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
        if rows <= _MOST_ROWS:
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


class _Batches:
    """Batches of whole signals, made at once of a table in pieces: a batch alone takes 20 µs.

    Every column of a batch is a slice of what is there, or a column of one value.
    """

    def __init__(self, template: pa.RecordBatch) -> None:
        self._template = template
        self._pieces: dict[str, list[pa.Array]] = {name: [] for name in template.schema.names}
        self._rows = 0
        self._sizes: list[int] = []
        self._known: dict[tuple[str | None, int], list[pa.Array]] = {}
        self._signals = 0
        self._shared: dict[str, list[pa.Array]] = {}
        self._begun: tuple[str, str, Int64Array, Int64Array] | None = None
        self._of_channel = {
            name: template.column(at)
            for at, name in enumerate(template.schema.names)
            if name not in (*_OF_SIGNAL, *_OF_FRAMES)
        }

    def begin(
        self, source: str, definition_hash: str, sequence: Int64Array, log_time_ns: Int64Array
    ) -> None:
        """The signals that follow are of this source and at these times."""
        of_all = source, definition_hash, sequence, log_time_ns
        if self._begun is not None and all(map(operator.is_, of_all, self._begun)):
            return
        self._share()
        self._begun = of_all
        self._rows = rows = len(log_time_ns)
        self._sizes = [min(_MOST_ROWS, rows - start) for start in range(0, rows, _MOST_ROWS)]
        times = pa.array(log_time_ns)
        self._shared = {
            "sequence": [pa.array(sequence)],
            "log_time_ns": [times],
            "publish_time_ns": [times],
            "source": self._words(source),
            "definition_hash": self._words(definition_hash or None),
        }
        for name, column in self._of_channel.items():
            self._shared[name] = [column.slice(0, size) for size in self._sizes]

    def add(
        self,
        names: Sequence[str],
        units: Sequence[str],
        *,
        value: Sequence[pa.DoubleArray],
        raw: pa.DoubleArray | None,
        text: Sequence[pa.StringArray | None],
    ) -> None:
        """Signals of one beginning.

        Args:
            names: Of the signals.
            units: Of each, empty for none.
            value: Values of all of them one behind the other, in any pieces.
            raw: Raw values of all of them, None where there are none.
            text: Texts of each, None where it has none.
        """
        self._signals += len(names)
        pieces = self._pieces
        for name, unit in zip(names, units, strict=True):
            pieces["signal"] += self._words(name)
            pieces["unit"] += self._words(unit or None)
        pieces["value"] += value
        pieces["raw_value"] += len(names) * self._nulls(pa.float64()) if raw is None else [raw]
        for one in text:
            pieces["text"] += self._words(None) if one is None else [one]

    def done(self) -> tuple[pa.RecordBatch, ...]:
        """All batches."""
        self._share()
        columns = [
            pa.chunked_array(self._pieces[field.name], field.type)
            for field in self._template.schema
        ]
        return tuple(pa.Table.from_arrays(columns, schema=self._template.schema).to_batches())

    def _share(self) -> None:
        """Repeat what the signals since the last beginning share."""
        for name, pieces in self._shared.items():
            self._pieces[name] += self._signals * pieces
        self._signals, self._shared = 0, {}

    def _words(self, word: str | None) -> list[pa.Array]:
        key = word, self._rows
        found = self._known.get(key)
        if found is None:
            found = [constant_column(word, pa.string(), size) for size in self._sizes]
            self._known[key] = found
        return found

    def _nulls(self, kind: pa.DataType) -> list[pa.Array]:
        return [constant_column(None, kind, size) for size in self._sizes]


def _parts_of(block: SignalBlock) -> list[SignalPart]:
    """The signals of a block, one by one."""
    return [
        SignalPart(
            name=signal.name,
            source=block.message.name,
            unit=signal.unit,
            definition_hash=block.definition_hash,
            sequence=block.sequence,
            log_time_ns=block.log_time_ns,
            samples=block.samples(at),
        )
        for at, signal in enumerate(block.signals)
    ]


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
