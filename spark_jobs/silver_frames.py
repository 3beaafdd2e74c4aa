"""`silver.frames`: every sensor at the instant of every camera image.

Run alone: `python -m spark_jobs.silver_frames [DRIVE_ID…]`.

The table holds the current frames of each drive, and nothing else. `silver.frame_versions` says
what they were made of; older ones are read at the Delta version that it names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import pyarrow as pa
from deltalake import write_deltalake
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.errors import IntegrityError
from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.delta import open_table
from spark_jobs.drives import in_batches
from spark_jobs.frame_plan import DriveTask, DriveWork, FramePlan, payload_of, plan_frames, task_of
from spark_jobs.report import JobReport, report_since
from spark_jobs.silver_files import SilverTable, by_drive, iter_observations, silver_tables
from spark_jobs.stage import deal, payloads_in
from spark_jobs.sync_rules import sync_rules
from spark_jobs.tables import (
    create_table,
    is_one_of,
    read_arrow,
    register_tables,
    replace_rows,
    table_exists,
    table_version,
)
from udfs.sync.frames import (
    CLOCK_COLUMNS,
    FRAMES,
    frames_of_drive,
    rules_version,
    sync_version,
)
from udfs.sync.rules import SyncRules
from udfs.sync.slices import SLICE_NS

TABLE = "silver.frames"
VERSIONS = "silver.frame_versions"
CLOCKS = "silver.clocks"
_MOST_FILES = 32
_VERSION_COLUMNS = (
    "drive_id", "sync_version", "rules_version", "clocks_version", "created_ns",
)  # fmt: skip
_ByDrive = Mapping[str, Sequence[Mapping[str, Any]]]


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    drive_ids: Sequence[str] | None = None,
    rules: SyncRules | None = None,
    slice_ns: int = SLICE_NS,
) -> JobReport:
    """Synchronise the drives whose clocks or rules are new; others are left alone.

    Where recordings came late and the rest stands, only the frames that they may change are made
    anew; the others stay as they are, their `sync_version` included. What there is to do is found
    without Spark.

    Args:
        spark: Session.
        settings: Where the lake is.
        drive_ids: Drives to look at; all that have clocks by default.
        rules: Streams and limits; those of the deployment if None.
        slice_ns: Instants of a task; no frame depends on it.
    """
    started = time.monotonic()
    rules = rules or sync_rules(settings)
    for name in (TABLE, VERSIONS):
        create_table(settings, TABLES[name])
    before = table_version(settings, TABLE)
    clocks_version, clocks = _read_clocks(settings, drive_ids=drive_ids)
    pending = _pending(settings, clocks, clocks_version=clocks_version, rules=rules)
    if pending:
        register_tables(spark, settings, (TABLE, VERSIONS))
    written = []
    for batch in in_batches(pending):
        drives = [pending[each][0] for each in batch]
        tables = silver_tables(
            settings, {row["recording_id"] for each in drives for row in each.clocks}, rules=rules
        )
        plan = plan_frames(spark, settings, drives, tables, rules=rules, slice_ns=slice_ns)
        made = sorted({each.drive_id for task in plan.tasks for each in task})
        if made or _has_rows(settings, plan):
            rows = frames_from(spark, settings, plan, drives, tables, rules=rules)
            replace_rows(spark, settings, TABLE, rows, where=_where(plan))
        written += made
        _record(settings, plan, [pending[each] for each in batch], rules=rules)
    return report_since(settings, TABLE, before=before, drives=written, started_s=started)


def frames_from(
    spark: SparkSession,
    settings: Settings,
    plan: FramePlan,
    drives: Sequence[DriveWork],
    tables: Sequence[SilverTable],
    *,
    rules: SyncRules,
) -> DataFrame:
    """Frames of the tasks of a plan, which workers read and make by themselves.

    Args:
        spark: Session.
        settings: `storage_options`.
        plan: From `plan_frames`.
        drives: Those that it is of.
        tables: From `silver_tables`.
        rules: Streams and limits.
    """
    payloads = [payload_of(task, tables) for task in plan.tasks]
    bare = [attrs.evolve(table, files=()) for table in tables]
    synchronise = synchroniser(
        {each.drive_id: each.clocks for each in drives}, bare, rules, dict(settings.storage_options)
    )
    # A task of Spark is a file of the table: on a large fleet each takes several of ours.
    parts = min(len(payloads), max(_MOST_FILES, len(payloads) // 8))
    return deal(spark, payloads, tasks=parts).mapInArrow(synchronise, from_arrow_schema(FRAMES))


def synchroniser(
    clocks: _ByDrive,
    tables: Sequence[SilverTable],
    rules: SyncRules,
    storage_options: Mapping[str, str],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker does: tasks, as `payload_of` gives them, to frames.

    Args:
        clocks: Rows of `silver.clocks` by drive.
        tables: Those of the payloads, without their files.
        rules: Limits.
        storage_options: For S3.
    """
    read = partial(iter_observations, rules=rules, storage_options=storage_options)

    def synchronise(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for payload in payloads_in(batches):
            task, files = task_of(payload, tables)
            wanted = {name: span for each in task for name, span in each.wanted.items()}
            for frames in frames_of_task(task, read(files, wanted), clocks, rules=rules):
                yield from frames.combine_chunks().to_batches()

    return synchronise


def frames_of_task(
    task: Sequence[DriveTask],
    observations: Iterable[pa.Table],
    clocks: _ByDrive,
    *,
    rules: SyncRules,
) -> Iterator[pa.Table]:
    """Frames of each drive, or slice, of a task.

    Args:
        task: Drives and slices.
        observations: Of all of them, in any parts.
        clocks: Rows of `silver.clocks` by drive.
        rules: Limits.
    """
    mine = by_drive(observations, [each.wanted.keys() for each in task])
    for each, part in zip(task, mine, strict=True):
        rows = pa.Table.from_pylist(list(clocks[each.drive_id]), TABLES[CLOCKS].schema)
        yield frames_of_drive(part, rows, rules=rules, facts=each.facts, span=each.span)


def _read_clocks(
    settings: Settings, *, drive_ids: Sequence[str] | None
) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Version of `silver.clocks`, and its rows by drive."""
    if not table_exists(settings, CLOCKS):
        return 0, {}
    version = table_version(settings, CLOCKS)
    filters = None if drive_ids is None else [("drive_id", "in", list(drive_ids))]
    return version, _by_drive(read_arrow(settings, CLOCKS, filters=filters, version=version))


def _by_drive(clocks: pa.Table) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in clocks.to_pylist():
        found.setdefault(row["drive_id"], []).append(row)
    return found


@attrs.frozen
class _Wanted:
    """What is to be recorded of a drive."""

    sync_version: str
    clocks_version: int
    before_version: int


def _pending(
    settings: Settings,
    clocks: _ByDrive,
    *,
    clocks_version: int,
    rules: SyncRules,
) -> dict[str, tuple[DriveWork, _Wanted]]:
    """Drives that were last synchronised by other clocks or rules, or never."""
    latest: dict[str, dict[str, Any]] = {}
    for row in read_arrow(settings, VERSIONS, columns=_VERSION_COLUMNS).to_pylist():
        known = latest.get(row["drive_id"])
        if known is None or known["created_ns"] < row["created_ns"]:
            latest[row["drive_id"]] = row
    found = {}
    for drive, rows in clocks.items():
        version = sync_version(rows, rules=rules)
        known = latest.get(drive)
        if known is not None and known["sync_version"] == version:
            continue
        before = _clocks_before(settings, drive, known, rules=rules)
        found[drive] = (
            DriveWork(drive, rows, before),
            _Wanted(version, clocks_version, known["clocks_version"] if known else clocks_version),
        )
    return found


def _clocks_before(
    settings: Settings, drive: str, known: Mapping[str, Any] | None, *, rules: SyncRules
) -> Sequence[Mapping[str, Any]]:
    """Clocks that a drive's frames hold to, if they are of the same rules and still known."""
    if known is None or known["rules_version"] != rules_version(rules):
        return ()
    version, filters = known["clocks_version"], [("drive_id", "=", drive)]
    try:
        return read_arrow(settings, CLOCKS, filters=filters, version=version).to_pylist()
    except (DeltaError, IntegrityError, OSError):
        return ()  # vacuumed: all of the drive is made anew


def _where(plan: FramePlan) -> str:
    """Predicate of the rows that a plan replaces."""
    whole = [drive for drive, spans in plan.touched.items() if spans is None]
    parts = [is_one_of("drive_id", whole)] if whole else []
    parts += [
        f"({is_one_of('drive_id', [drive])} AND t_ns >= {start} AND t_ns < {end})"
        for drive, spans in plan.touched.items()
        for start, end in spans or ()
    ]
    return " OR ".join(parts)


def _has_rows(settings: Settings, plan: FramePlan) -> bool:
    """Whether there are frames of drives that are to be made anew and that have no image now."""
    whole = [drive for drive, spans in plan.touched.items() if spans is None]
    filters = [("drive_id", "in", whole)]
    return bool(whole) and len(read_arrow(settings, TABLE, columns=["t_ns"], filters=filters)) > 0


def _record(
    settings: Settings,
    plan: FramePlan,
    drives: Sequence[tuple[DriveWork, _Wanted]],
    *,
    rules: SyncRules,
) -> None:
    """Say what the frames of some drives are made of, now that they are there."""
    version, now = table_version(settings, TABLE), time.time_ns()
    rows = []
    for drive, wanted in drives:
        spans = plan.touched[drive.drive_id]
        clocks_version = wanted.clocks_version
        if spans is not None and not _identities(drive.before) <= _identities(drive.clocks):
            # The frames that stay were made on clocks that moved a little: they count, not these.
            clocks_version = wanted.before_version
        rows.append(
            {
                "drive_id": drive.drive_id,
                "sync_version": wanted.sync_version,
                "rules_version": rules_version(rules),
                "frames_version": version,
                "clocks_version": clocks_version,
                "from_ns": spans[0][0] if spans else None,
                "to_ns": spans[-1][1] if spans else None,
                "created_ns": now,
                "ingest_date": max(row["ingest_date"] for row in drive.clocks),
            }
        )
    write_deltalake(
        open_table(settings, VERSIONS),
        pa.Table.from_pylist(rows, TABLES[VERSIONS].schema),
        mode="append",
    )


def _identities(clocks: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(row[name] for name in CLOCK_COLUMNS) for row in clocks}


if __name__ == "__main__":
    from spark_jobs.command import run_job

    run_job(run)
