"""What the samples within half-open windows come to."""

from __future__ import annotations

import ctypes
import functools
from typing import Literal

import attrs
import numpy as np

from contracts.recording import Int64Array, UInt8Array
from udfs.native.library import library, start_of
from udfs.sync.interpolation import FloatArray
from udfs.sync.limits import NOWHERE, Boundaries, Limits, LimitsStruct, SamplesStruct
from udfs.sync.pairing import int64_array

Reduction = Literal["sum", "min", "max"]

_REDUCTIONS: dict[Reduction, int] = {"sum": 0, "min": 1, "max": 2}
_WINDOWS = ("first", "past", "t_ns", "distance_ns", "state")


@attrs.frozen(eq=False)
class Windows:
    """The samples of M windows.

    Attributes:
        first: (M,) int64, the first sample of each.
        past: (M,) int64, the one behind the last; equal to `first` where there is none.
        t_ns: (M,) int64, time of the last sample; 0 for none.
        distance_ns: (M,) int64, that time minus the instant, held at the ends of int64; 0 for none.
        state: (M,) uint8 codes.
        unknown: How many have no sample.
    """

    first: Int64Array
    past: Int64Array
    t_ns: Int64Array
    distance_ns: Int64Array
    state: UInt8Array
    unknown: int


class _WindowsStruct(ctypes.Structure):
    """`Windows` of windows.c."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in _WINDOWS)


def find_windows(
    instants: Int64Array,
    begins_ns: Int64Array,
    ends_ns: Int64Array,
    t_ns: Int64Array,
    *,
    limits: Limits,
    boundaries: Boundaries = NOWHERE,
) -> Windows:
    """Find the samples in [begin, end) of each instant, on its side of every boundary.

    Args:
        instants: (M,) int64 in any order; one pass where they and their windows ascend.
        begins_ns: (M,) int64, inclusive.
        ends_ns: (M,) int64, exclusive.
        t_ns: (N,) int64, ascending.
        limits: `tolerance_ns` and `max_age_ns` count for the last sample of a window, `max_gap_ns`
            for what an empty one is called.
        boundaries: What no window reaches across.
    """
    count = len(instants)
    found = Windows(
        first=int64_array(count),
        past=int64_array(count),
        t_ns=int64_array(count),
        distance_ns=int64_array(count),
        state=np.empty(count, np.uint8),
        unknown=0,
    )
    room = _WindowsStruct(*(start_of(getattr(found, name)) for name in _WINDOWS))
    unknown = _kernels().find_windows(
        ctypes.byref(boundaries.struct(t_ns)), ctypes.byref(limits.struct()),
        start_of(instants), start_of(begins_ns), start_of(ends_ns), count,
        ctypes.byref(room),
    )  # fmt: skip
    return attrs.evolve(found, unknown=unknown)


def slide_numbers(what: Reduction, values: FloatArray, windows: Windows) -> FloatArray:
    """Reduce the values of windows that move forward only; NaN is no value.

    Each value is met twice, however wide the windows are, and nothing is subtracted: an infinite
    or a large value does not harm the windows behind it.

    Args:
        what: The reduction.
        values: (N,) float64, contiguous.
        windows: Of which `first` and `past` ascend.

    Returns:
        (M,) float64; of no value 0 for a sum, else an infinity.
    """
    found = np.empty(len(windows.first))
    _slide(_kernels().slide_numbers, _REDUCTIONS[what], values, windows, into=found)
    return found


def slide_integers(what: Reduction, values: Int64Array, windows: Windows) -> Int64Array:
    """The same for the least and the greatest of integers; of no value an end of int64."""
    found = np.empty(len(windows.first), np.int64)
    _slide(_kernels().slide_integers, _REDUCTIONS[what], values, windows, into=found)
    return found


def _slide(
    kernel: ctypes._NamedFuncPointer,
    what: int,
    values: FloatArray | Int64Array,
    windows: Windows,
    *,
    into: FloatArray | Int64Array,
) -> None:
    rest = np.empty_like(values)
    kernel(
        what, start_of(values), start_of(windows.first), start_of(windows.past),
        len(into), start_of(rest), start_of(into),
    )  # fmt: skip


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    samples, limits = ctypes.POINTER(SamplesStruct), ctypes.POINTER(LimitsStruct)
    loaded.find_windows.argtypes = (
        *(samples, limits, array, array, array, number),
        ctypes.POINTER(_WindowsStruct),
    )
    loaded.find_windows.restype = number
    for kernel in (loaded.slide_numbers, loaded.slide_integers):
        kernel.argtypes = (ctypes.c_int32, array, array, array, number, array, array)
        kernel.restype = None
    return loaded
