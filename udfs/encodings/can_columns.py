"""CAN frames put into columns, as rows are made of them: the kernel of frames.c."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.fields import FIELD
from udfs.encodings.samples import Mask
from udfs.memory.arena import new_bytes
from udfs.memory.constants import constant_column
from udfs.native.library import address_of, library

_SAID = ("id", "extended", "fd", "remote", "error", "dlc", "length", "sent", "bus")
_CONSTANT, _NUMBERS, _FLAGS, _FIELD = range(4)
_ONE = np.dtype(
    [("values", np.int64), ("constant", np.int64), ("kind", np.int64), ("field", FIELD)],
    align=True,
)
"""`Said` of frames.c."""
_SOURCE = np.dtype(
    [
        ("said", _ONE, len(_SAID)),
        ("is_raw", np.int64),
        ("has_extended", np.int64),
        ("has_length", np.int64),
        ("records", np.int64),
        ("stride", np.int64),
        ("width", np.int64),
        ("arena", np.int64),
        ("arena_size", np.int64),
        ("starts", np.int64),
        ("lengths", np.int64),
        ("first", np.int64),
        ("size", np.int64),
    ],
    align=True,
)
"""`Source` of frames.c."""
_MOST_BYTES = np.iinfo(np.int32).max

Said = int | Int64Array | Mask | np.void
"""What is said of frames: the same of all, a number of each, a flag of each, a `FIELD`."""


class _Columns(ctypes.Structure):
    """`Columns` of frames.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("can_id", "bus", "dlc", "offsets", "data")),
        ("room", ctypes.c_int64),
        ("flags", ctypes.c_void_p * 4),
        ("sent", ctypes.c_void_p),
        ("negative", ctypes.c_int64 * 3),
        ("sent_counts", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("bus_low", "bus_high", "longest")),
    )


@attrs.frozen(eq=False)
class Payloads:
    """Where the payloads of N frames are.

    Attributes:
        arena: (B,) uint8.
        starts: (N,) int64.
        lengths: (N,) int64.
    """

    arena: UInt8Array
    starts: Int64Array
    lengths: Int64Array


@attrs.frozen
class PlacedPayloads:
    """Payloads of the same place in each record."""

    first: int
    size: int


@attrs.frozen(eq=False)
class PackedFrames:
    """N frames as columns.

    Attributes:
        log_time_ns: (N,) int64, recorder's clock.
        sequence: (N,) int64, which record of its channel a frame is.
        bus: (N,) int32, -1 where the logger does not say.
        can_id: (N,) int64 without flags, -1 where an error frame has none.
        dlc: (N,) int32, data length code, -1 where unknown.
        extended: (N / 8,) uint8, a bit for each frame; so are `fd`, `remote` and `error`.
        sent: (N,) int8, 1 Tx, 0 Rx, -1 unknown.
        offsets: (N + 1,) int32, where each payload begins in `data`.
        data: (B,) uint8, payloads one behind the other.
        buses: The lowest and the highest bus.
        longest: Bytes of the longest payload.
        negative: How many frames have no bus, no id, no code.
        sent_counts: How many are of unknown direction, received, transmitted.
    """

    log_time_ns: Int64Array
    sequence: Int64Array
    bus: npt.NDArray[np.int32]
    can_id: Int64Array
    dlc: npt.NDArray[np.int32]
    extended: UInt8Array
    fd: UInt8Array
    remote: UInt8Array
    error: UInt8Array
    sent: npt.NDArray[np.int8]
    offsets: npt.NDArray[np.int32]
    data: UInt8Array
    buses: tuple[int, int]
    longest: int
    negative: tuple[int, ...]
    sent_counts: tuple[int, ...]

    def __len__(self) -> int:
        """N."""
        return len(self.can_id)

    def columns(self) -> dict[str, pa.Array]:
        """The columns of `silver.can_frames` that are of a frame alone."""
        rows = len(self)
        times = pa.array(self.log_time_ns)
        no_bus, no_id, no_code = self.negative
        flags = {
            f"is_{name}": pa.Array.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(bits)])
            for name, bits in (
                ("extended", self.extended),
                ("fd", self.fd),
                ("remote", self.remote),
                ("error", self.error),
            )
        }
        payloads = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return {
            "sequence": pa.array(self.sequence),
            "log_time_ns": times,
            "publish_time_ns": times,
            "bus": _numbers(self.bus, pa.int32(), no_bus),
            "can_id": _numbers(self.can_id, pa.int64(), no_id),
            "dlc": _numbers(self.dlc, pa.int32(), no_code),
            "data": pa.Array.from_buffers(pa.binary(), rows, payloads),
            "direction": self._directions(),
            **flags,
        }

    def _directions(self) -> pa.StringArray:
        """`Tx` where positive, `Rx` where 0, null where negative."""
        rows = len(self)
        for word, count in zip((None, "Rx", "Tx"), self.sent_counts, strict=True):
            if count == rows:
                return constant_column(word, pa.string(), rows)
        offsets, letters = np.empty(rows + 1, np.int32), np.empty(2 * rows + 2, np.uint8)
        _kernels().join_directions(
            address_of(self.sent), rows, address_of(offsets), address_of(letters)
        )
        missing = self.sent_counts[0]
        buffers = [_bits(self.sent, missing), pa.py_buffer(offsets), pa.py_buffer(letters)]
        return pa.Array.from_buffers(pa.string(), rows, buffers, missing)


def pack_frames(
    said: Mapping[str, Said],
    payloads: Payloads | PlacedPayloads,
    *,
    log_time_ns: Int64Array,
    sequence: Int64Array,
    records: UInt8Array | None = None,
    is_raw: bool = False,
) -> PackedFrames:
    """Put frames into columns.

    Args:
        said: `id`, `extended`, `fd`, `remote`, `error`, `dlc`, `length`, `sent`, `bus`; 0 for what
            is not said.
        payloads: Of the frames.
        log_time_ns: (N,) int64.
        sequence: (N,) int64.
        records: (N, B) uint8, what fields are of, the bytes of a row one behind the other.
        is_raw: Ids carry their flags; without `extended` they tell their kind. A payload is cut to
            the bytes that `length`, or else `dlc`, says, where it is said of all frames.

    Raises:
        IndexError: A payload outside of its arena; a field outside of the records.
        OverflowError: More than 2^31 - 1 bytes of payloads.
    """
    rows = len(log_time_ns)
    kept: list[object] = []
    source = np.zeros(1, _SOURCE)
    one = source[0]
    for at, name in enumerate(_SAID):
        _say(one["said"][at], said.get(name, 0), kept)
    one["is_raw"] = is_raw
    one["has_extended"], one["has_length"] = "extended" in said, "length" in said
    if records is not None:
        one["records"], one["stride"] = address_of(records), records.strides[0]
        one["width"] = records.shape[1]
    most = _place(one, payloads, rows)
    if most > _MOST_BYTES:
        raise OverflowError(most)
    numbers = new_bytes(16 * rows).view(np.int32)
    can_id = numbers[: 2 * rows].view(np.int64)
    bus, dlc = numbers[2 * rows : 3 * rows], numbers[3 * rows :]
    flags = np.empty((4, -(-rows // 8)), np.uint8)
    sent, offsets, data = np.empty(rows, np.int8), np.empty(rows + 1, np.int32), new_bytes(most)
    out = _Columns(*(address_of(one) for one in (can_id, bus, dlc, offsets, data)), most)
    out.flags = (ctypes.c_void_p * 4)(*(address_of(bits) for bits in flags))
    out.sent = address_of(sent)
    size = _kernels().pack_frames(address_of(source.view(np.uint8)), rows, ctypes.byref(out))
    if size < 0:
        where = "a payload outside of its arena" if size == -1 else "a field outside of records"
        raise IndexError(where)
    return PackedFrames(
        log_time_ns,
        sequence,
        bus,
        can_id,
        dlc,
        flags[0],
        flags[1],
        flags[2],
        flags[3],
        sent,
        offsets,
        data[:size],
        (out.bus_low, out.bus_high),
        out.longest,
        tuple(out.negative),
        tuple(out.sent_counts),
    )


def _say(one: Any, said: Said, kept: list[object]) -> None:
    """Write down what is said; `kept` holds on to what was made for it."""
    if isinstance(said, int):
        one["kind"], one["constant"] = _CONSTANT, said
    elif isinstance(said, np.void):
        one["kind"], one["field"] = _FIELD, said
    else:
        is_flag = said.dtype == np.bool_
        values: npt.NDArray[Any] = np.ascontiguousarray(said, np.bool_ if is_flag else np.int64)
        kept.append(values)
        one["kind"], one["values"] = _FLAGS if is_flag else _NUMBERS, address_of(values)


def _place(one: Any, payloads: Payloads | PlacedPayloads, rows: int) -> int:
    """Write down where payloads are; the bytes that they take at most."""
    if isinstance(payloads, PlacedPayloads):
        one["first"], one["size"] = payloads.first, payloads.size
        return rows * payloads.size
    one["arena"], one["arena_size"] = address_of(payloads.arena), len(payloads.arena)
    one["starts"], one["lengths"] = address_of(payloads.starts), address_of(payloads.lengths)
    return max(int(payloads.lengths.sum()), 0)


def _numbers(numbers: npt.NDArray[np.generic], kind: pa.DataType, negative: int) -> pa.Array:
    """A column that is null where the numbers are negative, which so many are."""
    buffers = [_bits(numbers, negative), pa.py_buffer(numbers)]
    return pa.Array.from_buffers(kind, len(numbers), buffers, negative)


def _bits(numbers: npt.NDArray[Any], negative: int) -> pa.Buffer | None:
    if not negative:
        return None
    return pa.py_buffer(np.packbits(numbers >= 0, bitorder="little"))


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    loaded.pack_frames.argtypes = (array, number, array)
    loaded.pack_frames.restype = number
    loaded.join_directions.argtypes = (array, number, array, array)
    loaded.join_directions.restype = None
    return loaded
