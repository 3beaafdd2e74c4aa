"""CAN frames to signal samples: sorted by id, then one shift and mask for each signal.

Source: Vector DBC file format (bit numbering, multiplexing); ISO 11898-1 (data length codes).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array, UInt8Array
from udfs.encodings import can_kernels
from udfs.encodings.dbc import EXTENDED, BusDefinition, MessageDefinition, SignalDefinition
from udfs.encodings.fields import (
    FIELD,
    FLOAT,
    SIGNED,
    UNSIGNED,
    Fields,
    read_fields,
    read_integers,
)
from udfs.encodings.samples import Mask, Samples, always, no_text
from udfs.memory.arena import new_array

MAX_DATA_BYTES = 64
WORD_BYTES = 8
_IDS_NAMED = 20
_EXACT_BITS = 53
DATA_LENGTHS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64], np.int64)
"""Bytes by CAN FD data length code."""


def _numbers(array: npt.NDArray[np.generic]) -> Int64Array:
    """One number behind the other, as kernels read them."""
    return np.ascontiguousarray(array, np.int64)


def _flags(array: npt.NDArray[np.generic]) -> Mask:
    return np.ascontiguousarray(array, np.bool_)


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

    log_time_ns: Int64Array = attrs.field(converter=_numbers)
    sequence: Int64Array = attrs.field(converter=_numbers)
    bus: Int64Array = attrs.field(converter=_numbers)
    can_id: Int64Array = attrs.field(converter=_numbers)
    is_extended: Mask = attrs.field(converter=_flags)
    is_fd: Mask = attrs.field(converter=_flags)
    is_remote: Mask = attrs.field(converter=_flags)
    is_error: Mask = attrs.field(converter=_flags)
    dlc: Int64Array = attrs.field(converter=_numbers)
    arena: UInt8Array = attrs.field(converter=np.ascontiguousarray)
    starts: Int64Array = attrs.field(converter=_numbers)
    lengths: Int64Array = attrs.field(converter=_numbers)
    is_transmitted: Int64Array = attrs.field(converter=_numbers)


@attrs.frozen(eq=False)
class SignalSamples:
    """Samples of one signal of one message: `rows` are the frames that carried it."""

    signal: SignalDefinition
    message: MessageDefinition
    definition_hash: str
    rows: Int64Array
    samples: Samples


@attrs.frozen(eq=False)
class _Layout:
    """Some signals of a message as fields of its payload.

    Attributes:
        value: Which output has the physical values of each; the first outputs have its raw numbers,
            and where the two are equal both.
        slots: Outputs of all of them.
        runs: The first of the signals, and how many, whose values are one behind the other; one
            with choices is alone.
        names: Of the signals.
        units: Of each, empty for none.
    """

    signals: tuple[SignalDefinition, ...]
    fields: Fields
    value: tuple[int, ...]
    slots: int
    runs: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    units: tuple[str, ...]


@attrs.frozen(eq=False)
class SignalBlock:
    """Signals of a message that the same N frames carry.

    Attributes:
        rows: (N,) int64, the frames.
        sequence: (N,) int64, of the frames.
        log_time_ns: (N,) int64, of the frames.
        numbers: (S, N) float64, raw numbers and physical values as `layout` counts them.
        payloads: (M, B) uint8 and, where not all of these carry the signals, (N,) which do.
    """

    message: MessageDefinition
    definition_hash: str
    layout: _Layout
    rows: Int64Array
    sequence: Int64Array
    log_time_ns: Int64Array
    numbers: npt.NDArray[np.float64]
    payloads: tuple[UInt8Array, Int64Array | None]

    @property
    def signals(self) -> tuple[SignalDefinition, ...]:
        """The signals."""
        return self.layout.signals

    def samples(self, at: int) -> Samples:
        """Samples of one of the signals."""
        signal, count = self.signals[at], len(self.rows)
        raw, value = self.numbers[at], self.numbers[self.layout.value[at]]
        if not signal.choices:
            return Samples(value, always(count), no_text(count), (), raw)
        text = _choices_of(signal, raw, self)
        return Samples(value, text < 0, text, tuple(signal.choices.values()), raw)


@attrs.frozen(eq=False)
class DecodedFrames:
    """What the definitions make of the frames.

    Attributes:
        blocks: Samples by message, and within it by the frames that carry the same signals.
        unknown: Frames by id that no definition knows.
        short: Frames by message name that are too short for some of its signals.
    """

    blocks: tuple[SignalBlock, ...]
    unknown: Mapping[int, int]
    short: Mapping[str, int]

    @property
    def signals(self) -> tuple[SignalSamples, ...]:
        """Samples by signal."""
        return tuple(
            SignalSamples(signal, one.message, one.definition_hash, one.rows, one.samples(at))
            for one in self.blocks
            for at, signal in enumerate(one.signals)
        )


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


@attrs.frozen(eq=False)
class _Told:
    """Frames of one id, one behind the other, and the message that they carry."""

    message: MessageDefinition
    definition_hash: str
    start: int
    stop: int


def decode_frames(
    frames: CanFrames, definitions: Mapping[int, Sequence[BusDefinition]]
) -> DecodedFrames:
    """Decode every data frame that a definition of its bus knows.

    Args:
        frames: Frames of any buses, in any order.
        definitions: By bus (-1: unknown bus), the first that knows an id decodes it.
    """
    numbered = can_kernels.number_keys(frames)
    cursors = np.full(len(numbered.keys), -1, np.int64)
    told: list[_Told] = []
    unknown: dict[int, int] = {}
    end = 0
    for code in np.argsort(numbered.keys).tolist():
        key, count = int(numbered.keys[code]), int(numbered.counts[code])
        can_id, extended = key & 0x1FFFFFFF, bool(key & EXTENDED)
        found = _message_for(definitions.get((key >> 40) - 1, ()), can_id, is_extended=extended)
        if found is None:
            unknown[can_id] = unknown.get(can_id, 0) + count
            continue
        cursors[code] = end
        told.append(_Told(*found, end, end + count))
        end += count
    if not told:
        return DecodedFrames((), unknown, {})
    width = _payload_bytes(frames.lengths)
    placed = can_kernels.sort_frames(frames, numbered.codes, cursors, rows=end, width=width)
    short: dict[str, int] = {}
    for one in told:
        cut = int(np.count_nonzero(placed.lengths[one.start : one.stop] < one.message.length))
        if cut:
            short[one.message.name] = short.get(one.message.name, 0) + cut
    return DecodedFrames(tuple(_blocks(told, placed)), unknown, short)


def buses_of(frames: CanFrames) -> list[int]:
    """The buses that frames are of, ascending; told at once where it is one, as it is mostly."""
    bus = frames.bus
    if len(bus) and bus.min() == bus.max():
        return [int(bus[0])]
    return [int(one) for one in np.unique(bus)]


def _message_for(
    definitions: Sequence[BusDefinition], can_id: int, *, is_extended: bool
) -> tuple[MessageDefinition, str] | None:
    for definition in definitions:
        message = definition.message_for(can_id, is_extended=is_extended)
        if message is not None:
            return message, definition.hash
    return None


def _payload_bytes(lengths: Int64Array) -> int:
    """Bytes that hold the longest payload, in whole words."""
    longest = int(lengths.max(initial=1))
    return min(-(-longest // WORD_BYTES) * WORD_BYTES, MAX_DATA_BYTES)


def _blocks(told: Sequence[_Told], placed: can_kernels.PlacedFrames) -> Iterator[SignalBlock]:
    """All signals; those of messages that every frame carries whole share their memory."""
    whole = [_is_whole(one, placed) for one in told]
    slots = [
        _layout(one.message, None).slots * (one.stop - one.start) if is_whole else 0
        for one, is_whole in zip(told, whole, strict=True)
    ]
    room, used = new_array(sum(slots)), 0
    for one, is_whole, size in zip(told, whole, slots, strict=True):
        if is_whole:
            yield _block(one, placed, None, None, room[used : used + size])
            used += size
            continue
        for members, rows in _parts(one, placed):
            if rows is None or len(rows):
                yield _block(one, placed, members, rows)


def _is_whole(one: _Told, placed: can_kernels.PlacedFrames) -> bool:
    """Whether every frame carries every signal."""
    if any(signal.selector for signal in one.message.signals):
        return False
    shortest = int(placed.lengths[one.start : one.stop].min())
    last = max((signal.last_byte for signal in one.message.signals), default=-1)
    return last < min(shortest, placed.payloads.shape[1])


def _block(
    one: _Told,
    placed: can_kernels.PlacedFrames,
    members: tuple[int, ...] | None,
    picked: Int64Array | None,
    room: npt.NDArray[np.float64] | None = None,
) -> SignalBlock:
    """Read some signals, all by default, of some frames of a message, all by default."""
    layout = _layout(one.message, members)
    span = slice(one.start, one.stop)
    rows, sequence, times = placed.order[span], placed.sequence[span], placed.log_time_ns[span]
    if picked is not None:
        rows, sequence, times = rows[picked], sequence[picked], times[picked]
    shape = layout.slots, len(rows)
    numbers = new_array(*shape) if room is None else room.reshape(shape)
    payloads = placed.payloads[span]
    read_fields(payloads, layout.fields, numbers, picked=picked)
    return SignalBlock(
        one.message,
        one.definition_hash,
        layout,
        rows,
        sequence,
        times,
        numbers,
        (payloads, picked),
    )


def _parts(
    one: _Told, placed: can_kernels.PlacedFrames
) -> Iterator[tuple[tuple[int, ...], Int64Array | None]]:
    """Signals that the same frames carry, by their positions in the message, and those frames.

    A multiplexed signal is there where its selector is and has one of its values; one that ends
    behind the payload is not.
    """
    span = slice(one.start, one.stop)
    payloads, lengths = placed.payloads[span], placed.lengths[span]
    width = payloads.shape[1]
    limit = min(int(lengths.min()), width)
    needed = {signal.selector for signal in one.message.signals}
    carriers: dict[tuple[object, ...], Int64Array | None] = {}
    members: dict[tuple[object, ...], list[int]] = {}
    present: dict[str, tuple[SignalDefinition, Int64Array | None]] = {}
    none = np.empty(0, np.int64)
    for at, signal in enumerate(one.message.signals):
        last = signal.last_byte if signal.last_byte >= limit else -1
        key: tuple[object, ...] = (signal.selector, signal.selected_by, last)
        if key not in carriers:
            above = present.get(signal.selector)
            is_lost = last >= width or (signal.selector and above is None)
            carriers[key] = none if is_lost else _carriers(signal, above, payloads, lengths, last)
        rows = carriers[key]
        members.setdefault(() if rows is None else key, []).append(at)
        if signal.name in needed:
            present[signal.name] = signal, rows
    for which, group in members.items():
        yield tuple(group), carriers[which] if which else None


def _carriers(
    signal: SignalDefinition,
    above: tuple[SignalDefinition, Int64Array | None] | None,
    payloads: UInt8Array,
    lengths: Int64Array,
    last_byte: int,
) -> Int64Array | None:
    """Which frames carry a signal; None for all of them."""
    selector, among, wanted = None, None, None
    if above is not None:
        if above[1] is not None and not len(above[1]):
            return above[1]
        selector, among = _fields([above[0]]), above[1]
        wanted = np.array(sorted(signal.selected_by), np.int64)
    rows = can_kernels.carrying_rows(
        payloads, lengths, last_byte=last_byte, among=among, selector=selector, wanted=wanted
    )
    return None if len(rows) == len(payloads) else rows


@functools.lru_cache(maxsize=8192)
def _layout(message: MessageDefinition, members: tuple[int, ...] | None) -> _Layout:
    """Some signals of a message, or all, and where their numbers go: first the raw ones.

    Raises:
        UnsupportedFormatError: UNSUPPORTED_TYPE, a number of more than 64 bits.
    """
    chosen = message.signals if members is None else tuple(message.signals[i] for i in members)
    fields = _fields(chosen)
    values, free = [], len(chosen)
    for at, signal in enumerate(chosen):
        has_rule = signal.scale != 1 or bool(signal.offset)
        fields[at]["raw_slot"], fields[at]["value_slot"] = at, free if has_rule else -1
        values.append(free if has_rule else at)
        free += has_rule
    return _Layout(
        signals=chosen,
        fields=fields,
        value=tuple(values),
        slots=free,
        runs=tuple(_runs(chosen, values)),
        names=tuple(signal.name for signal in chosen),
        units=tuple(signal.unit for signal in chosen),
    )


def _runs(signals: Sequence[SignalDefinition], values: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = 0
    for at in range(1, len(signals) + 1):
        is_last = at == len(signals)
        has_choices = not is_last and (signals[at].choices or signals[at - 1].choices)
        if is_last or has_choices or values[at] != values[at - 1] + 1:
            yield first, at - first
            first = at


def _fields(signals: Sequence[SignalDefinition]) -> Fields:
    """(F,) `FIELD` without outputs."""
    fields = np.zeros(len(signals), FIELD)
    for field, signal in zip(fields, signals, strict=True):
        if signal.bit_count > 64 or (signal.is_float and signal.bit_count not in (16, 32, 64)):
            what = f"a number of {signal.bit_count} bits"
            raise UnsupportedFormatError(what, code="UNSUPPORTED_TYPE")
        field["byte_offset"], field["bit_offset"] = signal.byte_offset, signal.bit_offset
        field["bit_count"], field["is_big_endian"] = signal.bit_count, signal.is_big_endian
        field["kind"] = FLOAT if signal.is_float else SIGNED if signal.is_signed else UNSIGNED
        field["factor"], field["offset"] = signal.scale, signal.offset
        field["raw_slot"] = field["value_slot"] = -1
    return fields


def _choices_of(
    signal: SignalDefinition, raw: npt.NDArray[np.float64], block: SignalBlock
) -> Int64Array:
    """(N,) which choice each sample is, -1 for none; told by the bits where a double rounds."""
    if signal.is_float or signal.bit_count <= _EXACT_BITS:
        return _choice_of(raw, np.array(list(signal.choices)))
    payloads, picked = block.payloads
    chosen = payloads if picked is None else payloads[picked]
    exact = read_integers(chosen, _fields([signal]))[0]
    number = exact if signal.is_signed or signal.bit_count < 64 else exact.view(np.uint64)
    return _choice_of(number, np.array(list(signal.choices)))


def _choice_of(number: npt.NDArray[np.generic], choices: npt.NDArray[np.generic]) -> Int64Array:
    """(N,) which choice each raw number is, -1 for none."""
    order = np.argsort(choices, kind="stable")
    at = np.minimum(np.searchsorted(choices[order], number), len(choices) - 1)
    chosen = order[at]
    return np.where(choices[chosen] == number, chosen, -1)
