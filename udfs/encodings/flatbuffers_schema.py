"""FlatBuffers definitions (bfbs) read to a tree of tables and structs.

Source: google/flatbuffers `reflection/reflection.fbs` (v25); https://mcap.dev/spec/registry#flatbuffer
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import attrs
import pyarrow as pa

from contracts.errors import UnsupportedFormatError
from udfs.encodings.columns import EMPTY_FIELD, arrow_type, list_type

MAX_DEPTH = 32
MAX_FIELDS = 4096
CODES: Mapping[int, str] = {
    1: "u1", 2: "?", 3: "i1", 4: "u1", 5: "i2", 6: "u2",
    7: "i4", 8: "u4", 9: "i8", 10: "u8", 11: "f4", 12: "f8",
}  # fmt: skip
"""numpy code of a number by `reflection.BaseType`."""
_STRING, _VECTOR, _OBJECT, _UNION, _ARRAY = 13, 14, 15, 16, 17
_REALS = ("f4", "f8")
_INSTANTS = ("Time", "Duration")


@attrs.frozen
class Scalar:
    """A number; `default` where a table leaves it out, null if that is None."""

    code: str
    default: float | int | None = 0


@attrs.frozen
class String:
    """UTF-8 text."""


@attrs.frozen
class Vector:
    """A vector of `element`."""

    element: Kind


@attrs.frozen
class Array:
    """In a struct: `count` numbers or structs side by side, each of `stride` bytes."""

    element: Kind
    count: int
    stride: int


@attrs.frozen
class Inline:
    """A struct: its fields stand at fixed offsets in `size` bytes."""

    fields: tuple[Field, ...]
    size: int


@attrs.frozen
class Instant:
    """A struct of seconds and nanoseconds, both unsigned 32-bit or signed where the code says."""

    code: str
    size: int = 8


@attrs.frozen
class Table:
    """A table: its fields stand where its vtable says."""

    fields: tuple[Field, ...]


@attrs.frozen
class Union:
    """One of several tables: `members` by the number in the field at vtable offset `type_at`."""

    members: tuple[tuple[int, str, Table], ...]
    type_at: int


@attrs.frozen
class Field:
    """A field: its column, and its offset in the vtable or, in a struct, in the bytes."""

    name: str
    kind: Kind
    offset: int


Kind = Scalar | String | Vector | Array | Inline | Instant | Table | Union


def read_schema(data: bytes, *, name: str) -> Table:
    """The table `name` of a binary schema.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION: no bfbs, the table is not in it or contains
            itself, or it holds what no column can be made of.
    """
    try:
        return _Reader(data).table(name)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise _unparsable(f"the binary schema of {name} is damaged: {error}") from error


def column_type(kind: Kind) -> pa.DataType:
    """Arrow type of a kind."""
    if isinstance(kind, Scalar):
        return arrow_type(kind.code)
    if isinstance(kind, String):
        return pa.string()
    if isinstance(kind, Instant):
        return pa.int64()
    if isinstance(kind, Vector | Array):
        if kind.element == Scalar("u1"):
            return pa.binary()
        return list_type(column_type(kind.element))
    if isinstance(kind, Union):
        fields = [(name, column_type(table)) for _, name, table in kind.members]
    else:
        fields = [(field.name, column_type(field.kind)) for field in kind.fields]
    return pa.struct(fields or [(EMPTY_FIELD, pa.bool_())])


class _At:
    """A table of the binary schema itself."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        (back,) = struct.unpack_from("<i", data, at)
        self._vtable = at - back
        if self._vtable < 0:
            raise IndexError("vtable before the schema")
        (self._size,) = struct.unpack_from("<H", data, self._vtable)

    def _place(self, slot: int) -> int:
        offset = 4 + 2 * slot
        if offset + 2 > self._size:
            return 0
        (found,) = struct.unpack_from("<H", self._data, self._vtable + offset)
        return self._at + found if found else 0

    def number(self, slot: int, form: str, default: float = 0) -> int:
        return int(self.real(slot, form, default))

    def real(self, slot: int, form: str, default: float = 0) -> float:
        place = self._place(slot)
        return struct.unpack_from(f"<{form}", self._data, place)[0] if place else default

    def _target(self, slot: int) -> int:
        place = self._place(slot)
        return place + struct.unpack_from("<I", self._data, place)[0] if place else 0

    def text(self, slot: int) -> str:
        at = self._target(slot)
        if not at:
            return ""
        (length,) = struct.unpack_from("<I", self._data, at)
        return self._data[at + 4 : at + 4 + length].decode()

    def table(self, slot: int) -> _At | None:
        at = self._target(slot)
        return _At(self._data, at) if at else None

    def tables(self, slot: int) -> Iterator[_At]:
        at = self._target(slot)
        if not at:
            return
        (count,) = struct.unpack_from("<I", self._data, at)
        if count > len(self._data):
            raise IndexError(f"{count} elements")
        for place in range(at + 4, at + 4 + 4 * count, 4):
            yield _At(self._data, place + struct.unpack_from("<I", self._data, place)[0])


class _Reader:
    def __init__(self, data: bytes) -> None:
        root = _At(data, struct.unpack_from("<I", data)[0])
        self._objects = list(root.tables(0))
        self._enums = list(root.tables(1))
        self._open: list[int] = []
        self._fields = 0

    def table(self, name: str) -> Table:
        for number, one in enumerate(self._objects):
            if one.text(0) == name:
                found = self._object(number)
                if isinstance(found, Table):
                    return found
        raise _unparsable(f"no table {name} in the binary schema")

    def _object(self, number: int) -> Table | Inline | Instant:
        found = self._objects[number]
        name = found.text(0)
        if number in self._open or len(self._open) > MAX_DEPTH:
            raise _unparsable(f"{name} contains itself or is nested deeper than {MAX_DEPTH}")
        self._open.append(number)
        ordered = sorted(found.tables(1), key=lambda field: field.number(2, "H"))
        is_struct = bool(found.number(2, "?"))
        fields: list[Field] = []
        taken: set[str] = set()
        for field in ordered:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise _unparsable(f"more than {MAX_FIELDS} fields")
            if field.number(6, "?"):  # deprecated
                continue
            kind = self._kind(field)
            inner = kind.element if isinstance(kind, Vector | Array) else kind
            column = field.text(0).lower() + ("_ns" if isinstance(inner, Instant) else "")
            while column in taken:
                column += "_"
            taken.add(column)
            fields.append(Field(column, kind, field.number(3, "H")))
        self._open.pop()
        if not is_struct:
            return Table(tuple(fields))
        instant = _instant(name, fields)
        return instant or Inline(tuple(fields), found.number(4, "i"))

    def _kind(self, field: _At) -> Kind:
        kind = field.table(1)
        if kind is None:
            raise _unparsable(f"{field.text(0)} has no type")
        base, element, index = kind.number(0, "b"), kind.number(1, "b"), kind.number(2, "i", -1)
        if base in CODES:
            return self._scalar(field, CODES[base])
        if base == _UNION:
            return self._union(field, index)
        if base == _ARRAY:
            inner = self._single(field, element, index)
            stride = inner.size if isinstance(inner, Inline | Instant) else 0
            stride = _item_size(inner.code) if isinstance(inner, Scalar) else stride
            return Array(inner, kind.number(3, "H"), stride)
        if base == _VECTOR:
            return Vector(self._single(field, element, index))
        return self._single(field, base, index)

    def _single(self, field: _At, base: int, index: int) -> Kind:
        if base in CODES:
            return Scalar(CODES[base])
        if base == _STRING:
            return String()
        if base == _OBJECT and 0 <= index < len(self._objects):
            return self._object(index)
        raise _unparsable(f"no columns for type {base} of {field.text(0)}")

    @staticmethod
    def _scalar(field: _At, code: str) -> Scalar:
        if field.number(11, "?"):  # optional
            return Scalar(code, None)
        if code in _REALS:
            return Scalar(code, field.real(5, "d"))
        return Scalar(code, field.number(4, "Q" if code == "u8" else "q"))

    def _union(self, field: _At, index: int) -> Union:
        members = []
        for value in self._enums[index].tables(1):
            kind = value.table(3)
            if not value.number(1, "q") or kind is None:
                continue  # NONE
            table = self._single(field, kind.number(0, "b"), kind.number(2, "i", -1))
            if not isinstance(table, Table):
                raise _unparsable(f"union {field.text(0)} of what is no table")
            members.append((value.number(1, "q"), value.text(0).lower(), table))
        return Union(tuple(members), field.number(3, "H") - 2)


def _instant(name: str, fields: list[Field]) -> Instant | None:
    """What seconds and nanoseconds stand for: `foxglove.Time`, `foxglove.Duration` and alike."""
    if name.rpartition(".")[2] not in _INSTANTS or len(fields) != len(_INSTANTS):
        return None
    first, second = fields
    codes = [kind.code if isinstance(kind, Scalar) else "" for kind in (first.kind, second.kind)]
    is_time = first.name in ("sec", "secs", "seconds") and second.name in (
        "nsec",
        "nanosec",
        "nanos",
    )
    if is_time and codes[0] in ("i4", "u4") and codes[1] == "u4" and second.offset == 4:
        return Instant(codes[0])
    return None


def _item_size(code: str) -> int:
    return 1 if code == "?" else int(code[1])


def _unparsable(what: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION")
