"""CAN frames to signal samples: sorted by id, then one shift and mask for each signal.

Source: Vector DBC file format (bit numbering, multiplexing); ISO 11898-1 (data length codes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.bits import integers, words
from udfs.encodings.columns import windows
from udfs.encodings.dbc import EXTENDED, BusDefinition, MessageDefinition, SignalDefinition
from udfs.encodings.samples import Mask, Samples, always, no_text, room_for

MAX_DATA_BYTES = 64
WORD_BYTES = 8
_IDS_NAMED = 20
_EXACT_BITS = 53
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


@attrs.define(eq=False)
class Untold:
    """Frames that definitions could not tell, added up over many calls of `decode_frames`.

    Attributes:
        unknown: Frames by id that no definition knows.
        short: Frames by message name that are too short for some of its signals.
    """

    unknown: Counter[int] = attrs.field(factory=Counter)
    short: Counter[str] = attrs.field(factory=Counter)

    def add(self, decoded: DecodedFrames) -> None:
        """Take in what one call could not tell."""
        self.unknown.update(decoded.unknown)
        self.short.update(decoded.short)

    def reason(self) -> tuple[str, str]:
        """Code and words for the ledger; empty where everything was told."""
        said = []
        if self.unknown:
            ids = sorted(self.unknown.items(), key=lambda item: -item[1])
            words = ", ".join(f"{can_id:#x}: {count}" for can_id, count in ids[:_IDS_NAMED])
            said.append(f"{self.unknown.total()} frames of {len(ids)} unknown ids ({words})")
        if self.short:
            words = ", ".join(f"{name}: {count}" for name, count in sorted(self.short.items()))
            said.append(f"frames shorter than their message ({words})")
        code = "NO_DEFINITION" if self.unknown else "SHORT_FRAME" if self.short else ""
        return code, "; ".join(said)


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
    every = _payloads(frames)
    signals: list[SignalSamples] = []
    unknown: dict[int, int] = {}
    short: dict[str, int] = {}
    for key, places in _by_key(keys):
        rows = chosen[places]
        can_id, extended = key & 0x1FFFFFFF, bool(key & EXTENDED)
        found = _message_for(definitions.get((key >> 40) - 1, ()), can_id, is_extended=extended)
        if found is None:
            unknown[can_id] = unknown.get(can_id, 0) + len(rows)
            continue
        message, digest = found
        lengths = frames.lengths[rows]
        cut = int(np.count_nonzero(lengths < message.length))
        if cut:
            short[message.name] = short.get(message.name, 0) + cut
        matrix = every[rows].view(np.uint8).reshape(len(rows), -1)
        for signal, there, samples in decode_message(message, matrix, lengths=lengths):
            carried = rows if there is None else rows[there]
            signals.append(SignalSamples(signal, message, digest, carried, samples))
    return DecodedFrames(tuple(signals), unknown, short)


def _by_key(keys: Int64Array) -> Iterator[tuple[int, Int64Array]]:
    """Yield each key that occurs with its places in their order, ascending by key."""
    if not len(keys):
        return
    coded = pa.array(keys).dictionary_encode()
    codes = coded.indices.to_numpy()
    unique = coded.dictionary.to_numpy()
    if len(unique) <= 1 << 16:
        codes = codes.astype(np.uint16)  # which sorts by radix
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(unique)))
    parts = np.split(order, ends[:-1])
    for code in np.argsort(unique).tolist():
        yield int(unique[code]), parts[code]


def _message_for(
    definitions: Sequence[BusDefinition], can_id: int, *, is_extended: bool
) -> tuple[MessageDefinition, str] | None:
    for definition in definitions:
        message = definition.message_for(can_id, is_extended=is_extended)
        if message is not None:
            return message, definition.hash
    return None


def _payloads(frames: CanFrames) -> npt.NDArray[np.generic]:
    """(N,) of 8 bytes or more: payloads side by side; what is behind a short one is arbitrary.

    Read in the order of the file, they come from memory once; what follows picks from the cache.
    """
    longest = int(frames.lengths.max(initial=0))
    width = min(-(-max(longest, 1) // WORD_BYTES) * WORD_BYTES, MAX_DATA_BYTES)
    arena = frames.arena
    if len(frames.starts) and int(frames.starts.max()) + width > len(arena):
        arena = np.concatenate([arena, np.zeros(width, np.uint8)])
    return windows(arena, f"V{width}")[frames.starts]


def decode_message(
    message: MessageDefinition, matrix: UInt8Array, *, lengths: Int64Array
) -> Iterator[tuple[SignalDefinition, Int64Array | None, Samples]]:
    """Yield each signal that a frame carries, with the rows that do, and their samples.

    Args:
        message: The definition.
        matrix: (N, B) uint8, payloads; B at least 8.
        lengths: (N,) int64, bytes that are there; a signal that ends behind them is not.

    Yields:
        Signal, (M,) int64 rows or None for all of them, M samples.
    """
    shortest = int(lengths.min(initial=MAX_DATA_BYTES))
    present: dict[str, Mask] = {}
    selectors: dict[str, Int64Array] = {}
    needed = {signal.selector for signal in message.signals}
    parts: dict[tuple[object, ...], _Part] = {}
    whole = _Part(matrix, rooms=2 * len(message.signals))
    for signal in message.signals:
        is_cut = signal.last_byte >= min(shortest, matrix.shape[1])
        key = (signal.selector, signal.selected_by, signal.last_byte if is_cut else -1)
        if key not in parts:
            there = lengths > (signal.last_byte if is_cut else -1)
            if signal.last_byte >= matrix.shape[1]:
                there = np.zeros(len(matrix), bool)
            if signal.selector:
                there = there & _selected(signal, present, selectors)
            parts[key] = whole if there.all() else _Part(matrix, np.flatnonzero(there))
        part = parts[key]
        if signal.name in needed:
            there = np.ones(len(matrix), bool)
            if part.rows is not None:
                there = np.zeros(len(matrix), bool)
                there[part.rows] = True
            present[signal.name] = there
            is_inside = signal.last_byte < matrix.shape[1]
            raw = _number(signal, matrix).astype(np.int64) if is_inside else np.zeros(1, np.int64)
            selectors[signal.name] = raw
        if len(part.matrix):
            yield signal, part.rows, _samples(signal, part)


def _selected(
    signal: SignalDefinition, present: Mapping[str, Mask], selectors: Mapping[str, Int64Array]
) -> Mask:
    """Which rows' selector has a value with which the signal is there; none if it is unknown."""
    if signal.selector not in present:
        return np.zeros(1, bool)
    wanted = np.array(signal.selected_by, np.int64)
    return present[signal.selector] & np.isin(selectors[signal.selector], wanted)


class _Part:
    """Payloads of the frames that carry the same signals, and the words that these share.

    Attributes:
        rows: (M,) int64, which of the payloads; None for all of them.
        matrix: (M, B) uint8.
    """

    def __init__(
        self, matrix: UInt8Array, rows: Int64Array | None = None, *, rooms: int = 2
    ) -> None:
        self.rows = rows
        self._rooms = rooms
        self._free: list[npt.NDArray[np.float64]] = []
        self.matrix = matrix if rows is None else matrix[rows]
        self._words: dict[tuple[int, bool], npt.NDArray[np.uint64]] = {}

    def room(self) -> npt.NDArray[np.float64]:
        """(M,) to be filled; many at a time are cheaper."""
        if not self._free:
            self._free = list(room_for(self._rooms, len(self.matrix)))
        return self._free.pop()

    def raw(self, signal: SignalDefinition) -> npt.NDArray[np.float64]:
        """(M,) float64, raw numbers of a signal."""
        out = self.room()
        size, first = signal.bit_count // 8, signal.byte_offset
        if signal.is_float or signal.bit_count > 64 - 8:
            out[:] = _number(signal, self.matrix)
        elif not signal.bit_offset and signal.bit_count in (8, 16, 32):
            kind = f"{'>' if signal.is_big_endian else '<'}{'i' if signal.is_signed else 'u'}{size}"
            out[:] = self.matrix[:, first : first + size].view(kind)[:, 0]
        else:
            out[:] = self._shifted(signal)
        return out

    def _shifted(self, signal: SignalDefinition) -> Int64Array:
        """(M,) int64 of less than 57 bits, which 8 bytes from its first one on hold."""
        begin = min(signal.byte_offset, self.matrix.shape[1] - WORD_BYTES)
        word = self._word(begin, is_big_endian=signal.is_big_endian)
        below = 8 * (signal.byte_offset - begin)
        if signal.is_big_endian:
            below = 8 * (begin + WORD_BYTES - 1 - signal.last_byte)
        below += signal.bit_offset
        above = 64 - signal.bit_count
        if signal.is_signed:
            return (word << np.uint64(above - below)).view(np.int64) >> np.int64(above)
        return (word >> np.uint64(below) & np.uint64((1 << signal.bit_count) - 1)).view(np.int64)

    def _word(self, begin: int, *, is_big_endian: bool) -> npt.NDArray[np.uint64]:
        found = self._words.get((begin, is_big_endian))
        if found is None:
            columns = self.matrix[:, begin : begin + WORD_BYTES]
            found = columns.view(">u8" if is_big_endian else "<u8")[:, 0].astype(np.uint64)
            self._words[begin, is_big_endian] = found
        return found


def _number(
    signal: SignalDefinition, matrix: UInt8Array
) -> npt.NDArray[np.int64] | npt.NDArray[np.uint64] | npt.NDArray[np.float64]:
    """(N,) raw numbers of a signal of any layout, in the type that holds them."""
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


def _samples(signal: SignalDefinition, part: _Part) -> Samples:
    raw = part.raw(signal)
    value = raw
    if signal.scale != 1 or signal.offset:
        with np.errstate(all="ignore"):
            value = np.multiply(raw, signal.scale, out=part.room())
            if signal.offset:
                np.add(value, signal.offset, out=value)
    if not signal.choices:
        return Samples(value, always(len(raw)), no_text(len(raw)), (), raw)
    number = raw if signal.bit_count <= _EXACT_BITS else _number(signal, part.matrix)
    text = _choice_of(number, np.array(list(signal.choices)))
    return Samples(value, text < 0, text, tuple(signal.choices.values()), raw)


def _choice_of(number: npt.NDArray[np.generic], choices: npt.NDArray[np.generic]) -> Int64Array:
    """(N,) which choice each raw number is, -1 for none."""
    order = np.argsort(choices, kind="stable")
    at = np.minimum(np.searchsorted(choices[order], number), len(choices) - 1)
    chosen = order[at]
    return np.where(choices[chosen] == number, chosen, -1)
