"""JSON messages: typed columns where a JSON Schema tells them, else one column of text.

Source: RFC 8259; https://mcap.dev/spec/registry#jsonschema
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pyarrow as pa

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array, MessageBatch, Schema
from udfs.encodings.columns import EMPTY_FIELD, list_type
from udfs.encodings.json_lines import read_objects, read_texts, renamed
from udfs.encodings.payload import BadPayload, Decoded

MAX_DEPTH = 32
MORE = "_more"
"""Column of the properties that an object has and its schema doesn't name, as JSON text."""
_FEW = 64
_INT64 = range(-(1 << 63), 1 << 63)

Convert = Callable[[Any], Any]
"""Turns a parsed value into one that Arrow takes for the column; ValueError if it is no such."""


@attrs.frozen(eq=False)
class JsonDecoder:
    """Decodes JSON texts.

    Attributes:
        schema: The columns.
        convert: What makes a row of a parsed message; None for one column of text.
        plain: The columns by the names of the properties, where all have a type of their own, so
            that many messages can be parsed at once; None for one column of text.
    """

    schema: pa.Schema
    convert: Convert | None
    plain: pa.Schema | None = None

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message; errors are BAD_JSON and SCHEMA_MISMATCH."""
        parts = list(self._parts(batch, np.arange(len(batch.starts))))
        rows = pa.concat_batches([part.rows for part in parts])
        index = np.concatenate([part.index for part in parts])
        return Decoded(rows, index, tuple(one for part in parts for one in part.bad))

    def _parts(self, batch: MessageBatch, messages: Int64Array) -> Iterator[Decoded]:
        """Parse messages at once; where some need a closer look, the halves, and few one by one."""
        if self.convert is not None and self.plain is None:
            yield self._one_by_one(batch, messages)
        elif (rows := self._at_once(batch, messages)) is not None:
            yield Decoded(rows, messages)
        elif len(messages) <= _FEW:
            yield self._one_by_one(batch, messages)
        else:
            for half in np.array_split(messages, 2):
                yield from self._parts(batch, half)

    def _at_once(self, batch: MessageBatch, messages: Int64Array) -> pa.RecordBatch | None:
        starts, lengths = batch.starts[messages], batch.lengths[messages]
        if self.plain is None:
            texts = read_texts(batch.arena, starts=starts, lengths=lengths)
            return None if texts is None else pa.record_batch([texts], schema=self.schema)
        found = read_objects(batch.arena, starts=starts, lengths=lengths, schema=self.plain)
        if found is None:
            return None
        columns = [renamed(one, self.schema.field(i).type) for i, one in enumerate(found)]
        columns += [pa.nulls(len(starts), one.type) for one in list(self.schema)[len(columns) :]]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

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


def payload(batch: MessageBatch, message: int) -> bytes:
    """The payload of a message, copied."""
    start = int(batch.starts[message])
    return batch.arena[start : start + int(batch.lengths[message])].tobytes()


def json_decoder(schema: Schema | None) -> JsonDecoder:
    """Decoder from a JSON Schema whose root is an object with properties, else of plain text.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION, the schema itself is no JSON.
    """
    text = JsonDecoder(pa.schema([("json", pa.string())]), None)
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
    plain = _plain(rules, kind, 0)
    return JsonDecoder(pa.schema(list(kind)), convert, None if plain is None else pa.schema(plain))


def _column(rules: Any, depth: int) -> tuple[pa.DataType, Convert]:
    """Arrow type and conversion of a value; what has no single type is kept as JSON text."""
    if not isinstance(rules, dict) or depth > MAX_DEPTH:
        return pa.string(), _as_text
    name = rules.get("type")
    if isinstance(name, list):
        name = next(iter(kinds)) if len(kinds := {n for n in name if n != "null"}) == 1 else None
    if name == "object" and isinstance(rules.get("properties"), dict):
        return _object(rules, depth)
    if name == "array" and isinstance(rules.get("items"), dict):
        kind, convert = _column(rules["items"], depth + 1)
        return list_type(kind), _array(convert)
    if name in _SCALARS:
        return _SCALARS[name][0], _scalar(name)
    return pa.string(), _as_text


def _object(rules: dict[str, Any], depth: int) -> tuple[pa.StructType, Convert]:
    """Struct of the named properties; the others, where allowed, are kept as text beside them."""
    children = {name: _column(rule, depth + 1) for name, rule in rules["properties"].items()}
    is_open = rules.get("additionalProperties") is not False
    names = dict(zip(children, _column_names([*children]), strict=True))
    fields = [(names[name], kind) for name, (kind, _) in children.items()]
    fields += [(MORE, pa.string())] if is_open else []

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _MismatchError(f"{_kind(value)} where an object is due")
        row = {
            names[name]: None if value.get(name) is None else to_column(value[name])
            for name, (_, to_column) in children.items()
        }
        if more := {name: one for name, one in value.items() if name not in children}:
            if not is_open:
                raise _MismatchError(f"property {next(iter(more))[:80]!r} is not allowed")
            row[MORE] = _as_text(more)
        return row

    return pa.struct(fields or [(EMPTY_FIELD, pa.bool_())]), convert


def _plain(rules: Any, kind: pa.DataType, depth: int) -> pa.DataType | None:
    """The type with the properties' own names, if no part of it takes values of any type."""
    if pa.types.is_struct(kind):
        parts = rules["properties"].items()
        inner = [_plain(rule, kind.field(i).type, depth + 1) for i, (_, rule) in enumerate(parts)]
        names = list(rules["properties"])
        is_whole = inner and all(one is not None for one in inner)
        return pa.struct(list(zip(names, inner, strict=True))) if is_whole else None
    if pa.types.is_list(kind):
        element = _plain(rules["items"], kind.value_type, depth + 1)
        return None if element is None else list_type(element)
    return kind if _column(rules, depth)[1] is not _as_text else None


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


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _kind(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}.get(
        type(value), "null" if value is None else "a number"
    )
