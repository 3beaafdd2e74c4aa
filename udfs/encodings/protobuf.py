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
from udfs.encodings.payload import BadPayload, Decoded, decoded_by, payload
from udfs.encodings.protobuf_program import (
    ProtobufProgram,
    compiled,
    is_instant,
    is_map,
    is_text,
)

_NS = 1_000_000_000
_INT64 = range(-(1 << 63), 1 << 63)
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

Convert = Callable[[Any], Any]


class _TimeError(Exception):
    """A Timestamp or Duration that does not fit int64 nanoseconds."""


@attrs.frozen(eq=False)
class ProtobufDecoder:
    """Decodes one message type.

    Attributes:
        schema: The columns: instants in `_ns`, enumerations as numbers, maps as lists of entries.
        program: What reads the columns.
        message_class: Parser of the type.
        convert: What makes a row of a parsed message.
    """

    schema: pa.Schema
    program: ProtobufProgram
    message_class: type[Any]
    convert: Convert

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message; errors are BAD_PROTOBUF and TIME_OUT_OF_RANGE."""
        slowly = functools.partial(self._one_by_one, batch)
        return decoded_by(self.program, batch, schema=self.schema, one_by_one=slowly)

    def _one_by_one(self, batch: MessageBatch, messages: Int64Array) -> Decoded:
        """Parse messages that are damaged, or hold what only the parser reads."""
        rows: list[dict[str, Any]] = []
        index: list[int] = []
        bad: list[BadPayload] = []
        for i in messages.tolist():
            data = payload(batch, i)
            try:
                rows.append(self.convert(self.message_class.FromString(data)))
                index.append(i)
            except (ProtobufError, json_format.Error, ValueError) as error:
                bad.append(BadPayload(i, "BAD_PROTOBUF", str(error)[:200]))
            except _TimeError as error:
                bad.append(BadPayload(i, "TIME_OUT_OF_RANGE", str(error)))
        decoded = pa.RecordBatch.from_pylist(rows, schema=self.schema)
        return Decoded(decoded, np.array(index, np.int64), tuple(bad))


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
    parser = message_factory.GetMessageClass(root)
    return ProtobufDecoder(pa.schema(list(kind)), compiled(root, kind), parser, convert)


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


def _column_names(kind: Descriptor) -> dict[str, str]:
    """Lower-case names, each once; instants end in `_ns`."""
    names: dict[str, str] = {}
    for field in kind.fields:
        name = field.name.lower() + ("_ns" if is_instant(field.message_type) else "")
        while name in names.values():
            name += "_"
        names[field.name] = name
    return names


def _column(field: FieldDescriptor, parents: Sequence[str]) -> tuple[pa.DataType, Convert]:
    if is_map(field):
        if not field.is_repeated:
            raise UnsupportedFormatError(f"{field.full_name} is a map that is not repeated")
        return _map(field.message_type, parents)
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
    if is_instant(kind):
        return pa.int64(), _nanoseconds
    if is_text(kind, parents):
        return pa.string(), _as_json
    return _message(kind, parents)


def _map(entry: Descriptor, parents: Sequence[str]) -> tuple[pa.DataType, Convert]:
    if set(entry.fields_by_name) != {"key", "value"}:
        raise UnsupportedFormatError(f"{entry.full_name} is no map of keys and values")
    key, to_key = _single(entry.fields_by_name["key"], parents)
    value, convert = _single(entry.fields_by_name["value"], parents)

    def entries(values: Any) -> list[dict[str, Any]]:
        names = sorted(to_key(name) for name in values)
        return [{"key": name, "value": convert(values[name])} for name in names]

    return list_type(pa.struct([("key", key), ("value", value)])), entries


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    """A string; of proto2 the parser gives bytes where it is none."""
    if isinstance(value, bytes):
        raise ValueError("a string is not UTF-8")  # noqa: TRY004  it is the message's fault
    return value


def _nanoseconds(value: Any) -> int:
    instant = int(value.seconds) * _NS + int(value.nanos)
    if instant not in _INT64:
        raise _TimeError(f"{value.seconds} s do not fit int64 nanoseconds")
    return instant


def _as_json(value: Any) -> str:
    """A message that contains its own kind has no finite columns: it is kept as text."""
    return json_format.MessageToJson(value, indent=None, ensure_ascii=False)
