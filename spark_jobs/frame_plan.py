"""What is to be synchronised anew, and the tasks that do it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from contracts.settings import Settings
from spark_jobs.drives import read_recordings
from spark_jobs.silver_files import SilverTable, iter_observations, iter_rows, pair_of
from spark_jobs.stage import pack, run_stage
from udfs.sync.channels import ChannelFacts, Facts, added, facts_of
from udfs.sync.late import touched_spans
from udfs.sync.recorder_clocks import clocks_of, recorders_of
from udfs.sync.rules import SyncRules
from udfs.sync.sensor_clocks import sensors_of
from udfs.sync.slices import BUCKET_NS, SLICE_NS, cut, image_spans, readings_within
from udfs.sync.spans import Span, common, hull

_LEAST_TASKS, _DRIVES_A_TASK = 8, 32
_TASK_NS = 3 * SLICE_NS
"""Of short drives, which one worker reads at once: each file holds many of them."""
Rows = Sequence[Mapping[str, Any]]


@attrs.frozen
class DriveWork:
    """What is to be done of one drive.

    Attributes:
        drive_id: The drive.
        clocks: Its rows of `silver.clocks`.
        before: Those that its frames were made on, by the same rules; none if all is to be made.
    """

    drive_id: str
    clocks: Rows
    before: Rows = ()


@attrs.frozen
class DriveTask:
    """A drive, or a slice of it, for a worker.

    Attributes:
        drive_id: The drive.
        span: Instants of the frames wanted, half-open; None for all.
        facts: Of the channels of the whole drive; None where the worker sees all of it.
        wanted: Log times by recording, half-open; None for all.
    """

    drive_id: str
    span: Span | None
    facts: Facts | None
    wanted: Mapping[str, Span | None]


@attrs.frozen
class FramePlan:
    """The tasks of a batch of drives.

    Attributes:
        tasks: Drives and slices of each task.
        touched: By drive the spans of instants that are replaced; None for the whole drive.
    """

    tasks: Sequence[Sequence[DriveTask]]
    touched: Mapping[str, Sequence[Span] | None]


def plan_frames(
    spark: SparkSession,
    settings: Settings,
    drives: Sequence[DriveWork],
    tables: Sequence[SilverTable],
    *,
    rules: SyncRules,
    slice_ns: int = SLICE_NS,
) -> FramePlan:
    """Cut drives into tasks of about a slice each.

    A drive that is no longer than a slice is a worker's at once, as many of them as leave each
    worker something.
    Of others, and of those that late data may touch only in part, the channels are looked at first.

    Args:
        spark: Session.
        settings: Where the lake is.
        drives: What is to be done.
        tables: From `silver_tables`, of these drives.
        rules: Limits.
        slice_ns: Instants of a slice.
    """
    log_spans = _log_spans(settings, [each.drive_id for each in drives])
    buckets = _image_buckets(settings, drives, tables, rules=rules)
    lengths = {each.drive_id: _length_ns(each, log_spans) for each in drives}
    short = [each for each in drives if lengths[each.drive_id] <= slice_ns and not each.before]
    long = [each for each in drives if lengths[each.drive_id] > slice_ns or each.before]
    facts = _facts_of_recordings(spark, settings, long, tables, rules=rules)
    touched: dict[str, Sequence[Span] | None] = {each.drive_id: None for each in short}
    seen = [each for each in short if not buckets.keys().isdisjoint(recorders_of(each.clocks))]
    weights = [lengths[each.drive_id] for each in seen]
    limit = min(_TASK_NS, sum(weights) // _LEAST_TASKS)
    tasks = [
        [
            DriveTask(each.drive_id, None, None, dict.fromkeys(recorders_of(each.clocks)))
            for each in (seen[position] for position in one)
        ]
        for one in pack(weights, limit=limit, at_most=_DRIVES_A_TASK)
    ]
    for drive in long:
        recorders, clocks = recorders_of(drive.clocks), clocks_of(drive.clocks, rules=rules)
        mine = {each: buckets[each] for each in recorders if each in buckets}
        spans = image_spans(mine, recorders=recorders, clocks=clocks, rules=rules)
        late = None
        if drive.before:
            late = touched_spans(
                drive.before, drive.clocks, facts=facts, log_spans=log_spans, rules=rules
            )
        touched[drive.drive_id] = late
        of_drive = added(facts[each] for each in recorders)
        for span in cut(spans if late is None else common(spans, late), length_ns=slice_ns):
            wanted = {
                each: readings_within(span, clock=clocks[recorder], rules=rules)
                for each, recorder in recorders.items()
            }
            tasks.append([DriveTask(drive.drive_id, span, of_drive, wanted)])
    return FramePlan(tasks, touched)


def payload_of(task: Sequence[DriveTask], tables: Sequence[SilverTable]) -> bytes:
    """A task for a worker: its drives, and the files that it needs by table."""
    wanted = {name: span for each in task for name, span in each.wanted.items()}
    within = hull(wanted.values())
    return json.dumps(
        {
            "drives": [
                [each.drive_id, each.span, _facts_json(each.facts), each.wanted] for each in task
            ],
            "files": [table.holding(wanted, within=within).as_json() for table in tables],
        }
    ).encode()


def task_of(
    payload: bytes, tables: Sequence[SilverTable]
) -> tuple[list[DriveTask], list[SilverTable]]:
    """What `payload_of` made, in the worker; the tables have what they lack from `tables`."""
    found = json.loads(payload)
    drives = [
        DriveTask(
            drive,
            pair_of(span),
            _facts_from(facts),
            {name: pair_of(each) for name, each in wanted.items()},
        )
        for drive, span, facts, wanted in found["drives"]
    ]
    files = [table.with_files(each) for table, each in zip(tables, found["files"], strict=True)]
    return drives, files


def _facts_json(facts: Facts | None) -> list[Any] | None:
    if facts is None:
        return None
    return [
        [key, each.samples, each.stamped, sorted(each.latencies.items()), each.size_bytes]
        for key, each in facts.items()
    ]


def _facts_from(value: Iterable[Any] | None) -> Facts | None:
    if value is None:
        return None
    return {
        (key[0], key[1], key[2], key[3]): ChannelFacts(samples, stamped, dict(latencies), size)
        for key, samples, stamped, latencies, size in value
    }


def _log_spans(settings: Settings, drive_ids: Sequence[str]) -> dict[str, Span]:
    """Log times of the recordings of some drives, half-open."""
    rows = read_recordings(settings, drive_ids=drive_ids)
    rows = rows.filter(pc.is_valid(rows["start_ns"]))
    return {
        row["recording_id"]: (row["start_ns"], row["end_ns"] + 1)
        for row in rows.select(["recording_id", "start_ns", "end_ns"]).to_pylist()
    }


def _length_ns(drive: DriveWork, log_spans: Mapping[str, Span]) -> int:
    """What the longest recorder of a drive recorded."""
    lengths: dict[str, int] = {}
    for recording, recorder in recorders_of(drive.clocks).items():
        start, end = log_spans.get(recording, (0, 0))
        lengths[recorder] = lengths.get(recorder, 0) + end - start
    return max(lengths.values(), default=0)


def _image_buckets(
    settings: Settings,
    drives: Sequence[DriveWork],
    tables: Sequence[SilverTable],
    *,
    rules: SyncRules,
) -> dict[str, set[int]]:
    """By recording, the log times of its images over `BUCKET_NS`."""
    wanted: dict[str, Span | None] = {
        row["recording_id"]: None for drive in drives for row in drive.clocks
    }
    found: dict[str, set[int]] = {}
    for table in tables:
        if table.role != rules.camera_table:
            continue
        columns = ("recording_id", "log_time_ns")
        for rows in iter_rows(
            table, wanted, columns=columns, storage_options=settings.storage_options
        ):
            names = rows["recording_id"].combine_chunks().dictionary_encode()
            codes = names.indices.to_numpy()
            bucket = rows["log_time_ns"].to_numpy() // BUCKET_NS
            for code, at in np.unique(np.stack([codes, bucket]), axis=1).T.tolist():
                found.setdefault(names.dictionary[code].as_py(), set()).add(at)
    return found


def _facts_of_recordings(
    spark: SparkSession,
    settings: Settings,
    drives: Sequence[DriveWork],
    tables: Sequence[SilverTable],
    *,
    rules: SyncRules,
) -> dict[str, Facts]:
    """What must be known of the channels of whole recordings; a task a recording."""
    tasks = [
        json.dumps([row, recorder, [table.holding([name]).as_json() for table in tables]])
        for drive in drives
        for name, recorder in recorders_of(drive.clocks).items()
        for row in [_sensors_json(drive.clocks, name)]
    ]
    bare = [attrs.evolve(table, files=()) for table in tables]
    work = partial(
        _facts_task, tables=bare, rules=rules, storage_options=dict(settings.storage_options)
    )
    results = [json.loads(one) for one in run_stage(spark, [each.encode() for each in tasks], work)]
    return {name: _facts_from(facts) or {} for name, facts in results}


def _sensors_json(clocks: Sequence[Mapping[str, Any]], recording: str) -> Mapping[str, Any]:
    """A recording, and the clocks of its sensors as any of its rows has them."""
    row = next(each for each in clocks if each["recording_id"] == recording)
    return {name: row.get(name) for name in ("recording_id", "sensors")}


def _facts_task(
    payload: bytes,
    *,
    tables: Sequence[SilverTable],
    rules: SyncRules,
    storage_options: Mapping[str, str],
) -> bytes:
    row, recorder, files = json.loads(payload)
    name = row["recording_id"]
    sensors = sensors_of([row], recorders={name: recorder})
    mine = [table.with_files(each) for table, each in zip(tables, files, strict=True)]
    whole: Facts = {}
    for part in iter_observations(mine, {name: None}, rules=rules, storage_options=storage_options):
        facts = facts_of(part, recorders={name: recorder}, rules=rules, sensors=sensors)
        whole = added([whole, facts])
    return json.dumps([name, _facts_json(whole)]).encode()
