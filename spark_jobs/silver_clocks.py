"""`silver.clocks`: the clock of every recorder, estimated drive by drive.

Run alone: `python -m spark_jobs.silver_clocks [DRIVE_ID…]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.drives import (
    in_batches,
    observations_in,
    read_recordings,
    read_stream_rows,
)
from spark_jobs.report import JobReport, report_since
from spark_jobs.sync_rules import sync_rules
from spark_jobs.tables import ensure_table, is_one_of, read_arrow, replace_rows, table_version
from udfs.sync.drive_clocks import CLOCKS, clock_version, estimate_drive_clocks
from udfs.sync.rules import SyncRules

TABLE = "silver.clocks"


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    drive_ids: Sequence[str] | None = None,
    rules: SyncRules | None = None,
) -> JobReport:
    """Estimate the clocks of the drives whose recordings or rules are new; others are left alone.

    Args:
        spark: Session.
        settings: Where the lake is.
        drive_ids: Drives to look at; all by default.
        rules: Signals and limits; those of the deployment if None.
    """
    started = time.monotonic()
    rules = rules or sync_rules(settings)
    ensure_table(spark, settings, TABLES[TABLE])
    before = table_version(settings, TABLE)
    recordings = read_recordings(settings, drive_ids=drive_ids)
    # without a message there is no stamp, and so no clock
    recordings = recordings.filter(pc.is_valid(recordings["start_ns"]))
    pending = _pending(settings, recordings, rules=rules)
    for batch in in_batches(pending):
        chosen = recordings.filter(pc.is_in(recordings["drive_id"], pa.array(batch)))
        rows = read_stream_rows(spark, settings, chosen, rules=rules)
        replace_rows(
            spark,
            settings,
            TABLE,
            clocks_from(rows, recordings=chosen, rules=rules),
            where=is_one_of("drive_id", batch),
        )
    return report_since(settings, TABLE, before=before, drives=pending, started_s=started)


def clocks_from(rows: DataFrame, *, recordings: pa.Table, rules: SyncRules) -> DataFrame:
    """Clocks of the recordings, one group a drive.

    Args:
        rows: From `read_stream_rows`.
        recordings: Rows of `bronze.recordings` of the same drives.
        rules: Signals and limits.
    """
    estimate = _estimator(recordings, rules)
    return rows.groupBy("drive_id").applyInArrow(estimate, from_arrow_schema(CLOCKS))


def _estimator(recordings: pa.Table, rules: SyncRules) -> Callable[[pa.Table], pa.Table]:
    def estimate(rows: pa.Table) -> pa.Table:
        mine = recordings.filter(pc.equal(recordings["drive_id"], rows["drive_id"][0]))
        observations = observations_in(rows, rules=rules)
        return estimate_drive_clocks(observations, recordings=mine, rules=rules)

    return estimate


def _pending(settings: Settings, recordings: pa.Table, *, rules: SyncRules) -> list[str]:
    """Drives whose stored clocks were made of other recordings or rules, or are not there."""
    stored = read_arrow(settings, TABLE, columns=["drive_id", "clock_version"])
    known = set(zip(*(stored[name].to_pylist() for name in stored.column_names), strict=True))
    of_drive: dict[str, list[str]] = {}
    for row in recordings.select(["drive_id", "recording_id"]).to_pylist():
        of_drive.setdefault(row["drive_id"], []).append(row["recording_id"])
    return sorted(
        drive
        for drive, ids in of_drive.items()
        if (drive, clock_version(ids, rules=rules)) not in known
    )


if __name__ == "__main__":
    from spark_jobs.command import run_job

    run_job(run)
