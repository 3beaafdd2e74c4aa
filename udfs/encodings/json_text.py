"""JSON messages: typed columns where a JSON Schema tells them, else one column of text.

Source: RFC 8259; https://mcap.dev/spec/registry#jsonschema
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
import numpy as np
import pyarrow as pa

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array, MessageBatch, Schema
from udfs.encodings.columns import EMPTY_FIELD, list_type
from udfs.encodings.json_program import (
    JsonProgram,
    compiled,
    is_open,
    shape_of,
    text_of,
    texts_program,
)
from udfs.encodings.payload import BadPayload, Decoded, decoded_by, payload

MORE = "_more"
"""Column of the properties that an object has and its schema doesn't name, as JSON text."""
_INT64 = range(-(1 << 63), 1 << 63)

Convert = Callable[[Any], Any]
"""Turns a parsed value into one that Arrow takes for the column; ValueError if it is no such."""


@attrs.frozen(eq=False)
class JsonDecoder:
    """Decodes JSON texts.

    Attributes:
        schema: The columns.
        convert: What makes a row of a parsed message; None for one column of text.
        program: What reads all texts of which there is nothing to tell.
    """

    schema: pa.Schema
    convert: Convert | None
    program: JsonProgram

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message; errors are BAD_JSON and SCHEMA_MISMATCH."""
        slowly = partial(self._one_by_one, batch)
        return decoded_by(self.program, batch, schema=self.schema, one_by_one=slowly)

    def _one_by_one(self, batch: MessageBatch, messages: Int64Array) -> Decoded:
        rows: list[dict[str, Any]] = []
        index: list[int] = []
        bad: list[BadPayload] = []
        for i in messages.tolist():
            text = payload(batch, i)
            try:
                rows.append(self._row(text))
                index.append(i)
            except _MismatchError as error:
                bad.append(BadPayload(i, "SCHEMA_MISMATCH", str(error)))
            except (ValueError, OverflowError, RecursionError) as error:
                bad.append(BadPayload(i, "BAD_JSON", str(error)[:200]))
        decoded = pa.RecordBatch.from_pylist(rows, schema=self.schema)
        return Decoded(decoded, np.array(index, np.int64), tuple(bad))

    def _row(self, text: bytes) -> dict[str, Any]:
        value = json.loads(text)
        if self.convert is None:
            return {"json": text.decode().removeprefix("\ufeff")}
        if not isinstance(value, dict):
            raise _MismatchError(f"a message is {_kind(value)}, not an object")
        row: dict[str, Any] = self.convert(value)
        return row


class _MismatchError(Exception):
    """A value is not what its JSON Schema says."""


def json_decoder(schema: Schema | None) -> JsonDecoder:
    """Decoder from a JSON Schema whose root is an object with properties, else of plain text.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION, the schema itself is no JSON.
    """
    text = JsonDecoder(pa.schema([("json", pa.string())]), None, texts_program())
    if schema is None or schema.encoding != "jsonschema" or not schema.data.strip():
        return text
    try:
        rules = json.loads(schema.data)
    except (ValueError, RecursionError) as error:
        what = f"JSON Schema {schema.name}: {error}"
        raise UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION") from error
    if not isinstance(rules, dict) or not isinstance(rules.get("properties"), dict):
        return text
    kind, convert = _object(rules, 0)
    return JsonDecoder(pa.schema(list(kind)), convert, compiled(rules, kind))


def _column(rules: Any, depth: int) -> tuple[pa.DataType, Convert]:
    """Arrow type and conversion of a value; what has no single type is kept as JSON text."""
    shape = shape_of(rules, depth)
    if shape == "object":
        return _object(rules, depth)
    if shape == "array":
        kind, convert = _column(rules["items"], depth + 1)
        return list_type(kind), _array(convert)
    if shape == "text":
        return pa.string(), text_of
    return _SCALARS[shape][0], _scalar(shape)


def _object(rules: dict[str, Any], depth: int) -> tuple[pa.StructType, Convert]:
    """Struct of the named properties; the others, where allowed, are kept as text beside them."""
    children = {name: _column(rule, depth + 1) for name, rule in rules["properties"].items()}
    names = dict(zip(children, _column_names([*children]), strict=True))
    fields = [(names[name], kind) for name, (kind, _) in children.items()]
    fields += [(MORE, pa.string())] if is_open(rules) else []

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _MismatchError(f"{_kind(value)} where an object is due")
        row = {
            names[name]: None if value.get(name) is None else to_column(value[name])
            for name, (_, to_column) in children.items()
        }
        if more := {name: one for name, one in value.items() if name not in children}:
            if not is_open(rules):
                raise _MismatchError(f"property {next(iter(more))[:80]!r} is not allowed")
            row[MORE] = text_of(more)
        return row

    return pa.struct(fields or [(EMPTY_FIELD, pa.bool_())]), convert


def _column_names(names: list[str]) -> Iterator[str]:
    """Lower-case names, each once, of the letters that a table may have."""
    taken = {MORE}
    for name in names:
        plain = "".join(c if c.isalnum() or c == "_" else "_" for c in name.lower()) or "_"
        while plain in taken:
            plain += "_"
        taken.add(plain)
        yield plain


def _array(convert: Convert) -> Convert:
    def to_list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _MismatchError(f"{_kind(value)} where an array is due")
        return [None if one is None else convert(one) for one in value]

    return to_list


def _scalar(name: str) -> Convert:
    _, is_right = _SCALARS[name]

    def to_scalar(value: Any) -> Any:
        if not is_right(value):
            raise _MismatchError(f"{_kind(value)} where {name} is due")
        return int(value) if name == "integer" else float(value) if name == "number" else value

    return to_scalar


def _is_integer(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return float(value).is_integer() and int(value) in _INT64


_SCALARS: dict[str, tuple[pa.DataType, Callable[[Any], bool]]] = {
    "number": (pa.float64(), lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    "integer": (pa.int64(), _is_integer),
    "string": (pa.string(), lambda v: isinstance(v, str) and v.encode() is not None),
    "boolean": (pa.bool_(), lambda v: isinstance(v, bool)),
}


def _kind(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}.get(
        type(value), "null" if value is None else "a number"
    )
