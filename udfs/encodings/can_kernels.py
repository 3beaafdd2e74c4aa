"""The kernels of can.c: frames by their ids, the frames that carry a signal, columns."""

from __future__ import annotations

import ctypes
import functools
import secrets
from typing import TYPE_CHECKING

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.fields import Fields
from udfs.encodings.samples import Mask
from udfs.memory.arena import new_array, new_bytes
from udfs.memory.constants import constant_column
from udfs.native.library import address_of, library

if TYPE_CHECKING:
    from udfs.encodings.can import CanFrames

_PLACED_COLUMNS = 4
_SEED = secrets.randbits(64)
"""Of this process alone: no recording is made of ids that meet in one place of a table."""


@attrs.frozen(eq=False)
class NumberedFrames:
    """Frames by key: bus, kind of id, and id.

    Attributes:
        codes: (N,) uint32, which key each frame has; the largest number for one without data.
        keys: (K,) int64, id, 2^32 for a 29-bit one, and from bit 40 on the bus + 1.
        counts: (K,) int64, frames of each key.
    """

    codes: npt.NDArray[np.uint32]
    keys: Int64Array
    counts: Int64Array


@attrs.frozen(eq=False)
class PlacedFrames:
    """N frames in the order of their keys.

    Attributes:
        order: (N,) int64, which frame each was.
        sequence: (N,) int64.
        log_time_ns: (N,) int64.
        lengths: (N,) int64, bytes of the payload.
        payloads: (N, B) uint8; what is behind a short one is arbitrary.
    """

    order: Int64Array
    sequence: Int64Array
    log_time_ns: Int64Array
    lengths: Int64Array
    payloads: UInt8Array


def number_keys(frames: CanFrames) -> NumberedFrames:
    """Tell frames apart by bus and id.

    Raises:
        MemoryError: There is none left.
    """
    rows = len(frames.can_id)
    codes = np.empty(rows, np.uint32)
    keys, counts = np.empty(rows, np.int64), np.empty(rows, np.int64)
    found = _kernels().number_keys(
        address_of(frames.bus),
        address_of(frames.can_id),
        address_of(frames.is_extended),
        address_of(frames.is_remote),
        address_of(frames.is_error),
        rows,
        _SEED,
        address_of(codes),
        address_of(keys),
        address_of(counts),
    )
    if found < 0:
        raise MemoryError(f"{rows} frames")
    return NumberedFrames(codes, keys[:found], counts[:found])


def sort_frames(
    frames: CanFrames,
    codes: npt.NDArray[np.uint32],
    cursors: Int64Array,
    *,
    rows: int,
    width: int,
) -> PlacedFrames:
    """Put frames in the order of their keys.

    Args:
        frames: The frames.
        codes: (N,) which key each has.
        cursors: (K,) where the frames of each key begin, -1 for a key that is not wanted; they are
            moved to where they end.
        rows: Frames of the keys that are wanted.
        width: Bytes to take of each payload.
    """
    room = new_array(_PLACED_COLUMNS + width // 8, rows)
    columns = room[:_PLACED_COLUMNS].view(np.int64)
    payloads = room[_PLACED_COLUMNS:].reshape(-1).view(np.uint8).reshape(rows, width)
    _kernels().sort_frames(
        address_of(codes),
        len(codes),
        address_of(cursors),
        address_of(frames.sequence),
        address_of(frames.log_time_ns),
        address_of(frames.lengths),
        address_of(frames.starts),
        address_of(frames.arena),
        len(frames.arena),
        width,
        *(address_of(column) for column in columns),
        address_of(payloads),
    )
    order, sequence, log_time_ns, lengths = columns
    return PlacedFrames(order, sequence, log_time_ns, lengths, payloads)


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


@attrs.frozen(eq=False)
class SaidFrames:
    """What the fields of N frames say of them, as `CanFrames` has it."""

    can_id: Int64Array
    dlc: Int64Array
    is_transmitted: Int64Array
    is_extended: Mask
    is_fd: Mask
    lengths: Int64Array


def complete_frames(
    *,
    identity: Int64Array,
    extended: Int64Array | None,
    fd: Int64Array,
    dlc: Int64Array,
    length: Int64Array | None,
    stored: Int64Array | None,
    sent: Int64Array,
) -> SaidFrames:
    """Put together what the fields of a logger's frames say; the arrays are used up.

    Args:
        identity: (N,) int64, ids with or without flags; negative where there is none.
        extended: (N,) int64, not 0 for 29 bits; None: told by the id.
        fd: (N,) int64, not 0 for CAN FD.
        dlc: (N,) int64, data length codes, negative where unknown.
        length: (N,) int64, bytes of data as the logger says; None: as the code has it.
        stored: (N,) int64, bytes that are kept of each payload; None for frames without any.
        sent: (N,) int64, direction.
    """
    rows = len(identity)
    flags, lengths = np.empty((2, rows), bool), np.empty(rows, np.int64)
    _kernels().complete_frames(
        rows,
        address_of(identity),
        None if extended is None else address_of(extended),
        address_of(fd),
        address_of(dlc),
        None if length is None else address_of(length),
        None if stored is None else address_of(stored),
        address_of(sent),
        address_of(flags[0]),
        address_of(flags[1]),
        address_of(lengths),
    )
    return SaidFrames(identity, dlc, sent, flags[0], flags[1], lengths)


def flag_column(flags: Mask) -> pa.BooleanArray:
    """(N,) flags as a column."""
    bits = np.empty(-(-len(flags) // 8), np.uint8)
    _kernels().pack_flags(address_of(flags), len(flags), address_of(bits))
    return pa.Array.from_buffers(pa.bool_(), len(flags), [None, pa.py_buffer(bits)])


def number_column(numbers: Int64Array, kind: pa.DataType) -> pa.Array:
    """(N,) int64 as a column of int32 or int64, null where they are negative."""
    rows = len(numbers)
    bits = np.empty(-(-rows // 8), np.uint8)
    is_short = kind == pa.int32()
    out = new_bytes(4 * rows) if is_short else np.ascontiguousarray(numbers)
    missing = _kernels().pack_numbers(
        address_of(numbers),
        rows,
        address_of(out) if is_short else None,
        address_of(bits),
    )
    there = pa.py_buffer(bits) if missing else None
    return pa.Array.from_buffers(kind, rows, [there, pa.py_buffer(out)], missing)


def payload_column(frames: CanFrames) -> pa.BinaryArray:
    """Payloads as a column.

    Raises:
        IndexError: One is not in the arena.
        OverflowError: More than 2^31 - 1 bytes.
    """
    rows, total = len(frames.lengths), int(frames.lengths.sum())
    if total > np.iinfo(np.int32).max:
        raise OverflowError(total)
    offsets, out = np.empty(rows + 1, np.int32), new_bytes(max(total, 0))
    found = _kernels().join_payloads(
        address_of(frames.arena),
        len(frames.arena),
        address_of(frames.starts),
        address_of(frames.lengths),
        rows,
        address_of(offsets),
        address_of(out),
        len(out),
    )
    if found < 0:
        raise IndexError(f"a payload outside of {len(frames.arena)} bytes")
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.binary(), rows, buffers)


def direction_column(sent: Int64Array) -> pa.StringArray:
    """`Tx` where positive, `Rx` where 0, null where negative."""
    rows = len(sent)
    if rows and sent.min() == sent.max():
        word = None if sent[0] < 0 else "Tx" if sent[0] else "Rx"
        return constant_column(word, pa.string(), rows)
    offsets, letters = np.empty(rows + 1, np.int32), np.empty(2 * rows + 2, np.uint8)
    _kernels().join_directions(address_of(sent), rows, address_of(offsets), address_of(letters))
    bits = np.empty(-(-rows // 8), np.uint8)
    missing = _kernels().pack_numbers(address_of(sent), rows, None, address_of(bits))
    there = pa.py_buffer(bits) if missing else None
    buffers = [there, pa.py_buffer(offsets), pa.py_buffer(letters)]
    return pa.Array.from_buffers(pa.string(), rows, buffers, missing)


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    loaded.number_keys.argtypes = (*5 * (array,), number, ctypes.c_uint64, *3 * (array,))
    loaded.number_keys.restype = number
    loaded.sort_frames.argtypes = (
        *(array, number, array),
        *5 * (array,),
        *(number, number),
        *5 * (array,),
    )
    loaded.sort_frames.restype = None
    loaded.carrying_rows.argtypes = (
        *(array, number, array, number),
        *(array, number, number),
        *(array, array, number, array),
    )
    loaded.carrying_rows.restype = number
    loaded.complete_frames.argtypes = (number, *10 * (array,))
    loaded.complete_frames.restype = None
    loaded.pack_flags.argtypes = (array, number, array)
    loaded.pack_flags.restype = None
    loaded.pack_numbers.argtypes = (array, number, array, array)
    loaded.pack_numbers.restype = number
    loaded.join_payloads.argtypes = (
        *(array, number, array, array, number),
        *(array, array, number),
    )
    loaded.join_payloads.restype = number
    loaded.join_directions.argtypes = (array, number, array, array)
    loaded.join_directions.restype = number
    return loaded
