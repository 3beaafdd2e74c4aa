"""The walk over mixed records: each begins with the id of its group, which tells where the next is.

Source: ASAM MDF 4.1, clause 4.14 (unsorted data groups).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping

import attrs
import numpy as np

from contracts.errors import ResourceLimitError
from contracts.recording import Int64Array, UInt8Array
from udfs.memory.arena import new_bytes
from udfs.native.library import Growing, address_of, library, taken

VARIABLE = -1
"""Size of the records of a VLSD group: 4 bytes of length stand before each."""
_MOST_GROUPS = 1 << 16
_WALKED, _STRANGE, _NO_MEMORY = range(3)


@attrs.define(eq=False)
class RecordWalk:
    """Finds the whole records of a stream that comes in pieces.

    Attributes:
        id_bytes: Bytes of a record's id.
        sizes: Bytes of a record without its id, by id; `VARIABLE` for VLSD groups.
        strange: The id that belongs to no group, where the walk came to one; else None.
    """

    id_bytes: int
    sizes: Mapping[int, int]
    strange: int | None = attrs.field(default=None, init=False)
    _found: ctypes.Array[Growing] = attrs.field(init=False)

    @_found.default
    def _nothing(self) -> ctypes.Array[Growing]:
        return (Growing * len(self.sizes))()

    def __del__(self) -> None:
        """Free what nobody has taken."""
        for numbers in self._found:
            taken(numbers)

    def run(self, data: UInt8Array, *, base: int = 0) -> int:
        """Walk to the last whole record, or to a strange one.

        Args:
            data: (B,) uint8, begins with a record.
            base: Where it stands in the stream.

        Returns:
            Bytes of the whole records.

        Raises:
            ResourceLimitError: More groups than two bytes count.
            MemoryError: There is none left.
        """
        if len(self.sizes) > _MOST_GROUPS:
            raise ResourceLimitError(f"{len(self.sizes)} groups in one data group")
        ids = np.array(sorted(self.sizes), np.uint64)
        sizes = np.array([self.sizes[record_id] for record_id in sorted(self.sizes)], np.int64)
        end = ctypes.c_int64()
        status = _kernels().walk_records(
            address_of(data),
            len(data),
            base,
            self.id_bytes,
            address_of(ids),
            address_of(sizes),
            len(ids),
            self._found,
            ctypes.byref(end),
        )
        if status == _NO_MEMORY:
            raise MemoryError(f"records of {len(data)} bytes")
        if status == _STRANGE:
            head = data[end.value : end.value + self.id_bytes]
            self.strange = int.from_bytes(head.tobytes(), "little")
        return end.value

    def found(self) -> Mapping[int, Int64Array]:
        """Positions behind the ids of all records that were met, by id; they are handed over.

        For VLSD ids: position of the value and its length by turns.
        """
        return {
            record_id: np.frombuffer(taken(numbers), np.int64)
            for record_id, numbers in zip(sorted(self.sizes), self._found, strict=True)
        }


def gather_rows(data: UInt8Array, positions: Int64Array, *, base: int, width: int) -> UInt8Array:
    """(N, width) uint8, rows at (N,) positions in a stream of which `data` begins at `base`.

    Raises:
        IndexError: One is not in the data.
    """
    rows = len(positions)
    out = new_bytes(rows * width)
    done = _kernels().gather_rows(
        address_of(data), len(data), address_of(positions), base, rows, width, address_of(out)
    )
    if done < rows:
        raise IndexError(f"a row of {width} bytes at {positions[done] - base} of {len(data)}")
    return out.reshape(rows, width)


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    loaded.walk_records.argtypes = (
        *(array, number, number, number),
        *(array, array, number, array, array),
    )
    loaded.walk_records.restype = ctypes.c_int
    loaded.gather_rows.argtypes = (array, number, array, *3 * (number,), array)
    loaded.gather_rows.restype = number
    return loaded
