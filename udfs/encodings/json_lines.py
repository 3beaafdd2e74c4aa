"""Many JSON objects parsed at once by Arrow, where nothing about them needs a closer look.

Each text must begin and end as an object does. Texts stand in lines of their own, and no string
holds a line break, so that no two make one object together: as many rows as texts then means one
object in each. Whatever else there is to say of a text, a parser of single texts says it.

Source: RFC 8259; https://arrow.apache.org/docs/cpp/json.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.columns import gather_bytes, list_column

_NO_COLUMNS = pa.schema([("\x01", pa.null())])
_NOT_NUMBERS = (b"NaN", b"Inf")
"""Arrow takes more spellings of what is no number than others do."""
_NO_NUMBER = re.compile(rb"(?:NaN|Inf)(?<=[:,\[\s-]...)")


def read_objects(
    arena: UInt8Array, *, starts: Int64Array, lengths: Int64Array, schema: pa.Schema
) -> list[pa.Array] | None:
    """Columns of N objects that have no other properties than the schema; None: look closer.

    Args:
        arena: (B,) uint8.
        starts: (N,) int64, where each text starts.
        lengths: (N,) int64, its bytes.
        schema: Columns named as the properties, of numbers, texts, booleans, lists and structs.
    """
    texts = _texts(arena, starts, lengths)
    if texts is None or not schema.names:
        return None
    table = _parsed(texts, schema, beyond="error")
    if table is None or not all(_is_finite(one) for one in table.columns):
        return None
    return [column.combine_chunks() for column in table.columns]


def read_texts(
    arena: UInt8Array, *, starts: Int64Array, lengths: Int64Array
) -> pa.StringArray | None:
    """N texts, each one JSON object; None: look closer."""
    texts = _texts(arena, starts, lengths)
    if texts is None or _parsed(texts, _NO_COLUMNS, beyond="ignore") is None:
        return None
    data = texts.buffers()[2].to_pybytes()
    has_any = any(word[:1] in data and word in data for word in _NOT_NUMBERS)
    return None if has_any and _NO_NUMBER.search(data) else texts


def renamed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as `kind`, whose structs have the same fields by other names, then more."""
    if column.type == kind:
        return column
    if pa.types.is_struct(kind):
        rows = len(column)
        fields = [renamed(one, kind.field(i).type) for i, one in enumerate(column.flatten())]
        fields += [pa.nulls(rows, one.type) for one in list(kind)[len(fields) :]]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=column.is_null())
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    values = renamed(column.flatten(), kind.value_type)
    whole = list_column(values, counts, rows=len(column))
    if not column.null_count:
        return whole
    valid = pa.py_buffer(np.packbits(column.is_valid().to_numpy(False), bitorder="little"))
    return pa.Array.from_buffers(
        kind, len(column), [valid, whole.buffers()[1]], children=[whole.values]
    )


def _texts(arena: UInt8Array, starts: Int64Array, lengths: Int64Array) -> pa.StringArray | None:
    """The texts, if each is UTF-8 and begins and ends as an object does."""
    if not len(starts) or int(lengths.min()) < 2:
        return None
    ends = arena[starts + lengths - 1]
    if (arena[starts] != ord("{")).any() or (ends != ord("}")).any():
        return None
    try:
        return gather_bytes(arena, starts, lengths).cast(pa.string())
    except pa.ArrowInvalid:
        return None


def _parsed(texts: pa.StringArray, schema: pa.Schema, *, beyond: str) -> pa.Table | None:
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    lines = pc.binary_join(whole, "\n")[0].as_buffer()
    read = arrow_json.ReadOptions(use_threads=False, block_size=lines.size + 1)
    parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=beyond)
    try:
        table = arrow_json.read_json(pa.BufferReader(lines), read_options=read, parse_options=parse)
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    return table if table.num_rows == len(texts) else None


def _is_finite(column: pa.ChunkedArray) -> bool:
    """Whether no number is NaN or too large for a double: a closer look tells if that is right."""
    return all(np.isfinite(one).all() for chunk in column.chunks for one in _floats(chunk))


def _floats(column: pa.Array) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    if pa.types.is_floating(column.type):
        yield np.frombuffer(column.buffers()[1], np.float64)[column.offset :][: len(column)]
    elif pa.types.is_struct(column.type) or pa.types.is_list(column.type):
        flat = column.flatten()
        for child in flat if isinstance(flat, list) else [flat]:
            yield from _floats(child)
