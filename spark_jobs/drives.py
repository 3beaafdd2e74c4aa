"""Which drives there are, and which tables hold what they recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa

from contracts.ids import table_slug
from contracts.settings import Settings
from spark_jobs.tables import read_arrow, table_exists
from udfs.sync.recorder_clocks import RECORDINGS

DRIVES_AT_ONCE = 128
"""Drives of one commit: bounds the predicate and what is sent to the workers."""


def read_recordings(settings: Settings, *, drive_ids: Sequence[str] | None) -> pa.Table:
    """Rows of `bronze.recordings` of some drives, or of all; none if nothing was ingested."""
    if not table_exists(settings, "bronze.recordings"):
        return pa.schema([(name, pa.string()) for name in RECORDINGS]).empty_table()
    filters = None if drive_ids is None else [("drive_id", "in", list(drive_ids))]
    columns = [*RECORDINGS, "uri", "format"]
    return read_arrow(settings, "bronze.recordings", columns=columns, filters=filters)


def in_batches(names: Iterable[str], *, size: int = DRIVES_AT_ONCE) -> Iterator[list[str]]:
    """Sorted names in lists of at most `size`."""
    rest = iter(sorted(names))
    while batch := list(islice(rest, size)):
        yield batch


def tables_of_type(settings: Settings, slug: str) -> list[str]:
    """Silver tables that hold messages of a type, by the slug of its name.

    Usually that is the table of this name alone; a type with two definitions has two tables.
    """
    names = {slug}
    if table_exists(settings, "bronze.schemas"):
        schemas = read_arrow(settings, "bronze.schemas", columns=["name", "table_name"])
        names |= {
            row["table_name"].removeprefix("silver.")
            for row in schemas.to_pylist()
            if row["table_name"] and table_slug(row["name"] or "") == slug
        }
    return sorted(name for name in names if table_exists(settings, f"silver.{name}"))
