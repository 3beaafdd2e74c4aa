"""The compiled kernels, loaded once a process, which from then on keeps up to 64 MB that it freed.

Kernels release the interpreter's lock, keep no state between calls, and check every offset that
a recording gives them against the bytes that they were handed. They report what is wrong with a
message; words for it are made in Python.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

LIBRARY = Path(__file__).parent / "build" / "kernels.so"


class Growing(ctypes.Structure):
    """`Growing` of growing.h: memory that a kernel allocated, to be taken with `taken`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("room", ctypes.c_int64),
    )


class _Owner:
    """Frees memory of a kernel when no Arrow buffer looks at it any more."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __del__(self) -> None:
        library().release(self._address)


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels.

    Raises:
        ImportError: They are not compiled for this machine; `make setup` compiles them.
    """
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        what = f"the kernels of udfs/native are not compiled ({error}): run `make setup`"
        raise ImportError(what) from error
    loaded.release.argtypes = (ctypes.c_void_p,)
    loaded.release.restype = None
    loaded.keep_memory()
    return loaded


def address_of(array: npt.NDArray[np.generic]) -> int:
    """Address of the first byte of a contiguous array, for a parameter of type `c_void_p`."""
    return int(array.__array_interface__["data"][0])


def start_of(array: npt.NDArray[np.generic]) -> int:
    """The same in a fifth of the time, for arrays of numbers; ValueError if it isn't contiguous."""
    return int(pa.py_buffer(array).address)


def taken(buffer: Growing) -> pa.Buffer:
    """What a kernel has written, as an Arrow buffer that owns it; leaves `buffer` empty."""
    if not buffer.data:
        return pa.py_buffer(b"")
    found = owned(buffer.data, buffer.size)
    buffer.data, buffer.size, buffer.room = None, 0, 0
    return found


def owned(address: int, size: int) -> pa.Buffer:
    """Memory that a kernel allocated, as an Arrow buffer that frees it when it is done with."""
    return pa.foreign_buffer(address, size, _Owner(address))
