"""Tables of gold made of frames, drive by drive, and what they were last made of.

A drive that gave no row is known, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.delta import open_table
from spark_jobs.drives import in_batches
from spark_jobs.report import JobReport, report_since
from spark_jobs.tables import (
    create_table,
    read_arrow,
    register_tables,
    table_exists,
    table_version,
)

FRAMES = "silver.frames"
FRAME_VERSIONS = "silver.frame_versions"


def make_anew(
    spark: SparkSession,
    settings: Settings,
    table: str,
    versions: str,
    make: Callable[[list[str]], Iterable[str]],
    *,
    drive_ids: Sequence[str] | None,
    rules_version: str,
) -> JobReport:
    """Make the rows of the drives whose frames or rules are new, and note what they are made of.

    Args:
        spark: Session; not asked where nothing is to be done.
        settings: Where the lake is.
        table: The table.
        versions: `gold.…_versions`.
        make: Makes the rows of some drives; gives those that it wrote.
        drive_ids: Drives to look at; all that were synchronised by default.
        rules_version: Of the rules that the table is made by.
    """
    started = time.monotonic()
    create_table(settings, TABLES[table])
    before = table_version(settings, table)
    pending = pending_drives(settings, versions, drive_ids=drive_ids, rules_version=rules_version)
    if pending:
        register_tables(spark, settings, (table, versions))
    written: list[str] = []
    for batch in in_batches(pending):
        # Most drives may have no frames; one that had some may have none now, but rows of them.
        work = {
            *drives_with_rows(settings, FRAMES, batch),
            *drives_with_rows(settings, table, batch),
        }
        if work:
            written += make(sorted(work))
        made = {drive: pending[drive] for drive in batch}
        record_versions(settings, versions, made, table=table, rules_version=rules_version)
    return report_since(settings, table, before=before, drives=written, started_s=started)


def pending_drives(
    settings: Settings, versions: str, *, drive_ids: Sequence[str] | None, rules_version: str
) -> dict[str, str]:
    """Drives of whose latest frames, by these rules, nothing was made yet; found without Spark.

    Args:
        settings: Where the lake is.
        versions: `gold.…_versions`, made here if it is not there.
        drive_ids: Drives to look at; all that were synchronised by default.
        rules_version: Of the rules that the table is made by.

    Returns:
        The `sync_version` of their frames by drive.
    """
    create_table(settings, TABLES[versions])
    if not table_exists(settings, FRAME_VERSIONS):
        return {}
    frames = _latest(settings, FRAME_VERSIONS, ["sync_version"], drive_ids=drive_ids)
    made = _latest(settings, versions, ["sync_version", "rules_version"], drive_ids=drive_ids)
    return {
        drive: row["sync_version"]
        for drive, row in sorted(frames.items())
        if (known := made.get(drive)) is None
        or (known["sync_version"], known["rules_version"]) != (row["sync_version"], rules_version)
    }


def drives_with_rows(settings: Settings, name: str, drive_ids: Sequence[str]) -> dict[str, int]:
    """Rows by drive, of some drives that have any in a table."""
    filters = [("drive_id", "in", list(drive_ids))]
    rows = read_arrow(settings, name, columns=["drive_id"], filters=filters)
    counted = pc.value_counts(rows["drive_id"]).to_pylist()
    return {each["values"]: each["counts"] for each in counted}


def record_versions(
    settings: Settings, versions: str, made: Mapping[str, str], *, table: str, rules_version: str
) -> None:
    """Say what the rows of some drives in a table are made of, now that they are there.

    Args:
        settings: Where the lake is.
        versions: `gold.…_versions`.
        made: The `sync_version` of the frames by drive.
        table: The table that they were made for.
        rules_version: Of the rules.
    """
    counts, now = drives_with_rows(settings, table, list(made)), time.time_ns()
    rows = [
        {
            "drive_id": drive,
            "sync_version": version,
            "rules_version": rules_version,
            "rows": counts.get(drive, 0),
            "created_ns": now,
        }
        for drive, version in made.items()
    ]
    if rows:
        write_deltalake(
            open_table(settings, versions),
            pa.Table.from_pylist(rows, TABLES[versions].schema),
            mode="append",
        )


def _latest(
    settings: Settings, name: str, columns: list[str], *, drive_ids: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """The last row of each drive."""
    filters = None if drive_ids is None else [("drive_id", "in", list(drive_ids))]
    rows = read_arrow(settings, name, columns=["drive_id", "created_ns", *columns], filters=filters)
    return {row["drive_id"]: row for row in rows.sort_by("created_ns").to_pylist()}
