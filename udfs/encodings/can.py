"""CAN frames to signal samples: sorted by id, then one shift and mask for each signal.

Source: Vector DBC file format (bit numbering, multiplexing); ISO 11898-1 (data length codes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings import can_kernels
from udfs.encodings.can_columns import PackedFrames, Payloads, pack_frames
from udfs.encodings.can_signals import SignalBlock, fields_of, layout_of, runs_of
from udfs.encodings.dbc import EXTENDED, BusDefinition, MessageDefinition, SignalDefinition
from udfs.encodings.fields import map_bytes, read_fields, read_runs
from udfs.encodings.samples import Mask, Samples
from udfs.memory.arena import new_array, new_bytes
from udfs.native.library import address_of

MAX_DATA_BYTES = 64
WORD_BYTES = 8
LEAST_ALONE = 512
"""Rows that are worth a batch of their own."""
ROUND_ROWS = 256
"""Batches of a multiple of these many rows share their columns of one value with each other."""
_IDS_NAMED = 20
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

    def packed(self) -> PackedFrames:
        """The frames as columns."""
        return pack_frames(
            {
                "id": self.can_id,
                "extended": self.is_extended,
                "fd": self.is_fd,
                "remote": self.is_remote,
                "error": self.is_error,
                "dlc": self.dlc,
                "sent": self.is_transmitted,
                "bus": self.bus,
            },
            Payloads(self.arena, self.starts, self.lengths),
            log_time_ns=self.log_time_ns,
            sequence=self.sequence,
        )


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
            SignalSamples(signal, one.message, one.definition_hash, rows, one.samples(at))
            for one in self.blocks
            for rows in [one.rows]
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
    """Frames of one id, one behind the other, and the message that they carry.

    Attributes:
        code: The number of the id.
        shortest: Bytes of the shortest of their payloads.
    """

    message: MessageDefinition
    definition_hash: str
    code: int
    start: int
    stop: int
    shortest: int


def decode_frames(
    frames: PackedFrames, definitions: Mapping[int, Sequence[BusDefinition]]
) -> DecodedFrames:
    """Decode every data frame that a definition of its bus knows.

    Args:
        frames: Frames of any buses, in any order.
        definitions: By bus (-1: unknown bus), the first that knows an id decodes it.
    """
    numbered = can_kernels.number_keys(frames)
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
        told.append(_Told(*found, code, end, end + count, int(numbered.shortest[code])))
        end += count
    if not told:
        return DecodedFrames((), unknown, {})
    width = _payload_bytes(frames.longest)
    placed = can_kernels.sort_frames(
        frames,
        numbered,
        [one.code for one in told],
        width=width,
        has_lengths=any(_is_cut(one) or not _is_whole(one, width) for one in told),
    )
    short: dict[str, int] = {}
    for one in told:
        if placed.lengths is not None and _is_cut(one):
            cut = int(np.count_nonzero(placed.lengths[one.start : one.stop] < one.message.length))
            short[one.message.name] = short.get(one.message.name, 0) + cut
    return DecodedFrames(tuple(_blocks(told, placed)), unknown, short)


def buses_of(frames: PackedFrames) -> list[int]:
    """The buses that frames are of, ascending; told at once where it is one, as it is mostly."""
    low, high = frames.buses
    if low >= high:
        return [low] if low == high else []
    return [int(one) for one in np.unique(frames.bus)]


def _message_for(
    definitions: Sequence[BusDefinition], can_id: int, *, is_extended: bool
) -> tuple[MessageDefinition, str] | None:
    for definition in definitions:
        message = definition.message_for(can_id, is_extended=is_extended)
        if message is not None:
            return message, definition.hash
    return None


def _payload_bytes(longest: int) -> int:
    """Bytes that hold the longest payload, in whole words."""
    longest = max(longest, 1)
    return min(-(-longest // WORD_BYTES) * WORD_BYTES, MAX_DATA_BYTES)


def _blocks(told: Sequence[_Told], placed: can_kernels.PlacedFrames) -> Iterator[SignalBlock]:
    """All signals; those of messages that every frame carries whole are read together."""
    width = placed.payloads.shape[1]
    whole = [one for one in told if _is_whole(one, width)]
    read: dict[int, list[SignalBlock]] = {one.code: [] for one in whole}
    for code, block in _whole_blocks(whole, placed):
        read[code].append(block)
    for one in told:
        if one.code in read:
            yield from read[one.code]
            continue
        for members, rows in _parts(one, placed):
            if rows is None or len(rows):
                yield _block(one, placed, members, rows)


def _whole_blocks(
    told: Sequence[_Told], placed: can_kernels.PlacedFrames
) -> Iterator[tuple[int, SignalBlock]]:
    """Messages all of whose frames carry all signals, in one memory, with their codes."""
    pieces = [(one, *span) for one in told for span in _spans(one)]
    layouts = [layout_of(one.message, None) for one, _, _ in pieces]
    fields, runs = runs_of(tuple(layouts))
    runs = runs.copy()
    runs["first"] = [start for _, start, _ in pieces]
    runs["rows"] = [stop - start for _, start, stop in pieces]
    sizes = runs["slots"] * runs["rows"]
    spans = runs["maps"] * (-(-runs["rows"] // 64) * 8)
    runs["out"], runs["bits"] = np.cumsum(sizes) - sizes, np.cumsum(spans) - spans
    numbers, bits = new_array(int(sizes.sum())), new_bytes(int(spans.sum()))
    read_runs(placed.payloads, runs, fields, numbers, bits)
    at = [address_of(one) for one in (placed.sequence, placed.log_time_ns, numbers, bits)]
    for (one, start, stop), layout, run in zip(pieces, layouts, runs.tolist(), strict=True):
        _, rows, _, _, slots, out, maps, first = run
        size = map_bytes(rows)
        yield (
            one.code,
            SignalBlock(
                one.message,
                one.definition_hash,
                layout,
                placed.sequence[start:stop],
                placed.log_time_ns[start:stop],
                numbers[out : out + slots * rows].reshape(slots, rows),
                bits[first : first + maps * size].reshape(maps, size),
                (placed, start, stop),
                None,
                (at[0] + 8 * start, at[1] + 8 * start, at[2] + 8 * out, at[3] + first),
            ),
        )


def _spans(one: _Told) -> Iterator[tuple[int, int]]:
    """Frames of a message in pieces: of many first a round number, and then the rest."""
    count = one.stop - one.start
    middle = one.start + (count // ROUND_ROWS * ROUND_ROWS if count >= LEAST_ALONE else 0)
    if middle > one.start:
        yield one.start, middle
    if middle < one.stop:
        yield middle, one.stop


def _is_cut(one: _Told) -> bool:
    """Whether some frames are shorter than their message."""
    return one.shortest < one.message.length


def _is_whole(one: _Told, width: int) -> bool:
    """Whether every frame carries every signal; `width` bytes are taken of each."""
    if any(signal.selector for signal in one.message.signals):
        return False
    last = max((signal.last_byte for signal in one.message.signals), default=-1)
    return last < min(one.shortest, width)


def _block(
    one: _Told,
    placed: can_kernels.PlacedFrames,
    members: tuple[int, ...],
    picked: Int64Array | None,
) -> SignalBlock:
    """Read some signals of some frames of a message, all by default."""
    layout = layout_of(one.message, members)
    span = slice(one.start, one.stop)
    sequence, times = placed.sequence[span], placed.log_time_ns[span]
    if picked is not None:
        sequence, times = sequence[picked], times[picked]
    numbers = new_array(layout.slots, len(times))
    bits = np.empty((layout.maps, map_bytes(len(times))), np.uint8)
    read_fields(placed.payloads[span], layout.fields, numbers, picked=picked, bits=bits)
    return SignalBlock(
        one.message,
        one.definition_hash,
        layout,
        sequence,
        times,
        numbers,
        bits,
        (placed, one.start, one.stop),
        picked,
        (address_of(sequence), address_of(times), address_of(numbers), address_of(bits)),
    )


def _parts(
    one: _Told, placed: can_kernels.PlacedFrames
) -> Iterator[tuple[tuple[int, ...], Int64Array | None]]:
    """Signals that the same frames carry, by their positions in the message, and those frames.

    A multiplexed signal is there where its selector is and has one of its values; one that ends
    behind the payload is not.
    """
    assert placed.lengths is not None
    span = slice(one.start, one.stop)
    payloads, lengths = placed.payloads[span], placed.lengths[span]
    width = payloads.shape[1]
    limit = min(one.shortest, width)
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
        selector, among = fields_of([above[0]]), above[1]
        wanted = np.array(sorted(signal.selected_by), np.int64)
    rows = can_kernels.carrying_rows(
        payloads, lengths, last_byte=last_byte, among=among, selector=selector, wanted=wanted
    )
    return None if len(rows) == len(payloads) else rows
