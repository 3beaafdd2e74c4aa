"""`silver.frames`: every sensor at the instant of every camera image.

Run alone: `python -m spark_jobs.silver_frames [DRIVE_ID…]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.drives import in_batches, observations_in, read_stream_rows
from spark_jobs.report import JobReport, report_since
from spark_jobs.sync_rules import sync_rules
from spark_jobs.tables import (
    ensure_table,
    is_one_of,
    read,
    read_arrow,
    replace_rows,
    table_exists,
    table_version,
)
from udfs.sync.frames import FRAMES, frames_of_drive, sync_version
from udfs.sync.rules import SyncRules

TABLE = "silver.frames"
CLOCKS = "silver.clocks"


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    drive_ids: Sequence[str] | None = None,
    rules: SyncRules | None = None,
) -> JobReport:
    """Synchronise the drives whose clocks or rules are new; others are left alone.

    Args:
        spark: Session.
        settings: Where the lake is.
        drive_ids: Drives to look at; all that have clocks by default.
        rules: Streams and limits; those of the deployment if None.
    """
    started = time.monotonic()
    rules = rules or sync_rules(settings)
    ensure_table(spark, settings, TABLES[TABLE])
    before = table_version(settings, TABLE)
    clocks = _read_clocks(settings, drive_ids=drive_ids)
    pending = _pending(spark, settings, clocks, rules=rules)
    for batch in in_batches(pending):
        chosen = clocks.filter(pc.is_in(clocks["drive_id"], pa.array(batch)))
        rows = read_stream_rows(spark, settings, chosen, rules=rules)
        replace_rows(
            spark,
            settings,
            TABLE,
            frames_from(rows, clocks=chosen, rules=rules),
            where=is_one_of("drive_id", batch),
        )
    return report_since(settings, TABLE, before=before, drives=pending, started_s=started)


def frames_from(rows: DataFrame, *, clocks: pa.Table, rules: SyncRules) -> DataFrame:
    """Frames, one group a drive.

    Args:
        rows: From `read_stream_rows`.
        clocks: Rows of `silver.clocks` of the same drives.
        rules: Streams and limits.
    """
    synchronise = _synchroniser(clocks, rules)
    return rows.groupBy("drive_id").applyInArrow(synchronise, from_arrow_schema(FRAMES))


def _synchroniser(clocks: pa.Table, rules: SyncRules) -> Callable[[pa.Table], pa.Table]:
    def synchronise(rows: pa.Table) -> pa.Table:
        mine = clocks.filter(pc.equal(clocks["drive_id"], rows["drive_id"][0]))
        return frames_of_drive(observations_in(rows, rules=rules), mine, rules=rules)

    return synchronise


def _read_clocks(settings: Settings, *, drive_ids: Sequence[str] | None) -> pa.Table:
    if not table_exists(settings, CLOCKS):
        return TABLES[CLOCKS].schema.empty_table()
    filters = None if drive_ids is None else [("drive_id", "in", list(drive_ids))]
    return read_arrow(settings, CLOCKS, filters=filters)


def _pending(
    spark: SparkSession, settings: Settings, clocks: pa.Table, *, rules: SyncRules
) -> list[str]:
    """Drives with images whose stored frames were made of other clocks or rules."""
    camera = f"silver.{rules.camera_table}"
    if len(clocks) == 0 or not table_exists(settings, camera):
        return []
    stored = read(spark, TABLE).select("drive_id", "sync_version").distinct().toArrow()
    known = set(zip(*(stored[name].to_pylist() for name in stored.column_names), strict=True))
    of_drive: dict[str, list[dict[str, Any]]] = {}
    for row in clocks.to_pylist():
        of_drive.setdefault(row["drive_id"], []).append(row)
    drive_of = {
        row["recording_id"]: drive
        for drive, rows in of_drive.items()
        if (drive, sync_version(rows, rules=rules)) not in known
        for row in rows
    }
    if not drive_of:
        return []
    with_images = read(spark, camera).where(is_one_of("recording_id", drive_of))
    recordings = with_images.select("recording_id").distinct().toArrow()["recording_id"].to_pylist()
    return sorted({drive_of[recording] for recording in recordings})


if __name__ == "__main__":
    from spark_jobs.command import run_job

    run_job(run)
