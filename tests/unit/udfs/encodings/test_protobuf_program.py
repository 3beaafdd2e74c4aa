from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.udfs.encodings.protobuf_files import (
    damaged,
    foreign_field,
    kit,
    random_message,
    shuffled,
    varint,
)
from tests.unit.udfs.oracles import assert_same, batch_of
from udfs.encodings.protobuf import ProtobufDecoder

SYNTAXES = ("proto2", "proto3")
KITS = {syntax: kit(syntax) for syntax in SYNTAXES}


def left_by_kernel(decoder: ProtobufDecoder, payloads: list[bytes]) -> list[int]:
    batch = batch_of(payloads)
    _, index = decoder.program.read(batch.arena, starts=batch.starts, lengths=batch.lengths)
    return sorted({*range(len(payloads))} - {*index.tolist()})


def assert_as_parser(decoder: ProtobufDecoder, payloads: list[bytes]) -> Any:
    """The decoder gives what the library's parser gives of each message."""
    batch = batch_of(payloads)
    ours = decoder.decode(batch)
    ours.rows.validate(full=True)
    theirs = decoder._one_by_one(batch, np.arange(len(payloads)))
    assert ours.bad == theirs.bad
    assert np.array_equal(ours.index, theirs.index)
    if not ours.rows.equals(theirs.rows):  # NaN, else it says where
        assert_same(ours.rows.to_pylist(), theirs.rows.to_pylist())
    return ours


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_writers_write_is_read_by_the_kernel_and_as_the_parser_reads_it(syntax):
    """Every type, label, map, oneof, group, presence: only instants out of range are left."""
    kind, decoder = KITS[syntax]
    draw = random.Random(3)  # noqa: S311  no secret
    payloads = [random_message(kind, draw).SerializePartialToString() for _ in range(200)]
    ours = assert_as_parser(decoder, payloads)
    assert left_by_kernel(decoder, payloads) == [one.message for one in ours.bad]
    assert len(ours.index) > 150


@given(seed=st.integers(0, 1 << 32), syntax=st.sampled_from(SYNTAXES))
@settings(deadline=None, max_examples=60)
def test_any_order_and_repetition_of_fields_is_read_as_the_parser_reads_it(seed, syntax):
    """The last of several values stands, messages merge, what is unknown is skipped."""
    kind, decoder = KITS[syntax]
    draw = random.Random(seed)  # noqa: S311  no secret
    payloads = []
    for _ in range(6):
        parts = [random_message(kind, draw) for _ in range(draw.randrange(1, 4))]
        data = b"".join(one.SerializePartialToString() for one in parts)
        if draw.random() < 0.5:
            data = shuffled(data, draw, foreign=foreign_field(kind, draw))
        payloads.append(data)
    assert_as_parser(decoder, payloads)


@given(seed=st.integers(0, 1 << 32), syntax=st.sampled_from(SYNTAXES))
@settings(deadline=None, max_examples=60)
def test_damaged_bytes_have_the_outcome_that_the_parser_gives_them(seed, syntax):
    """Flipped, cut, doubled, and foreign bytes: same rows, same bad messages, whoever reads."""
    kind, decoder = KITS[syntax]
    draw = random.Random(seed)  # noqa: S311  no secret
    payloads = []
    for _ in range(8):
        data = random_message(kind, draw, itself=0.05).SerializePartialToString()
        for _ in range(draw.randrange(3)):
            data = damaged(data, draw)
        payloads.append(data)
    assert_as_parser(decoder, payloads)


def test_merging_is_done_by_the_kernel():
    """A message whose parts come again, in any order, isn't left to the parser."""
    kind, decoder = KITS["proto3"]
    draw = random.Random(11)  # noqa: S311  no secret
    payloads = []
    for _ in range(100):
        parts = [random_message(kind, draw).SerializeToString() for _ in range(2)]
        payloads.append(shuffled(b"".join(parts), draw))
    assert_as_parser(decoder, payloads)
    assert len(left_by_kernel(decoder, payloads)) < 90


def test_a_message_within_the_last_bytes_of_the_arena_is_read():
    """No read goes beyond the arena, even where nothing stands behind the last message."""
    kind, decoder = KITS["proto3"]
    data = kind(type_int64_1=-1, type_string_1="x").SerializeToString()
    arena = np.frombuffer(data, np.uint8).copy()
    starts, lengths = np.zeros(1, np.int64), np.full(1, len(data))
    _, index = decoder.program.read(arena, starts=starts, lengths=lengths)
    assert index.tolist() == [0]


@pytest.mark.parametrize(("start", "length"), [(-1, 4), (0, -1), (4, 1 << 62), (1 << 62, 1 << 62)])
def test_a_place_outside_the_arena_is_never_read(start, length):
    """Whatever an index says of a message."""
    _, decoder = KITS["proto3"]
    arena = np.zeros(4, np.uint8)
    starts, lengths = np.full(1, start), np.full(1, length)
    _, index = decoder.program.read(arena, starts=starts, lengths=lengths)
    assert index.tolist() == []


def test_an_instant_beside_the_limits_of_int64_is_told_apart():
    """The last nanosecond that fits is read, the next is out of range."""
    kind, decoder = KITS["proto3"]
    field = kind.DESCRIPTOR.fields_by_name["m4_1"].number
    payloads = []
    for seconds, nanoseconds in [(2**63 // 10**9, 854775807), (2**63 // 10**9, 854775808)]:
        inner = b"\x08" + varint(seconds) + b"\x10" + varint(nanoseconds)
        payloads.append(varint(field << 3 | 2) + varint(len(inner)) + inner)
    ours = decoder.decode(batch_of(payloads))
    assert ours.rows.column("m4_1_ns").to_pylist() == [2**63 - 1]
    assert [one.error_class for one in ours.bad] == ["TIME_OUT_OF_RANGE"]


def test_a_message_of_very_many_elements_costs_no_more_than_its_bytes():
    """A message of 100,000 texts among small ones is read as the others are."""
    kind, decoder = KITS["proto3"]
    payloads = [kind(type_string_3=["a"] * n).SerializeToString() for n in (1, 100_000, 2)]
    assert left_by_kernel(decoder, payloads) == []
    decoded = decoder.decode(batch_of(payloads))
    assert [len(one) for one in decoded.rows.column("type_string_3").to_pylist()] == [1, 100_000, 2]


def field_bytes(kind: Any, name: str, inner: bytes) -> bytes:
    number = kind.DESCRIPTOR.fields_by_name[name].number
    return varint(number << 3 | 2) + varint(len(inner)) + inner


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_damage_in_what_is_replaced_later_is_still_damage(syntax):
    """A bad map entry counts even if a oneof, or an entry of the same key, takes its place."""
    kind, decoder = KITS[syntax]
    bad_entry = b"\x08\x01\x12\x05ab"
    dropped = field_bytes(kind, "middle", b"\x32" + varint(len(bad_entry)) + bad_entry)
    key = b"\x0d\x01\0\0\0"
    twice = (key + b"\x12\x05\x32\x03\x08\x01\x12", key + b"\x12\x00")
    payloads = [
        dropped + field_bytes(kind, "when", b""),
        b"".join(field_bytes(kind, "map3", one) for one in twice),
        kind(left=1).SerializePartialToString(),
    ]
    ours = assert_as_parser(decoder, payloads)
    assert [one.message for one in ours.bad] == [0, 1]


def test_a_message_that_has_no_text_costs_itself_only():
    """An instant that JSON can't say, inside a message that is kept as JSON text."""
    kind, decoder = KITS["proto3"]
    inner = kind()
    inner.m4_1.seconds = 1 << 50
    payloads = [kind(left=1).SerializeToString(), kind(m3_1=inner).SerializeToString()]
    decoded = decoder.decode(batch_of(payloads))
    assert decoded.index.tolist() == [0]
    assert [(one.message, one.error_class) for one in decoded.bad] == [(1, "BAD_PROTOBUF")]


def test_keys_that_are_no_text_cost_their_message_only():
    """Of proto2 the parser gives such keys as bytes, which no column of texts takes."""
    kind, decoder = KITS["proto2"]
    entries = [b"\x0a\x01\xff\x11" + bytes(8), b"\x0a\x01a\x11" + bytes(8)]
    bad = b"".join(field_bytes(kind, "map0", entry) for entry in entries)
    decoded = decoder.decode(batch_of([kind(left=1).SerializePartialToString(), bad]))
    assert decoded.index.tolist() == [0]
    assert [(one.message, one.error_class) for one in decoded.bad] == [(1, "BAD_PROTOBUF")]
