"""Rows of `silver.signals`, `silver.can_frames` and `silver.raw_messages` from arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Channel, Int64Array, UInt8Array
from contracts.tables import TABLES
from udfs.decode.constants import constant_column
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

_ALONE = 512
_LEAST_ROWS = 4096
_MOST_ROWS = 1 << 15
"""Rows of a batch: as many as its columns of one value are made for, once for all batches."""
SIGNALS = TABLES["silver.signals"].schema
_Place = tuple[int, pa.Field]
_SIGNAL, _VALUE, _RAW, _UNIT = (
    (SIGNALS.get_field_index(name), SIGNALS.field(name))
    for name in ("signal", "value", "raw_value", "unit")
)
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
        batches: list[pa.RecordBatch] = []
        few: list[SignalPart] = []
        shared: tuple[object, list[pa.RecordBatch]] = None, []
        for part in parts:
            samples = part.samples
            if len(part.log_time_ns) < _ALONE:
                few.append(part)
            elif samples.texts or not samples.is_whole:
                batches.append(self.signals([part], channel=channel))
            else:
                key = id(part.sequence), part.source, part.definition_hash
                if shared[0] != key:
                    shared = (
                        key,
                        self._untold(
                            part.source,
                            part.definition_hash,
                            part.sequence,
                            part.log_time_ns,
                            channel=channel,
                        ),
                    )
                value = pa.array(samples.value)
                raw = None if samples.raw is None else pa.array(samples.raw)
                batches += self._told(shared[1], part.name, part.unit, value, raw)
        return (*batches, self.signals(few, channel=channel)) if few else tuple(batches)

    def block_batches(
        self, blocks: Sequence[SignalBlock], *, channel: Channel
    ) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.signals` from the frames of a bus, in batches as `signal_batches`."""
        batches: list[pa.RecordBatch] = []
        few: list[SignalPart] = []
        for block in blocks:
            rows = len(block.rows)
            if rows < _ALONE:
                few += _parts_of(block, range(len(block.signals)))
                continue
            shared = self._untold(
                block.message.name,
                block.definition_hash,
                block.sequence,
                block.log_time_ns,
                channel=channel,
            )
            numbers = pa.array(block.numbers.reshape(-1))
            for at, signal in enumerate(block.signals):
                if signal.choices:
                    batches.append(self.signals(_parts_of(block, [at]), channel=channel))
                    continue
                value = numbers.slice(block.layout.value[at] * rows, rows)
                raw = numbers.slice(block.layout.raw[at] * rows, rows)
                batches += self._told(shared, signal.name, signal.unit, value, raw)
        return (*batches, self.signals(few, channel=channel)) if few else tuple(batches)

    def _untold(
        self,
        source: str,
        definition_hash: str,
        sequence_of_row: Int64Array,
        log_time_ns: Int64Array,
        *,
        channel: Channel,
    ) -> list[pa.RecordBatch]:
        """Rows of some signal of these times, without its name, unit and values."""
        times, sequence = pa.array(log_time_ns), pa.array(sequence_of_row)
        found = []
        for start in range(0, len(times), _MOST_ROWS):
            rows = min(_MOST_ROWS, len(times) - start)
            own = {
                "sequence": sequence.slice(start, rows),
                "log_time_ns": times.slice(start, rows),
                "publish_time_ns": times.slice(start, rows),
                "source": constant_column(source, pa.string(), rows),
            }
            if definition_hash:
                own["definition_hash"] = constant_column(definition_hash, pa.string(), rows)
            found.append(self._rows(SIGNALS, own, rows=rows, channel=channel))
        return found

    def _told(
        self,
        shared: Sequence[pa.RecordBatch],
        name: str,
        unit: str,
        value: pa.DoubleArray,
        raw: pa.DoubleArray | None,
    ) -> Iterator[pa.RecordBatch]:
        """The same rows with the name, unit and values of a signal."""
        for at, batch in enumerate(shared):
            start, rows = at * _MOST_ROWS, batch.num_rows
            alone = rows == len(value)
            batch = _with(batch, _SIGNAL, constant_column(name, pa.string(), rows))
            batch = _with(batch, _VALUE, value if alone else value.slice(start, rows))
            if raw is not None:
                batch = _with(batch, _RAW, raw if alone else raw.slice(start, rows))
            if unit:
                batch = _with(batch, _UNIT, constant_column(unit, pa.string(), rows))
            yield batch

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
            "text": self._texts(samples, rows=sum(counts)),
            "raw_value": self._raw_values(samples, rows=sum(counts)),
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
        if rows > _MOST_ROWS:
            return self._filled(schema, own, rows=rows, channel=channel)
        key = (schema.names[-2], len(schema), channel.id)
        template = self._templates.get(key)
        if template is None or template.num_rows < rows:
            room = max(1 << (rows - 1).bit_length(), _LEAST_ROWS) if rows else _LEAST_ROWS
            template = self._filled(schema, {}, rows=room, channel=channel)
            self._templates[key] = template
        batch = template.slice(0, rows)
        for name, column in own.items():
            place = schema.get_field_index(name)
            batch = batch.set_column(place, schema.field(place), column)
        return batch

    def _filled(
        self, schema: pa.Schema, own: dict[str, pa.Array], *, rows: int, channel: Channel
    ) -> pa.RecordBatch:
        same = {
            "recording_id": self.context.recording_id,
            "channel_id": channel.id,
            "topic": channel.topic,
            "ingest_date": self.context.ingest_date,
        }
        arrays = [
            own[field.name]
            if field.name in own
            else constant_column(same.get(field.name), field.type, rows)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _repeated(self, words: Sequence[str | None], counts: Sequence[int]) -> pa.Array:
        """Each word as often as its part has rows."""
        if len(set(words)) == 1:
            return constant_column(words[0], pa.string(), sum(counts))
        codes = np.repeat(np.arange(len(words), dtype=np.int32), counts)
        return pa.array(words, pa.string()).take(pa.array(codes))

    def _texts(self, samples: Sequence[Samples], *, rows: int) -> pa.Array:
        """Texts of all samples, null where a sample has none."""
        if not any(one.texts for one in samples):
            return constant_column(None, pa.string(), rows)
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

    def _raw_values(self, samples: Sequence[Samples], *, rows: int) -> pa.Array:
        """Values before conversion, null where there is no conversion or the sample is invalid."""
        if all(one.raw is None for one in samples):
            return constant_column(None, pa.float64(), rows)
        if all(one.raw is not None and one.is_invalid is None for one in samples):
            return pa.array(
                _joined([one.raw for one in samples if one.raw is not None], np.float64)
            )
        values, absent = [], []
        for one in samples:
            values.append(np.zeros(len(one.value)) if one.raw is None else one.raw)
            marks = np.zeros(len(one.value), bool) if one.is_invalid is None else one.is_invalid
            absent.append(marks | (one.raw is None))
        return pa.array(_joined(values, np.float64), mask=_joined(absent, np.bool_))


def _parts_of(block: SignalBlock, wanted: Iterable[int]) -> list[SignalPart]:
    """Some signals of a block, one by one."""
    return [
        SignalPart(
            name=block.signals[at].name,
            source=block.message.name,
            unit=block.signals[at].unit,
            definition_hash=block.definition_hash,
            sequence=block.sequence,
            log_time_ns=block.log_time_ns,
            samples=block.samples(at),
        )
        for at in wanted
    ]


def _with(batch: pa.RecordBatch, place: _Place, column: pa.Array) -> pa.RecordBatch:
    """The same with another column: a tenth of the time that a batch of all columns takes."""
    return batch.set_column(*place, column)


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
