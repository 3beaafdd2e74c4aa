"""Columns of one value: made once a process, then sliced.

The names, units and messages of a fleet's definitions are the same in each of its recordings. What
is kept is bounded; what was made first goes first.
"""

from __future__ import annotations

import functools
import threading

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_KEPT_BYTES = 48 << 20
_LEAST_ROWS, _MOST_SLICES = 4096, 8192


class _Kept:
    """Columns by value and type, in the order in which they were made."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, object], pa.Array] = {}
        self._slices: dict[tuple[object, ...], tuple[pa.Array, ...]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def column(self, value: object, kind: pa.DataType, rows: int) -> pa.Array:
        key = ("", value) if isinstance(value, str) else (str(kind), value)
        found = self._columns.get(key)
        if found is not None and len(found) >= rows:
            return found
        room = max(1 << (rows - 1).bit_length(), _LEAST_ROWS) if rows else _LEAST_ROWS
        made = _repeated(value, kind, room)
        with self._lock:
            self._keep(key, made)
        return made

    def slices(
        self, values: tuple[object, ...], kind: pa.DataType, rows: int
    ) -> tuple[pa.Array, ...]:
        """The same slices again where they were asked for before: a new one costs 1 to 3 µs."""
        key = values, kind, rows
        found = self._slices.get(key)
        if found is None:
            found = tuple(self.column(value, kind, rows).slice(0, rows) for value in values)
            with self._lock:
                if len(self._slices) >= _MOST_SLICES:
                    self._slices.clear()
                self._slices[key] = found
        return found

    def _keep(self, key: tuple[str, object], made: pa.Array) -> None:
        before = self._columns.pop(key, None)
        self._bytes += made.nbytes - (0 if before is None else before.nbytes)
        self._columns[key] = made
        if before is not None or self._bytes > _KEPT_BYTES:
            self._slices.clear()  # they hold on to what they are of
        while self._bytes > _KEPT_BYTES:
            oldest = next(iter(self._columns))
            self._bytes -= self._columns.pop(oldest).nbytes


_KEPT = _Kept()


def constant_column(value: object, kind: pa.DataType, rows: int) -> pa.Array:
    """(rows,) one value in each row, null for None."""
    return _KEPT.slices((value,), kind, rows)[0]


def constant_columns(
    values: tuple[object, ...], kind: pa.DataType, rows: int
) -> tuple[pa.Array, ...]:
    """For each of some values (rows,) of it, null for None."""
    return _KEPT.slices(values, kind, rows)


def _repeated(value: object, kind: pa.DataType, rows: int) -> pa.Array:
    """The same value in each row; `pa.repeat` appends texts one by one."""
    if not isinstance(value, str):
        return pa.repeat(pa.scalar(value, kind), rows)
    data = value.encode()
    buffers = [None, pa.py_buffer(_even_offsets(len(data), rows)), pa.py_buffer(data * rows)]
    return pa.Array.from_buffers(pa.string(), rows, buffers)


@functools.lru_cache(maxsize=64)
def _even_offsets(size: int, rows: int) -> npt.NDArray[np.int32]:
    """(rows + 1,) int32 offsets of words of the same size."""
    return np.arange(rows + 1, dtype=np.int32) * np.int32(size)
