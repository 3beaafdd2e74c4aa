"""Rows of `silver.signals`, `silver.can_frames` and `silver.raw_messages` from arrays."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Channel, Int64Array, UInt8Array
from contracts.tables import TABLES
from udfs.decode.context import DecodeContext
from udfs.encodings.can import CanFrames
from udfs.encodings.columns import gather_bytes
from udfs.encodings.samples import Samples

_ALONE = 1024
_KEPT_BYTES = 48 << 20
_LEAST_ROWS = 4096
SIGNALS = TABLES["silver.signals"].schema
_SIGNAL, _VALUE, _RAW = (SIGNALS.names.index(name) for name in ("signal", "value", "raw_value"))
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
    _constants: dict[tuple[str, object], pa.Array] = attrs.field(factory=dict)
    _kept_bytes: int = 0
    _shared: tuple[tuple[object, ...], object, list[pa.Array]] = ((), None, [])
    _filled: tuple[tuple[object, ...], list[pa.Array | None]] = ((), [])

    def signal_batches(
        self, parts: Sequence[SignalPart], *, channel: Channel
    ) -> tuple[pa.RecordBatch, ...]:
        """Rows of `silver.signals`: a batch for each signal of many samples, one for all others.

        A signal alone takes its columns as they are, nothing is copied; times that several parts
        share are shared by their batches.
        """
        few = [part for part in parts if len(part.log_time_ns) < _ALONE]
        batches = [
            self._alone(part, channel=channel) for part in parts if len(part.log_time_ns) >= _ALONE
        ]
        return (*batches, self.signals(few, channel=channel)) if few else tuple(batches)

    def _alone(self, part: SignalPart, *, channel: Channel) -> pa.RecordBatch:
        """Rows of one signal; what the signals of a message share is made once."""
        samples, rows = part.samples, len(part.log_time_ns)
        if samples.texts or samples.raw is None or not samples.is_whole:
            return self.signals([part], channel=channel)
        key = (channel.id, part.source, part.unit, part.definition_hash, id(part.sequence))
        if self._shared[0] != key or self._shared[1] is not part.sequence:
            self._shared = key, part.sequence, self.signals([part], channel=channel).columns
        columns = list(self._shared[2])
        columns[_SIGNAL] = self._constant(part.name, pa.string(), rows)
        columns[_VALUE] = pa.array(samples.value)
        columns[_RAW] = pa.array(samples.raw)
        return pa.RecordBatch.from_arrays(columns, schema=SIGNALS)

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

    def can_frames(self, frames: CanFrames, *, channel: Channel) -> pa.RecordBatch:
        """Rows of `silver.can_frames`, in the order of the frames."""
        sent = frames.is_transmitted
        columns = {
            "sequence": pa.array(frames.sequence),
            "log_time_ns": pa.array(frames.log_time_ns),
            "publish_time_ns": pa.array(frames.log_time_ns),
            "bus": pa.array(frames.bus.astype(np.int32), mask=frames.bus < 0),
            "can_id": pa.array(frames.can_id, mask=frames.can_id < 0),
            "is_extended": pa.array(frames.is_extended),
            "is_fd": pa.array(frames.is_fd),
            "is_remote": pa.array(frames.is_remote),
            "is_error": pa.array(frames.is_error),
            "dlc": pa.array(frames.dlc.astype(np.int32), mask=frames.dlc < 0),
            "data": gather_bytes(frames.arena, frames.starts, frames.lengths),
            "direction": pa.array(["Rx", "Tx"]).take(pa.array(sent, mask=sent < 0)),
        }
        rows = len(frames.log_time_ns)
        return self._rows(CAN_FRAMES, columns, rows=rows, channel=channel)

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
            "message_encoding": self._constant(encoding, pa.string(), rows),
            "schema_hash": self._constant(schema_hash, pa.string(), rows),
            "data": gather_bytes(arena, starts, lengths),
        }
        return self._rows(RAW_MESSAGES, columns, rows=rows, channel=channel)

    def _rows(
        self, schema: pa.Schema, own: dict[str, pa.Array], *, rows: int, channel: Channel
    ) -> pa.RecordBatch:
        """All columns in the order of the table; what there is no value for is null."""
        key = (schema.names[-2], len(schema), rows, channel.id, tuple(own))
        if self._filled[0] != key:
            same = {
                "recording_id": self.context.recording_id,
                "channel_id": channel.id,
                "topic": channel.topic,
                "ingest_date": self.context.ingest_date,
            }
            self._filled = (
                key,
                [
                    None
                    if field.name in own
                    else self._constant(same.get(field.name), field.type, rows)
                    for field in schema
                ],
            )
        arrays = [
            own[name] if array is None else array
            for name, array in zip(schema.names, self._filled[1], strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _constant(self, value: object, kind: pa.DataType, rows: int) -> pa.Array:
        """A column of one value; kept for the next batches as long as all that is kept is small."""
        key = ("", value) if isinstance(value, str) else (str(kind), value)
        kept = self._constants.get(key)
        if kept is None or len(kept) < rows:
            self._kept_bytes -= 0 if kept is None else kept.nbytes
            room = max(1 << (rows - 1).bit_length(), _LEAST_ROWS) if rows else 0
            word = len(value) if isinstance(value, str) else 0
            keeps = self._kept_bytes + room * (word + 8) <= _KEPT_BYTES
            kept = _repeated_value(value, kind, room if keeps else rows)
            if keeps:
                self._kept_bytes += kept.nbytes
                self._constants[key] = kept
            else:
                self._constants.pop(key, None)
        return kept if len(kept) == rows else kept.slice(0, rows)

    def _repeated(self, words: Sequence[str | None], counts: Sequence[int]) -> pa.Array:
        """Each word as often as its part has rows."""
        if len(set(words)) == 1:
            return self._constant(words[0], pa.string(), sum(counts))
        codes = np.repeat(np.arange(len(words), dtype=np.int32), counts)
        return pa.array(words, pa.string()).take(pa.array(codes))

    def _texts(self, samples: Sequence[Samples], *, rows: int) -> pa.Array:
        """Texts of all samples, null where a sample has none."""
        if not any(one.texts for one in samples):
            return self._constant(None, pa.string(), rows)
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
            return self._constant(None, pa.float64(), rows)
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


def _repeated_value(value: object, kind: pa.DataType, rows: int) -> pa.Array:
    """(rows,) the same value in each; `pa.repeat` appends texts one by one."""
    if not isinstance(value, str):
        return pa.repeat(pa.scalar(value, kind), rows)
    data = value.encode()
    buffers = [None, pa.py_buffer(_even_offsets(len(data), rows)), pa.py_buffer(data * rows)]
    return pa.Array.from_buffers(pa.string(), rows, buffers)


@functools.lru_cache(maxsize=64)
def _even_offsets(size: int, rows: int) -> npt.NDArray[np.int32]:
    """(rows + 1,) int32 offsets of words of the same size."""
    return np.arange(rows + 1, dtype=np.int32) * np.int32(size)
