"""Values between two samples: on a line, on a sphere, on a cubic.

`left` and `share` come from `pair_samples` with "between"; a share of 0 gives the sample itself.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.memory.arena import new_array
from udfs.native.library import library, start_of
from udfs.sync.limits import Boundaries
from udfs.sync.pairing import rooms_of

FloatArray = npt.NDArray[np.float64]


class _CurveStruct(ctypes.Structure):
    """`Curve` of interpolate.c."""

    _fields_ = (
        ("t_ns", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("velocities", ctypes.c_void_p),
        ("breaks", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("period", ctypes.c_double),
    )


def interpolate_linear(
    columns: Mapping[str, FloatArray],
    left: Int64Array,
    share: FloatArray,
    *,
    period: Mapping[str, float],
) -> dict[str, FloatArray]:
    """Straight lines between the neighbours.

    Args:
        columns: (N,) float64 each, contiguous, N > 0.
        left: (M,) int64 samples that the shares count from.
        share: (M,) float64 of the way to the next sample, in [0, 1].
        period: Period of columns that wrap: the shorter way is taken, and a value comes out within
            half a period of 0.

    Returns:
        (M,) float64 each.
    """
    rooms = rooms_of(len(left), [8] * len(columns))
    found = [room.view(np.float64) for room in rooms]
    periods = np.array([period.get(name, 0.0) for name in columns])
    _kernels().linear_columns(
        _addresses(list(columns.values())), start_of(periods), len(columns), start_of(left),
        start_of(share), len(left), _addresses(found),
    )  # fmt: skip
    return dict(zip(columns, found, strict=True))


def interpolate_spherical(
    axes: Sequence[FloatArray], left: Int64Array, share: FloatArray
) -> list[FloatArray]:
    """Unit quaternions on the shorter arc between two rotations (slerp), whatever their signs.

    Args:
        axes: x, y, z and w: (N,) float64 each, contiguous, N > 0, of any length but zero.
        left: (M,) int64 as above.
        share: (M,) float64 as above.

    Returns:
        x, y, z and w: (M,) float64 each; NaN where one of the two is no rotation.
    """
    found = [room.view(np.float64) for room in rooms_of(len(left), [8] * len(axes))]
    _kernels().slerp(
        _addresses(axes), start_of(left), start_of(share), len(left), _addresses(found)
    )
    return found


def interpolate_cubic(
    t_ns: Int64Array,
    values: FloatArray,
    left: Int64Array,
    share: FloatArray,
    *,
    breaks: UInt8Array,
    velocities: FloatArray | None = None,
    period: float = 0.0,
) -> FloatArray:
    """Hermite cubics between the neighbours: value and slope are steady at each sample.

    Args:
        t_ns: (N,) int64, ascending.
        values: (N,) float64.
        left: (M,) int64 as above.
        share: (M,) float64 as above.
        breaks: (N,) uint8 as of `breaks_of`.
        velocities: (N,) float64 per second. Without it the slope is that of the parabola through a
            sample and its two neighbours; beside a break that which makes the piece a parabola.
        period: As above; 0 for none.

    Returns:
        (M,) float64.
    """
    found = new_array(len(left))
    address = 0 if velocities is None else start_of(velocities)
    curve = _CurveStruct(
        start_of(t_ns), start_of(values), address, start_of(breaks), len(t_ns), period
    )
    _kernels().hermite(
        ctypes.byref(curve), start_of(left), start_of(share), len(left), start_of(found)
    )
    return found


def breaks_of(t_ns: Int64Array, *, boundaries: Boundaries, max_gap_ns: int) -> UInt8Array:
    """(N,) 1 where a sample has nothing to do with the one before: a boundary, a hole, no step."""
    found = np.ones(len(t_ns), np.uint8)
    words = t_ns.view(np.uint64)  # differences of any two times fit
    step = words[1:] - words[:-1]
    piece = np.searchsorted(boundaries.t_ns, t_ns, side="right")
    found[1:] = (step == 0) | (step > np.uint64(max_gap_ns)) | (piece[1:] != piece[:-1])
    return found


def _addresses(arrays: Sequence[FloatArray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*map(start_of, arrays))


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    loaded.linear_columns.argtypes = (array, array, number, array, array, number, array)
    loaded.linear_columns.restype = None
    loaded.slerp.argtypes = (array, array, array, number, array)
    loaded.slerp.restype = None
    loaded.hermite.argtypes = (ctypes.POINTER(_CurveStruct), array, array, number, array)
    loaded.hermite.restype = None
    return loaded
