"""What the Delta log says of a table, without reading a row of it."""

from __future__ import annotations

import datetime as dt

import attrs
import pyarrow as pa
import pyarrow.compute as pc

from contracts.settings import Settings


@attrs.frozen
class TableState:
    """A table at its latest version; `day_rows` counts one ingest day, None if none was named."""

    version: int
    rows: int
    files: int
    size_bytes: int
    day_rows: int | None


def table_state(settings: Settings, name: str, *, day: dt.date | None = None) -> TableState:
    """State of a table.

    Args:
        settings: The deployment.
        name: `layer.table`.
        day: Ingest day to count too.

    Raises:
        TableNotFoundError: It was never made.
    """
    from spark_jobs.delta import open_table

    table = open_table(settings, name)
    adds = pa.table(table.get_add_actions(flatten=True))
    rows = adds["num_records"]
    day_rows = None
    if day is not None:
        days = adds["partition.ingest_date"].cast(pa.date32())
        day_rows = pc.sum(rows.filter(pc.equal(days, pa.scalar(day)))).as_py() or 0
    return TableState(
        version=table.version(),
        rows=pc.sum(rows).as_py() or 0,
        files=adds.num_rows,
        size_bytes=pc.sum(adds["size_bytes"]).as_py() or 0,
        day_rows=day_rows,
    )
