"""The walker: reads one message type out of many messages, in one pass of udfs/native/ros.c.

A program becomes a list of numbers that the kernel steps through for each message; it writes the
values into memory by column, and here they become Arrow arrays.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.columns import arrow_type, list_type, stored_type, struct_column
from udfs.encodings.layout import (
    Item,
    Leaf,
    ManyItem,
    Node,
    NumbersItem,
    Program,
    Run,
    TextItem,
)
from udfs.native.library import address_of, library, owned

_RUN, _TEXT, _NUMBERS, _MANY = range(4)
_SWAPPED = 16
_KINDS = {
    "?": 0, "i1": 0, "i2": 1, "i4": 2, "f4": 2, "i8": 3, "f8": 3, "u1": 4, "u2": 5, "u4": 6,
    "u8": 7, "i4u4": 8, "u4u4": 9, "i4i4": 10,
}  # fmt: skip
_COPY1, _U1 = 0, 4
_NO_MEMORY, _TOO_LARGE = -1, -2
_NOTHING = pa.py_buffer(b"")

OTHER_HEADER = "OTHER_HEADER"
_FAULTS = (
    ("", ""),
    ("SHORT_PAYLOAD", "payload ends {} bytes early"),
    ("BAD_LENGTH", "a length of {} exceeds its message"),
    ("BAD_UTF8", "a string is not UTF-8"),
    ("BAD_UTF16", "a wide string is not UTF-16"),
    ("TRAILING_BYTES", "{} bytes are left behind the last field"),
    ("SHORT_PAYLOAD", "no CDR header"),
    (OTHER_HEADER, ""),
)

_COLUMN = np.dtype(
    [(name, np.int64) for name in ("data", "size", "room", "offsets", "level", "width", "is_list")]
)
_LEVEL = np.dtype([(name, np.int64) for name in ("rows", "room", "parent")])
_BAD = np.dtype([(name, np.int64) for name in ("message", "fault", "detail")])


@attrs.frozen(eq=False)
class Walk:
    """What a walk over N messages has found.

    Attributes:
        rows: (M,) rows of the program's column type; None where there are none.
        index: (M,) int64, which message each row is of, in the order given.
        bad: Message, error class and error of each other one.
    """

    rows: pa.Array | None
    index: Int64Array
    bad: list[tuple[int, str, str]]


@attrs.frozen(eq=False)
class _Code:
    """A program as the kernel takes it.

    Attributes:
        words: (W,) int64.
        columns: (C,) of `_COLUMN`, as they are before a walk.
        levels: (L,) of `_LEVEL`, likewise.
    """

    words: Int64Array
    columns: npt.NDArray[np.void]
    levels: npt.NDArray[np.void]


def walk(
    program: Program,
    arena: UInt8Array,
    starts: Int64Array,
    lengths: Int64Array,
    *,
    order: str,
    rows: Int64Array | None = None,
    header: int | None = None,
    text_end: int = 0,
    padding: int | None = None,
) -> Walk:
    """Read messages out of an arena; a bad one has the class of its first fault.

    Args:
        program: The message type.
        arena: (B,) uint8.
        starts: (N,) int64, start of each payload in the arena.
        lengths: (N,) int64, bytes of each payload.
        order: Byte order of the numbers, "<" or ">".
        rows: Which messages to read; all by default.
        header: The representation identifier that a CDR message is to have; one that has another
            is bad with class OTHER_HEADER. None where messages have no CDR header.
        text_end: Bytes that close a string and are not part of it: 1 in CDR, 0 in ROS 1.
        padding: How many bytes may be left behind the last field; any number by default, else
            more are TRAILING_BYTES.

    Raises:
        MemoryError: There is none left.
        OverflowError: A column of more than 2^31 - 1 elements.
    """
    code = _code(program, is_swapped=order == ">")
    count = len(starts) if rows is None else len(rows)
    columns, levels = code.columns.copy(), code.levels.copy()
    good, bad = np.empty(count, np.int64), np.empty(count, _BAD)
    starts, lengths = np.ascontiguousarray(starts), np.ascontiguousarray(lengths)
    done = _kernel()(
        address_of(code.words), program.min_size,
        address_of(columns), len(columns), address_of(levels), len(levels),
        address_of(arena), len(arena), address_of(starts), address_of(lengths),
        None if rows is None else address_of(np.ascontiguousarray(rows)), count,
        -1 if header is None else header, int(order == ">"), text_end,
        -1 if padding is None else padding, address_of(good), address_of(bad),
    )  # fmt: skip
    found = _Columns(columns, levels)
    if done < 0:
        raise _ERRORS[done]
    faults = [
        (message, _FAULTS[fault][0], _FAULTS[fault][1].format(detail))
        for message, fault, detail in bad[: count - done].tolist()
    ]
    return Walk(found.array(program) if done else None, good[:done], faults)


_ERRORS = {
    _NO_MEMORY: MemoryError("decoded messages do not fit the memory"),
    _TOO_LARGE: OverflowError("a column of more than 2^31 - 1 elements"),
    -3: ValueError("a message lies outside its arena"),
}


@functools.cache
def _kernel() -> ctypes._NamedFuncPointer:
    kernel = library().ros_read
    address, number = ctypes.c_void_p, ctypes.c_int64
    kernel.argtypes = (
        *(address, number, address, number, address, number),  # program, columns, levels
        *(address, number, address, address, address, number),  # arena, messages
        *(number, number, number, number, address, address),  # how to read, outcome
    )
    kernel.restype = number
    return kernel


# A program for the kernel


@functools.lru_cache(maxsize=512)
def _code(program: Program, *, is_swapped: bool) -> _Code:
    encoder = _Encoder(_SWAPPED if is_swapped else 0)
    words = encoder.program(program, 0)
    columns = np.zeros(len(encoder.columns), _COLUMN)
    for column, (level, width, is_list) in zip(columns, encoder.columns, strict=True):
        column["level"], column["width"], column["is_list"] = level, width, is_list
    levels = np.zeros(len(encoder.parents), _LEVEL)
    levels["parent"] = encoder.parents
    return _Code(np.array(words, np.int64), columns, levels)


@attrs.define
class _Encoder:
    """Makes the words of a program, and numbers columns and levels in their order.

    Attributes:
        swapped: Added to the kind of numbers whose byte order is not the machine's.
        columns: Of each column: level, bytes of a row or of an element, whether it has offsets.
        parents: Of each level, the column whose offsets count its rows.
    """

    swapped: int
    columns: list[tuple[int, int, int]] = attrs.field(factory=list)
    parents: list[int] = attrs.field(factory=lambda: [-1])

    def program(self, program: Program, level: int) -> list[int]:
        words = [len(program.items)]
        for item in program.items:
            words += self._item(item, level)
        return words

    def _item(self, item: Item, level: int) -> list[int]:
        first = len(self.columns)
        if isinstance(item, Run):
            return self._run(item, level)
        if isinstance(item, TextItem):
            self.columns.append((level, 1, 1))
            return [_TEXT, item.align, item.width, first]
        if isinstance(item, NumbersItem):
            leaf = item.leaf
            width = 0 if item.pointer else _width(leaf, is_bytes=leaf.code == "u1")
            self.columns += [(level, 8, 0)] * 2 if item.pointer else [(level, width, 1)]
            kind = self._kind(leaf, is_bytes=leaf.code == "u1")
            return [_NUMBERS, item.align, kind, leaf.item_size, leaf.align, width, first]
        self.columns.append((level, 0, 1))
        inner = len(self.parents)
        self.parents.append(first)
        size = -1 if item.size is None else item.size
        words = self.program(item.program, inner)
        head = [_MANY, item.align, size, item.program.min_size, inner, first, len(words)]
        return [*head, *words]

    def _run(self, run: Run, level: int) -> list[int]:
        words = [_RUN, *run.sizes, len(run.leaves)]
        for i, leaf in enumerate(run.leaves):
            is_bytes = _is_bytes(leaf)
            kind = self._kind(leaf, is_bytes=is_bytes)
            words += [kind, leaf.count or 1, leaf.columns, len(self.columns)]
            words += [offsets[i] for offsets in run.offsets]
            width = _width(leaf, is_bytes=is_bytes)
            if leaf.columns == 1:
                width *= 1 if leaf.count is None else leaf.count
            self.columns += [(level, width, 0)] * leaf.columns
        return words

    def _kind(self, leaf: Leaf, *, is_bytes: bool) -> int:
        kind = _COPY1 if is_bytes else _KINDS[leaf.code + leaf.nanoseconds]
        return kind if kind in (_COPY1, _U1) else kind + self.swapped


def _is_bytes(leaf: Leaf) -> bool:
    """Whether an array makes one value of bytes, rather than a list of numbers."""
    return leaf.code == "u1" and leaf.count is not None and leaf.columns == 1


def _width(leaf: Leaf, *, is_bytes: bool) -> int:
    """Bytes of a number in its column."""
    if is_bytes:
        return 1
    if leaf.nanoseconds:
        return 8
    return 16 if leaf.code == "u8" else stored_type(leaf.code).itemsize


# Columns of a walk


class _Columns:
    """Takes the memory that the kernel has filled, and makes arrays of it.

    All of it has an owner from the start, whatever becomes of the arrays.
    """

    def __init__(self, columns: npt.NDArray[np.void], levels: npt.NDArray[np.void]) -> None:
        self._rows: list[int] = levels["rows"].tolist()
        self._level = columns["level"].tolist()
        self._buffers = [
            (
                owned(data, size if is_list else self._rows[level] * width) if data else _NOTHING,
                owned(offsets, 4 * (self._rows[level] + 1)) if offsets else _NOTHING,
            )
            for data, size, _, offsets, level, width, is_list in columns.tolist()
        ]
        self._next = 0

    def array(self, program: Program, *, rows: int | None = None) -> pa.Array:
        """The rows of a program, whose columns come next."""
        if rows is None:
            rows = self._rows[0]
        arrays = [one for item in program.items for one in self._item(item, rows)]
        return _assembled(program.root, arrays, rows=rows)

    def _taken(self) -> tuple[pa.Buffer, pa.Buffer]:
        self._next += 1
        return self._buffers[self._next - 1]

    def _item(self, item: Item, rows: int) -> Iterator[pa.Array]:
        if isinstance(item, Run):
            for leaf in item.leaves:
                yield from self._leaf(leaf, rows)
        elif isinstance(item, TextItem):
            data, offsets = self._taken()
            yield pa.Array.from_buffers(pa.string(), rows, [None, offsets, data])
        elif isinstance(item, NumbersItem):
            yield from self._sequence(item, rows)
        else:
            yield self._many(item, rows)

    def _leaf(self, leaf: Leaf, rows: int) -> Iterator[pa.Array]:
        code = "i8" if leaf.nanoseconds else leaf.code
        if leaf.columns != 1 or leaf.count is None:
            for _ in range(leaf.columns):
                yield _numbers(code, self._taken()[0], rows)
            return
        data, size = self._taken()[0], leaf.count
        ends = pa.py_buffer(np.arange(rows + 1, dtype=np.int32) * np.int32(size))
        if _is_bytes(leaf):
            yield pa.Array.from_buffers(pa.binary(), rows, [None, ends, data])
            return
        yield _listed(_numbers(code, data, rows * size), ends, rows)

    def _sequence(self, item: NumbersItem, rows: int) -> Iterator[pa.Array]:
        data, offsets = self._taken()
        if item.pointer:
            yield _numbers("i8", data, rows)
            yield _numbers("i8", self._taken()[0], rows)
            return
        leaf = item.leaf
        if leaf.code == "u1" and not leaf.nanoseconds:
            yield pa.Array.from_buffers(pa.binary(), rows, [None, offsets, data])
            return
        code = "i8" if leaf.nanoseconds else leaf.code
        count = data.size // _width(leaf, is_bytes=False)
        yield _listed(_numbers(code, data, count), offsets, rows)

    def _many(self, item: ManyItem, rows: int) -> pa.Array:
        _, offsets = self._taken()
        inner = int(np.frombuffer(offsets, np.int32)[rows])
        return _listed(self.array(item.program, rows=inner), offsets, rows)


def _numbers(code: str, data: pa.Buffer, rows: int) -> pa.Array:
    if code == "?":
        return pa.array(np.frombuffer(data, np.uint8, rows) != 0)
    return pa.Array.from_buffers(arrow_type(code), rows, [None, data])


def _listed(values: pa.Array, offsets: pa.Buffer, rows: int) -> pa.Array:
    kind = list_type(values.type)
    return pa.Array.from_buffers(kind, rows, [None, offsets], children=[values])


def _assembled(node: Node, columns: list[pa.Array], *, rows: int) -> pa.Array:
    """Nest columns as the node says."""
    if isinstance(node, int):
        return columns[node]
    names = [name for name, _ in node]
    children = [_assembled(child, columns, rows=rows) for _, child in node]
    return struct_column(names, children, rows=rows)
