"""`silver.clocks`: the clock of every recorder, estimated drive by drive.

Run alone: `python -m spark_jobs.silver_clocks [DRIVE_ID…]`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.drives import in_batches, read_recordings
from spark_jobs.report import JobReport, report_since
from spark_jobs.shared_frames import bus_frame_tables, count_frames, read_shared_frames
from spark_jobs.silver_files import SilverTable, by_drive, iter_observations, silver_tables
from spark_jobs.stage import deal, pack, payloads_in
from spark_jobs.sync_rules import sync_rules
from spark_jobs.tables import create_table, is_one_of, read_arrow, replace_rows, table_version
from udfs.sync.drive_clocks import CLOCKS, clock_version, estimate_drive_clocks
from udfs.sync.recorder_clocks import recorders_of
from udfs.sync.rules import SyncRules

TABLE = "silver.clocks"
_TASK_NS = 300_000_000_000
_LEAST_TASKS, _DRIVES_A_TASK = 8, 32


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
    create_table(settings, TABLES[TABLE])
    before = table_version(settings, TABLE)
    recordings = read_recordings(settings, drive_ids=drive_ids)
    # without a message there is no stamp, and so no clock
    recordings = recordings.filter(pc.is_valid(recordings["start_ns"]))
    pending = _pending(settings, recordings, rules=rules)
    for batch in in_batches(pending):
        chosen = recordings.filter(pc.is_in(recordings["drive_id"], pa.array(batch)))
        rows = clocks_from(spark, settings, chosen, rules=rules)
        replace_rows(spark, settings, TABLE, rows, where=is_one_of("drive_id", batch))
    return report_since(settings, TABLE, before=before, drives=pending, started_s=started)


def clocks_from(
    spark: SparkSession, settings: Settings, recordings: pa.Table, *, rules: SyncRules
) -> DataFrame:
    """Clocks of recordings, whose rows the workers read by themselves, drive by drive.

    Args:
        spark: Session.
        settings: Where the lake is.
        recordings: Rows of `bronze.recordings`, all of their drives.
        rules: Signals and limits.
    """
    names = recordings["recording_id"].to_pylist()
    tables = silver_tables(settings, names, rules=rules)
    buses = [table.holding(names) for table in bus_frame_tables(settings)]
    payloads = [
        json.dumps(
            {
                "drives": drives,
                "tables": [table.holding(mine).as_json() for table in tables],
                "buses": [table.holding(mine).as_json() for table in buses],
            }
        ).encode()
        for drives, mine in _tasks(recordings)
    ]
    estimate = estimator(
        recordings,
        tables=[attrs.evolve(table, files=()) for table in tables],
        buses=[attrs.evolve(table, files=()) for table in buses],
        rules=rules,
        storage_options=dict(settings.storage_options),
    )
    dealt = deal(spark, payloads, tasks=len(payloads))
    return dealt.mapInArrow(estimate, from_arrow_schema(CLOCKS))


def _tasks(recordings: pa.Table) -> Iterator[tuple[list[str], list[str]]]:
    """Drives of each task and their recordings; short drives share one, which reads a file once."""
    lengths: dict[str, int] = {}
    of_drive: dict[str, list[str]] = {}
    for row in recordings.to_pylist():
        drive = row["drive_id"]
        lengths[drive] = max(lengths.get(drive, 0), row["end_ns"] - row["start_ns"])
        of_drive.setdefault(drive, []).append(row["recording_id"])
    drives = sorted(lengths)
    limit = min(_TASK_NS, sum(lengths.values()) // _LEAST_TASKS)
    for places in pack([lengths[each] for each in drives], limit=limit, at_most=_DRIVES_A_TASK):
        mine = [drives[place] for place in places]
        yield mine, [name for each in mine for name in of_drive[each]]


def estimator(
    recordings: pa.Table,
    *,
    tables: Sequence[SilverTable],
    buses: Sequence[SilverTable],
    rules: SyncRules,
    storage_options: Mapping[str, str],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker does: payloads of `clocks_from` to rows of `silver.clocks`.

    Args:
        recordings: Rows of `bronze.recordings` of all drives.
        tables: Those of the signals, without their files.
        buses: Those of bus frames, without their files.
        rules: Signals and limits.
        storage_options: For S3.
    """

    def estimate(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for payload in payloads_in(batches):
            task = json.loads(payload)
            mine = recordings.filter(pc.is_in(recordings["drive_id"], pa.array(task["drives"])))
            signals = [bare.with_files(f) for bare, f in zip(tables, task["tables"], strict=True)]
            frames = [bare.with_files(f) for bare, f in zip(buses, task["buses"], strict=True)]
            wanted = dict.fromkeys(mine["recording_id"].to_pylist())
            recordings_of = [mine.filter(pc.equal(mine["drive_id"], d)) for d in task["drives"]]
            rows = by_drive(
                iter_observations(signals, wanted, rules=rules, storage_options=storage_options),
                [each["recording_id"].to_pylist() for each in recordings_of],
            )
            counts = count_frames(frames, wanted, storage_options=storage_options)
            for of_drive, observations in zip(recordings_of, rows, strict=True):
                shared = read_shared_frames(
                    frames,
                    recorders_of(of_drive.to_pylist()),
                    counts=counts,
                    storage_options=storage_options,
                )
                clocks = estimate_drive_clocks(
                    observations,
                    recordings=of_drive,
                    rules=rules,
                    can_frames=shared,
                )
                yield from clocks.combine_chunks().to_batches()

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
