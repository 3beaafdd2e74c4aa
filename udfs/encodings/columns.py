"""NumPy values to Arrow columns, in the types that Delta and Spark have: no unsigned numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array

EMPTY_FIELD = "_empty"
_SPARSE = 64
_SPARSE_BYTES = 256
_ARROW = {
    "?": pa.bool_(),
    "i1": pa.int8(),
    "u1": pa.int16(),
    "i2": pa.int16(),
    "u2": pa.int32(),
    "i4": pa.int32(),
    "u4": pa.int64(),
    "i8": pa.int64(),
    "u8": pa.decimal128(20, 0),
    "f4": pa.float32(),
    "f8": pa.float64(),
}
_STORED = {"?": "u1", "u1": "i2", "u2": "i4", "u4": "i8"}


def arrow_type(code: str) -> pa.DataType:
    """Arrow type of a number by its numpy code; unsigned ones become the next wider type."""
    return _ARROW[code]


def stored_type(code: str) -> np.dtype[np.generic]:
    """NumPy type that `number_column` takes for numbers of `code`."""
    return np.dtype(_STORED.get(code, code))


def list_type(element: pa.DataType) -> pa.DataType:
    """List type whose item has the name that Delta gives it."""
    return pa.list_(pa.field("element", element))


def number_column(values: npt.NDArray[np.generic], *, code: str) -> pa.Array:
    """Column of numbers; NaN stays NaN.

    Args:
        values: (N,) of `stored_type(code)`, contiguous.
        code: Their numpy code in the message.
    """
    if code == "?":
        return pa.array(values != 0)
    if code == "u8":
        words = np.zeros((len(values), 2), np.uint64)
        words[:, 0] = values
        return pa.Array.from_buffers(_ARROW["u8"], len(values), [None, pa.py_buffer(words)])
    kind = _ARROW[code]
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def list_column(
    values: pa.Array, counts: Int64Array | None, *, rows: int, size: int = 0
) -> pa.Array:
    """List column of `rows` lists over consecutive values: `counts` of them, or `size` each."""
    if counts is None:
        offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(size)
    else:
        offsets = offsets_of(counts)
    kind = list_type(values.type)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=kind)


def bytes_column(data: npt.NDArray[np.generic], offsets: npt.NDArray[np.int32]) -> pa.BinaryArray:
    """Binary column over consecutive bytes."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def struct_column(names: Sequence[str], columns: Sequence[pa.Array], *, rows: int) -> pa.Array:
    """Struct column; one without fields holds a null `_empty`, for Delta has no empty structs."""
    if not columns:
        names, columns = [EMPTY_FIELD], [pa.nulls(rows, pa.bool_())]
    return pa.StructArray.from_arrays(columns, names=list(names))


def offsets_of(counts: Int64Array) -> npt.NDArray[np.int32]:
    """(N + 1,) int32 offsets from N counts.

    Raises:
        OverflowError: More than 2^31 - 1 elements.
    """
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise OverflowError(int(offsets[-1]))
    return offsets.astype(np.int32)


def gather_bytes(arena: UInt8Array, starts: Int64Array, lengths: Int64Array) -> pa.BinaryArray:
    """Copy `lengths[i]` bytes at `starts[i]` of the arena, for each of N ranges, to a column.

    Ascending disjoint ranges are read as the even elements of one binary array over the arena,
    so that Arrow copies them (19 ns a range where an index per byte costs 8 ns a byte). Where
    they are few and far between, Arrow would reserve as much as lies between them.
    """
    count = len(starts)
    length = int(lengths[0]) if count else 0
    is_even = lengths.strides == (0,) or bool((lengths == length).all())
    if 0 < length <= 64 and is_even:
        offsets = np.arange(count + 1, dtype=np.int32) * np.int32(length)
        return bytes_column(windows(arena, f"V{length}")[starts], offsets)
    total = int(lengths.sum())
    if total <= _SPARSE_BYTES * count and count and starts[-1] - starts[0] > _SPARSE * total:
        ends = np.cumsum(lengths)
        every = np.repeat(starts - (ends - lengths), lengths) + np.arange(total)
        return bytes_column(arena[every], offsets_of(lengths))
    edges = np.empty(2 * count, np.int64)
    edges[0::2] = starts
    edges[1::2] = starts + lengths
    if count and (edges[-1] > np.iinfo(np.int32).max or bool((edges[1:] < edges[:-1]).any())):
        view = arena.data
        ends = edges[1::2].tolist()
        found = [view[start:end] for start, end in zip(starts.tolist(), ends, strict=True)]
        return pa.array(found, pa.binary())
    if not count:
        return pa.array([], pa.binary())
    ranges = bytes_column(arena, edges.astype(np.int32))
    return ranges.take(pa.array(np.arange(0, 2 * count - 1, 2, dtype=np.int32)))


def windows(arena: UInt8Array, code: str) -> npt.NDArray[np.generic]:
    """View of the arena as a value of type `code` at every byte: `windows(a, c)[i]` gathers."""
    kind = np.dtype(code)
    shape = (max(len(arena) - kind.itemsize + 1, 0),)
    return np.ndarray(shape, kind, buffer=arena.data, strides=(1,))
