"""What the kernel of native/protobuf.c does for a message type, compiled from its descriptors."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from contracts.recording import Int64Array, UInt8Array
from udfs.native.library import Growing, address_of, library
from udfs.native.rows import Columns, arrays_of, checked

MAX_DEPTH = 32
_VARINT, _FIXED64, _LENGTH, _GROUP, _FIXED32 = 0, 1, 2, 3, 5
_MOST_NUMBERS = 256
"""Fields of lower numbers are found in a table, others by search."""

_NAMES = """int32 uint32 int64 uint64 sint32 sint64 bool closed_enum fixed_4 unsigned_4 fixed_8
unsigned_8 string bytes message group instant map left"""
_KINDS = {name: place for place, name in enumerate(_NAMES.split())}
_SCALARS = {
    FieldDescriptor.TYPE_DOUBLE: ("fixed_8", _FIXED64),
    FieldDescriptor.TYPE_FLOAT: ("fixed_4", _FIXED32),
    FieldDescriptor.TYPE_INT64: ("int64", _VARINT),
    FieldDescriptor.TYPE_UINT64: ("uint64", _VARINT),
    FieldDescriptor.TYPE_INT32: ("int32", _VARINT),
    FieldDescriptor.TYPE_FIXED64: ("unsigned_8", _FIXED64),
    FieldDescriptor.TYPE_FIXED32: ("unsigned_4", _FIXED32),
    FieldDescriptor.TYPE_BOOL: ("bool", _VARINT),
    FieldDescriptor.TYPE_UINT32: ("uint32", _VARINT),
    FieldDescriptor.TYPE_ENUM: ("int32", _VARINT),
    FieldDescriptor.TYPE_SFIXED32: ("fixed_4", _FIXED32),
    FieldDescriptor.TYPE_SFIXED64: ("fixed_8", _FIXED64),
    FieldDescriptor.TYPE_SINT32: ("sint32", _VARINT),
    FieldDescriptor.TYPE_SINT64: ("sint64", _VARINT),
    FieldDescriptor.TYPE_STRING: ("string", _LENGTH),
    FieldDescriptor.TYPE_BYTES: ("bytes", _LENGTH),
}
_FIELD_NAMES = (
    "tag_bytes kind wire is_repeated column message choice values value_count is_plain reserved"
)
_FIELD = np.dtype(
    [("tag", "<u8"), ("mask", "<u8"), ("number", "<u4")]
    + [(name, "<i4") for name in _FIELD_NAMES.split()]
)
_MESSAGE_NAMES = "first count table table_size is_open"
_MESSAGE = np.dtype([(name, "<i4") for name in _MESSAGE_NAMES.split()])
_NO_FIELD = {"tag": 1, "number": (1 << 32) - 1, "kind": _KINDS["left"], "choice": -1}
_CHOICE = np.dtype([("row", "<i8"), ("column", "<i8")])
_ENTRY_FIELDS = [("key", 1), ("value", 2)]
_INSTANTS = ("google.protobuf.Timestamp", "google.protobuf.Duration")
_INSTANT_FIELDS = [
    ("seconds", 1, FieldDescriptor.TYPE_INT64),
    ("nanos", 2, FieldDescriptor.TYPE_INT32),
]


def is_instant(kind: Descriptor | None) -> bool:
    """Whether messages of the type are seconds and nanoseconds: one number in a column."""
    if kind is None or kind.full_name not in _INSTANTS:
        return False
    found = [(field.name, field.number, field.type) for field in kind.fields]
    return found == _INSTANT_FIELDS and not any(field.is_repeated for field in kind.fields)


def is_map(field: FieldDescriptor) -> bool:
    """Whether a repeated field is a map: its messages are entries."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_text(kind: Descriptor, parents: Sequence[str]) -> bool:
    """Whether a message has no finite columns, since it contains its own kind, or none so deep."""
    return kind.full_name in parents or len(parents) >= MAX_DEPTH


class _Map(ctypes.Structure):
    _fields_ = (
        ("entries", Growing),
        ("row", ctypes.c_int64),
        ("column", ctypes.c_int32),
        ("message", ctypes.c_int32),
    )


class _Program(ctypes.Structure):
    _fields_ = (
        ("messages", ctypes.c_void_p),
        ("fields", ctypes.c_void_p),
        ("tables", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("choices", ctypes.c_void_p),
        ("maps", ctypes.c_void_p),
        ("column_count", ctypes.c_int32),
        ("map_count", ctypes.c_int32),
    )


@attrs.frozen(eq=False)
class ProtobufProgram:
    """Reads messages of one type.

    Attributes:
        kinds: Types of the columns.
        columns: As they are before any message is read.
        messages: (M,) the message types, each as often as it stands somewhere; the first is whole.
        fields: (F,) the fields of each.
        tables: (T,) int32, places of fields by number.
        values: (V,) int32, values of closed enumerations.
        maps: Column and message of each map.
        choices: How many oneofs there are.
    """

    kinds: tuple[pa.DataType, ...]
    columns: Columns
    messages: npt.NDArray[np.void]
    fields: npt.NDArray[np.void]
    tables: npt.NDArray[np.int32]
    values: npt.NDArray[np.int32]
    maps: tuple[tuple[int, int], ...]
    choices: int

    def read(
        self, arena: UInt8Array, *, starts: Int64Array, lengths: Int64Array
    ) -> tuple[list[pa.Array], Int64Array]:
        """Read messages.

        Args:
            arena: (B,) uint8.
            starts: (N,) int64, where each message starts in the arena.
            lengths: (N,) int64, its bytes.

        Returns:
            Columns of the M messages that were read and (M,) int64 which ones these are,
            ascending. The others are damaged, or hold what only upb reads.

        Raises:
            MemoryError: There is no memory left.
            OverflowError: A column would have over 2^31 - 1 bytes or elements.
        """
        arena, starts, lengths = map(np.ascontiguousarray, (arena, starts, lengths))
        is_left = np.empty(len(starts), np.uint8)
        choices = np.full(self.choices, -1, _CHOICE)
        maps = (_Map * len(self.maps))(
            *(_Map(column=column, message=message) for column, message in self.maps)
        )
        with self.columns.fresh() as columns:
            program = _Program(
                *map(address_of, (self.messages, self.fields, self.tables, self.values)),
                ctypes.addressof(columns),
                address_of(choices),
                ctypes.addressof(maps),
                len(columns),
                len(maps),
            )
            at = map(address_of, (starts, lengths))
            rows = _kernel().protobuf_read(
                program, address_of(arena), len(arena), *at, len(starts), address_of(is_left)
            )
            _kernel().protobuf_done(program)
            checked(rows)
            return arrays_of(columns, self.kinds), np.flatnonzero(is_left == 0)


@functools.cache
def _kernel() -> ctypes.CDLL:
    found = library()
    numbers = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    found.protobuf_read.argtypes = (ctypes.POINTER(_Program), ctypes.c_void_p, *numbers)
    found.protobuf_read.restype = ctypes.c_int64
    found.protobuf_done.argtypes = (ctypes.POINTER(_Program),)
    found.protobuf_done.restype = None
    return found


def compiled(kind: Descriptor, columns: pa.StructType) -> ProtobufProgram:
    """The program that reads messages of a type into the columns."""
    compiler = _Compiler()
    compiler.message(kind, columns, parent=-1, parents=())
    return ProtobufProgram(
        tuple(field.type for field in columns),
        compiler.columns,
        np.array(compiler.messages, _MESSAGE),
        np.array([tuple(_row(one)) for one in compiler.flat()], _FIELD),
        np.array(compiler.tables, np.int32),
        np.array(compiler.values, np.int32),
        tuple(compiler.maps),
        len(compiler.choices),
    )


def _row(field: dict[str, int]) -> list[int]:
    assert _FIELD.names is not None
    return [field.get(name, 0) for name in _FIELD.names]


class _Compiler:
    def __init__(self) -> None:
        self.columns = Columns()
        self.messages: list[tuple[int, ...]] = []
        self.fields: list[list[dict[str, int]]] = []
        self.tables: list[int] = []
        self.values: list[int] = []
        self.maps: list[tuple[int, int]] = []
        self.choices: dict[tuple[int, str], int] = {}

    def flat(self) -> list[dict[str, int]]:
        """The fields of all messages."""
        return [field for fields in self.fields for field in fields]

    def message(
        self, kind: Descriptor, column: pa.StructType, *, parent: int, parents: Sequence[str]
    ) -> int:
        """Compile a message type where it stands; gives which message it is."""
        which = len(self.messages)
        first = sum(map(len, self.fields))
        size = len(kind.fields)
        self.messages.append(())
        self.fields.append([_NO_FIELD] * (size + 2))
        is_entry = kind.GetOptions().map_entry
        inner = parents if is_entry else (*parents, kind.full_name)
        found = []
        for place, field in enumerate(kind.fields):
            one = self._field(field, column.field(place).type, parent=parent, parents=inner)
            if (oneof := field.containing_oneof) is not None and len(oneof.fields) > 1:
                one["choice"] = self.choices.setdefault((which, oneof.name), len(self.choices))
            is_plain = one["kind"] < _KINDS["string"] and one["kind"] != _KINDS["closed_enum"]
            one["is_plain"] = is_plain and not field.is_repeated and one["choice"] < 0
            found.append(one)
        if not found:
            self.columns.open(column.field(0).type, nullable=True, parent=parent)
        found.sort(key=lambda field: field["number"])
        self.fields[which][:size] = found
        places = {field["number"]: place for place, field in enumerate(found)}
        reach = min(max(places, default=-1) + 1, _MOST_NUMBERS)
        self.messages[which] = (first, size, len(self.tables), reach, kind.is_extendable)
        self.tables += [places.get(number, -1) for number in range(reach)]
        return which

    def _field(
        self, field: FieldDescriptor, column: pa.DataType, *, parent: int, parents: Sequence[str]
    ) -> dict[str, int]:
        """Compile a field and open its columns."""
        is_entry = field.containing_type.GetOptions().map_entry
        nullable = field.has_presence and not is_entry
        place = self.columns.open(column, nullable=nullable, parent=parent)
        one = {"number": field.number, "column": place, "choice": -1}
        if field.is_repeated:
            one["is_repeated"] = 1
            inner = self.columns.open(column.value_type, nullable=False, parent=place)
            one |= self._value(field, column.value_type, inner, place, parents)
            self.columns.close(inner)
        else:
            one |= self._value(field, column, place, place, parents)
        self.columns.close(place)
        one["tag"], one["mask"], one["tag_bytes"] = _tag(
            field.number, _LENGTH if field.is_packed else one["wire"]
        )
        return one

    def _value(
        self,
        field: FieldDescriptor,
        column: pa.DataType,
        place: int,
        whole: int,
        parents: Sequence[str],
    ) -> dict[str, int]:
        """How one value of a field is read into the column at a place."""
        kind = field.message_type
        if kind is None:
            return self._scalar(field)
        is_group = field.type == FieldDescriptor.TYPE_GROUP
        one = {"wire": _GROUP if is_group else _LENGTH, "kind": _KINDS["left"]}
        if is_map(field):
            which = len(self.maps)
            self.maps.append((whole, -1))  # before those inside it: they are taken in later
            message = self.message(kind, column, parent=place, parents=parents)
            self.maps[which] = (whole, message)
            if [(part.name, part.number) for part in kind.fields] == _ENTRY_FIELDS:
                one |= {"kind": _KINDS["map"], "message": which}
        elif is_instant(kind):
            one["kind"] = _KINDS["left" if is_group else "instant"]
        elif not is_text(kind, parents):
            one["kind"] = _KINDS["group" if is_group else "message"]
            one["message"] = self.message(kind, column, parent=place, parents=parents)
        return one

    def _scalar(self, field: FieldDescriptor) -> dict[str, int]:
        name, wire = _SCALARS[field.type]
        if field.enum_type is None or not field.enum_type.is_closed:
            return {"kind": _KINDS[name], "wire": wire}
        first = len(self.values)
        self.values += [value.number for value in field.enum_type.values]
        count = len(self.values) - first
        kind = _KINDS["closed_enum"]
        return {"kind": kind, "wire": wire, "values": first, "value_count": count}


def _tag(number: int, wire: int) -> tuple[int, int, int]:
    """A field's tag as its bytes stand in a little-endian word, their mask, and how many."""
    left, data = number << 3 | wire, bytearray()
    while left > 127:
        data.append(left & 127 | 128)
        left >>= 7
    data.append(left)
    return int.from_bytes(data, "little"), (1 << 8 * len(data)) - 1, len(data)
