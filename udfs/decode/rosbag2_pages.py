"""The rows of a rosbag2 database's `messages`, taken from its pages all at once.

SQLite hands over rows one by one; here a kernel reads the cells of all leaf pages of the table, and
payloads stay where they are in the file. Only what a recorder writes is taken: whole rows of (NULL
for the rowid, integer, integer, blob) in pages that make sense. Anything else is answered with
None, and SQLite has the word on it.

Source: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
from collections.abc import Iterable

import attrs
import numpy as np
import numpy.typing as npt
import zstandard

from contracts.errors import DecodeError
from contracts.recording import Int64Array, UInt8Array
from udfs.decode.limits import check_unit_size
from udfs.memory.arena import PADDING_BYTES, new_arena
from udfs.native.library import Growing, address_of, library, taken

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_HEAD_BYTES = 18
COLUMNS = ("id", "topic_id", "timestamp", "data")
_EVERY = (1 << 63) - 1
_LEAF = np.dtype([("page", np.int64), ("last_id", np.int64), ("rows", np.int64)])


class _Database(ctypes.Structure):
    """`Database` of sqlite.c."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("page_bytes", ctypes.c_int64),
        ("usable", ctypes.c_int64),
        ("count", ctypes.c_int64),
    )


class _Columns(ctypes.Structure):
    """`Columns` of sqlite.c: addresses of the arrays of `Cells`, in their order."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("id", "topic", "time_ns", "start", "size", "inline")
    )


@attrs.frozen(eq=False)
class Cells:
    """Rows of `messages` by rowid.

    Attributes:
        id: (N,) int64, ascending.
        topic: (N,) int64.
        time_ns: (N,) int64.
        start: (N,) int64, where the data starts in the file.
        size: (N,) int64, bytes of the data.
        inline: (N,) int64, how many of them stand there; the rest is in overflow pages.
        zstd: How many of the payloads begin as a zstd frame does.
    """

    id: Int64Array
    topic: Int64Array
    time_ns: Int64Array
    start: Int64Array
    size: Int64Array
    inline: Int64Array
    zstd: int = 0

    @classmethod
    def of(cls, columns: Iterable[Int64Array], *, zstd: int = 0) -> Cells:
        """From six columns in the order of the attributes."""
        ids, topic, time_ns, start, size, inline = columns
        return cls(ids, topic, time_ns, start, size, inline, zstd)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.id)

    def arrays(self) -> tuple[Int64Array, ...]:
        """The columns, in the order of the attributes."""
        return self.id, self.topic, self.time_ns, self.start, self.size, self.inline

    def where(self, rows: Int64Array | slice) -> Cells:
        """Some of the rows; `zstd` is no longer known."""
        return Cells.of([one[rows] for one in self.arrays()])


class Pages:
    """The pages of a database file.

    Attributes:
        data: (B,) uint8, the file.
    """

    def __init__(self, file: memoryview, *, root: int) -> None:
        """Find the table whose first page is number `root`. ValueError: there is none."""
        self.data: UInt8Array = np.frombuffer(file, np.uint8)
        size, reserved = struct.unpack_from(">H2xB", self.data.data, 16)
        page_bytes = 65536 if size == 1 else size
        usable = page_bytes - reserved
        if page_bytes < 512 or usable < 480:
            raise ValueError(f"pages of {usable} bytes")
        count = len(self.data) // page_bytes
        self._database = _Database(address_of(self.data), page_bytes, usable, count)
        leaves = Growing()
        status = _kernels().sqlite_leaves(self._database, root, leaves)
        found = taken(leaves)
        if status:
            raise ValueError("pages that make no table")
        self._leaves = np.frombuffer(found, _LEAF)

    def rows(self) -> Cells | None:
        """All rows."""
        return self._rows(self._leaves, first=0, most=_EVERY)

    def rows_from(self, rowid: int, *, count: int) -> Cells | None:
        """`count` rows from a rowid on, or as many as there are."""
        at = int(np.searchsorted(self._leaves["last_id"], rowid))
        return self._rows(self._leaves[at:], first=rowid, most=count)

    def _rows(self, leaves: npt.NDArray[np.void], *, first: int, most: int) -> Cells | None:
        room = min(int(leaves["rows"].sum()), most)
        columns = np.empty((6, room), np.int64)
        addresses = _Columns(*(address_of(one) for one in columns))
        zstd = ctypes.c_int64()
        found = _kernels().sqlite_rows(
            self._database, address_of(leaves), len(leaves), first, room, addresses, zstd
        )
        return None if found < 0 else Cells.of(columns[:, :found], zstd=zstd.value)

    def unpacked_sizes(self, cells: Cells) -> Int64Array:
        """(N,) bytes of each payload when its zstd frame is unpacked, if it is one and may be."""
        if not cells.zstd:
            return cells.size
        sizes = cells.size.copy()
        for row in np.flatnonzero(cells.inline >= len(ZSTD_MAGIC)).tolist():
            start = int(cells.start[row])
            head = self.data[start : start + min(int(cells.inline[row]), _ZSTD_HEAD_BYTES)]
            if head[: len(ZSTD_MAGIC)].tobytes() != ZSTD_MAGIC:
                continue
            with contextlib.suppress(zstandard.ZstdError, DecodeError):
                declared = zstandard.frame_content_size(head.tobytes())
                check_unit_size(int(sizes[row]), declared=declared, offset=0)
                sizes[row] = max(declared, sizes[row])
        return sizes

    def payloads(self, cells: Cells) -> tuple[UInt8Array, Int64Array] | None:
        """An arena that holds the payloads, and where they start in it.

        It is the file itself where all payloads stand in their cells, and none so near to its end
        that a reader of words would leave it. None where the overflow pages of one don't hold it.
        """
        ends = cells.start + cells.inline
        if (
            np.array_equal(cells.inline, cells.size)
            and int(ends.max(initial=0)) + PADDING_BYTES <= len(self.data)
        ):  # fmt: skip
            return self.data, cells.start
        start, size, inline = (np.ascontiguousarray(one) for one in cells.arrays()[3:])
        arena = new_arena(int(size.sum()))
        addresses = [address_of(one) for one in (start, size, inline, arena)]
        is_whole = _kernels().sqlite_payloads(self._database, len(size), *addresses)
        return (arena, np.cumsum(size) - size) if is_whole else None


@functools.cache
def _kernels() -> ctypes.CDLL:
    """The kernels of sqlite.c, declared."""
    kernels = library()
    database = ctypes.POINTER(_Database)
    number, address = ctypes.c_int64, ctypes.c_void_p
    kernels.sqlite_leaves.argtypes = (database, number, ctypes.POINTER(Growing))
    kernels.sqlite_leaves.restype = ctypes.c_int32
    kernels.sqlite_rows.argtypes = (
        *(database, address, number, number, number),
        *(ctypes.POINTER(_Columns), ctypes.POINTER(number)),
    )
    kernels.sqlite_rows.restype = number
    kernels.sqlite_payloads.argtypes = (database, number, *(address,) * 4)
    kernels.sqlite_payloads.restype = ctypes.c_int32
    return kernels
