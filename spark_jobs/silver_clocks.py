"""`silver.clocks`: the clock of every recorder, estimated drive by drive.

Run alone: `python -m spark_jobs.silver_clocks [DRIVE_ID…]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own usage
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
from spark_jobs.tables import (
    ensure_table,
    is_one_of,
    read,
    read_arrow,
    replace_rows,
    table_exists,
    table_version,
)
from udfs.sync.drive_clocks import CLOCKS, clock_version, estimate_drive_clocks
from udfs.sync.frame_keys import FRAME_COLUMNS
from udfs.sync.rules import SyncRules

TABLE = "silver.clocks"
FRAMES_OF_A_DRIVE = 1_000_000
"""Enough for an hour of offsets to a microsecond, and 60 MB in a worker."""
_FRAMES = "can_frames"


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
        rows = read_stream_rows(spark, settings, chosen, rules=rules).unionByName(
            read_shared_frames(spark, settings, chosen), allowMissingColumns=True
        )
        replace_rows(
            spark,
            settings,
            TABLE,
            clocks_from(rows, recordings=chosen, rules=rules),
            where=is_one_of("drive_id", batch),
        )
    return report_since(settings, TABLE, before=before, drives=pending, started_s=started)


def read_shared_frames(spark: SparkSession, settings: Settings, recordings: pa.Table) -> DataFrame:
    """Bus frames that two recorders of a drive may both have logged, and no more than are needed.

    Args:
        spark: Session.
        settings: Where the lake is.
        recordings: Rows of `bronze.recordings`.

    Returns:
        `drive_id`, `role` and `FRAME_COLUMNS`: of the ids that several recorders of a drive hold,
        as many as keep the frames of a drive near `FRAMES_OF_A_DRIVE`.
    """
    known = [
        (row["drive_id"], row["recording_id"], row["recorder"] or row["recording_id"])
        for row in recordings.to_pylist()
    ]
    loggers: dict[str, set[str]] = {}
    for drive, _, recorder in known:
        loggers.setdefault(drive, set()).add(recorder)
    known = [row for row in known if len(loggers[row[0]]) > 1]
    if not known or not table_exists(settings, "silver.can_frames"):
        return spark.createDataFrame(
            [],
            "drive_id STRING, role STRING, recording_id STRING, log_time_ns BIGINT, can_id BIGINT,"
            " is_extended BOOLEAN, data BINARY",
        )
    of_drive = spark.createDataFrame(known, "drive_id STRING, recording_id STRING, recorder STRING")
    frames = (
        read(spark, "silver.can_frames")
        .where(is_one_of("recording_id", [recording for _, recording, _ in known]))
        .select(*FRAME_COLUMNS)
        .join(F.broadcast(of_drive), "recording_id")
    )
    # An id is taken as a whole, on both sides, so that each change of its payload is known.
    by_chance = Window.partitionBy("drive_id").orderBy(F.xxhash64("can_id"), "can_id")
    ids = (
        frames.groupBy("drive_id", "can_id")
        .agg(F.count_distinct("recorder").alias("loggers"), F.count("*").alias("frames"))
        .where("loggers > 1")
        .withColumn("before", F.sum("frames").over(by_chance) - F.col("frames"))
        .where(F.col("before") < FRAMES_OF_A_DRIVE)
        .select("drive_id", "can_id")
    )
    return frames.join(F.broadcast(ids), ["drive_id", "can_id"]).select(
        "drive_id", F.lit(_FRAMES).alias("role"), *FRAME_COLUMNS
    )


def clocks_from(rows: DataFrame, *, recordings: pa.Table, rules: SyncRules) -> DataFrame:
    """Clocks of the recordings, one group a drive.

    Args:
        rows: From `read_stream_rows` and `read_shared_frames`.
        recordings: Rows of `bronze.recordings` of the same drives.
        rules: Signals and limits.
    """
    estimate = _estimator(recordings, rules)
    return rows.groupBy("drive_id").applyInArrow(estimate, from_arrow_schema(CLOCKS))


def _estimator(recordings: pa.Table, rules: SyncRules) -> Callable[[pa.Table], pa.Table]:
    def estimate(rows: pa.Table) -> pa.Table:
        mine = recordings.filter(pc.equal(recordings["drive_id"], rows["drive_id"][0]))
        return estimate_drive_clocks(
            observations_in(rows, rules=rules),
            recordings=mine,
            rules=rules,
            can_frames=rows.filter(pc.equal(rows["role"], _FRAMES)).select(FRAME_COLUMNS),
        )

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
