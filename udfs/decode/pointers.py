"""From pointers to bytes: the payloads that silver rows leave in the recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from contracts.errors import DecodeError
from contracts.recording import Int64Array, Source

ReadUnits = Callable[[Source, Sequence[int]], Iterator[tuple[int, memoryview]]]
"""`read_units(source, unit_offsets)` yields (unit_offset, uncompressed bytes) in that order."""


def payloads_at(
    source: Source,
    *,
    read_units: ReadUnits,
    unit_offset: Int64Array,
    data_offset: Int64Array,
    data_length: Int64Array,
) -> pa.BinaryArray:
    """Read `(unit_offset, data_offset, data_length)` for each of N pointers.

    Raises:
        DecodeError: TRUNCATED, a pointer leads outside its unit.
    """
    found: list[bytes] = [b""] * len(unit_offset)
    for i in np.flatnonzero(unit_offset == -1).tolist():
        found[i] = bytes(source.read_at(int(data_offset[i]), int(data_length[i])))
    in_unit = np.flatnonzero(unit_offset != -1)
    order = in_unit[np.argsort(unit_offset[in_unit], kind="stable")]
    offsets, first = np.unique(unit_offset[order], return_index=True)
    members = np.split(order, first[1:])
    for (offset, unit), rows in (
        zip(read_units(source, offsets.tolist()), members, strict=True) if len(offsets) else ()
    ):
        for i in rows.tolist():
            start, length = int(data_offset[i]), int(data_length[i])
            if start < 0 or length < 0 or start + length > len(unit):
                what = f"pointer to bytes {start}..{start + length} of a unit of {len(unit)}"
                raise DecodeError(what, code="TRUNCATED", uri=source.uri, offset=offset)
            found[i] = bytes(unit[start : start + length])
    return pa.array(found, pa.binary())
