"""The walker: reads one message type out of many messages at once, field by field.

A position is one number while all messages have the same layout, and an array of one number per
message once they differ; elements of a sequence are read as messages of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.columns import (
    bytes_column,
    gather_bytes,
    list_column,
    number_column,
    stored_type,
    struct_column,
    windows,
)
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
from udfs.encodings.stepper import stepper

BLOCK_BYTES = 256 << 10
_IN_STEP_ABOVE = 64
"""Messages that must, on the average, have a k-th element for a step over all of them to pay."""


class BadRowsError(Exception):
    """Some messages don't hold what their type says; the walk starts again without them.

    Attributes:
        rows: (K,) int64 their numbers.
        error_class: SHORT_PAYLOAD, BAD_LENGTH or BAD_UTF8.
    """

    def __init__(self, rows: Int64Array, error_class: str, error: str) -> None:
        super().__init__(error)
        self.rows = np.unique(rows)
        self.error_class = error_class
        self.error = error


@attrs.define(eq=False)
class Scope:
    """Messages, or elements, that are read in step.

    Attributes:
        base: (N,) int64, start of each message in the arena; alignment counts from here.
        limit: (N,) int64, bytes of each message from `base`.
        position: Where each is read next, from `base`: one for all, or (N,) int64.
        owner: (N,) int64, the message that each element belongs to; None for messages.
        min_limit: The smallest of `limit`.
    """

    base: Int64Array
    limit: Int64Array
    position: int | Int64Array = 0
    owner: Int64Array | None = None
    min_limit: int = attrs.field(
        default=attrs.Factory(lambda self: int(self.limit.min(initial=1 << 62)), takes_self=True)
    )

    def blame(self, mask: npt.NDArray[np.bool_], error_class: str, error: str) -> BadRowsError:
        """The error that names the messages that the masked elements belong to."""
        rows = np.flatnonzero(mask)
        return BadRowsError(rows if self.owner is None else self.owner[rows], error_class, error)

    def need(self, size: int | Int64Array) -> None:
        """Check that `size` bytes are left everywhere, else raise BadRowsError SHORT_PAYLOAD."""
        end = self.position + size
        if isinstance(end, int) and end <= self.min_limit:
            return
        short = end > self.limit
        if short.any():
            what = f"payload ends {int((end - self.limit).max())} bytes early"
            raise self.blame(short, "SHORT_PAYLOAD", what)

    def align(self, size: int) -> None:
        """Move on to the next multiple of `size`, a power of two."""
        if size > 1:
            self.position = (self.position + (size - 1)) & -size

    def here(self) -> Int64Array:
        """(N,) positions in the arena."""
        return self.base + self.position


@attrs.define(eq=False)
class Walker:
    """Reads a program out of one arena.

    Attributes:
        arena: (B,) uint8.
        order: Byte order of the numbers, "<" or ">".
        text_end: Bytes that close a string and are not part of it: 1 in CDR, 0 in ROS 1.
    """

    arena: UInt8Array
    order: str
    text_end: int

    def read(self, program: Program, scope: Scope) -> pa.Array:
        """Read the program everywhere: (N,) rows of its column type.

        Raises:
            BadRowsError: SHORT_PAYLOAD, BAD_LENGTH, BAD_UTF8 or BAD_UTF16, with the messages.
        """
        columns: list[pa.Array] = []
        for item in program.items:
            columns.extend(self._item(item, scope))
        return assemble(program.root, columns, rows=len(scope.base))

    @staticmethod
    def need_end(scope: Scope, padding: int) -> None:
        """Check that at most `padding` bytes are left; raises BadRowsError TRAILING_BYTES."""
        left = scope.limit - scope.position
        if (left > padding).any():
            what = f"{int(left.max())} bytes are left behind the last field"
            raise scope.blame(left > padding, "TRAILING_BYTES", what)

    def _item(self, item: Item, scope: Scope) -> Iterator[pa.Array]:
        if isinstance(item, Run):
            return self._run(item, scope)
        if isinstance(item, TextItem):
            return iter((self._text(item, scope),))
        if isinstance(item, NumbersItem):
            return self._numbers(item, scope)
        return iter((self._many(item, scope),))

    # Runs of fixed size

    def _run(self, run: Run, scope: Scope) -> Iterator[pa.Array]:
        if isinstance(scope.position, int):
            start = scope.position & 7
            yield from self._fixed(run.leaves, run.offsets[start], run.sizes[start], scope)
            return
        for piece in run.pieces or (run,):
            scope.align(piece.align)
            yield from self._fixed(piece.leaves, piece.offsets[0], piece.sizes[0], scope)

    def _fixed(
        self, leaves: tuple[Leaf, ...], offsets: tuple[int, ...], size: int, scope: Scope
    ) -> Iterator[pa.Array]:
        """Gather the run in blocks that stay in the cache, then split it into columns."""
        scope.need(size)
        rows = len(scope.base)
        wanted = [(leaf, at) for leaf, at in zip(leaves, offsets, strict=True) if leaf.columns]
        values = [_storage(leaf, rows) for leaf, _ in wanted]
        if size and wanted:
            here, records = scope.here(), windows(self.arena, f"V{size}")
            step = max(BLOCK_BYTES // size, 1)
            for first in range(0, rows, step):
                block = records[here[first : first + step]]
                for (leaf, at), column in zip(wanted, values, strict=True):
                    self._copy(leaf, block, at, column[first : first + step])
        scope.position = scope.position + size
        for (leaf, _), column in zip(wanted, values, strict=True):
            yield from _fixed_columns(leaf, column, rows=rows)

    def _copy(
        self, leaf: Leaf, block: npt.NDArray[np.generic], at: int, out: npt.NDArray[np.generic]
    ) -> None:
        """Copy a leaf of each record of the block to its column."""
        if leaf.count and leaf.columns == 1 and out.dtype == np.dtype(self.order + leaf.code):
            whole = f"V{leaf.size}"  # an array as one value is copied at once, not by number
            items = np.ndarray(len(out), whole, buffer=block, offset=at, strides=block.itemsize)
            out.view(whole)[:, 0] = items
            return
        strides = (block.itemsize,) if leaf.count is None else (block.itemsize, leaf.item_size)

        def part(code: str, offset: int) -> npt.NDArray[np.generic]:
            kind = "u1" if code == "?" else self.order + code
            return np.ndarray(out.shape, kind, buffer=block, offset=offset, strides=strides)

        if leaf.nanoseconds:
            half = np.dtype(leaf.code).itemsize
            np.multiply(part(leaf.code, at), 1_000_000_000, out=out, dtype=np.int64)
            np.add(out, part(leaf.nanoseconds, at + half), out=out, dtype=np.int64)
        else:
            out[...] = part(leaf.code, at)

    # What varies

    def _length(self, align: int, scope: Scope) -> Int64Array | int:
        """Read an unsigned 32-bit length everywhere; one number where all are equal."""
        scope.align(align)
        scope.need(4)
        lengths = windows(self.arena, self.order + "u4")[scope.here()]
        scope.position = scope.position + 4
        if isinstance(scope.position, int) and len(lengths):
            first = lengths[0]
            if bool((lengths == first).all()):
                return int(first)
        return lengths.astype(np.int64)

    def _text(self, item: TextItem, scope: Scope) -> pa.Array:
        lengths = self._length(item.align, scope) * item.width
        self._check_count(lengths, 1, scope)
        starts = scope.here()
        end = self.text_end if item.width == 1 else 0
        shown = np.maximum(lengths, end) - end
        scope.position = scope.position + lengths
        data = gather_bytes(self.arena, starts, np.broadcast_to(shown, starts.shape))
        if item.width > 1:
            return self._wide_text(data, item.width, scope)
        try:
            return data.cast(pa.string())
        except pa.ArrowInvalid:
            bad = np.array([_decoded(value, "utf-8") is None for value in data.to_pylist()])
            raise scope.blame(bad, "BAD_UTF8", "a string is not UTF-8") from None

    def _wide_text(self, data: pa.BinaryArray, width: int, scope: Scope) -> pa.Array:
        """Text of UTF-16 units that take two bytes each, or four."""
        codec = "utf-16-le" if self.order == "<" else "utf-16-be"
        texts = []
        for value in data.to_pylist():
            units = np.frombuffer(value, f"{self.order}u{width}").astype(f"{self.order}u2")
            texts.append(_decoded(units.tobytes(), codec))
        bad = np.array([text is None for text in texts], np.bool_)
        if bad.any():
            raise scope.blame(bad, "BAD_UTF16", "a wide string is not UTF-16")
        return pa.array(texts, pa.string())

    def _numbers(self, item: NumbersItem, scope: Scope) -> Iterator[pa.Array]:
        counts = self._length(item.align, scope)
        leaf = item.leaf
        self._check_count(counts, leaf.item_size, scope)
        self._align_where(counts, leaf.align, scope)
        starts, lengths = scope.here(), counts * leaf.item_size
        scope.need(lengths)
        scope.position = scope.position + lengths
        if item.pointer:
            yield pa.array(starts)
            yield pa.array(np.array(np.broadcast_to(np.asarray(lengths), starts.shape)))
            return
        data = gather_bytes(self.arena, starts, np.broadcast_to(np.asarray(lengths), starts.shape))
        if leaf.code == "u1":
            yield data
            return
        yield self._list_of_numbers(leaf, data, counts)

    def _list_of_numbers(
        self, leaf: Leaf, data: pa.BinaryArray, counts: Int64Array | int
    ) -> pa.Array:
        rows = len(data)
        flat = np.frombuffer(data.buffers()[2] or b"", np.uint8)
        size = int(np.sum(counts)) if not isinstance(counts, int) else counts * rows
        flat = flat[: size * leaf.item_size]
        inner = attrs.evolve(leaf, count=None)
        values = _storage(inner, size)
        if size:
            self._copy(inner, flat.view(f"V{leaf.item_size}"), 0, values)
        (elements,) = _fixed_columns(inner, values, rows=size)
        if isinstance(counts, int):
            return list_column(elements, None, rows=rows, size=counts)
        return list_column(elements, counts, rows=rows)

    def _many(self, item: ManyItem, scope: Scope) -> pa.Array:
        rows = len(scope.base)
        counts = self._length(item.align, scope) if item.size is None else item.size
        self._check_count(counts, item.program.min_size, scope)
        flat = np.broadcast_to(np.asarray(counts, np.int64), (rows,))
        starts = self._element_starts(item.program, flat, scope)
        elements = self.read(item.program, _element_scope(scope, flat, starts))
        if isinstance(counts, int):
            return list_column(elements, None, rows=rows, size=counts)
        return list_column(elements, counts, rows=rows)

    def _check_count(self, counts: Int64Array | int, item_size: int, scope: Scope) -> None:
        """Refuse counts that can't fit in what is left of their messages."""
        end = counts * item_size + scope.position
        if isinstance(end, int) and end <= scope.min_limit:
            return
        left = scope.limit - scope.position
        wrong = np.asarray(counts) * item_size > left
        if wrong.any():
            what = f"a length of {int(np.max(counts))} exceeds its message"
            raise scope.blame(np.broadcast_to(wrong, left.shape), "BAD_LENGTH", what)

    @staticmethod
    def _align_where(counts: Int64Array | int, size: int, scope: Scope) -> None:
        """Align before elements; CDR has no padding where there is none to follow."""
        if isinstance(counts, int):
            if counts:
                scope.align(size)
        elif size > 1:
            aligned = (scope.position + (size - 1)) & -size
            scope.position = np.where(counts > 0, aligned, scope.position)

    # Finding the elements of a sequence

    def _element_starts(self, program: Program, counts: Int64Array, scope: Scope) -> Int64Array:
        """(M,) positions of all elements in order; moves the scope behind the last ones."""
        if program.sizes is not None:
            return _fixed_starts(program.sizes, counts, scope)
        positions = np.array(np.broadcast_to(np.asarray(scope.position, np.int64), counts.shape))
        if int(counts.sum()) < _IN_STEP_ABOVE * int(counts.max(initial=0)):
            starts = self._starts_one_by_one(program, counts, positions, scope)
        else:
            starts = self._starts_in_step(program, counts, positions, scope)
        scope.position = positions
        return starts

    def _starts_in_step(
        self, program: Program, counts: Int64Array, positions: Int64Array, scope: Scope
    ) -> Int64Array:
        """Step over the k-th element of every message that has one, for each k."""
        first = np.cumsum(counts) - counts
        starts = np.empty(int(counts.sum()), np.int64)
        for k in range(int(counts.max(initial=0))):
            active = np.flatnonzero(counts > k)
            owner = active if scope.owner is None else scope.owner[active]
            inner = Scope(scope.base[active], scope.limit[active], positions[active], owner)
            starts[first[active] + k] = inner.position
            for item in program.items:
                self._skip(item, inner)
            positions[active] = inner.position
        return starts

    def _skip(self, item: Item, scope: Scope) -> None:
        """Step over an item everywhere."""
        if isinstance(item, Run):
            scope.position = scope.position + np.asarray(item.sizes)[scope.position & 7]
            scope.need(0)
            return
        if isinstance(item, ManyItem) and item.size is not None:
            counts: Int64Array | int = item.size
        else:
            counts = self._length(item.align, scope)
        if isinstance(item, TextItem):
            self._check_count(counts, item.width, scope)
            scope.position = scope.position + counts * item.width
        elif isinstance(item, NumbersItem):
            self._check_count(counts, item.leaf.item_size, scope)
            self._align_where(counts, item.leaf.align, scope)
            scope.position = scope.position + counts * item.leaf.item_size
            scope.need(0)
        else:
            self._check_count(counts, item.program.min_size, scope)
            flat = np.broadcast_to(np.asarray(counts, np.int64), scope.base.shape)
            self._element_starts(item.program, flat, scope)

    def _starts_one_by_one(
        self, program: Program, counts: Int64Array, positions: Int64Array, scope: Scope
    ) -> Int64Array:
        """Step over the elements of each message in plain Python: few messages, many elements."""
        step = stepper(program, self.arena, self.order)
        starts: list[int] = []
        ends: list[int] = []
        rows = zip(
            scope.base.tolist(),
            scope.limit.tolist(),
            positions.tolist(),
            counts.tolist(),
            strict=True,
        )
        for row, (base, limit, position, count) in enumerate(rows):
            at = position
            for _ in range(count):
                starts.append(at)
                at = step(base, at, limit)
                if at > limit:
                    mask = np.arange(len(counts)) == row
                    raise scope.blame(mask, "BAD_LENGTH", "an element exceeds its message")
            ends.append(at)
        positions[:] = ends
        return np.array(starts, np.int64)


def assemble(node: Node, columns: list[pa.Array], *, rows: int) -> pa.Array:
    """Nest columns as the node says."""
    if isinstance(node, int):
        return columns[node]
    names = [name for name, _ in node]
    children = [assemble(child, columns, rows=rows) for _, child in node]
    return struct_column(names, children, rows=rows)


def _storage(leaf: Leaf, rows: int) -> npt.NDArray[np.generic]:
    """(rows,) or (rows, count) numbers, in memory by column where each makes a column."""
    kind = np.dtype(np.int64) if leaf.nanoseconds else stored_type(leaf.code)
    if leaf.count is None:
        return np.empty(rows, kind)
    if leaf.columns > 1:
        return np.empty((leaf.count, rows), kind).T
    return np.empty((rows, leaf.count), np.uint8 if leaf.code == "u1" else kind)


def _fixed_columns(leaf: Leaf, values: npt.NDArray[np.generic], *, rows: int) -> Iterator[pa.Array]:
    code = "i8" if leaf.nanoseconds else leaf.code
    if leaf.count is None:
        yield number_column(values, code=code)
    elif leaf.columns > 1:
        yield from (number_column(column, code=code) for column in values.T)
    elif leaf.code == "u1":
        yield bytes_column(values, np.arange(rows + 1, dtype=np.int32) * np.int32(leaf.count))
    else:
        flat = number_column(values.reshape(-1), code=code)
        yield list_column(flat, None, rows=rows, size=leaf.count)


def _fixed_starts(sizes: tuple[int, ...], counts: Int64Array, scope: Scope) -> Int64Array:
    """Positions of elements of fixed size: the first may be padded otherwise than the rest."""
    table = np.asarray(sizes, np.int64)
    position = np.asarray(scope.position, np.int64)
    second = position + table[position & 7]
    stride = table[second & 7]
    end = np.where(counts > 0, second + (counts - 1) * stride, position)
    is_even = isinstance(scope.position, int) and bool((counts == counts[:1]).all())
    scope.position = int(end[0]) if is_even and len(end) else end
    scope.need(0)
    total = int(counts.sum())
    ordinal = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    rest = second + (ordinal - 1) * stride if position.ndim == 0 else None
    if rest is None:
        rest = np.repeat(second, counts) + (ordinal - 1) * np.repeat(stride, counts)
        position = np.repeat(position, counts)
    return np.where(ordinal > 0, rest, position)


def _element_scope(scope: Scope, counts: Int64Array, starts: Int64Array) -> Scope:
    """Elements as a scope of their own: with one position for all where they are aligned alike."""
    owner = np.repeat(np.arange(len(counts)), counts)
    base, limit = scope.base[owner], scope.limit[owner]
    if scope.owner is not None:
        owner = scope.owner[owner]
    phase = int(starts[0]) & 7 if len(starts) else 0
    if bool(((starts & 7) == phase).all()):
        shift = starts - phase
        return Scope(base + shift, limit - shift, phase, owner)
    return Scope(base, limit, starts, owner)


def _decoded(value: bytes, codec: str) -> str | None:
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        return None
