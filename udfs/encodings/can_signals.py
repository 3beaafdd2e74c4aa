"""The signals of a message as fields of its payload, and what is read of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array, UInt8Array
from udfs.encodings import can_kernels
from udfs.encodings.dbc import MessageDefinition, SignalDefinition
from udfs.encodings.fields import FIELD, FLOAT, RUN, SIGNED, UNSIGNED, Fields, read_integers
from udfs.encodings.samples import Samples, always, no_text

_EXACT_BITS = 53


@attrs.frozen(eq=False)
class SignalLayout:
    """Some signals of a message as fields of its payload.

    Attributes:
        value: Which output has the physical values of each; the first outputs have its raw numbers,
            and where the two are equal both.
        slots: Outputs of all of them.
        range: Which of the bitmaps says that each lies in its range, -1 where it has none.
        maps: Bitmaps of all of them.
        runs: The first of the signals, and how many, whose values are one behind the other.
        named: Which of the signals have choices.
        names: Of the signals.
        units: Of each, None for none.
    """

    signals: tuple[SignalDefinition, ...]
    fields: Fields
    value: tuple[int, ...]
    slots: int
    range: tuple[int, ...]
    maps: int
    runs: tuple[tuple[int, int], ...]
    named: tuple[int, ...]
    names: tuple[str, ...]
    units: tuple[str | None, ...]


@attrs.frozen(eq=False)
class SignalBlock:
    """Signals of a message that the same N frames carry.

    Attributes:
        sequence: (N,) int64, of the frames.
        log_time_ns: (N,) int64, of the frames.
        numbers: (S, N) float64, raw numbers and physical values as `layout` counts them.
        bits: (R, bytes) uint8, whether physical values lie in their ranges, as `layout` counts.
        among: All frames, and which of them are of the message: those from one up to another.
        picked: (N,) which of these carry the signals; None for all.
        addresses: Of the first bytes of `sequence`, `log_time_ns`, `numbers` and `bits`.
    """

    message: MessageDefinition
    definition_hash: str
    layout: SignalLayout
    sequence: Int64Array
    log_time_ns: Int64Array
    numbers: npt.NDArray[np.float64]
    bits: UInt8Array
    among: tuple[can_kernels.PlacedFrames, int, int]
    picked: Int64Array | None
    addresses: tuple[int, int, int, int]

    def __len__(self) -> int:
        """N."""
        return len(self.log_time_ns)

    @property
    def rows(self) -> Int64Array:
        """(N,) int64, the frames; they are looked for each time."""
        placed, start, stop = self.among
        found = placed.order()[start:stop]
        return found if self.picked is None else found[self.picked]

    def payloads(self) -> UInt8Array:
        """(N, B) uint8."""
        placed, start, stop = self.among
        found = placed.payloads[start:stop]
        return found if self.picked is None else found[self.picked]

    @property
    def signals(self) -> tuple[SignalDefinition, ...]:
        """The signals."""
        return self.layout.signals

    def samples(self, at: int) -> Samples:
        """Samples of one of the signals."""
        signal, count = self.signals[at], len(self.log_time_ns)
        raw, value = self.numbers[at], self.numbers[self.layout.value[at]]
        if not signal.choices:
            return Samples(value, always(count), no_text(count), (), raw)
        text = _choices_of(signal, raw, self)
        return Samples(value, text < 0, text, tuple(signal.choices.values()), raw)


@functools.lru_cache(maxsize=8192)
def layout_of(message: MessageDefinition, members: tuple[int, ...] | None) -> SignalLayout:
    """Some signals of a message, or all, and where their numbers go: first the raw ones.

    Raises:
        UnsupportedFormatError: UNSUPPORTED_TYPE, a number of more than 64 bits.
    """
    chosen = message.signals if members is None else tuple(message.signals[i] for i in members)
    fields = fields_of(chosen)
    values, free = [], len(chosen)
    ranges: list[int] = []
    maps = 0
    for at, signal in enumerate(chosen):
        has_rule = signal.scale != 1 or bool(signal.offset)
        fields[at]["raw_slot"], fields[at]["value_slot"] = at, free if has_rule else -1
        values.append(free if has_rule else at)
        free += has_rule
        has_range = signal.range is not None
        ranges.append(maps if has_range else -1)
        maps += has_range
        if signal.range is not None:
            fields[at]["range_slot"] = maps
            fields[at]["low"], fields[at]["high"] = signal.range
    return SignalLayout(
        signals=chosen,
        fields=fields,
        value=tuple(values),
        slots=free,
        range=tuple(ranges),
        maps=maps,
        runs=tuple(_following(values)),
        named=tuple(at for at, signal in enumerate(chosen) if signal.choices),
        names=tuple(signal.name for signal in chosen),
        units=tuple(signal.unit or None for signal in chosen),
    )


def _following(values: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[at - 1] + 1:
            yield first, at - first
            first = at


def fields_of(signals: Sequence[SignalDefinition]) -> Fields:
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
    exact = read_integers(block.payloads(), fields_of([signal]))[0]
    number = exact if signal.is_signed or signal.bit_count < 64 else exact.view(np.uint64)
    return _choice_of(number, np.array(list(signal.choices)))


def _choice_of(number: npt.NDArray[np.generic], choices: npt.NDArray[np.generic]) -> Int64Array:
    """(N,) which choice each raw number is, -1 for none."""
    order = np.argsort(choices, kind="stable")
    at = np.minimum(np.searchsorted(choices[order], number), len(choices) - 1)
    chosen = order[at]
    return np.where(choices[chosen] == number, chosen, -1)


@functools.lru_cache(maxsize=64)
def runs_of(layouts: tuple[SignalLayout, ...]) -> tuple[Fields, npt.NDArray[np.void]]:
    """Fields of all layouts, and runs that have them."""
    runs = np.zeros(len(layouts), RUN)
    if not layouts:
        return np.zeros(0, FIELD), runs
    runs["fields"] = [len(layout.fields) for layout in layouts]
    runs["field"] = np.cumsum(runs["fields"]) - runs["fields"]
    runs["slots"] = [layout.slots for layout in layouts]
    runs["maps"] = [layout.maps for layout in layouts]
    return np.concatenate([layout.fields for layout in layouts]), runs
