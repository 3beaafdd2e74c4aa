"""Numbers at any bit of fixed-size rows, many fields at once: the kernels of fields.c.

Records of a measurement and payloads of frames are the same to it: rows of bytes in which each
number has its place, its byte order and a linear rule.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.samples import Mask
from udfs.memory.arena import new_array
from udfs.native.library import address_of, library

FIELD = np.dtype(
    [
        ("byte_offset", np.int64),
        ("bit_offset", np.int32),
        ("bit_count", np.int32),
        ("kind", np.int32),
        ("is_big_endian", np.int32),
        ("raw_slot", np.int32),
        ("value_slot", np.int32),
        ("factor", np.float64),
        ("offset", np.float64),
        ("range_slot", np.int32),
        ("low", np.float64),
        ("high", np.float64),
    ],
    align=True,
)
"""`Field` of fields.h."""
RUN = np.dtype(
    [
        (name, np.int64)
        for name in ("first", "rows", "field", "fields", "slots", "out", "maps", "bits")
    ]
)
"""`Run` of fields.c."""
UNSIGNED, SIGNED, FLOAT = range(3)
Fields = npt.NDArray[np.void]


def read_fields(
    matrix: UInt8Array,
    fields: Fields,
    out: npt.NDArray[np.float64],
    *,
    picked: Int64Array | None = None,
    bits: UInt8Array | None = None,
) -> None:
    """Read numbers, what a linear rule makes of them, and whether that lies in its range.

    Args:
        matrix: (N, B) uint8, the bytes of a row one behind the other.
        fields: (F,) `FIELD`.
        out: (S, M) float64, contiguous; what `raw_slot` and `value_slot` count.
        picked: (M,) int64, which rows to read, in this order; the first M by default. B is 64 at
            most then.
        bits: (R, `map_bytes(M)`) uint8, contiguous; what `range_slot` counts from 1 on.

    Raises:
        IndexError: A field or a row that is not there.
    """
    slots, rows = out.shape
    wrong = _kernels().read_fields(
        _address(matrix),
        matrix.strides[0],
        matrix.shape[1],
        len(matrix),
        None if picked is None else address_of(picked),
        rows,
        address_of(fields.view(np.uint8)),  # that of a structure is slow to come by
        len(fields),
        address_of(out),
        slots,
        None if bits is None else address_of(bits),
        0 if bits is None else len(bits),
    )
    if wrong:
        raise IndexError(f"field {wrong - 1} of {len(fields)} in rows of {matrix.shape[1]} bytes")


def map_bytes(rows: int) -> int:
    """Bytes of a bitmap of so many rows."""
    return -(-rows // 64) * 8


def read_runs(
    matrix: UInt8Array,
    runs: npt.NDArray[np.void],
    fields: Fields,
    out: npt.NDArray[np.float64],
    bits: UInt8Array,
) -> None:
    """Read runs of rows, each with fields of its own.

    Args:
        matrix: (N, B) uint8, contiguous.
        runs: `RUN`: rows, fields, and where in `out` and `bits` their outputs begin.
        fields: `FIELD` of all runs.
        out: Float64, contiguous.
        bits: Uint8, contiguous.

    Raises:
        IndexError: A run with rows or fields that are not there.
    """
    wrong = _kernels().read_runs(
        _address(matrix),
        matrix.shape[1],
        len(matrix),
        address_of(runs.view(np.uint8)),
        len(runs),
        address_of(fields.view(np.uint8)),
        len(fields),
        address_of(out),
        len(out),
        address_of(bits),
        len(bits),
    )
    if wrong:
        raise IndexError(f"run {wrong - 1} of {len(runs)} in rows of {matrix.shape[1]} bytes")


def read_integers(matrix: UInt8Array, fields: Fields) -> Int64Array:
    """(F, N) int64, fields without rules of (N, B) rows as whole numbers.

    Raises:
        IndexError: A field that is not there, or a float.
    """
    out = new_array(len(fields), len(matrix)).view(np.int64)
    wrong = _kernels().read_integers(
        _address(matrix),
        matrix.strides[0],
        matrix.shape[1],
        len(matrix),
        address_of(fields.view(np.uint8)),
        len(fields),
        address_of(out),
    )
    if wrong:
        raise IndexError(f"field {wrong - 1} of {len(fields)} in rows of {matrix.shape[1]} bytes")
    return out


def nanoseconds(
    seconds: npt.NDArray[np.float64], *, start_ns: int, limit: float
) -> tuple[Int64Array, Mask]:
    """(N,) int64 nanoseconds of (N,) seconds behind a start, and (N,) which of them fit."""
    out, fits = new_array(len(seconds)).view(np.int64), np.empty(len(seconds), bool)
    _kernels().seconds_to_ns(
        address_of(seconds),
        seconds.strides[0],
        len(seconds),
        start_ns,
        limit,
        address_of(out),
        address_of(fits),
    )
    return out, fits


def _address(matrix: UInt8Array) -> int:
    """Of the first row, whose bytes must be side by side."""
    if matrix.shape[0] and matrix.shape[1] > 1 and matrix.strides[1] != 1:
        raise ValueError(f"rows with strides of {matrix.strides}")
    return address_of(matrix)


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    loaded.read_fields.argtypes = (
        *(array, number, number, number, array, number),
        *(array, number, array, number, array, number),
    )
    loaded.read_fields.restype = number
    loaded.read_runs.argtypes = (
        *(array, number, number, array, number, array, number),
        *(array, number, array, number),
    )
    loaded.read_runs.restype = number
    loaded.read_integers.argtypes = (array, number, number, number, array, number, array)
    loaded.read_integers.restype = number
    loaded.seconds_to_ns.argtypes = (
        *(array, number, number, number),
        *(ctypes.c_double, array, array),
    )
    loaded.seconds_to_ns.restype = None
    return loaded
