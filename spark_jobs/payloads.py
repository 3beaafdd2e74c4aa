"""In a worker: from the pointers of some rows to the bytes in their recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import pyarrow as pa

from udfs.decode.recording import resolve_pointers
from udfs.decode.source import open_source


@attrs.frozen
class Place:
    """Where the bytes of a recording are, and in which container."""

    uri: str
    format: str


def places_of(recordings: pa.Table) -> dict[str, Place]:
    """Place by recording_id, from rows of `bronze.recordings`."""
    return {
        row["recording_id"]: Place(row["uri"], row["format"])
        for row in recordings.select(["recording_id", "uri", "format"]).to_pylist()
    }


def read_payloads(
    recording_id: Sequence[str],
    *,
    pointers: tuple[pa.Array, pa.Array, pa.Array],
    places: Mapping[str, Place],
    storage_options: Mapping[str, str],
) -> list[bytes]:
    """Read the bytes that pointers name.

    Args:
        recording_id: (N,) recording of each.
        pointers: (N,) int64 each: unit offset, data offset, data length.
        places: Where the recordings are.
        storage_options: For S3.

    Returns:
        (N,) in the order asked for.
    """
    found: list[bytes] = [b""] * len(recording_id)
    names = np.array(recording_id, dtype=object)
    arrays = [np.asarray(each, dtype=np.int64) for each in pointers]
    for name in sorted(set(recording_id)):
        rows = np.flatnonzero(names == name)
        unit, start, length = (each[rows] for each in arrays)
        with open_source(places[name].uri, storage_options=dict(storage_options)) as source:
            payloads = resolve_pointers(
                source,
                format=places[name].format,
                unit_offset=unit,
                data_offset=start,
                data_length=length,
            )
        for row, payload in zip(rows.tolist(), payloads, strict=True):
            found[row] = payload.as_py()
    return found
