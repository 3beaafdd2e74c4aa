"""Arrow arrays of the nested columns that a kernel appends rows to (rows.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from udfs.native.library import Growing, library, taken

_STRUCT, _LIST, _TEXT, _BITS, _FIXED = range(5)
_STATUS = {-1: MemoryError("no memory for the columns"), -2: OverflowError("over 2 GiB a column")}


class Column(ctypes.Structure):
    """`Column` of rows.h."""

    _fields_ = (
        ("values", Growing),
        ("offsets", Growing),
        ("valid", Growing),
        ("count", ctypes.c_int64),
        ("room", ctypes.c_int64),
        ("elements", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("kind", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("nullable", ctypes.c_int32),
        ("parent", ctypes.c_int32),
        ("end", ctypes.c_int32),
        ("is_raw", ctypes.c_int32),
    )


class Columns:
    """Empty columns in preorder: the parts of a struct, or the element of a list, behind it."""

    def __init__(self) -> None:
        self._columns: list[Column] = []

    def __len__(self) -> int:
        return len(self._columns)

    def open(self, kind: pa.DataType, *, nullable: bool, parent: int) -> int:
        """Add a column, whose parts are added next; `parent` is -1 at the top. Gives its index."""
        code, width = _layout(kind)
        column = Column(kind=code, width=width, nullable=nullable, parent=parent)
        self._columns.append(column)
        self.close(len(self._columns) - 1)
        return len(self._columns) - 1

    def close(self, column: int) -> None:
        """Say that the column has all its parts."""
        self._columns[column].end = len(self._columns)

    @contextmanager
    def fresh(self) -> Iterator[ctypes.Array[Column]]:
        """Columns to be written; what nobody took of them is freed in the end."""
        columns = (Column * len(self._columns))(*self._columns)
        try:
            yield columns
        finally:
            for column in columns:
                for one in (column.values, column.offsets, column.valid):
                    if one.data:
                        library().release(one.data)


def checked(rows: int) -> int:
    """The rows that a kernel has made.

    Raises:
        MemoryError: It says that there is no memory left.
        OverflowError: It says that a column would be longer than Arrow's offsets reach.
    """
    if rows < 0:
        raise _STATUS[rows]
    return rows


def arrays_of(
    columns: ctypes.Array[Column],
    kinds: Sequence[pa.DataType],
    *,
    finish: Callable[[pa.Array], pa.Array] | None = None,
) -> list[pa.Array]:
    """The finished columns, of which this takes the memory, as arrays.

    Args:
        columns: As the kernel left them.
        kinds: Types of the topmost.
        finish: What has to be done to those that the kernel says are raw.
    """

    def array(at: int, kind: pa.DataType) -> pa.Array:
        column = columns[at]
        buffers = [taken(column.valid) if column.valid.data else None]
        if column.kind in (_LIST, _TEXT):
            buffers.append(taken(column.offsets))
        if column.kind not in (_STRUCT, _LIST):
            buffers.append(taken(column.values))
        children = arrays(at + 1, _parts(kind)) or None
        found = pa.Array.from_buffers(kind, column.rows, buffers, children=children)
        return finish(found) if finish is not None and column.is_raw else found

    def arrays(at: int, kinds: Sequence[pa.DataType]) -> list[pa.Array]:
        found = []
        for kind in kinds:
            found.append(array(at, kind))
            at = columns[at].end
        return found

    return arrays(0, kinds)


def _parts(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_struct(kind):
        return [field.type for field in kind]
    return [kind.value_type] if pa.types.is_list(kind) else []


def _layout(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_struct(kind):
        return _STRUCT, 0
    if pa.types.is_list(kind):
        return _LIST, 0
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _TEXT, 0
    return (_BITS, 0) if pa.types.is_boolean(kind) else (_FIXED, kind.bit_width // 8)
