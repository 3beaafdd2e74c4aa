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
]


@pytest.mark.parametrize("rules", [CLOSED, None])
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


def test_plain_texts_are_parsed_at_once():
    """What nothing is odd about needs no closer look, with a schema and without."""
    for decoder in (json_decoder(schema(CLOSED)), json_decoder(None)):
        assert decoder._at_once(batch_of(TEXTS), np.arange(len(TEXTS))) is not None


def test_properties_beyond_an_open_schema_are_kept_as_text():
    """What a schema allows without naming it is not lost."""
    rules = {"type": "object", "properties": {"a": {"type": "number"}}}
    decoded = json_decoder(schema(rules)).decode(batch_of([b'{"a": 1, "b": [2]}', b'{"a": 2}']))
    assert decoded.rows.to_pylist() == [{"a": 1.0, "_more": '{"b":[2]}'}, {"a": 2.0, "_more": None}]


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
