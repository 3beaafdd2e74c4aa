from __future__ import annotations

import random

import attrs
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

from tests.unit.udfs.oracles import assert_same, batch_of, schema_of
from udfs.encodings.protobuf import protobuf_decoder
from udfs.encodings.protobuf_wire import read_messages

F = descriptor_pb2.FieldDescriptorProto
TAIL = b"\0" * 32


def file_of(syntax: str) -> descriptor_pb2.FileDescriptorProto:
    """A type of everything that is read at once, and of what is not: a map."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{syntax}.proto", package=syntax, syntax=syntax)
    colour = file.enum_type.add(name="Colour")
    for number, name in enumerate(("RED", "GREEN", "BLUE")):
        colour.value.add(name=name, number=number)
    point = file.message_type.add(name="Point")
    for number, axis in enumerate("xyz", 1):
        point.field.add(name=axis, number=number, type=F.TYPE_DOUBLE, label=F.LABEL_OPTIONAL)
    message = file.message_type.add(name="All")
    message.oneof_decl.add(name="choice")
    number = 40  # declared from the highest number down, with tags of one byte and of two
    for name, code in F.Type.items():
        if code in (F.TYPE_GROUP, F.TYPE_MESSAGE):
            continue
        for label in (F.LABEL_OPTIONAL, F.LABEL_REPEATED):
            number -= 1
            one = message.field.add(name=f"{name}_{label}".lower(), number=number, type=code)
            one.label = label
            if code == F.TYPE_ENUM:
                one.type_name = f".{syntax}.Colour"
    more = [("point", F.LABEL_OPTIONAL), ("points", F.LABEL_REPEATED)]
    for number, (name, label) in enumerate(more, 600):
        one = message.field.add(name=name, number=number, type=F.TYPE_MESSAGE, label=label)
        one.type_name = f".{syntax}.Point"
    for number, name in enumerate(("left", "right"), 700):
        one = message.field.add(name=name, number=number, type=F.TYPE_INT32, oneof_index=0)
        one.label = F.LABEL_OPTIONAL
    return file


def random_message(kind, draw: random.Random):
    """Each field present with some chance, numbers of every length."""
    one = kind()
    for field in kind.DESCRIPTOR.fields:
        if draw.random() < 0.4:
            continue
        values = [random_value(field, draw) for _ in range(draw.choice([1, 2, 40]))]
        if field.message_type:
            parts = getattr(one, field.name)
            for _ in values[:3]:
                part = parts.add() if field.is_repeated else parts
                part.SetInParent()
                part.x, part.z = draw.random(), 0.0
        elif field.is_repeated:
            getattr(one, field.name).extend(values)
        else:
            setattr(one, field.name, values[0])
    return one


def random_value(field, draw: random.Random):
    if field.enum_type:
        return draw.randrange(3)
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING:
        size = draw.choice([0, 1, 130])
        return draw.randbytes(size) if field.type == field.TYPE_BYTES else "é" * size
    if kind in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return float(draw.randrange(1 << 20))
    if kind == field.CPPTYPE_BOOL:
        return draw.random() < 0.5
    is_signed = kind in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
    bits = 32 if kind in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    value = draw.getrandbits(draw.randrange(bits - is_signed) + 1)
    return -value if is_signed and draw.random() < 0.5 else value


def kit(syntax: str):
    """The message class, the decoder, and the same decoder without what reads all at once."""
    file = file_of(syntax)
    pool = DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{syntax}.All"))
    data = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    decoder = protobuf_decoder(schema_of(f"{syntax}.All", data, "protobuf"))
    never = tuple(attrs.evolve(field, is_read=False) for field in decoder.fields)
    return kind, decoder, attrs.evolve(decoder, fields=never)


@pytest.mark.parametrize("syntax", ["proto2", "proto3"])
def test_what_writers_write_is_read_at_once_and_as_the_parser_reads_it(syntax):
    """Every type, label, length and presence: no message is left out, each value is upb's."""
    kind, decoder, parser = kit(syntax)
    draw = random.Random(3)  # noqa: S311  no secret
    batch = batch_of(
        [random_message(kind, draw).SerializeToString() for _ in range(300)], lead=TAIL
    )
    _, index = read_messages(
        decoder.fields, batch.arena, starts=batch.starts, lengths=batch.lengths
    )
    assert len(index) == 300
    ours, theirs = decoder.decode(batch), parser.decode(batch)
    ours.rows.validate(full=True)
    assert ours.bad == theirs.bad == ()
    assert_same(ours.rows.to_pylist(), theirs.rows.to_pylist())


@pytest.mark.parametrize("syntax", ["proto2", "proto3"])
def test_damaged_bytes_have_the_outcome_that_the_parser_gives_them(syntax):
    """Flipped, cut, doubled, and foreign bytes: same rows, same bad messages, whoever reads."""
    kind, decoder, parser = kit(syntax)
    draw = random.Random(5)  # noqa: S311  no secret
    payloads = []
    for _ in range(500):
        data = bytearray(random_message(kind, draw).SerializeToString())
        at = draw.randrange(len(data) + 1)
        damage = draw.randrange(5)
        if damage == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif damage == 1:
            del data[at:]
        elif damage == 2:
            data[at:at] = draw.randbytes(3)
        elif damage == 3:
            data = data * 2
        else:
            data += b"\xa0\x06" + b"\xff" * 9 + bytes([draw.randrange(4)])
        payloads.append(bytes(data))
    batch = batch_of(payloads, lead=TAIL)
    ours, theirs = decoder.decode(batch), parser.decode(batch)
    ours.rows.validate(full=True)
    assert [one.message for one in ours.bad] == [one.message for one in theirs.bad]
    assert np.array_equal(ours.index, theirs.index)
    assert_same(ours.rows.to_pylist(), theirs.rows.to_pylist())
    _, index = read_messages(
        decoder.fields, batch.arena, starts=batch.starts, lengths=batch.lengths
    )
    assert 0 < len(index) < len(payloads)


def test_a_message_of_very_many_elements_costs_no_step_for_each():
    """A message of 100,000 texts among small ones is not gone through in 100,000 steps."""
    kind, decoder, _ = kit("proto3")
    payloads = [kind(type_string_3=["a"] * n).SerializeToString() for n in (1, 100_000, 2)]
    decoded = decoder.decode(batch_of(payloads, lead=TAIL))
    assert [len(one) for one in decoded.rows.column("type_string_3").to_pylist()] == [1, 100_000, 2]
