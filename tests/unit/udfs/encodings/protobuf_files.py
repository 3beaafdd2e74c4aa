"""Protocol Buffers types of everything there is, random messages of them, and damage to these."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf import descriptor_pb2, duration_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool

from tests.unit.udfs.oracles import schema_of
from udfs.encodings.protobuf import ProtobufDecoder, protobuf_decoder

F = descriptor_pb2.FieldDescriptorProto
_KEYS = (F.TYPE_STRING, F.TYPE_INT32, F.TYPE_SINT64, F.TYPE_FIXED32, F.TYPE_BOOL, F.TYPE_SFIXED64)
MAX_DEPTH = 3
"""How deep a random message goes into its own kind."""


def file_of(syntax: str) -> descriptor_pb2.FileDescriptorProto:
    """A type of every kind of field, declared from the highest number down."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{syntax}.proto", package=syntax, syntax=syntax)
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/duration.proto"])
    colour = file.enum_type.add(name="Colour")
    for number, name in enumerate(("RED", "GREEN", "BLUE")):
        colour.value.add(name=name, number=number)
    point = file.message_type.add(name="Point")
    for number, axis in enumerate("xyz", 1):
        point.field.add(name=axis, number=number, type=F.TYPE_DOUBLE, label=F.LABEL_OPTIONAL)
    file.message_type.add(name="Nothing")
    message = file.message_type.add(name="All")
    message.oneof_decl.add(name="choice")
    number = 40  # tags of one byte and of two
    for name, code in F.Type.items():
        if code in (F.TYPE_GROUP, F.TYPE_MESSAGE):
            continue
        for label in (F.LABEL_OPTIONAL, F.LABEL_REPEATED):
            number -= 1
            one = message.field.add(name=f"{name}_{label}".lower(), number=number, type=code)
            one.label = label
            if code == F.TYPE_ENUM:
                one.type_name = f".{syntax}.Colour"
    _add_messages(message, syntax)
    _add_choices(message, syntax)
    if syntax == "proto2":
        _add_groups(message)
    return file


def _add_messages(message: Any, syntax: str) -> None:
    names = ("Point", "Nothing", "All.Inner", "All")
    kinds = [f".{syntax}.{name}" for name in names]
    kinds += [".google.protobuf.Timestamp", ".google.protobuf.Duration"]
    inner = message.nested_type.add(name="Inner")
    _add(inner, "id", 1, F.TYPE_UINT32, F.LABEL_OPTIONAL)
    _add(inner, "label", 2, F.TYPE_STRING, F.LABEL_OPTIONAL)
    _add(inner, "sizes", 3, F.TYPE_INT32, F.LABEL_REPEATED)
    _add(inner, "points", 4, F.TYPE_MESSAGE, F.LABEL_REPEATED, kinds[0])
    _add(inner, "at", 5, F.TYPE_MESSAGE, F.LABEL_OPTIONAL, kinds[4])
    _add_map(inner, "names", 6, F.TYPE_UINT64, F.TYPE_STRING, "", f"{syntax}.All.Inner")
    for place, kind in enumerate(kinds):
        for label in (F.LABEL_OPTIONAL, F.LABEL_REPEATED):
            _add(message, f"m{place}_{label}", 600 + 4 * place + label, F.TYPE_MESSAGE, label, kind)
    for place, key in enumerate(_KEYS):
        values = (F.TYPE_DOUBLE, F.TYPE_STRING, F.TYPE_ENUM, F.TYPE_MESSAGE)
        value = values[place % 4]
        name = {F.TYPE_ENUM: f".{syntax}.Colour", F.TYPE_MESSAGE: kinds[2]}.get(value, "")
        _add_map(message, f"map{place}", 650 + place, key, value, name, f"{syntax}.All")
    _add_map(message, "stamps", 660, F.TYPE_STRING, F.TYPE_MESSAGE, kinds[4], f"{syntax}.All")


def _add_choices(message: Any, syntax: str) -> None:
    parts = [
        ("left", F.TYPE_INT32, ""),
        ("right", F.TYPE_STRING, ""),
        ("middle", F.TYPE_MESSAGE, f".{syntax}.All.Inner"),
        ("shade", F.TYPE_ENUM, f".{syntax}.Colour"),
        ("when", F.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
    ]
    for number, (name, code, kind) in enumerate(parts, 700):
        _add(message, name, number, code, F.LABEL_OPTIONAL, kind).oneof_index = 0


def _add_groups(message: Any) -> None:
    """What only proto2 has: groups, and fields that are required."""
    for number, label in enumerate((F.LABEL_OPTIONAL, F.LABEL_REPEATED, F.LABEL_REQUIRED), 710):
        group = message.nested_type.add(name=f"Group{number}")
        _add(group, "v", 1, F.TYPE_SINT32, F.LABEL_OPTIONAL)
        _add(group, "w", 2, F.TYPE_STRING, F.LABEL_REQUIRED)
        kind = f".proto2.All.Group{number}"
        _add(message, f"group{number}", number, F.TYPE_GROUP, label, kind)
    _add(message, "needed", 720, F.TYPE_INT32, F.LABEL_REQUIRED)
    _add(message, "preset", 721, F.TYPE_INT32, F.LABEL_OPTIONAL).default_value = "7"
    extendable = message.nested_type.add(name="Extendable")
    _add(extendable, "v", 1, F.TYPE_INT32, F.LABEL_OPTIONAL)
    extendable.extension_range.add(start=100, end=200)
    more = extendable.extension.add(name="more", number=100, type=F.TYPE_MESSAGE)
    more.label, more.type_name = F.LABEL_OPTIONAL, ".proto2.Point"
    more.extendee = ".proto2.All.Extendable"
    kind = ".proto2.All.Extendable"
    _add(message, "extendable", 722, F.TYPE_MESSAGE, F.LABEL_OPTIONAL, kind)


def _add(  # noqa: PLR0917  as a .proto file has it
    message: Any, name: str, number: int, code: Any, label: Any, kind: str = ""
) -> Any:
    one = message.field.add(name=name, number=number, type=code, label=label)
    if kind:
        one.type_name = kind
    return one


def _add_map(  # noqa: PLR0917  as a .proto file has it
    message: Any, name: str, number: int, key: Any, value: Any, kind: str, scope: str
) -> None:
    entry = message.nested_type.add(name=f"{name.title()}Entry")
    entry.options.map_entry = True
    _add(entry, "key", 1, key, F.LABEL_OPTIONAL)
    _add(entry, "value", 2, value, F.LABEL_OPTIONAL, kind)
    _add(message, name, number, F.TYPE_MESSAGE, F.LABEL_REPEATED, f".{scope}.{entry.name}")


def kit(syntax: str) -> tuple[Any, ProtobufDecoder]:
    """The message class, and the decoder."""
    files = [descriptor_pb2.FileDescriptorProto() for _ in range(2)]
    timestamp_pb2.DESCRIPTOR.CopyToProto(files[0])
    duration_pb2.DESCRIPTOR.CopyToProto(files[1])
    files.append(file_of(syntax))
    pool = DescriptorPool()
    for file in files:
        pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{syntax}.All"))
    data = descriptor_pb2.FileDescriptorSet(file=files).SerializeToString()
    return kind, protobuf_decoder(schema_of(f"{syntax}.All", data, "protobuf"))


def random_message(kind: Any, draw: random.Random, *, depth: int = 0, itself: float = 0.0) -> Any:
    """A message of which each field is there with some chance, with numbers of every length.

    Args:
        kind: Its class.
        draw: Where the chance comes from.
        depth: How deep it stands in others.
        itself: The chance of a field that holds the very type again.
    """
    one = kind()
    for field in kind.DESCRIPTOR.fields:
        part = field.message_type
        is_itself = part is not None and part.full_name in ("proto2.All", "proto3.All")
        if draw.random() < (1 - itself if is_itself else 0.5) or depth > MAX_DEPTH:
            continue
        if part is not None and part.GetOptions().map_entry:
            _fill_map(getattr(one, field.name), part, draw, depth)
        elif part is not None:
            for _ in range(draw.choice([1, 2, 3]) if field.is_repeated else 1):
                parts = getattr(one, field.name)
                inner = parts.add() if field.is_repeated else parts
                inner.SetInParent()
                given = random_message(type(inner), draw, depth=depth + 1, itself=itself)
                inner.CopyFrom(_in_range(given))
        elif field.is_repeated:
            values = [_value(field, draw) for _ in range(draw.choice([1, 2, 40]))]
            getattr(one, field.name).extend(values)
        else:
            setattr(one, field.name, _value(field, draw))
    return one


def _in_range(message: Any) -> Any:
    """The message; an instant most often within int64 nanoseconds."""
    if message.DESCRIPTOR.full_name.startswith("google.") and message.nanos % 1000 != 1:
        message.seconds %= 1 << 33
    return message


def _fill_map(values: Any, entry: Any, draw: random.Random, depth: int) -> None:
    key, value = (entry.fields_by_name[name] for name in ("key", "value"))
    for _ in range(draw.choice([0, 1, 5, 30])):
        name = _value(key, draw)
        if value.message_type is None:
            values[name] = _value(value, draw)
        else:
            inner = values[name]
            inner.CopyFrom(_in_range(random_message(type(inner), draw, depth=depth + 1)))


def _value(field: Any, draw: random.Random) -> Any:
    if field.enum_type:
        return draw.randrange(3)
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING:
        size = draw.choice([0, 1, 5, 130])
        return draw.randbytes(size) if field.type == field.TYPE_BYTES else draw.choice("aé") * size
    if kind in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return float(draw.randrange(1 << 20))
    if kind == field.CPPTYPE_BOOL:
        return draw.random() < 0.5
    is_signed = kind in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
    bits = 32 if kind in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    value = draw.getrandbits(draw.randrange(bits - is_signed) + 1)
    return -value if is_signed and draw.random() < 0.5 else value


def shuffled(data: bytes, draw: random.Random, *, foreign: bytes = b"") -> bytes:
    """The same fields in another order, and foreign bytes somewhere between them."""
    parts, at = [foreign], 0
    while at < len(data):
        end = _field_end(data, at)
        parts.append(data[at:end])
        at = end
    draw.shuffle(parts)
    return b"".join(parts)


def _field_end(data: bytes, at: int) -> int:
    tag, at = _varint(data, at)
    wire = tag & 7
    if wire == 0:
        return _varint(data, at)[1]
    if wire == 2:
        size, at = _varint(data, at)
        return at + size
    if wire == 3:
        while _varint(data, at)[0] != tag + 1:
            at = _field_end(data, at)
        return _varint(data, at)[1]
    return at + (8 if wire == 1 else 4)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def varint(value: int) -> bytes:
    """A number as a varint."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def foreign_field(kind: Any, draw: random.Random) -> bytes:
    """A field of any wire type, under a number that the type has, or has not."""
    numbers = [field.number for field in kind.DESCRIPTOR.fields]
    number = draw.choice([draw.choice(numbers), draw.randrange(1, 1 << 29)])
    wire = draw.randrange(6)
    tag = varint(number << 3 | wire)
    if wire == 0:
        return tag + varint(draw.getrandbits(draw.randrange(1, 65)))
    if wire == 2:
        return tag + (size := bytes([draw.randrange(12)])) + draw.randbytes(size[0])
    if wire == 3:
        inner = b"" if draw.random() < 0.5 else foreign_field(kind, draw)
        return tag + inner + varint(number << 3 | 4)
    return tag + draw.randbytes({1: 8, 5: 4, 4: 0}[wire])


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The bytes with a flipped bit, a byte of another value, cut, or with foreign bytes inside."""
    at, harm = draw.randrange(len(data) + 1), draw.randrange(5)
    if harm == 0 and data:
        at %= len(data)
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if harm == 1 and data:
        at %= len(data)
        return data[:at] + bytes([draw.choice([0, 127, 128, 255])]) + data[at + 1 :]
    if harm == 2:
        return data[:at]
    if harm == 3:
        return data[:at] + draw.randbytes(draw.randrange(1, 9)) + data[at:]
    return data[:at] + data[at + draw.randrange(1, 9) :]
