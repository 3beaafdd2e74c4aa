"""Protocol Buffers messages, decoded from the descriptors that the recording carries.

Source: https://protobuf.dev/programming-guides/encoding; https://mcap.dev/spec/registry#protobuf
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError as ProtobufError

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array, MessageBatch, Schema
from udfs.encodings.columns import EMPTY_FIELD, list_type
from udfs.encodings.json_text import payload
from udfs.encodings.payload import BadPayload, Decoded
from udfs.encodings.protobuf_wire import FIXED32, FIXED64, VARINT, Field, read_messages

MAX_DEPTH = 32
_NS = 1_000_000_000
_SECONDS = range(-(1 << 63) // _NS + 1, (1 << 63) // _NS - 1)
_INSTANTS = ("google.protobuf.Timestamp", "google.protobuf.Duration")
_WELL_KNOWN = {
    f"google/protobuf/{name}.proto": f"google.protobuf.{name}_pb2"
    for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
}
_TYPES = {
    FieldDescriptor.CPPTYPE_INT32: pa.int32(),
    FieldDescriptor.CPPTYPE_INT64: pa.int64(),
    FieldDescriptor.CPPTYPE_UINT32: pa.int64(),
    FieldDescriptor.CPPTYPE_UINT64: pa.decimal128(20, 0),
    FieldDescriptor.CPPTYPE_DOUBLE: pa.float64(),
    FieldDescriptor.CPPTYPE_FLOAT: pa.float32(),
    FieldDescriptor.CPPTYPE_BOOL: pa.bool_(),
    FieldDescriptor.CPPTYPE_ENUM: pa.int32(),
    FieldDescriptor.CPPTYPE_STRING: pa.string(),
}

_WIRE = {
    FieldDescriptor.TYPE_DOUBLE: (FIXED64, "f8"),
    FieldDescriptor.TYPE_FLOAT: (FIXED32, "f4"),
    FieldDescriptor.TYPE_INT64: (VARINT, "i8"),
    FieldDescriptor.TYPE_UINT64: (VARINT, "u8"),
    FieldDescriptor.TYPE_INT32: (VARINT, "i4"),
    FieldDescriptor.TYPE_FIXED64: (FIXED64, "u8"),
    FieldDescriptor.TYPE_FIXED32: (FIXED32, "u4"),
    FieldDescriptor.TYPE_BOOL: (VARINT, "?"),
    FieldDescriptor.TYPE_UINT32: (VARINT, "u4"),
    FieldDescriptor.TYPE_ENUM: (VARINT, "i4"),
    FieldDescriptor.TYPE_SFIXED32: (FIXED32, "i4"),
    FieldDescriptor.TYPE_SFIXED64: (FIXED64, "i8"),
    FieldDescriptor.TYPE_SINT32: (VARINT, "i4"),
    FieldDescriptor.TYPE_SINT64: (VARINT, "i8"),
}
_INSTANT = pa.struct([("seconds", pa.int64()), ("nanos", pa.int32())])

Convert = Callable[[Any], Any]


class _TimeError(Exception):
    """A Timestamp or Duration that does not fit int64 nanoseconds."""


@attrs.frozen(eq=False)
class ProtobufDecoder:
    """Decodes one message type.

    Attributes:
        schema: The columns: instants in `_ns`, enumerations as numbers, maps as lists of entries.
        fields: How the columns are read from all messages at once.
        message_class: Parser of the type.
        convert: What makes a row of a parsed message.
    """

    schema: pa.Schema
    fields: tuple[Field, ...]
    message_class: type[Any]
    convert: Convert

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message; errors are BAD_PROTOBUF and TIME_OUT_OF_RANGE."""
        columns, index = read_messages(
            self.fields, batch.arena, starts=batch.starts, lengths=batch.lengths
        )
        if not self.fields:
            columns = [pa.nulls(len(index), pa.bool_())]
        rows = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        if len(index) == len(batch.starts):
            return Decoded(rows, index)
        rest, rest_index, bad = self._one_by_one(
            batch, np.delete(np.arange(len(batch.starts)), index)
        )
        rows, index = pa.concat_batches([rows, rest]), np.concatenate([index, rest_index])
        if bool((index[1:] < index[:-1]).any()):
            order = np.argsort(index)
            rows, index = rows.take(pa.array(order)), index[order]
        return Decoded(rows, index, bad)

    def _one_by_one(
        self, batch: MessageBatch, messages: Int64Array
    ) -> tuple[pa.RecordBatch, Int64Array, tuple[BadPayload, ...]]:
        """Parse messages whose bytes are not as writers put them, or that are damaged."""
        rows: list[dict[str, Any]] = []
        index: list[int] = []
        bad: list[BadPayload] = []
        for i in messages.tolist():
            data = payload(batch, i)
            try:
                rows.append(self.convert(self.message_class.FromString(data)))
                index.append(i)
            except (ProtobufError, ValueError) as error:
                bad.append(BadPayload(i, "BAD_PROTOBUF", str(error)[:200]))
            except _TimeError as error:
                bad.append(BadPayload(i, "TIME_OUT_OF_RANGE", str(error)))
        decoded = pa.RecordBatch.from_pylist(rows, schema=self.schema)
        return decoded, np.array(index, np.int64), tuple(bad)


@functools.lru_cache(maxsize=256)
def protobuf_decoder(schema: Schema) -> ProtobufDecoder:
    """Decoder from a FileDescriptorSet.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION: no descriptor set, or one without the type
            or without a file that it needs.
    """
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(schema.data).file
        pool = _pool({file.name: file for file in files})
        root = pool.FindMessageTypeByName(schema.name)
    except (ProtobufError, TypeError, KeyError, ValueError) as error:
        what = f"descriptors of {schema.name}: {error}"
        raise UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION") from error
    kind, convert = _message(root, ())
    fields = _wire_fields(root, kind, ())
    parser = message_factory.GetMessageClass(root)
    return ProtobufDecoder(pa.schema(list(kind)), fields, parser, convert)


def _pool(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> DescriptorPool:
    """Pool of the files, each behind those that it imports."""
    pool, done = DescriptorPool(), set[str]()

    def add(name: str, depth: int) -> None:
        if name in done:
            return
        if depth > len(files) + len(_WELL_KNOWN):
            raise ValueError(f"{name} imports itself")
        file = files.get(name) or _well_known(name)
        for needed in file.dependency:
            add(needed, depth + 1)
        done.add(name)
        pool.Add(file)

    for name in files:
        add(name, 0)
    return pool


def _well_known(name: str) -> descriptor_pb2.FileDescriptorProto:
    """A file of protobuf's own; KeyError if it is none."""
    file = descriptor_pb2.FileDescriptorProto()
    importlib.import_module(_WELL_KNOWN[name]).DESCRIPTOR.CopyToProto(file)
    return file


def _message(kind: Descriptor, parents: Sequence[str]) -> tuple[pa.StructType, Convert]:
    columns = {field.name: _column(field, (*parents, kind.full_name)) for field in kind.fields}
    names = _column_names(kind)
    fields = [(names[name], column) for name, (column, _) in columns.items()]
    getters = [(names[f.name], f.name, f.has_presence, columns[f.name][1]) for f in kind.fields]

    def convert(value: Any) -> dict[str, Any]:
        return {
            column: None
            if optional and not value.HasField(name)
            else to_column(getattr(value, name))
            for column, name, optional, to_column in getters
        }

    return pa.struct(fields or [(EMPTY_FIELD, pa.bool_())]), convert


def _wire_fields(
    kind: Descriptor, column: pa.StructType, parents: Sequence[str]
) -> tuple[Field, ...]:
    """The fields by number, each with the type of its column."""
    inner = (*parents, kind.full_name)
    fields = [
        _wire_field(field, column.field(place).type, inner, place)
        for place, field in enumerate(kind.fields)
    ]
    return tuple(sorted(fields, key=lambda field: field.number))


def _wire_field(
    field: FieldDescriptor, column: pa.DataType, parents: Sequence[str], place: int
) -> Field:
    """How a field's bytes stand; those that only the parser takes say so."""
    one = Field(field.number, column, place, is_repeated=field.is_repeated)
    kind = field.message_type
    is_group = field.type == FieldDescriptor.TYPE_GROUP
    if field.is_required or is_group or (kind is not None and kind.GetOptions().map_entry):
        return attrs.evolve(one, is_read=False)
    if kind is not None:
        is_instant = kind.full_name in _INSTANTS
        if not is_instant and (kind.full_name in parents or len(parents) >= MAX_DEPTH):
            return attrs.evolve(one, is_read=False)
        parts = _INSTANT if is_instant else one.element_type
        one = attrs.evolve(one, message=_wire_fields(kind, parts, parents), is_instant=is_instant)
    elif field.type in _WIRE:
        wire, code = _WIRE[field.type]
        closed = field.enum_type is not None and field.enum_type.is_closed
        one = attrs.evolve(
            one,
            wire=wire,
            code=code,
            is_zigzag=field.type in (FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SINT64),
            is_packed=field.is_packed,
            values=tuple(value.number for value in field.enum_type.values) if closed else (),
        )
    oneof = field.containing_oneof
    is_choice = oneof is not None and len(oneof.fields) > 1
    return attrs.evolve(one, has_presence=field.has_presence, oneof=oneof.name if is_choice else "")


def _column_names(kind: Descriptor) -> dict[str, str]:
    """Lower-case names, each once; instants end in `_ns`."""
    names: dict[str, str] = {}
    for field in kind.fields:
        is_instant = field.message_type is not None and field.message_type.full_name in _INSTANTS
        name = field.name.lower() + ("_ns" if is_instant else "")
        while name in names.values():
            name += "_"
        names[field.name] = name
    return names


def _column(field: FieldDescriptor, parents: Sequence[str]) -> tuple[pa.DataType, Convert]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return _map(entry, parents)
    kind, convert = _single(field, parents)
    if field.is_repeated:
        return list_type(kind), lambda values: [convert(one) for one in values]
    return kind, convert


def _single(field: FieldDescriptor, parents: Sequence[str]) -> tuple[pa.DataType, Convert]:
    kind = field.message_type
    if kind is None:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return pa.binary(), _same
        if field.type == FieldDescriptor.TYPE_STRING:
            return pa.string(), _text
        return _TYPES[field.cpp_type], _same
    if kind.full_name in _INSTANTS:
        return pa.int64(), _nanoseconds
    if kind.full_name in parents or len(parents) >= MAX_DEPTH:
        return pa.string(), _as_json
    return _message(kind, parents)


def _map(entry: Descriptor, parents: Sequence[str]) -> tuple[pa.DataType, Convert]:
    if not {"key", "value"} <= set(entry.fields_by_name):
        raise UnsupportedFormatError(f"{entry.full_name} is a map without key or value")
    key, _ = _single(entry.fields_by_name["key"], parents)
    value, convert = _single(entry.fields_by_name["value"], parents)

    def entries(values: Any) -> list[dict[str, Any]]:
        return [{"key": name, "value": convert(values[name])} for name in sorted(values)]

    return list_type(pa.struct([("key", key), ("value", value)])), entries


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    """A string; of proto2 the parser gives bytes where it is none."""
    if isinstance(value, bytes):
        raise ValueError("a string is not UTF-8")  # noqa: TRY004  it is the message's fault
    return value


def _nanoseconds(value: Any) -> int:
    if value.seconds not in _SECONDS:
        raise _TimeError(f"{value.seconds} s do not fit int64 nanoseconds")
    return int(value.seconds) * _NS + int(value.nanos)


def _as_json(value: Any) -> str:
    """A message that contains its own kind has no finite columns: it is kept as text."""
    return json_format.MessageToJson(value, indent=None, ensure_ascii=False)
