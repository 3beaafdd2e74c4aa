"""FlatBuffers messages, decoded from the binary schema that the recording carries.

A field of all messages is read at once: each finds its own vtable, and in it the place of the
field. Nothing is read from beyond a message; what leads there makes the message bad.

Source: https://flatbuffers.dev/internals; https://mcap.dev/spec/registry#flatbuffer
"""

from __future__ import annotations

import functools

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.recording import Int64Array, MessageBatch, Schema, UInt8Array
from udfs.encodings.columns import (
    gather_bytes,
    list_column,
    number_column,
    stored_type,
    struct_column,
    windows,
)
from udfs.encodings.flatbuffers_schema import (
    Array,
    Inline,
    Instant,
    Kind,
    Scalar,
    String,
    Table,
    Union,
    Vector,
    column_type,
    read_schema,
)
from udfs.encodings.payload import BadPayload, Decoded

Mask = npt.NDArray[np.bool_]

_NS = 1_000_000_000
_MOST_SHARING = 4
"""Times the bytes of a message that what it refers to may come to: references may be shared."""
_LEAST_VTABLE = 4


@attrs.frozen(eq=False)
class FlatbufferDecoder:
    """Decodes one root table.

    Attributes:
        root: The table.
        schema: Its columns: instants in `_ns`, absent strings, vectors, tables and structs null.
    """

    root: Table
    schema: pa.Schema

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message; errors are BAD_FLATBUFFER and BAD_UTF8."""
        walk = _Walk(batch)
        rows = walk.root(self.root)
        index = np.flatnonzero(~walk.is_bad)
        names = self.schema.names
        columns = [rows.field(at) for at in range(len(names))]
        table = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        if len(index) < len(walk.is_bad):
            table = table.take(pa.array(index))
        bad = tuple(BadPayload(row, *walk.reasons[row]) for row in sorted(walk.reasons))
        return Decoded(table, index, bad)


@functools.lru_cache(maxsize=256)
def flatbuffer_decoder(schema: Schema) -> FlatbufferDecoder:
    """Decoder from a bfbs.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION: no bfbs, or one of which no columns come.
    """
    root = read_schema(schema.data, name=schema.name)
    return FlatbufferDecoder(root, pa.schema(list(column_type(root))))


@attrs.define(eq=False)
class _Rows:
    """Places in the arena: of tables, strings or elements of one kind.

    Attributes:
        at: (R,) int64, where each is; anywhere where it is not there.
        owner: (R,) int64, the message it belongs to.
        there: (R,) whether it is there.
    """

    at: Int64Array
    owner: Int64Array
    there: Mask


class _Walk:
    """Reads all messages of a batch; a message found bad is read on as if it held nothing."""

    def __init__(self, batch: MessageBatch) -> None:
        self._arena: UInt8Array = batch.arena
        self._begin = batch.starts
        self._end = batch.starts + batch.lengths
        self._lengths = batch.lengths
        self.is_bad = np.zeros(len(batch.starts), np.bool_)
        self.reasons: dict[int, tuple[str, str]] = {}

    def root(self, table: Table) -> pa.StructArray:
        every = np.arange(len(self._begin))
        rows = _Rows(self._begin, every, np.ones(len(every), np.bool_))
        return self._table(table, self._followed(rows, "the root"))

    def _blame(self, rows: _Rows, wrong: Mask, words: str, code: str = "BAD_FLATBUFFER") -> None:
        """Mark the messages of some rows bad."""
        wrong = wrong & rows.there
        if not wrong.any():
            return
        for row in np.unique(rows.owner[wrong]).tolist():
            self.reasons.setdefault(row, (code, words))
        self.is_bad[rows.owner[wrong]] = True
        rows.there = rows.there & ~wrong

    def _number(self, code: str, at: Int64Array, there: Mask) -> npt.NDArray[np.generic]:
        """Numbers where there are some, anything elsewhere."""
        found = windows(self._arena, "u1" if code == "?" else f"<{code}")
        if not len(found):
            return np.zeros(len(at), code)
        return found[np.where(there, at, 0)]

    def _int(self, code: str, rows: _Rows) -> Int64Array:
        return self._number(code, rows.at, rows.there).astype(np.int64)

    def _inside(self, rows: _Rows, size: Int64Array | int, words: str) -> None:
        """Check that `size` bytes of each are inside its message."""
        below = rows.at < self._begin[rows.owner]
        self._blame(rows, below | (rows.at + size > self._end[rows.owner]), words)

    def _followed(self, rows: _Rows, words: str) -> _Rows:
        """Where the offsets that stand at the rows lead to."""
        rows = attrs.evolve(rows)
        self._inside(rows, 4, f"{words} leads out of the message")
        rows.at = rows.at + np.where(rows.there, self._int("u4", rows), 0)
        self._inside(rows, 4, f"{words} leads out of the message")
        return rows

    def _table(self, table: Table, rows: _Rows) -> pa.Array:
        """Struct column of tables, null where there is none."""
        vtable = attrs.evolve(rows, at=rows.at - self._int("i4", rows))
        self._inside(vtable, _LEAST_VTABLE, "a vtable lies out of the message")
        sizes = self._int("u2", vtable)
        self._blame(vtable, sizes < _LEAST_VTABLE, "a vtable is too short")
        self._inside(vtable, sizes, "a vtable ends out of the message")
        inline = self._int("u2", attrs.evolve(vtable, at=vtable.at + 2))
        body = attrs.evolve(rows, there=vtable.there)
        self._inside(body, inline, "a table ends out of the message")
        columns = []
        for field in table.fields:
            offsets = self._slots(vtable, sizes, field.offset)
            kind = field.kind
            if isinstance(kind, Union):
                types = self._slots(vtable, sizes, kind.type_at)
                columns.append(self._union(kind, body, offsets, types))
                continue
            width = _width(kind)
            present = attrs.evolve(body, at=body.at + offsets, there=body.there & (offsets > 0))
            self._blame(present, offsets + width > inline, "a field lies out of its table")
            columns.append(self._value(kind, present))
        return _struct([field.name for field in table.fields], columns, rows)

    def _slots(self, vtable: _Rows, sizes: Int64Array, offset: int) -> Int64Array:
        """What the vtables say of a field: its offset in the table, 0 where it is left out."""
        there = vtable.there & (offset + 2 <= sizes)
        found = self._number("u2", vtable.at + offset, there)
        return np.where(there, found, 0).astype(np.int64)

    def _union(self, union: Union, body: _Rows, offsets: Int64Array, types: Int64Array) -> pa.Array:
        """One column for each table that it may be, null where it is another one."""
        tag = attrs.evolve(body, at=body.at + types, there=body.there & (types > 0))
        self._inside(tag, 1, "the type of a union lies out of the message")
        which = np.where(tag.there, self._int("u1", tag), 0)
        columns = []
        for value, _, table in union.members:
            chosen = body.there & (offsets > 0) & (which == value)
            rows = attrs.evolve(body, at=body.at + offsets, there=chosen)
            columns.append(self._table(table, self._followed(rows, "a union")))
        return struct_column([name for _, name, _ in union.members], columns, rows=len(body.at))

    def _value(self, kind: Kind, rows: _Rows) -> pa.Array:
        if isinstance(kind, Scalar):
            return self._scalar(kind, rows)
        if isinstance(kind, Instant):
            return self._instant(kind, rows)
        if isinstance(kind, Inline):
            return self._inline(kind, rows)
        if isinstance(kind, Array):
            return self._array(kind, rows)
        target = self._followed(rows, "an offset")
        if isinstance(kind, Table):
            return self._table(kind, target)
        if isinstance(kind, String):
            return self._text(target)
        assert isinstance(kind, Vector)
        return self._vector(kind, target)

    def _scalar(self, kind: Scalar, rows: _Rows) -> pa.Array:
        self._inside(rows, _width(kind), "a number lies out of the message")
        found = self._number(kind.code, rows.at, rows.there)
        default = 0 if kind.default is None else kind.default
        stored = np.where(rows.there, found, np.array(default).astype(found.dtype))
        column = number_column(np.ascontiguousarray(stored, stored_type(kind.code)), code=kind.code)
        return column if kind.default is not None else _masked(column, rows.there)

    def _instant(self, kind: Instant, rows: _Rows) -> pa.Array:
        self._inside(rows, kind.size, "a time lies out of the message")
        seconds = self._number(kind.code, rows.at, rows.there).astype(np.int64)
        rest = self._number("u4", rows.at + 4, rows.there).astype(np.int64)
        return pa.array(np.where(rows.there, seconds * _NS + rest, 0), mask=~rows.there)

    def _inline(self, kind: Inline, rows: _Rows) -> pa.Array:
        self._inside(rows, kind.size, "a struct lies out of the message")
        columns = [
            self._value(field.kind, attrs.evolve(rows, at=rows.at + field.offset))
            for field in kind.fields
        ]
        return _struct([field.name for field in kind.fields], columns, rows)

    def _array(self, kind: Array, rows: _Rows) -> pa.Array:
        counts = np.where(rows.there, kind.count, 0)
        return self._elements(kind.element, rows, counts, kind.stride)

    def _text(self, rows: _Rows) -> pa.Array:
        data = self._bytes(rows)
        try:
            texts = data.cast(pa.string())
        except pa.ArrowInvalid:
            wrong = np.array([not _is_utf8(value) for value in data.to_pylist()], np.bool_)
            self._blame(rows, wrong, "a string is not UTF-8", "BAD_UTF8")
            shown = pc.if_else(pa.array(wrong), pa.scalar(b""), data)
            texts = shown.cast(pa.string())
        return _masked(texts, rows.there)

    def _bytes(self, rows: _Rows) -> pa.BinaryArray:
        lengths = np.where(rows.there, self._int("u4", rows), 0)
        self._inside(rows, 4 + lengths, "a vector ends out of the message")
        self._bounded(rows, lengths)
        lengths = np.where(rows.there, lengths, 0)
        return gather_bytes(self._arena, np.where(rows.there, rows.at + 4, 0), lengths)

    def _vector(self, kind: Vector, rows: _Rows) -> pa.Array:
        if kind.element == Scalar("u1"):
            return _masked(self._bytes(rows), rows.there)
        counts = np.where(rows.there, self._int("u4", rows), 0)
        width = _width(kind.element)
        self._inside(rows, 4 + counts * width, "a vector ends out of the message")
        self._bounded(rows, counts * width)
        counts = np.where(rows.there, counts, 0)
        body = attrs.evolve(rows, at=rows.at + 4)
        return self._elements(kind.element, body, counts, width)

    def _elements(self, kind: Kind, rows: _Rows, counts: Int64Array, stride: int) -> pa.Array:
        """Lists of elements that stand side by side from the rows on."""
        first = np.cumsum(counts) - counts
        ordinal = np.arange(int(counts.sum())) - np.repeat(first, counts)
        elements = _Rows(
            np.repeat(rows.at, counts) + ordinal * stride,
            np.repeat(rows.owner, counts),
            np.ones(len(ordinal), np.bool_),
        )
        values = self._value(kind, elements)
        if kind == Scalar("u1"):
            data = values.cast(pa.uint8()).to_numpy(zero_copy_only=False)
            flat: UInt8Array = np.ascontiguousarray(data)
            return _masked(gather_bytes(flat, first, counts), rows.there)
        return _masked(list_column(values, counts, rows=len(counts)), rows.there)

    def _bounded(self, rows: _Rows, sizes: Int64Array) -> None:
        """Refuse messages that come to far more than their bytes by references that are shared."""
        total = np.bincount(
            rows.owner, weights=np.where(rows.there, sizes, 0), minlength=len(self._begin)
        )
        over = total > _MOST_SHARING * self._lengths
        if over.any():
            self._blame(rows, over[rows.owner], "what it refers to is many times its size")


def _width(kind: Kind) -> int:
    """Bytes of a value in its table or vector."""
    if isinstance(kind, Scalar):
        return 1 if kind.code == "?" else np.dtype(kind.code).itemsize
    if isinstance(kind, Inline | Instant):
        return kind.size
    if isinstance(kind, Array):
        return kind.count * kind.stride
    return 4


def _struct(names: list[str], columns: list[pa.Array], rows: _Rows) -> pa.Array:
    found = struct_column(names, columns, rows=len(rows.at))
    if rows.there.all():
        return found
    kept = pa.array(~rows.there)
    return pa.StructArray.from_arrays(found.flatten(), fields=list(found.type), mask=kept)


def _masked(column: pa.Array, there: Mask) -> pa.Array:
    if there.all():
        return column
    return pc.if_else(pa.array(there), column, pa.scalar(None, column.type))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
