"""The columns of many Protocol Buffers messages at once, where their bytes are as writers put them.

Writers put fields in the order of their numbers, each at most once. Fields are read in that order
from all messages in step: one gather gives the tag and the first bytes of the value. A message
whose bytes do not end where its last field does (fields in another order, unknown, repeated ones,
damage, maps, groups) is left to a parser that takes them all; nothing is decided here.

Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.columns import gather_bytes, number_column, offsets_of, stored_type, windows

Mask = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]
Rows = Int64Array | slice
_Spans = tuple[Int64Array, Int64Array, Mask]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_REACH_BYTES = 24
"""How far behind a message's end a gather may look."""
_FEW, _MANY_STEPS = 64, 64
"""Fewer messages than this are not stepped through more elements than this."""
_STOPS = np.uint64(0x8080808080808080)
_ONE, _SEVEN_BITS = np.uint64(1), np.uint64(0x7F)
_LOW_BITS = {"i4": np.uint64(0xFFFFFFFF), "i8": np.uint64(0xFFFFFFFFFFFFFFFF)}
_FOLDS = (
    (np.uint64(0x007F007F007F007F), np.uint64(0x7F007F007F007F00), np.uint64(1)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(0x3FFF00003FFF0000), np.uint64(2)),
    (np.uint64(0x000000000FFFFFFF), np.uint64(0x0FFFFFFF00000000), np.uint64(4)),
)
_NS = 1_000_000_000


@attrs.frozen(eq=False)
class Field:
    """A field as its bytes stand in a message.

    Attributes:
        number: Of the field.
        type: Arrow type of its column.
        place: Which column of the message it is.
        wire: Wire type of a value.
        code: numpy code of a number, else "": text, bytes or a message.
        is_zigzag: Whether a varint holds its sign in the lowest bit.
        is_repeated: Whether the column is of lists.
        is_packed: Whether a repeated number stands in one run of bytes.
        has_presence: Whether an absent value is null, rather than zero or empty.
        oneof: Name of the group of which at most one field is there, else "".
        values: The values that a closed enumeration has.
        message: Fields of a message.
        is_instant: Whether the message is seconds and nanoseconds, and one number here.
        is_read: Whether it is read here; a message that has another is left out.
    """

    number: int
    type: pa.DataType
    place: int = 0
    wire: int = LENGTH
    code: str = ""
    is_zigzag: bool = False
    is_repeated: bool = False
    is_packed: bool = False
    has_presence: bool = False
    oneof: str = ""
    values: tuple[int, ...] = ()
    message: tuple[Field, ...] | None = None
    is_instant: bool = False
    is_read: bool = True

    @property
    def element_type(self) -> pa.DataType:
        """Arrow type of one value."""
        return self.type.value_type if self.is_repeated else self.type

    @property
    def tag(self) -> tuple[np.uint64, np.uint64, int]:
        """The tag's bytes as they stand in a little-endian word, their mask, and how many."""
        left = self.number << 3 | (LENGTH if self.is_packed else self.wire)
        parts = []
        while left > 127:
            parts.append(left & 127 | 128)
            left >>= 7
        data = bytes([*parts, left])
        mask = (1 << 8 * len(data)) - 1
        return np.uint64(int.from_bytes(data, "little")), np.uint64(mask), len(data)


@attrs.define(eq=False)
class _Cursor:
    """Messages, or elements, that are read in step.

    Attributes:
        at: (N,) int64, where each is read next in the arena.
        end: (N,) int64, where it ends.
        left_out: (N,) which are for another parser; they stand at their end.
    """

    at: Int64Array
    end: Int64Array
    left_out: Mask = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.left_out = np.zeros(len(self.at), np.bool_)

    def leave_out(self, rows: Int64Array | Mask) -> None:
        """Give up on some."""
        self.left_out[rows] = True
        self.at[rows] = self.end[rows]


def read_messages(
    fields: Sequence[Field], arena: UInt8Array, *, starts: Int64Array, lengths: Int64Array
) -> tuple[list[pa.Array], Int64Array]:
    """Read messages.

    Args:
        fields: Of the message, by number.
        arena: (B,) uint8.
        starts: (N,) int64, where each message starts in the arena.
        lengths: (N,) int64, its bytes.

    Returns:
        Columns of the M messages that were read, in the order of the fields, and (M,) int64 which
        ones these are, ascending.
    """
    rows = np.flatnonzero(starts + lengths + _REACH_BYTES <= len(arena))
    if len(rows) < len(starts):
        starts, lengths = starts[rows], lengths[rows]
    cursor = _Cursor(starts.copy(), starts + lengths)
    columns = _Reader(arena).message(fields, cursor)
    if cursor.left_out.any():
        kept = np.flatnonzero(~cursor.left_out)
        columns, rows = [column.take(pa.array(kept)) for column in columns], rows[kept]
    return columns, rows


class _Reader:
    def __init__(self, arena: UInt8Array) -> None:
        self._arena = arena
        self._words: Words = windows(arena, "<u8").view(np.uint64)

    def message(self, fields: Sequence[Field], cursor: _Cursor) -> list[pa.Array]:
        """The columns of all; what can't be read here is left out, its row holds anything."""
        columns: list[pa.Array] = [None] * len(fields)
        seen: dict[str, Mask] = {}
        for field in fields:
            before = cursor.at.copy() if field.oneof else cursor.at
            columns[field.place] = self._column(field, cursor)
            if field.oneof:
                here = cursor.at != before
                known = seen.get(field.oneof, np.zeros(len(here), np.bool_))
                cursor.leave_out(here & known)
                seen[field.oneof] = here | known
        cursor.leave_out(cursor.at != cursor.end)
        return columns

    def _column(self, field: Field, cursor: _Cursor) -> pa.Array:
        if not field.is_read:
            return _absent(field, len(cursor.at))
        if field.is_packed:
            return self._packed(field, cursor)
        if field.is_repeated:
            return self._repeated(field, cursor)
        return self._single(field, cursor)

    def _find(self, field: Field, cursor: _Cursor) -> tuple[Mask | None, Rows, Words]:
        """Where the field comes next: mask (None: everywhere), rows, words that its tags begin."""
        tag, mask, _ = field.tag
        words = self._words[cursor.at]
        here = ((words & mask) == tag) & (cursor.at < cursor.end)
        if here.all():
            return None, slice(None), words
        rows = np.flatnonzero(here)
        return here, rows, words[rows]

    def _single(self, field: Field, cursor: _Cursor) -> pa.Array:
        if field.wire == LENGTH:
            return self._delimited(field, cursor)
        here, rows, word = self._find(field, cursor)
        values, after = self._numbers(field, cursor.at[rows], cursor.end[rows], word)
        cursor.at[rows] = after
        if here is not None:
            whole = np.zeros(len(here), values.dtype)
            whole[rows] = values
            values = whole
        if field.values:
            wrong = ~np.isin(values, field.values)
            cursor.leave_out(wrong if here is None else wrong & here)
        return _with_nulls(number_column(values, code=field.code), here, field)

    def _numbers(
        self, field: Field, at: Int64Array, end: Int64Array, word: Words
    ) -> tuple[npt.NDArray[np.generic], Int64Array]:
        """Numbers behind the tags that begin the words, and where they end.

        One that is no number ends behind its message.
        """
        width = field.tag[2]
        if field.wire == FIXED32:
            number = word >> np.uint64(8 * width) if width <= 4 else self._words[at + width]
            bits = number.astype(np.uint32)
            return bits.view(_fixed(field.code)).astype(stored_type(field.code)), at + width + 4
        if field.wire == FIXED64:
            found = self._words[at + width].view(_fixed(field.code))
            return found.astype(stored_type(field.code), copy=False), at + width + 8
        values, sizes = self._varints(word >> np.uint64(8 * width), at + width, known=8 - width)
        after = at + width + sizes
        if not sizes.all():
            after = np.where(sizes > 0, after, end + 1)
        return _of_varints(field, values), after

    def _varints(self, word: Words, at: Int64Array, *, known: int) -> tuple[Words, Int64Array]:
        """Varints at positions, and their sizes: 0 for more than 64 bits.

        The words hold `known` bytes of each.
        """
        if not (word & np.uint64(0x80)).any():
            return word & _SEVEN_BITS, np.ones(len(at), np.int64)
        limit = np.uint64((1 << 8 * known) - 1)
        stops = ~word & _STOPS & limit
        if not stops.all():
            word = self._words[at]
            stops = ~word & _STOPS
        is_long = stops == 0
        low = stops & (~stops + _ONE)
        word = word & (low | (low - _ONE)) & ~_STOPS
        for even, odd, shift in _FOLDS:
            word = (word & even) | ((word & odd) >> shift)
        sizes = (np.bitwise_count(low - _ONE).astype(np.int64) + 1) >> 3
        if is_long.any():
            rows = slice(None) if is_long.all() else np.flatnonzero(is_long)
            ninth, tenth = (self._arena[at[rows] + i].astype(np.uint64) for i in (8, 9))
            is_tenth = ninth > _SEVEN_BITS
            top = (ninth & _SEVEN_BITS) << np.uint64(56)
            top |= np.where(is_tenth, tenth << np.uint64(63), np.uint64(0))
            word[rows] |= top
            sizes[rows] = np.where(is_tenth & (tenth > _ONE), 0, 9 + is_tenth)
        return word, sizes

    def _span(self, field: Field, at: Int64Array, end: Int64Array, word: Words) -> _Spans:
        """What a length stands before: start, size, and whether it ends with its message."""
        width = field.tag[2]
        found, used = self._varints(word >> np.uint64(8 * width), at + width, known=8 - width)
        starts = at + width + used
        left = np.maximum(end - starts, 0).astype(np.uint64)
        return starts, found.view(np.int64), (used > 0) & (starts <= end) & (found <= left)

    def _find_spans(
        self, field: Field, cursor: _Cursor
    ) -> tuple[Mask | None, Rows, Int64Array, Int64Array]:
        """Where the field comes next, and the bytes behind its length; moves on behind them."""
        while True:
            here, rows, word = self._find(field, cursor)
            starts, sizes, is_sound = self._span(field, cursor.at[rows], cursor.end[rows], word)
            if is_sound.all():
                cursor.at[rows] = starts + sizes
                return here, rows, starts, sizes
            cursor.leave_out(np.arange(len(cursor.at))[rows][~is_sound])

    def _delimited(self, field: Field, cursor: _Cursor) -> pa.Array:
        """Column of texts, bytes or messages."""
        here, rows, starts, sizes = self._find_spans(field, cursor)
        if field.message is not None:
            inner = _Cursor(starts.copy(), starts + sizes)
            values = self._structs(field, inner)
            cursor.leave_out(np.arange(len(cursor.at))[rows][inner.left_out])
            if here is None:
                return values
            return values.take(pa.array(np.cumsum(here) - 1, mask=~here))
        if here is not None:
            whole = np.zeros(len(here), np.int64)
            whole[rows] = sizes
            starts, sizes = cursor.at - whole, whole
        return _with_nulls(self._bytes(field, cursor, starts, sizes), here, field)

    def _structs(self, field: Field, inner: _Cursor) -> pa.Array:
        """Messages as structs; instants as nanoseconds."""
        assert field.message is not None
        columns = self.message(field.message, inner)
        if field.is_instant:
            seconds, nanoseconds = (column.to_numpy() for column in columns)
            limit = (1 << 63) // _NS - 1
            inner.leave_out((seconds > limit) | (seconds < -limit))
            with np.errstate(over="ignore"):
                return pa.array(seconds * _NS + nanoseconds)
        kind = field.element_type
        if not columns:
            columns = [pa.nulls(len(inner.at), kind.field(0).type)]
        return pa.StructArray.from_arrays(columns, fields=list(kind))

    def _bytes(
        self, field: Field, cursor: _Cursor, starts: Int64Array, sizes: Int64Array
    ) -> pa.Array:
        data = gather_bytes(self._arena, starts, sizes)
        if field.element_type != pa.string():
            return data
        try:
            return data.cast(pa.string())
        except pa.ArrowInvalid:
            bad = np.array([not _is_text(value) for value in data.to_pylist()])
            cursor.leave_out(bad)
            return gather_bytes(self._arena, starts, np.where(bad, 0, sizes)).cast(pa.string())

    # Repeated fields

    def _repeated(self, field: Field, cursor: _Cursor) -> pa.Array:
        if field.is_packed:
            return self._packed(field, cursor)
        counts, owner, starts, sizes, numbers = self._elements(field, cursor)
        inner = _Cursor(starts.copy(), starts + sizes)
        if field.wire != LENGTH:
            values = number_column(numbers, code=field.code)
            if field.values:
                inner.leave_out(~np.isin(numbers, field.values))
        elif field.message is not None:
            values = self._structs(field, inner)
        else:
            values = self._bytes(field, inner, starts, sizes)
        cursor.leave_out(owner[inner.left_out])
        return _lists(field, values, counts)

    def _elements(
        self, field: Field, cursor: _Cursor
    ) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, npt.NDArray[np.generic]]:
        """Of all elements, by message: counts of each message, owner, start, size, number."""
        tag, mask, _ = field.tag
        active: Int64Array = np.arange(len(cursor.at))
        found: list[tuple[Int64Array, Int64Array, Int64Array, npt.NDArray[np.generic]]] = []
        while True:
            at = cursor.at[active]
            word = self._words[at]
            here = ((word & mask) == tag) & (at < cursor.end[active])
            if not here.all():
                active, word, at = active[here], word[here], at[here]
            if not len(active):
                break
            if len(found) >= _MANY_STEPS and len(active) < _FEW:
                cursor.leave_out(active)
                break
            if field.wire == LENGTH:
                starts, sizes, is_sound = self._span(field, at, cursor.end[active], word)
                if not is_sound.all():
                    cursor.leave_out(active[~is_sound])
                    active, starts, sizes = active[is_sound], starts[is_sound], sizes[is_sound]
                cursor.at[active] = starts + sizes
                found.append((active, starts, sizes, sizes))
            else:
                numbers, after = self._numbers(field, at, cursor.end[active], word)
                cursor.at[active] = after
                found.append((active, at, at, numbers))
        return _by_owner(found, len(cursor.at), stored_type(field.code or "i8"))

    def _packed(self, field: Field, cursor: _Cursor) -> pa.Array:
        _, rows, starts, sizes = self._find_spans(field, cursor)
        count = len(cursor.at)
        is_cut = sizes % 4 != 0 if field.wire == FIXED32 else sizes % 8 != 0
        if field.wire == VARINT:
            is_cut = (sizes > 0) & (self._arena[starts + sizes - 1] > _SEVEN_BITS)
        if is_cut.any():
            cursor.leave_out(np.arange(count)[rows][is_cut])
            sizes = np.where(is_cut, 0, sizes)
        data = gather_bytes(self._arena, starts, sizes).buffers()[2]
        flat = np.frombuffer(data or b"", np.uint8)[: int(sizes.sum())]
        if field.wire == VARINT:
            values, counts, is_sound = self._packed_varints(field, flat, sizes)
        else:
            values = flat.view(_fixed(field.code)).astype(stored_type(field.code))
            counts = sizes // (4 if field.wire == FIXED32 else 8)
            is_sound = np.ones(len(values), np.bool_)
        whole = np.zeros(count, np.int64)
        whole[rows] = counts
        if field.values:
            is_sound = is_sound & np.isin(values, field.values)
        if not np.all(is_sound):
            cursor.leave_out(np.repeat(np.arange(count), whole)[~is_sound])
        return _lists(field, number_column(values, code=field.code), whole)

    @staticmethod
    def _packed_varints(
        field: Field, flat: UInt8Array, sizes: Int64Array
    ) -> tuple[npt.NDArray[np.generic], Int64Array, Mask]:
        """Varints that fill spans of `sizes` bytes: values, how many a span, which are sound."""
        stops = flat <= _SEVEN_BITS
        upto = np.concatenate([np.zeros(1, np.int64), np.cumsum(stops)])
        ends = np.cumsum(sizes)
        counts = upto[ends] - upto[ends - sizes]
        after = np.flatnonzero(stops) + 1
        starts = np.concatenate([np.zeros(min(len(after), 1), np.int64), after[:-1]])
        padded = np.concatenate([flat, np.zeros(_REACH_BYTES, np.uint8)])
        reader = _Reader(padded)
        words, used = reader._varints(reader._words[starts], starts, known=8)
        return _of_varints(field, words), counts, used == after - starts


def _by_owner(
    found: Sequence[tuple[Int64Array, Int64Array, Int64Array, npt.NDArray[np.generic]]],
    rows: int,
    kind: np.dtype[np.generic],
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, npt.NDArray[np.generic]]:
    """The k-th elements of all messages, for each k, put in order by message."""
    counts = np.zeros(rows, np.int64)
    for owner, *_ in found:
        counts[owner] += 1
    first = np.cumsum(counts) - counts
    total = int(counts.sum())
    starts, sizes, numbers = (
        np.empty(total, np.int64),
        np.empty(total, np.int64),
        np.empty(total, kind),
    )
    for k, (owner, start, size, number) in enumerate(found):
        place = first[owner] + k
        starts[place], sizes[place], numbers[place] = start, size, number
    return counts, np.repeat(np.arange(rows), counts), starts, sizes, numbers


def _lists(field: Field, values: pa.Array, counts: Int64Array) -> pa.Array:
    offsets = pa.array(offsets_of(counts), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, type=field.type)


def _absent(field: Field, rows: int) -> pa.Array:
    """The column of a field that no message has."""
    if not field.is_repeated:
        return pa.nulls(rows, field.type)
    return _lists(field, pa.nulls(0, field.element_type), np.zeros(rows, np.int64))


def _with_nulls(column: pa.Array, here: Mask | None, field: Field) -> pa.Array:
    """The column, null where the field is absent and that means something."""
    if here is None or not field.has_presence:
        return column
    valid = pa.py_buffer(np.packbits(here, bitorder="little"))
    return pa.Array.from_buffers(column.type, len(column), [valid, *column.buffers()[1:]])


def _of_varints(field: Field, words: Words) -> npt.NDArray[np.generic]:
    """Numbers of the field's type, cut to its bits, as `number_column` takes them."""
    if field.code == "?":
        return (words != 0).astype(np.uint8)
    if field.is_zigzag:
        words = (words & _LOW_BITS[field.code]) >> _ONE ^ (~(words & _ONE) + _ONE)
    is_short = field.code in ("i4", "u4")
    bits: npt.NDArray[np.generic] = words.astype(np.uint32) if is_short else words
    return bits.view(field.code).astype(stored_type(field.code), copy=False)


def _fixed(code: str) -> np.dtype[np.generic]:
    return np.dtype(code).newbyteorder("<")


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
