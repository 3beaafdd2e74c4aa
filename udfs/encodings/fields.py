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
    ],
    align=True,
)
"""`Field` of fields.h."""
UNSIGNED, SIGNED, FLOAT = range(3)
Fields = npt.NDArray[np.void]


def read_fields(
    matrix: UInt8Array,
    fields: Fields,
    out: npt.NDArray[np.float64],
    *,
    picked: Int64Array | None = None,
) -> None:
    """Read numbers, and what a linear rule makes of them.

    Args:
        matrix: (N, B) uint8, the bytes of a row one behind the other.
        fields: (F,) `FIELD`.
        out: (S, M) float64, contiguous; what `raw_slot` and `value_slot` count.
        picked: (M,) int64, which rows to read, in this order; the first M by default. B is 64 at
            most then.

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
    )
    if wrong:
        raise IndexError(f"field {wrong - 1} of {len(fields)} in rows of {matrix.shape[1]} bytes")


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
    seconds = np.ascontiguousarray(seconds)
    out, fits = np.empty(len(seconds), np.int64), np.empty(len(seconds), bool)
    _kernels().seconds_to_ns(
        address_of(seconds), len(seconds), start_ns, limit, address_of(out), address_of(fits)
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
        *(array, number, array, number),
    )
    loaded.read_fields.restype = number
    loaded.read_integers.argtypes = (array, number, number, number, array, number, array)
    loaded.read_integers.restype = number
    loaded.seconds_to_ns.argtypes = (array, number, number, ctypes.c_double, array, array)
    loaded.seconds_to_ns.restype = None
    return loaded
