"""Rows of `silver.signals`, `silver.can_frames` and `silver.raw_messages` from arrays."""

from __future__ import annotations

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
    _constants: dict[tuple[pa.DataType, object], pa.Array] = attrs.field(factory=dict)

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
            "value": pa.array(
                _joined([one.value for one in samples], np.float64),
                mask=_joined([~one.is_value for one in samples], np.bool_),
            ),
            "text": self._texts(samples, rows=sum(counts)),
            "raw_value": _raw_values(samples),
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
        columns = own | {
            "recording_id": self._constant(self.context.recording_id, pa.string(), rows),
            "channel_id": self._constant(channel.id, pa.int32(), rows),
            "topic": self._constant(channel.topic, pa.string(), rows),
            "ingest_date": self._constant(self.context.ingest_date, pa.date32(), rows),
        }
        arrays = [
            columns[field.name] if field.name in columns else self._constant(None, field.type, rows)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _constant(self, value: object, kind: pa.DataType, rows: int) -> pa.Array:
        kept = self._constants.get((kind, value))
        if kept is None or len(kept) < rows:
            kept = pa.repeat(pa.scalar(value, kind), rows)
            self._constants[kind, value] = kept
        return kept.slice(0, rows)

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
        words: list[str] = []
        codes = [np.empty(0, np.int64)]
        for one in samples:
            codes.append(np.where(one.text >= 0, one.text + len(words), -1))
            words += one.texts
        joined = np.concatenate(codes)
        return pa.array(words, pa.string()).take(pa.array(joined, mask=joined < 0))


def _joined(
    arrays: list[npt.NDArray[np.generic]], kind: type[np.generic]
) -> npt.NDArray[np.generic]:
    return np.concatenate([np.empty(0, kind), *arrays])


def _raw_values(samples: Sequence[Samples]) -> pa.Array:
    """Values before conversion, null where there is no conversion or the sample is invalid."""
    values, absent = [np.empty(0)], [np.empty(0, np.bool_)]
    for one in samples:
        rows = len(one.value)
        values.append(np.zeros(rows) if one.raw is None else one.raw)
        marks = np.zeros(rows, np.bool_) if one.is_invalid is None else one.is_invalid
        absent.append(marks | (one.raw is None))
    return pa.array(np.concatenate(values), mask=np.concatenate(absent))
