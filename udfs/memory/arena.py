"""The bytes that a reader decompresses into and its columns, kept for the process's next reader.

Fresh memory costs the system a fault for each page: for 32 MB up to 20 ms, as much as what is in
them takes to decode. A block is given out again when no array looks at it any more.
"""

from __future__ import annotations

import math
import mmap

import numpy as np
import numpy.typing as npt

from contracts.recording import UInt8Array

PADDING_BYTES = 32
"""Bytes behind the last message of an arena, so that a reader of words stays inside."""
_KEPT_BLOCKS = 2
_KEPT_BYTES = 64 << 20
_KEPT_COLUMN_BYTES = 64 << 20
_LEAST_COLUMN_BYTES = 1 << 20
_HUGE_PAGE = 2 << 20
_spare: list[UInt8Array] = []
_spare_columns: list[UInt8Array] = []


class _Lease:
    """What all arrays over a block hold on to; when the last is gone, the block is spare."""

    def __init__(self, block: UInt8Array) -> None:
        self._block = block
        self.__array_interface__ = block.__array_interface__

    def __del__(self) -> None:
        if len(_spare) < _KEPT_BLOCKS and len(self._block) <= _KEPT_BYTES:
            _spare.append(self._block)


def new_arena(needed: int) -> UInt8Array:
    """An arena of at least `needed` bytes and the padding; what is in it is not defined."""
    size = needed + PADDING_BYTES
    try:
        block = _spare.pop()
    except IndexError:
        block = np.empty(size, np.uint8)
    if len(block) < size:
        block = np.empty(size, np.uint8)
    return np.asarray(_Lease(block))


class _ColumnLease(_Lease):
    """The same for columns, of which more are made at a time; the largest are let go first."""

    def __del__(self) -> None:
        _spare_columns.append(self._block)
        _spare_columns.sort(key=len)
        while sum(map(len, _spare_columns)) > _KEPT_COLUMN_BYTES:
            _spare_columns.pop()


def new_array(*shape: int) -> npt.NDArray[np.float64]:
    """Float64 to be filled, of memory that was in use before where there is some."""
    return new_bytes(8 * math.prod(shape)).view(np.float64).reshape(shape)


def new_bytes(size: int) -> UInt8Array:
    """(size,) uint8 to be filled, of memory that was in use before where there is some."""
    if size < _LEAST_COLUMN_BYTES:
        return np.empty(size, np.uint8)
    block = next((one for one in _spare_columns if size <= len(one) <= 4 * size), None)
    if block is None:
        block = _pages(size)
    else:
        _spare_columns[:] = [one for one in _spare_columns if one is not block]
    return np.asarray(_ColumnLease(block))[:size]


def _pages(size: int) -> UInt8Array:
    """Fresh memory in pages of 2 MB where the system has them: a fault for each, not for 4 kB."""
    pages = mmap.mmap(
        -1, -(-size // _HUGE_PAGE) * _HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)
