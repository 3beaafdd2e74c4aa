"""The kernels of can.c: frames by their ids, and the frames that carry a signal."""

from __future__ import annotations

import ctypes
import functools
import secrets
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.can_columns import PackedFrames
from udfs.encodings.fields import Fields
from udfs.memory.arena import new_array
from udfs.native.library import address_of, library

_SEED = secrets.randbits(64)
"""Of this process alone: no recording is made of ids that meet in one place of a table."""


@attrs.frozen(eq=False)
class NumberedFrames:
    """Frames by key: bus, kind of id, and id.

    Attributes:
        codes: (N,) uint32, which key each frame has; the largest number for one without data.
        keys: (K,) int64, id, 2^32 for a 29-bit one, and from bit 40 on the bus + 1.
        counts: (K,) int64, frames of each key.
        shortest: (K,) int64, bytes of the shortest payload of each key.
    """

    codes: npt.NDArray[np.uint32]
    keys: Int64Array
    counts: Int64Array
    shortest: Int64Array


@attrs.frozen(eq=False)
class PlacedFrames:
    """N frames in the order of their keys.

    Attributes:
        codes: Of all frames, which key each has.
        wanted: The keys, in the order of their frames.
        sequence: (N,) int64.
        log_time_ns: (N,) int64.
        lengths: (N,) int64, bytes of the payload; None where nobody asked for them.
        payloads: (N, B) uint8; what is behind a short one is arbitrary.
    """

    codes: npt.NDArray[np.uint32]
    wanted: Sequence[int]
    sequence: Int64Array
    log_time_ns: Int64Array
    lengths: Int64Array | None
    payloads: UInt8Array

    def order(self) -> Int64Array:
        """(N,) int64, which frame each was."""
        found = [np.flatnonzero(self.codes == code) for code in self.wanted]
        return np.concatenate(found).astype(np.int64)


def number_keys(frames: PackedFrames) -> NumberedFrames:
    """Tell frames apart by bus and id.

    Raises:
        MemoryError: There is none left.
    """
    rows = len(frames)
    codes, found = np.empty(rows, np.uint32), np.empty((3, rows), np.int64)
    keys = _kernels().number_keys(
        address_of(frames.bus),
        address_of(frames.can_id),
        address_of(frames.extended),
        address_of(frames.remote),
        address_of(frames.error),
        address_of(frames.offsets),
        rows,
        _SEED,
        address_of(codes),
        *(address_of(column) for column in found),
    )
    if keys < 0:
        raise MemoryError(f"{rows} frames")
    return NumberedFrames(codes, *found[:, :keys].copy())


def sort_frames(
    frames: PackedFrames,
    numbered: NumberedFrames,
    wanted: Sequence[int],
    *,
    width: int,
    has_lengths: bool,
) -> PlacedFrames:
    """Put frames in the order of their keys.

    Args:
        frames: The frames.
        numbered: Which key each has.
        wanted: Keys to take, in this order.
        width: Bytes to take of each payload.
        has_lengths: Whether to tell the lengths of payloads.
    """
    counts = numbered.counts[wanted]
    ends = np.cumsum(counts)
    cursors = np.full(len(numbered.keys), -1, np.int64)
    cursors[wanted] = ends - counts
    rows = int(ends[-1])
    room = new_array(2 + width // 8, rows)
    sequence, log_time_ns = room[:2].view(np.int64)
    payloads = room[2:].reshape(-1).view(np.uint8).reshape(rows, width)
    lengths = np.empty(rows, np.int64) if has_lengths else None
    _kernels().sort_frames(
        address_of(numbered.codes),
        len(frames),
        address_of(cursors),
        address_of(frames.sequence),
        address_of(frames.log_time_ns),
        address_of(frames.offsets),
        address_of(frames.data),
        len(frames.data),
        width,
        address_of(sequence),
        address_of(log_time_ns),
        None if lengths is None else address_of(lengths),
        address_of(payloads),
    )
    return PlacedFrames(numbered.codes, wanted, sequence, log_time_ns, lengths, payloads)


def carrying_rows(
    payloads: UInt8Array,
    lengths: Int64Array,
    *,
    last_byte: int,
    among: Int64Array | None,
    selector: Fields | None,
    wanted: Int64Array | None,
) -> Int64Array:
    """Frames that are longer than `last_byte` and whose selector has one of some values.

    Args:
        payloads: (N, B) uint8.
        lengths: (N,) int64.
        last_byte: The last byte that must be there; -1 for none.
        among: (M,) int64, the frames to choose from; None for all.
        selector: (1,) `FIELD`; None for none.
        wanted: Ascending values of the selector.

    Returns:
        (R,) int64, ascending.

    Raises:
        IndexError: The selector is not in the payloads.
    """
    out = np.empty(len(payloads) if among is None else len(among), np.int64)
    found = _kernels().carrying_rows(
        address_of(payloads),
        payloads.shape[1],
        address_of(lengths),
        len(payloads),
        None if among is None else address_of(among),
        0 if among is None else len(among),
        last_byte,
        None if selector is None else address_of(selector.view(np.uint8)),
        None if wanted is None else address_of(wanted),
        0 if wanted is None else len(wanted),
        address_of(out),
    )
    if found < 0:
        raise IndexError(f"a selector outside of payloads of {payloads.shape[1]} bytes")
    return out[:found]


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    loaded.number_keys.argtypes = (*6 * (array,), number, ctypes.c_uint64, *4 * (array,))
    loaded.number_keys.restype = number
    loaded.sort_frames.argtypes = (
        *(array, number, array),
        *(array, array, array, array, number, number),
        *(array, array, array, array),
    )
    loaded.sort_frames.restype = None
    loaded.carrying_rows.argtypes = (
        *(array, number, array, number),
        *(array, number, number),
        *(array, array, number, array),
    )
    loaded.carrying_rows.restype = number
    return loaded
