"""The bytes that a reader decompresses into, kept for the next reader of the process.

Fresh memory costs the system a fault for each page: for 32 MB up to 20 ms, as much as what is in
them takes to decode. A block is given out again when no array looks at it any more.
"""

from __future__ import annotations

import numpy as np

from contracts.recording import UInt8Array

PADDING_BYTES = 32
"""Bytes behind the last message of an arena, so that a reader of words stays inside."""
_KEPT_BLOCKS = 2
_KEPT_BYTES = 64 << 20
_spare: list[UInt8Array] = []


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
