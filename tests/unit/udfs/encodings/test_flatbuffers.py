"""FlatBuffers messages decode to what the reference builder was given; damage is told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import UnsupportedFormatError
from contracts.recording import Schema
from tests.unit.udfs.encodings.flatbuffer_files import DRIVE, F, Obj, bfbs, drive_message
from tests.unit.udfs.oracles import assert_same, batch_of, schema_of
from udfs.encodings.registry import decoder_for

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
REAL = st.floats(width=32, allow_nan=False)
POINT = st.fixed_dictionaries({"x": REAL, "y": st.floats(allow_nan=False)})
PART = st.fixed_dictionaries(
    {"name": st.none() | TEXT, "weight": st.floats(allow_nan=False) | st.just(1.5)}
)
MESSAGE = st.fixed_dictionaries(
    {
        "timestamp_ns": st.none() | st.integers(0, (2**32 - 1) * 10**9),
        "count": st.integers(-(2**31), 2**31 - 1) | st.just(-7),
        "maybe": st.none() | st.integers(-(2**15), 2**15 - 1),
        "big": st.integers(0, 2**64 - 1),
        "text": st.none() | TEXT,
        "numbers": st.none() | st.lists(REAL, max_size=4),
        "data": st.none() | st.binary(max_size=9),
        "point": st.none() | POINT,
        "points": st.none() | st.lists(POINT, max_size=3),
        "part": st.none() | PART,
        "parts": st.none() | st.lists(PART, max_size=3),
        "words": st.none() | st.lists(TEXT, max_size=3),
        "choice_type": st.just(0),
        "choice": st.none() | st.fixed_dictionaries({"part": PART}),
        "yes": st.booleans(),
    }
)


def _schema(data: bytes, name: str = "pkg.Root") -> Schema:
    return schema_of(name, data, "flatbuffer")


def _row(value: dict) -> dict:
    """The row that a message must become."""
    chosen = value["choice"]
    return value | {
        "choice_type": 0 if chosen is None else 1,
        "choice": {"part": None} if chosen is None else chosen,
    }


def _sorted(value):
    """The value with the names of its dictionaries in order: hypothesis has its own."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


@given(st.lists(MESSAGE, max_size=12))
@settings(max_examples=30, deadline=None)
def test_random_messages_decode_to_what_was_written(values):
    """Any values, present or left out: equal to what the builder was given."""
    decoder = decoder_for("flatbuffer", _schema(DRIVE))
    decoded = decoder.decode(batch_of([drive_message(value) for value in values]))
    assert not decoded.bad
    assert decoded.rows.schema == decoder.schema
    assert_same(_sorted(decoded.rows.to_pylist()), _sorted([_row(value) for value in values]))


def test_damaged_messages_never_read_beyond_themselves():
    """6,000 flipped, cut or spliced messages: each is bad, or read from its own bytes alone."""
    chance = random.Random(9)  # noqa: S311
    value = {
        "timestamp_ns": 5 * 10**9 + 3, "count": 3, "big": 9, "text": "hello", "maybe": 4,
        "numbers": [1.0, 2.0], "data": b"abc", "point": {"x": 1.0, "y": 2.0},
        "points": [{"x": 1.0, "y": 2.0}] * 2, "part": {"name": "p", "weight": 2.0},
        "parts": [{"name": "q", "weight": 2.0}] * 3, "words": ["a", "b"], "yes": False,
        "choice": {"part": {"name": "c", "weight": 3.0}},
    }  # fmt: skip
    good = drive_message(value)
    payloads = []
    for _ in range(6000):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        payloads.append(bytes(data))
    payloads.append(good)
    decoder = decoder_for("flatbuffer", _schema(DRIVE))
    together = decoder.decode(batch_of(payloads))
    assert len(together.index) + len(together.bad) == len(payloads)
    assert together.index[-1] == len(payloads) - 1
    assert {one.error_class for one in together.bad} == {"BAD_FLATBUFFER", "BAD_UTF8"}
    alone = decoder.decode(batch_of(payloads, lead=bytes(range(1, 17))))
    assert alone.index.tolist() == together.index.tolist()
    assert str(alone.rows.to_pylist()) == str(together.rows.to_pylist())


def test_shared_references_can_not_explode():
    """A message whose vectors all lead to one another is bad before it fills the memory."""
    levels = [Obj("pkg.L0", (F("a", "vector", 4, element="ubyte"),))]
    levels += [
        Obj(f"pkg.L{i}", (F("a", "vector", 4, element="obj", index=i - 1),)) for i in range(1, 9)
    ]
    import flatbuffers

    b = flatbuffers.Builder(64)
    inner = b.CreateByteVector(bytes(1000))
    for _ in range(9):
        b.StartObject(1)
        b.PrependUOffsetTRelativeSlot(0, inner, 0)
        table = b.EndObject()
        b.StartVector(4, 100, 4)
        for _ in range(100):
            b.PrependUOffsetTRelative(table)
        inner = b.EndVector()
    b.Finish(table)
    decoder = decoder_for("flatbuffer", _schema(bfbs(levels), "pkg.L8"))
    decoded = decoder.decode(batch_of([bytes(b.Output())]))
    assert [one.error_class for one in decoded.bad] == ["BAD_FLATBUFFER"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abcd",
        bytes(64),
        DRIVE[:100],
        bfbs([Obj("pkg.Root", (F("self", "obj", 4, index=0),))]),
        bfbs([Obj("pkg.Other", ())]),
        bfbs([Obj("pkg.Root", (F("u", "vector", 4, element="union", index=0),))]),
    ],
)
def test_what_is_no_schema_says_so(data):
    """No bfbs, a damaged one, a table that contains itself: UNPARSABLE_DEFINITION."""
    with pytest.raises(UnsupportedFormatError) as caught:
        decoder_for("flatbuffer", _schema(data))
    assert caught.value.code == "UNPARSABLE_DEFINITION"


def test_damaged_schemas_never_fail_otherwise():
    """2,000 damaged binary schemas: columns or UNPARSABLE_DEFINITION, nothing else."""
    chance = random.Random(2)  # noqa: S311
    refused = 0
    for _ in range(2000):
        data = bytearray(DRIVE)
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            decoder_for("flatbuffer", _schema(bytes(data)))
        except UnsupportedFormatError:
            refused += 1
    assert 0 < refused < 2000
