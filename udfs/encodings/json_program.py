"""What the kernel of native/json.c does for a channel, compiled from its JSON Schema."""

from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.native.library import address_of, library
from udfs.native.rows import Columns, arrays_of, checked

MAX_DEPTH = 32
_KINDS = {
    name: place
    for place, name in enumerate(
        ["object", "array", "number", "integer", "string", "boolean", "text"]
    )
}
_NODE = np.dtype(
    [(name, "<i4") for name in ("kind", "first", "count", "more", "table", "table_mask")]
)
_PROPERTY = np.dtype([(name, "<i4") for name in ("name", "length", "column")])
_POWERS = range(-348, 348)


def shape_of(rules: Any, depth: int) -> str:
    """What a column holds: values of one JSON type, else `text`: values of any, as JSON text."""
    if not isinstance(rules, dict) or depth > MAX_DEPTH:
        return "text"
    name = rules.get("type")
    if isinstance(name, list):
        name = next(iter(kinds)) if len(kinds := {n for n in name if n != "null"}) == 1 else None
    if name == "object":
        return "object" if isinstance(rules.get("properties"), dict) else "text"
    if name == "array":
        return "array" if isinstance(rules.get("items"), dict) else "text"
    return name if name in ("number", "integer", "string", "boolean") else "text"


def is_open(rules: Mapping[str, Any]) -> bool:
    """Whether an object may have properties that its schema doesn't name."""
    return rules.get("additionalProperties") is not False


def text_of(value: Any) -> str:
    """A value as JSON text.

    Raises:
        UnicodeEncodeError: It has half a surrogate pair, which no column can hold.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text.encode()
    return text


class _Program(ctypes.Structure):
    _fields_ = (
        ("nodes", ctypes.c_void_p),
        ("properties", ctypes.c_void_p),
        ("names", ctypes.c_void_p),
        ("tables", ctypes.c_void_p),
        ("powers", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("column_count", ctypes.c_int32),
        ("root", ctypes.c_int32),
    )


@attrs.frozen(eq=False)
class JsonProgram:
    """Reads texts of one channel.

    Attributes:
        kinds: Types of the columns.
        columns: As they are before any text is read.
        nodes: (N,) what each column holds, then what the message does.
        properties: (P,) of all objects.
        names: (B,) uint8, theirs.
        tables: (T,) int32, places of properties by hash.
        root: The node of the message; -1 for one column of the texts themselves.
    """

    kinds: tuple[pa.DataType, ...]
    columns: Columns
    nodes: npt.NDArray[np.void]
    properties: npt.NDArray[np.void]
    names: UInt8Array
    tables: npt.NDArray[np.int32]
    root: int

    def read(
        self, arena: UInt8Array, *, starts: Int64Array, lengths: Int64Array
    ) -> tuple[list[pa.Array], Int64Array]:
        """Read texts.

        Args:
            arena: (B,) uint8.
            starts: (N,) int64, where each text starts in the arena.
            lengths: (N,) int64, its bytes.

        Returns:
            Columns of the M texts that were read and (M,) int64 which ones these are, ascending.
            The others are bad, or hold what only a closer look tells.

        Raises:
            MemoryError: There is no memory left.
            OverflowError: A column would have over 2^31 - 1 bytes or elements.
        """
        arena, starts, lengths = map(np.ascontiguousarray, (arena, starts, lengths))
        is_left = np.empty(len(starts), np.uint8)
        with self.columns.fresh() as columns:
            parts = (self.nodes, self.properties, self.names, self.tables, _powers())
            program = _Program(
                *map(address_of, parts), ctypes.addressof(columns), len(columns), self.root
            )
            at = map(address_of, (starts, lengths))
            rows = _kernel().json_read(
                program, address_of(arena), len(arena), *at, len(starts), address_of(is_left)
            )
            checked(rows)
            return arrays_of(columns, self.kinds, finish=_canonical), np.flatnonzero(is_left == 0)


def texts_program() -> JsonProgram:
    """The program for one column of the texts themselves."""
    columns = Columns()
    columns.open(pa.string(), nullable=True, parent=-1)
    nodes, properties = np.zeros(1, _NODE), np.zeros(1, _PROPERTY)
    names, tables = np.zeros(1, np.uint8), np.zeros(1, np.int32)
    return JsonProgram((pa.string(),), columns, nodes, properties, names, tables, -1)


def compiled(rules: Mapping[str, Any], columns: pa.StructType) -> JsonProgram:
    """The program that reads objects of a schema into the columns made from it."""
    compiler = _Compiler()
    root = compiler.parts(rules, columns, parent=-1, depth=0)
    nodes = [tuple(node[name] for name in _names(_NODE)) for node in [*compiler.nodes, root]]
    return JsonProgram(
        tuple(field.type for field in columns),
        compiler.columns,
        np.array(nodes, _NODE),
        np.array(compiler.properties or [(0, 0, 0)], _PROPERTY),
        np.frombuffer(bytes(compiler.names) or b"\0", np.uint8),
        np.array(compiler.tables, np.int32),
        len(compiler.nodes),
    )


@functools.cache
def _kernel() -> ctypes.CDLL:
    found = library()
    numbers = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    found.json_read.argtypes = (ctypes.POINTER(_Program), ctypes.c_void_p, *numbers)
    found.json_read.restype = ctypes.c_int64
    return found


@functools.cache
def _powers() -> npt.NDArray[np.uint64]:
    """(696, 2) uint64, upper 128 bits of the powers of ten, rounded down, low word first."""
    words = np.empty((len(_POWERS), 2), np.uint64)
    for row, exponent in zip(words, _POWERS, strict=True):
        if exponent >= 0:
            power = 10**exponent << 128
        else:
            power = (1 << (256 + (10**-exponent).bit_length())) // 10**-exponent
        power >>= power.bit_length() - 128
        row[0], row[1] = power & ((1 << 64) - 1), power >> 64
    return words


def _canonical(column: pa.Array) -> pa.Array:
    """Valid JSON texts as json.dumps writes them."""
    texts = column.to_pylist()
    return pa.array(
        [None if text is None else text_of(json.loads(text)) for text in texts], pa.string()
    )


def _names(kind: np.dtype[np.void]) -> tuple[str, ...]:
    assert kind.names is not None
    return kind.names


class _Compiler:
    def __init__(self) -> None:
        self.columns = Columns()
        self.nodes: list[dict[str, int]] = []
        self.properties: list[tuple[int, int, int]] = []
        self.names = bytearray()
        self.tables: list[int] = []

    def parts(
        self, rules: Mapping[str, Any], columns: pa.StructType, *, parent: int, depth: int
    ) -> dict[str, int]:
        """Compile the properties of an object; gives what is to be known of it."""
        names = [name.encode("utf-8", "surrogatepass") for name in rules["properties"]]
        first = len(self.properties)
        self.properties += [(0, 0, 0)] * len(names)
        for place, (name, rule) in enumerate(zip(names, rules["properties"].values(), strict=True)):
            column = self._column(rule, columns.field(place).type, parent=parent, depth=depth + 1)
            self.properties[first + place] = (len(self.names), len(name), column)
            self.names += name
        more = -1
        for field in list(columns)[len(names) :]:
            column = self._open("text", field.type, parent=parent)
            more = column if is_open(rules) else -1
        table = _table(names)
        self.tables += table
        return {
            "kind": _KINDS["object"],
            "first": first,
            "count": len(names),
            "more": more,
            "table": len(self.tables) - len(table),
            "table_mask": len(table) - 1,
        }

    def _column(self, rules: Any, kind: pa.DataType, *, parent: int, depth: int) -> int:
        """Compile a value and open its columns; gives the first of them."""
        shape = shape_of(rules, depth)
        column = self._open(shape, kind, parent=parent)
        if shape == "object":
            self.nodes[column] |= self.parts(rules, kind, parent=column, depth=depth)
        elif shape == "array":
            self._column(rules["items"], kind.value_type, parent=column, depth=depth + 1)
        self.columns.close(column)
        return column

    def _open(self, shape: str, kind: pa.DataType, *, parent: int) -> int:
        self.nodes.append(dict.fromkeys(_names(_NODE), 0) | {"kind": _KINDS[shape], "more": -1})
        return self.columns.open(kind, nullable=True, parent=parent)


def _table(names: list[bytes]) -> list[int]:
    """Places of names by their FNV-1a hash, in a table that is half empty; -1 where none is."""
    size = 1 << (2 * len(names)).bit_length()
    table = [-1] * size
    for place, name in enumerate(names):
        found = 2166136261
        for byte in name:
            found = (found ^ byte) * 16777619 & 0xFFFFFFFF
        while table[found % size] >= 0:
            found += 1
        table[found % size] = place
    return table
