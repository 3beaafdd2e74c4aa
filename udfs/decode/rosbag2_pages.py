"""The rows of a rosbag2 database's `messages`, taken from its pages many at a time.

SQLite hands over rows one by one; here the cells of all leaf pages of the table are read at once,
and payloads stay where they are in the file. Only what a recorder writes is taken: whole rows of
(NULL for the rowid, integer, integer, blob) in pages that make sense. Anything else is answered
with None, and SQLite has the word on it.

Source: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.columns import windows

COLUMNS = ("id", "topic_id", "timestamp", "data")
_INTERIOR, _LEAF = 5, 13
_INTERIOR_HEAD, _LEAF_HEAD = 12, 8
_LEAVES_AT_A_TIME = 4096
_LAST_ROWID = (1 << 63) - 1
_SIZES = np.array([0, 1, 2, 3, 4, 6, 8, 0, 0, 0], np.int64)
"""Bytes of an integer by its serial type; 8 and 9 stand for 0 and 1."""
_MAX_DEPTH = 20
_REACH_BYTES = 64
"""How far behind the start of a cell a gather may look; its row may be the file's last bytes."""
_COPIED_BYTES = 16 << 20
"""A file this small is copied, with bytes behind its end, so that its last rows are no case."""


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
    """

    id: Int64Array
    topic: Int64Array
    time_ns: Int64Array
    start: Int64Array
    size: Int64Array
    inline: Int64Array

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.id)

    def where(self, rows: Int64Array | slice) -> Cells:
        """Some of the rows."""
        return Cells(*(getattr(self, field.name)[rows] for field in attrs.fields(Cells)))


class Pages:
    """The pages of a database file.

    Attributes:
        data: (B,) uint8, the file, mapped.
    """

    def __init__(self, path: str, *, root: int) -> None:
        """Map the file; `root` is the number of the table's first page. ValueError: none such."""
        with Path(path).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size_bytes = len(mapped)
        self.data: UInt8Array = np.frombuffer(mapped, np.uint8)
        if size_bytes <= _COPIED_BYTES:
            self.data = np.append(self.data, np.zeros(_REACH_BYTES, np.uint8))
        size, reserved = struct.unpack_from(">H2xB", self.data.data, 16)
        self._page_bytes = 65536 if size == 1 else size
        self._usable = self._page_bytes - reserved
        if self._page_bytes < 512 or self._usable < 480:
            raise ValueError(f"pages of {self._usable} bytes")
        self._count = size_bytes // self._page_bytes
        self._u2 = windows(self.data, ">u2")
        self._u4 = windows(self.data, ">u4")
        self._i8 = windows(self.data, ">i8")
        self._leaves, self._last_ids = self._find_leaves(root)

    def rows(self) -> Cells | None:
        """All rows."""
        parts = []
        for first in range(0, len(self._leaves), _LEAVES_AT_A_TIME):
            part = self._cells(self._leaves[first : first + _LEAVES_AT_A_TIME])
            if part is None:
                return None
            parts.append(part)
        return joined_cells(parts)

    def rows_from(self, rowid: int, *, count: int) -> Cells | None:
        """`count` rows from a rowid on, or as many as there are."""
        at = int(np.searchsorted(self._last_ids, rowid))
        parts: list[Cells] = []
        found = 0
        while at < len(self._leaves) and found < count:
            part = self._cells(self._leaves[at : at + _LEAVES_AT_A_TIME])
            if part is None:
                return None
            part = part.where(slice(int(np.searchsorted(part.id, rowid)), None))
            parts.append(part)
            found += len(part)
            at += _LEAVES_AT_A_TIME
        cells = joined_cells(parts)
        return None if cells is None else cells.where(slice(0, count))

    def begins_with(self, cells: Cells, magic: bytes) -> npt.NDArray[np.bool_]:
        """(N,) whether a payload begins with four bytes."""
        first = self._u4[cells.start]
        return (first == int.from_bytes(magic, "big")) & (cells.inline >= len(magic))

    def payloads(self, cells: Cells) -> tuple[UInt8Array, Int64Array] | None:
        """An arena that holds the payloads, and where they start in it.

        It is the file itself where all payloads stand in their cells. None where the overflow
        pages of one do not follow each other.
        """
        spread = np.flatnonzero(cells.inline < cells.size)
        if not len(spread):
            return self.data, cells.start
        starts = np.cumsum(cells.size) - cells.size
        arena = np.empty(int(cells.size.sum()), np.uint8)
        for row in range(len(cells)):
            at = int(starts[row])
            if not self._copy_payload(cells, row, arena[at : at + int(cells.size[row])]):
                return None
        return arena, starts

    def _copy_payload(self, cells: Cells, row: int, out: UInt8Array) -> bool:
        """Copy a payload to `out`, of its size; False where its overflow pages are scattered."""
        start, inline = int(cells.start[row]), int(cells.inline[row])
        out[:inline] = self.data[start : start + inline]
        left = len(out) - inline
        if not left:
            return True
        content = self._usable - 4
        count = -(-left // content)
        first = int(self._u4[start + inline])
        if first < 2 or first + count - 1 > self._count:
            return False
        begin, end = first - 1, first - 1 + count
        pages = self.data[begin * self._page_bytes : end * self._page_bytes]
        matrix = pages.reshape(count, self._page_bytes)
        following = np.ascontiguousarray(matrix[:, :4]).view(">u4")[:, 0]
        if not np.array_equal(following, np.append(np.arange(first + 1, first + count), 0)):
            return False
        whole = left // content
        body = out[inline : inline + whole * content].reshape(whole, content)
        body[...] = matrix[:whole, 4 : 4 + content]
        if whole < count:
            rest = left - whole * content
            out[len(out) - rest :] = matrix[whole, 4 : 4 + rest]
        return True

    def _find_leaves(self, root: int) -> tuple[Int64Array, Int64Array]:
        """Numbers of the leaf pages in order, and the last rowid that each may hold."""
        pages, last_ids = np.array([root]), np.array([_LAST_ROWID])
        for _ in range(_MAX_DEPTH):
            if (pages < 1).any() or (pages > self._count).any() or len(pages) > self._count:
                raise ValueError("a page that is not there")
            kinds = self.data[self._heads(pages)]
            if (kinds == _LEAF).all():
                return pages, last_ids
            if (kinds != _INTERIOR).any():
                raise ValueError("a page of another kind")
            found = [self._children(*one) for one in zip(pages.tolist(), last_ids, strict=True)]
            pages = np.concatenate([children for children, _ in found])
            last_ids = np.concatenate([keys for _, keys in found])
        raise ValueError("a table that is too deep")

    def _heads(self, pages: Int64Array) -> Int64Array:
        """Where the heads of pages are; the first page begins with the head of the file."""
        return (pages - 1) * self._page_bytes + np.where(pages == 1, 100, 0)

    def _children(self, page: int, last_id: int) -> tuple[Int64Array, Int64Array]:
        """The pages below an interior page, and the last rowid of each."""
        head = int(self._heads(np.array([page]))[0])
        cells = self._cell_starts(np.array([page]), _INTERIOR_HEAD)
        if cells is None:
            raise ValueError("cells outside their page")
        keys, _ = self._varints(cells + 4)
        children = np.append(self._u4[cells], self._u4[head + 8]).astype(np.int64)
        return children, np.append(keys, last_id)

    def _cell_starts(self, pages: Int64Array, head_bytes: int) -> Int64Array | None:
        """Where the cells of pages start in the file; None where they lie outside their page."""
        heads = self._heads(pages)
        counts = self._u2[heads + 3].astype(np.int64)
        first = np.repeat(heads + head_bytes, counts)
        ordinal = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        if len(counts) and int(counts.max()) * 2 > self._page_bytes:
            return None
        offsets = self._u2[first + 2 * ordinal].astype(np.int64)
        starts = np.repeat((pages - 1) * self._page_bytes, counts) + offsets
        if (offsets < head_bytes).any() or (offsets > self._usable - 4).any():
            return None
        return starts if not len(starts) or starts.max() + _REACH_BYTES <= len(self.data) else None

    def _cells(self, pages: Int64Array) -> Cells | None:
        """The rows of leaf pages."""
        starts = self._cell_starts(pages, _LEAF_HEAD)
        if starts is None:
            return None
        payload, used = self._varints(starts)
        rowid, more = self._varints(starts + used)
        at = starts + used + more
        head_bytes = self.data[at].astype(np.int64)
        topic_type, time_type = self.data[at + 2], self.data[at + 3]
        data_type, width = self._varints(at + 4)
        is_row = (
            (head_bytes == 4 + width)
            & (self.data[at + 1] == 0)
            & _is_integer(topic_type)
            & _is_integer(time_type)
            & (data_type >= 12)
            & (data_type % 2 == 0)
        )
        if not is_row.all():
            return None
        size = (data_type - 12) // 2
        value_at = at + head_bytes
        time_at = value_at + _SIZES[topic_type]
        start = time_at + _SIZES[time_type]
        before = start - at
        inline = self._inline(payload) - before
        ends = start + inline + np.where(inline < size, 4, 0)
        page_ends = (starts // self._page_bytes) * self._page_bytes + self._usable
        if (payload != before + size).any() or (inline < 0).any() or (ends > page_ends).any():
            return None
        topic, time_ns = self._integers(topic_type, value_at), self._integers(time_type, time_at)
        return Cells(rowid, topic, time_ns, start, size, np.minimum(inline, size))

    def _inline(self, payload: Int64Array) -> Int64Array:
        """How many bytes of a payload stand in its cell."""
        usable = self._usable
        most, least = usable - 35, (usable - 12) * 32 // 255 - 23
        if not len(payload) or int(payload.max()) <= most:
            return payload
        part = least + (payload - least) % (usable - 4)
        return np.where(payload <= most, payload, np.where(part <= most, part, least))

    def _integers(self, kind: UInt8Array, at: Int64Array) -> Int64Array:
        """Big-endian integers of the bytes that their serial types say."""
        sizes = _SIZES[kind]
        words = self._i8[at].astype(np.int64) >> (64 - 8 * np.maximum(sizes, 1))
        return words if sizes.all() else np.where(sizes > 0, words, kind == 9)

    def _varints(self, at: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Big-endian varints and their sizes; those of nine bytes give -1, which nothing fits."""
        byte = self.data[at].astype(np.int64)
        values, sizes = byte & 127, np.ones(len(at), np.int64)
        rows: Int64Array | slice = slice(None)
        for step in range(1, 8):
            is_longer = byte > 127
            if not is_longer.any():
                return values, sizes
            if not is_longer.all():
                rows = np.arange(len(at))[rows][is_longer]
            byte = self.data[at[rows] + step].astype(np.int64)
            values[rows] = values[rows] << 7 | byte & 127
            sizes[rows] += 1
        values[rows] = np.where(byte > 127, -1, values[rows])
        return values, sizes


def _is_integer(kind: UInt8Array) -> npt.NDArray[np.bool_]:
    return (kind > 0) & (kind < 10) & (kind != 7)


def joined_cells(parts: list[Cells]) -> Cells | None:
    """The rows of all parts, if their rowids ascend."""
    if not parts:
        return None
    names = [field.name for field in attrs.fields(Cells)]
    cells = Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    ids = cells.id
    is_sound = not len(ids) or (int(ids[0]) > 0 and bool((ids[1:] > ids[:-1]).all()))
    return cells if is_sound else None
