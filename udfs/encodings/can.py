"""CAN frames to signal samples: sorted by id, then one shift and mask for each signal.

Source: Vector DBC file format (bit numbering, multiplexing); ISO 11898-1 (data length codes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.bits import integers, words
from udfs.encodings.dbc import EXTENDED, BusDefinition, MessageDefinition, SignalDefinition
from udfs.encodings.samples import Samples

Mask = npt.NDArray[np.bool_]

MAX_DATA_BYTES = 64
DATA_LENGTHS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64], np.int64)
"""Bytes by CAN FD data length code."""


@attrs.frozen(eq=False)
class CanFrames:
    """N frames, their payloads in one arena.

    Attributes:
        log_time_ns: (N,) int64, recorder's clock.
        sequence: (N,) int64, which record of its channel a frame is.
        bus: (N,) int64, -1 where the logger does not say.
        can_id: (N,) int64 without flags, -1 where an error frame has none.
        arena: (B,) uint8.
        starts: (N,) int64, start of each payload in the arena.
        lengths: (N,) int64, bytes of each payload.
        dlc: (N,) int64, data length code.
        is_transmitted: (N,) int64, 1 Tx, 0 Rx, -1 unknown.
    """

    log_time_ns: Int64Array
    sequence: Int64Array
    bus: Int64Array
    can_id: Int64Array
    is_extended: Mask
    is_fd: Mask
    is_remote: Mask
    is_error: Mask
    dlc: Int64Array
    arena: UInt8Array
    starts: Int64Array
    lengths: Int64Array
    is_transmitted: Int64Array


@attrs.frozen(eq=False)
class SignalSamples:
    """Samples of one signal of one message: `rows` are the frames that carried it."""

    signal: SignalDefinition
    message: MessageDefinition
    definition_hash: str
    rows: Int64Array
    samples: Samples


@attrs.frozen(eq=False)
class DecodedFrames:
    """What the definitions make of the frames.

    Attributes:
        signals: Samples by signal.
        unknown: Frames by id that no definition knows.
        short: Frames by message name that are too short for some of its signals.
    """

    signals: tuple[SignalSamples, ...]
    unknown: Mapping[int, int]
    short: Mapping[str, int]


def decode_frames(
    frames: CanFrames, definitions: Mapping[int, Sequence[BusDefinition]]
) -> DecodedFrames:
    """Decode every data frame that a definition of its bus knows.

    Args:
        frames: Frames of any buses, in any order.
        definitions: By bus (-1: unknown bus), the first that knows an id decodes it.
    """
    data = ~(frames.is_remote | frames.is_error) & (frames.can_id >= 0)
    chosen = np.flatnonzero(data)
    keys = frames.can_id[chosen] + np.int64(EXTENDED) * frames.is_extended[chosen]
    keys = keys | (frames.bus[chosen] + 1) << np.int64(40)
    order = np.argsort(keys, kind="stable")
    unique, firsts = np.unique(keys[order], return_index=True)
    padded = np.concatenate([frames.arena, np.zeros(MAX_DATA_BYTES, np.uint8)])
    signals: list[SignalSamples] = []
    unknown: dict[int, int] = {}
    short: dict[str, int] = {}
    rows_by_key = np.split(chosen[order], firsts[1:]) if len(unique) else []
    for key, rows in zip(unique.tolist(), rows_by_key, strict=True):
        can_id, extended = key & 0x1FFFFFFF, bool(key & EXTENDED)
        found = _message_for(definitions.get((key >> 40) - 1, ()), can_id, is_extended=extended)
        if found is None:
            unknown[can_id] = unknown.get(can_id, 0) + len(rows)
            continue
        message, digest = found
        matrix = _payloads(padded, frames.starts[rows], message.length)
        lengths = frames.lengths[rows]
        cut = int(np.count_nonzero(lengths < message.length))
        if cut:
            short[message.name] = short.get(message.name, 0) + cut
        for signal, there, samples in decode_message(message, matrix, lengths=lengths):
            signals.append(SignalSamples(signal, message, digest, rows[there], samples))
    return DecodedFrames(tuple(signals), unknown, short)


def _message_for(
    definitions: Sequence[BusDefinition], can_id: int, *, is_extended: bool
) -> tuple[MessageDefinition, str] | None:
    for definition in definitions:
        message = definition.message_for(can_id, is_extended=is_extended)
        if message is not None:
            return message, definition.hash
    return None


def _payloads(padded: UInt8Array, starts: Int64Array, width: int) -> UInt8Array:
    """(N, width) uint8; bytes behind a short payload are arbitrary."""
    width = max(min(width, MAX_DATA_BYTES), 1)
    windows = np.ndarray((len(padded) - width + 1,), f"V{width}", padded.data, strides=(1,))
    return windows[starts].view(np.uint8).reshape(-1, width)


def decode_message(
    message: MessageDefinition, matrix: UInt8Array, *, lengths: Int64Array
) -> Iterator[tuple[SignalDefinition, Int64Array, Samples]]:
    """Yield each signal with the rows that carry it and their samples.

    Args:
        message: The definition.
        matrix: (N, B) uint8, payloads; B at least the message's length.
        lengths: (N,) int64, bytes that are there; a signal that ends behind them is not.
    """
    present: dict[str, Mask] = {}
    selectors: dict[str, Int64Array] = {}
    needed = {signal.selector for signal in message.signals}
    for signal in message.signals:
        there = lengths > signal.last_byte
        if signal.last_byte >= matrix.shape[1]:
            there = np.zeros(len(matrix), bool)
        if signal.selector:
            there = there & _selected(signal, present, selectors)
        if signal.name in needed:
            present[signal.name] = there
            selectors[signal.name] = _raw(signal, matrix).astype(np.int64)
        rows = np.flatnonzero(there)
        if len(rows):
            chosen = matrix if len(rows) == len(matrix) else matrix[rows]
            yield signal, rows, _samples(signal, chosen)


def _selected(
    signal: SignalDefinition, present: Mapping[str, Mask], selectors: Mapping[str, Int64Array]
) -> Mask:
    """Which rows' selector has a value with which the signal is there; none if it is unknown."""
    if signal.selector not in present:
        return np.zeros(1, bool)
    wanted = np.array(signal.selected_by, np.int64)
    return present[signal.selector] & np.isin(selectors[signal.selector], wanted)


def _raw(
    signal: SignalDefinition, matrix: UInt8Array
) -> npt.NDArray[np.int64] | npt.NDArray[np.uint64] | npt.NDArray[np.float64]:
    place = {
        "byte_offset": signal.byte_offset,
        "bit_offset": signal.bit_offset,
        "bit_count": signal.bit_count,
    }
    big = signal.is_big_endian
    if signal.is_float:
        pattern = words(matrix, **place, is_big_endian=big)
        kind = {16: np.uint16, 32: np.uint32, 64: np.uint64}[signal.bit_count]
        numbers = pattern.astype(kind).view(f"<f{signal.bit_count // 8}")
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
            return numbers.astype(np.float64)
    return integers(matrix, **place, is_signed=signal.is_signed, is_big_endian=big)


def _samples(signal: SignalDefinition, matrix: UInt8Array) -> Samples:
    number = _raw(signal, matrix)
    raw = number.astype(np.float64)
    with np.errstate(all="ignore"):
        value = raw * signal.scale + signal.offset if signal.scale != 1 or signal.offset else raw
    if not signal.choices:
        rows = len(raw)
        return Samples(value, np.ones(rows, bool), np.full(rows, -1, np.int64), (), raw)
    text = _choice_of(number, np.array(list(signal.choices)))
    return Samples(value, text < 0, text, tuple(signal.choices.values()), raw)


def _choice_of(number: npt.NDArray[np.generic], choices: npt.NDArray[np.generic]) -> Int64Array:
    """(N,) which choice each raw number is, -1 for none."""
    order = np.argsort(choices, kind="stable")
    at = np.minimum(np.searchsorted(choices[order], number), len(choices) - 1)
    chosen = order[at]
    return np.where(choices[chosen] == number, chosen, -1)
