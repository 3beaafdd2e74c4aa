from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import UnsupportedFormatError
from tests.unit.udfs.oracles import batch_of, mcap_messages, schema_of
from udfs.encodings.json_text import json_decoder
from udfs.encodings.registry import decoder_for

POINT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "ok": {"type": "boolean"},
        "xy": {"type": "array", "items": {"type": "number"}},
        "inner": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"v": {"type": ["number", "null"]}},
        },
        "any": {},
    },
}


def schema(rules: object) -> object:
    return schema_of("T", json.dumps(rules), "jsonschema")


VALUES = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1) | st.none(),
        "name": st.text(st.characters(exclude_categories=["Cs"])) | st.none(),
        "ok": st.booleans(),
        "xy": st.lists(st.floats(allow_nan=False)),
        "inner": st.fixed_dictionaries({"v": st.floats(allow_nan=False) | st.none()}),
    }
)


@given(st.lists(VALUES, max_size=6))
@settings(deadline=None, max_examples=80)
def test_values_of_every_type_survive(values):
    """Any object of the schema gives a row with the very same values."""
    batch = batch_of([json.dumps(value).encode() for value in values])
    decoded = json_decoder(schema(POINT)).decode(batch)
    assert decoded.bad == ()
    assert decoded.rows.to_pylist() == [{**value, "any": None} for value in values]


def test_columns_follow_from_the_schema():
    """Numbers are doubles, integers 64 bit, arrays lists, objects structs, the untyped is text."""
    found = {field.name: str(field.type) for field in json_decoder(schema(POINT)).schema}
    assert found == {
        "id": "int64",
        "name": "string",
        "ok": "bool",
        "xy": "list<element: double>",
        "inner": "struct<v: double>",
        "any": "string",
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{", "BAD_JSON"),
        (b'{"name": "\xff"}', "BAD_JSON"),
        (b'{"name": "\\ud800"}', "BAD_JSON"),
        (b"[" * 100_000, "BAD_JSON"),
        (b"3", "SCHEMA_MISMATCH"),
        (b'{"id": 1.5}', "SCHEMA_MISMATCH"),
        (b'{"id": 9223372036854775808}', "SCHEMA_MISMATCH"),
        (b'{"id": true}', "SCHEMA_MISMATCH"),
        (b'{"xy": 4}', "SCHEMA_MISMATCH"),
        (b'{"ok": "yes"}', "SCHEMA_MISMATCH"),
        (b'{"other": 1}', "SCHEMA_MISMATCH"),
    ],
)
def test_a_bad_text_costs_itself_only(text, error):
    """Fault 18: invalid or mistyped messages are bad with a class; the others are kept."""
    decoded = json_decoder(schema(POINT)).decode(batch_of([b'{"id": 1}', text, b'{"id": 3}']))
    assert [row["id"] for row in decoded.rows.to_pylist()] == [1, 3]
    assert decoded.index.tolist() == [0, 2]
    assert [(one.message, one.error_class) for one in decoded.bad] == [(1, error)]


CLOSED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "Id": {"type": "integer"},
        "x": {"type": "number"},
        "names": {"type": "array", "items": {"type": "string"}},
        "In": {"type": "object", "properties": {"V": {"type": "boolean"}}},
        "rows": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    },
}
TEXTS = [
    b'{"Id":1,"x":2.5,"names":["a","\\u00e9",null],"In":{"V":true},"rows":[[1,2],[],[3.5]]}',
    b'{"Id":null,"x":3,"names":null,"In":null}',
    b"{}",
    b'{ "rows" : [ null , [ null ] ] , "In" : {} }',
]
ODD = [
    b'{"In":{"V":false,"other":[1]}}',
    b'{"x":NaN}',
    b'{"x":-Infinity}',
    b'{"x":' + b"9" * 400 + b"}",
    b'{"x":Inf}',
    b'{"Id":1e3}',
    b'{"Id":1}{"Id":2}',
    b'{"names":["}',
    b'{"}',
    b'{"x":1,"x":2}',
    b'{"names":["\\ud800"]}',
    b'{"names":["\xff"]}',
    b' {"x":1}',
    b"",
    b"{",
    b'{"x":-0}',
    b'{"x":-0.0,"Id":-0}',
    b'{"Id":-9223372036854775808}',
    b'{"Id":9223372036854775808}',
    b'{"x":01}',
    b'{"x":1.}',
    b'{"x":.5}',
    b'{"x":1e400}',
    b'{"x":4.9e-324}',
    b'{"x":123456789012345678901234567890.5}',
    b'{"names":["\\ud83d\\ude00 \\/ \\u00e9\\n"]}',
    b'{"names":["\\ud83d"]}',
    b'{"\\u0078":1}',
    b'{"names":["\xed\xa0\x80"]}',
    b'{"names":["\x01"]}',
    b'{"names":["\\x"]}',
    b'\xef\xbb\xbf{"x":1}',
    '{"x":1}'.encode("utf-16"),
    b'{"any":[1.0,1.50,-0,1e5,"\\u00e9",{"b":1,"b":2}], "more" : [ 1 ], "more":2}',
    b'{"any":0.0001,"maybe":0.00001,"p":true,"q":"a\x7f","r":"\\ud800"}',
    b'{"a":1,"b":2.5,"c":null,"d":[],"e":"","f":1,"g":2,"h":3,"i":4,"i":5}',
    b'{"nothing":{},"free":{"z":{}},"anys":[null,1,"a"]}',
    b'{"nothing":{"a":1}}',
    b'{"x":1,}',
    b'{"names":[1,]}',
    b'{"x":1} x',
    b'{"any":' + b"[" * 80 + b"]" * 80 + b"}",
    b'{"any":' + b"9" * 5000 + b"}",
]


OPEN = {
    "type": "object",
    "properties": {
        **CLOSED["properties"],
        "any": {},
        "maybe": {"type": ["integer", "string"]},
        "list": {"type": "array"},
        "anys": {"type": "array", "items": {}},
        "nothing": {"type": "object", "properties": {}, "additionalProperties": False},
        "free": {"type": "object", "properties": {}},
        'é "x': {"type": "integer"},
    },
}
SCHEMAS = {"closed": CLOSED, "open": OPEN, "none": None}


def left_by_kernel(decoder, texts: list[bytes]) -> list[int]:
    batch = batch_of(texts)
    _, index = decoder.program.read(batch.arena, starts=batch.starts, lengths=batch.lengths)
    return sorted({*range(len(texts))} - {*index.tolist()})


def assert_as_json_loads(decoder, texts: list[bytes]) -> None:
    """The decoder gives what the rules of json_text make of what json.loads gives."""
    batch = batch_of(texts)
    ours = decoder.decode(batch)
    ours.rows.validate(full=True)
    theirs = decoder._one_by_one(batch, np.arange(len(texts)))
    assert ours.bad == theirs.bad
    assert ours.index.tolist() == theirs.index.tolist()
    if not ours.rows.equals(theirs.rows):
        assert repr(ours.rows.to_pylist()) == repr(theirs.rows.to_pylist())


@pytest.mark.parametrize("rules", [CLOSED, OPEN, None])
@pytest.mark.parametrize("odd", [None, *ODD])
def test_texts_parsed_at_once_are_as_each_by_itself(rules, odd):
    """Whatever stands among them: the same rows and errors as of a text that is alone."""
    texts = TEXTS * 60
    if odd is not None:
        texts[37:37] = [odd]
        texts[200:200] = [odd]
    decoder = json_decoder(schema(rules) if rules else None)
    ours = decoder.decode(batch_of(texts))
    ours.rows.validate(full=True)
    rows, bad = [], []
    for i, text in enumerate(texts):
        one = decoder._one_by_one(batch_of([text]), np.zeros(1, np.int64))
        rows += one.rows.to_pylist()
        bad += [(i, error.error_class) for error in one.bad]
    assert repr(ours.rows.to_pylist()) == repr(rows)
    assert [(one.message, one.error_class) for one in ours.bad] == bad


def test_plain_texts_are_read_by_the_kernel():
    """What nothing is odd about needs no closer look, with a schema and without."""
    for decoder in (json_decoder(schema(CLOSED)), json_decoder(schema(OPEN)), json_decoder(None)):
        assert left_by_kernel(decoder, TEXTS) == []


def test_properties_beyond_an_open_schema_are_kept_as_text():
    """What a schema allows without naming it is not lost."""
    rules = {"type": "object", "properties": {"a": {"type": "number"}}}
    decoded = json_decoder(schema(rules)).decode(batch_of([b'{"a": 1, "b": [2]}', b'{"a": 2}']))
    assert decoded.rows.to_pylist() == [{"a": 1.0, "_more": '{"b":[2]}'}, {"a": 2.0, "_more": None}]


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.sampled_from(["%r", "%.17e", "%.25g", "%.3f", "%.14g", "%.18e"]),
)
@settings(deadline=None, max_examples=100)
def test_numbers_are_the_nearest_doubles(numbers, form):
    """However many digits they are written with, as Python reads them."""
    texts = [b'{"x":%s}' % (form % number).encode() for number in numbers]
    assert_as_json_loads(json_decoder(schema(CLOSED)), texts)


@given(st.lists(st.integers(0, 10**20)), st.lists(st.integers(-400, 400)))
@settings(deadline=None, max_examples=100)
def test_any_digits_and_exponents_are_the_nearest_doubles(digits, exponents):
    """Also between two doubles, below the normal ones, and beyond the largest."""
    pairs = zip(digits, exponents, strict=False)
    texts = [b'{"x":%d.%de%d}' % (n % 10, n // 10, exponent) for n, exponent in pairs]
    assert_as_json_loads(json_decoder(schema(CLOSED)), texts)


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "Id": st.integers(-(2**63), 2**63 - 1) | ANY,
        "x": st.floats() | ANY,
        "names": st.lists(st.text(max_size=12)) | ANY,
        "In": st.fixed_dictionaries({}, optional={"V": st.booleans(), "W": ANY}) | st.none(),
        "rows": st.lists(st.lists(st.floats(allow_nan=False)) | st.none()),
        "any": ANY,
        "anys": st.lists(ANY, max_size=3),
        "free": st.dictionaries(st.text(max_size=3), ANY, max_size=3),
        "other": ANY,
        'é "x': st.integers(0, 9),
    },
)


@given(st.lists(OBJECTS, max_size=6), st.booleans(), st.sampled_from([None, 1]), st.data())
@settings(deadline=None, max_examples=60)
def test_any_text_is_read_as_json_loads_reads_it(values, is_ascii, indent, data):
    """Every schema, whole and damaged: the same rows and errors as of json.loads."""
    texts = [json.dumps(one, ensure_ascii=is_ascii, indent=indent) for one in values]
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    for i, text in enumerate(raw):
        if text and data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(text) - 1))
            raw[i] = text[:at] + data.draw(st.binary(max_size=2)) + text[at + 1 :]
    for rules in SCHEMAS.values():
        assert_as_json_loads(json_decoder(schema(rules) if rules else None), raw)


@pytest.mark.parametrize("given_schema", [None, schema_of("T", "", "jsonschema"), schema({})])
def test_without_a_schema_the_text_itself_is_the_column(given_schema):
    """One string column `json`; what does not parse is bad."""
    decoder = decoder_for("json", given_schema)
    decoded = decoder.decode(batch_of([b'{"a":1}', b"nonsense", b"[1]"]))
    assert decoded.rows.schema == pa.schema([("json", pa.string())])
    assert decoded.rows.to_pylist() == [{"json": '{"a":1}'}, {"json": "[1]"}]
    assert [one.error_class for one in decoded.bad] == ["BAD_JSON"]


def test_a_schema_that_is_no_json_is_unusable():
    """An unreadable definition is told apart, so that its messages are kept raw."""
    with pytest.raises(UnsupportedFormatError):
        json_decoder(schema_of("T", "{nope", "jsonschema"))


def test_real_json_messages_equal_the_library(samples):
    """The web demo recording: every mouse event as json.loads reads it."""
    path = samples / "mcap/rerun/simple-protobuf_mixed_json.mcap"
    compared = 0
    for one, channel, messages in mcap_messages(path).values():
        if channel.message_encoding != "json":
            continue
        decoder = json_decoder(schema_of(one.name, one.data, one.encoding))
        decoded = decoder.decode(batch_of([m.data for m in messages]))
        for row, message in zip(decoded.rows.to_pylist(), messages, strict=True):
            wanted = json.loads(message.data)
            assert row == {
                "clientx": wanted["clientX"],
                "clienty": wanted["clientY"],
                "_more": None,
            }
            compared += 1
    assert compared == 292
