"""Bus frames that two recorders of a drive may both have logged, and no more than are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.silver_files import SilverTable, iter_rows, silver_table
from spark_jobs.tables import table_exists
from udfs.sync.frame_keys import FRAME_COLUMNS

FRAMES_OF_A_DRIVE = 1_000_000
"""Enough for an hour of offsets to a microsecond, and 60 MB in a worker."""

_TABLE = "silver.can_frames"
_BY_CHANCE = np.uint64(0x9E3779B97F4A7C15)  # of Fibonacci hashing: ids that follow each other part


def bus_frame_tables(settings: Settings) -> list[SilverTable]:
    """The table of bus frames, if there is one."""
    if not table_exists(settings, _TABLE):
        return []
    return [silver_table(settings, _TABLE, role="can_frames", columns=FRAME_COLUMNS)]


def count_frames(
    tables: Sequence[SilverTable],
    recordings: Iterable[str],
    *,
    storage_options: Mapping[str, str],
) -> dict[str, dict[int, int]]:
    """Frames by recording and id.

    Args:
        tables: From `bus_frame_tables`.
        recordings: Of any number of drives.
        storage_options: For S3.
    """
    columns = ["recording_id", "can_id"]
    wanted = dict.fromkeys(recordings)
    counts: dict[str, dict[int, int]] = {name: {} for name in wanted}
    for table in tables:
        for rows in iter_rows(table, wanted, columns=columns, storage_options=storage_options):
            for row in rows.group_by(columns).aggregate([([], "count_all")]).to_pylist():
                of_id = counts[row["recording_id"]]
                of_id[row["can_id"]] = of_id.get(row["can_id"], 0) + row["count_all"]
    return counts


def read_shared_frames(
    tables: Sequence[SilverTable],
    recorders: Mapping[str, str],
    *,
    counts: Mapping[str, Mapping[int, int]],
    storage_options: Mapping[str, str],
    at_most: int = FRAMES_OF_A_DRIVE,
) -> pa.Table:
    """Frames of the ids that several recorders of a drive hold; reads nothing where there are none.

    An id is taken as a whole, on both sides, so that each change of its payload is known; ids are
    taken by chance until there are enough.

    Args:
        tables: From `bus_frame_tables`.
        recorders: By recording of the drive.
        counts: From `count_frames`, of these recordings at least.
        storage_options: For S3.
        at_most: Frames; the last id taken may go beyond.

    Returns:
        Rows with `FRAME_COLUMNS`.
    """
    schema = pa.schema([TABLES[_TABLE].schema.field(name) for name in FRAME_COLUMNS])
    by_id: dict[int, dict[str, int]] = {}
    for recording, recorder in recorders.items():
        for can_id, frames in counts[recording].items():
            of_id = by_id.setdefault(can_id, {})
            of_id[recorder] = of_id.get(recorder, 0) + frames
    chosen = _some(by_id, at_most=at_most)
    parts = (
        rows.filter(pc.is_in(rows["can_id"], chosen)).cast(schema)
        for table in (tables if len(chosen) else ())
        for rows in iter_rows(table, dict.fromkeys(recorders), storage_options=storage_options)
    )
    return pa.concat_tables([schema.empty_table(), *parts])


def _some(counts: Mapping[int, Mapping[str, int]], *, at_most: int) -> pa.Array:
    """Ids that several recorders hold, in an order by chance, until their frames are enough."""
    shared = sorted(can_id for can_id, by_recorder in counts.items() if len(by_recorder) > 1)
    order = np.argsort(np.array(shared, np.uint64) * _BY_CHANCE, kind="stable")
    chosen, frames = [], 0
    for place in order:
        if frames >= at_most:
            break
        chosen.append(shared[place])
        frames += sum(counts[shared[place]].values())
    return pa.array(chosen, TABLES[_TABLE].schema.field("can_id").type)
