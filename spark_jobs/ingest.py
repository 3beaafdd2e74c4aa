"""Ingest: from objects in landing to bronze and the message tables of silver.

The order makes a kill at any moment harmless: objects are claimed for a batch, decoded into files
that nobody sees, committed table by table under the batch's identity, and only then get their
final states. Whoever runs next finishes a claimed batch; what was committed is not committed again.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import attrs
import pyarrow as pa
from pyspark.sql import SparkSession

from contracts.errors import ContractViolation, PlatformError
from contracts.ids import content_hash, sha256_hex
from contracts.limits import UPLOAD_ALERTS
from contracts.settings import Settings, settings_from
from contracts.tables import SILVER_KINDS, TABLES
from spark_jobs import bronze_uploads
from spark_jobs.bronze_uploads import Row
from spark_jobs.commit import withdraw
from spark_jobs.delta import open_table
from spark_jobs.discover import SETTLE_NS, UploadObject, discover
from spark_jobs.ingest_batch import Batch
from spark_jobs.ingest_definitions import (
    forget_definitions,
    keep_definitions,
    kept_definitions,
)
from spark_jobs.ingest_index import Indexed, index_objects
from spark_jobs.pipeline import pipeline_version
from spark_jobs.session import connected
from spark_jobs.stage import pack
from spark_jobs.storage import filesystem_of, is_local
from spark_jobs.tables import create_table, register_existing

BATCH_BYTES = 4 << 30
BATCH_OBJECTS = 256
SPARE_BYTES = 512 << 20
"""Free disk that an ingest leaves to others."""
_CLAIM_DIGITS = 16
INGEST_TABLES = tuple(
    name
    for name, contract in TABLES.items()
    if contract.layer == "bronze" or contract.table in SILVER_KINDS
)
"""The tables that are there after any ingest, with rows or without."""
Progress = Callable[[str, int, int], None]


@attrs.frozen
class IngestReport:
    """What an ingest did.

    Attributes:
        outcomes: Objects by state, of those that were looked into; PENDING ones included.
        unchanged: Objects that had been taken before in the same form.
        rows: Rows written by table.
        messages_written: Messages in silver.
        messages_bad: Messages that would not decode.
        messages_lost: Messages lost where the number is known.
        losses_unknown: Recordings that lost messages, unknown how many.
        alerts: Objects by what a person should look at: NAME_REUSE, other bytes under a name that
            was taken before; SCHEMA_BREAK, messages whose definition the table of its name does
            not take.
        batch_ids: Batches that were finished.
        seconds: Wall clock.
    """

    outcomes: Mapping[str, int]
    unchanged: int
    rows: Mapping[str, int]
    messages_written: int
    messages_bad: int
    messages_lost: int
    losses_unknown: int
    alerts: Mapping[str, int]
    batch_ids: tuple[str, ...]
    seconds: float


@attrs.define
class _Tally:
    outcomes: Counter[str] = attrs.field(factory=Counter)
    alerts: Counter[str] = attrs.field(factory=Counter)
    unchanged: int = 0
    rows: Counter[str] = attrs.field(factory=Counter)
    messages: Counter[str] = attrs.field(factory=Counter)
    batch_ids: list[str] = attrs.field(factory=list)


@attrs.frozen
class _Job:
    """What all batches of one call share."""

    spark: SparkSession
    settings: Settings
    definitions: Mapping[str, bytes]
    progress: Progress
    retry_quarantined: bool
    tally: _Tally = attrs.field(factory=_Tally)


def ingest(
    spark: SparkSession,
    settings: Settings,
    paths: Sequence[str],
    *,
    ingest_date: dt.date | None = None,
    definitions: Mapping[str, str] | None = None,
    assume_complete: bool = False,
    settle_ns: int = SETTLE_NS,
    retry_quarantined: bool = False,
    register: bool = True,
    found: Sequence[UploadObject] | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Take what is complete under some places, after finishing what an earlier run left.

    Args:
        spark: Session.
        settings: Where the lake is.
        paths: Folders, files or S3 prefixes.
        ingest_date: Partition of new rows; today (UTC) by default.
        definitions: Place of a DBC by binding: `can:<bus>`, `can:<topic>` or `can:*`.
        assume_complete: Take files on disk without an upload manifest at once.
        settle_ns: Age from which a file without a manifest counts as complete.
        retry_quarantined: Look again into what was quarantined, as after an upgrade.
        register: Name the lake's tables in the catalogue at the end.
        found: What `discover` gave for the paths, where it was asked before.
        progress: Told (stage, done, total).

    Raises:
        PlatformError: NOT_FOUND, a place that is not there; DISK_FULL.
        ContractViolation: CONSERVATION, objects got lost on the way: a fault of this program.
        OSError: Storage failed here; in a worker it comes as Spark's PythonException. What is
            claimed stays claimed: run it again.
    """
    started = time.monotonic()
    job = _job(spark, settings, definitions, progress=progress, retry_quarantined=retry_quarantined)
    _resume(job)
    if found is None:
        found = discover(
            paths,
            storage_options=settings.storage_options,
            assume_complete=assume_complete,
            settle_ns=settle_ns,
        )
    uploads = open_table(settings, bronze_uploads.NAME).to_pyarrow_table()
    new = bronze_uploads.untouched(found, uploads, retry_quarantined=retry_quarantined)
    job.tally.unchanged += len(found) - len(new)
    day = ingest_date or dt.datetime.now(dt.UTC).date()
    _note_pending(job, [item for item in new if item.pending], day)
    complete = [item for item in new if not item.pending]
    weights = [item.size_bytes for item in complete]
    for batch in pack(weights, limit=BATCH_BYTES, at_most=BATCH_OBJECTS):
        _run_batch(job, [complete[i] for i in batch], ingest_date=day)
    if sum(job.tally.outcomes.values()) + job.tally.unchanged < len(found):
        raise ContractViolation(
            f"{len(found)} objects in, {dict(job.tally.outcomes)} out", code="CONSERVATION"
        )
    return _report(job, started, register=register)


def resume(
    spark: SparkSession,
    settings: Settings,
    *,
    definitions: Mapping[str, str] | None = None,
    register: bool = True,
    progress: Progress | None = None,
) -> IngestReport:
    """Finish every batch that was claimed and never ended; nothing if there is none."""
    started = time.monotonic()
    job = _job(spark, settings, definitions, progress=progress)
    _resume(job)
    return _report(job, started, register=register)


def _job(
    spark: SparkSession,
    settings: Settings,
    definitions: Mapping[str, str] | None,
    *,
    progress: Progress | None,
    retry_quarantined: bool = False,
) -> _Job:
    from udfs.decode.source import open_source

    for name in INGEST_TABLES:
        create_table(settings, TABLES[name])
    found: dict[str, bytes] = {}
    for binding, place in (definitions or {}).items():
        with open_source(place, storage_options=settings.storage_options) as source:
            found[binding] = bytes(source.read_at(0, source.size))
    quiet: Progress = lambda _stage, _done, _total: None  # noqa: E731
    return _Job(spark, settings, found, progress or quiet, retry_quarantined)


def _report(job: _Job, started: float, *, register: bool) -> IngestReport:
    tally = job.tally
    if register and tally.batch_ids:
        register_existing(job.spark, job.settings)
    return IngestReport(
        outcomes=dict(tally.outcomes),
        unchanged=tally.unchanged,
        rows=dict(sorted(tally.rows.items())),
        messages_written=tally.messages["written"],
        messages_bad=tally.messages["bad"],
        messages_lost=tally.messages["lost"],
        losses_unknown=tally.messages["unknown"],
        alerts=dict(tally.alerts),
        batch_ids=tuple(tally.batch_ids),
        seconds=time.monotonic() - started,
    )


def _resume(job: _Job) -> None:
    """Finish claimed batches, in the order of their identity."""
    uploads = open_table(job.settings, bronze_uploads.NAME).to_pyarrow_table()
    claims: dict[str, list[Row]] = {}
    for row in bronze_uploads.rows_where(uploads, "state", ["PENDING"]):
        if row["batch_id"]:
            claims.setdefault(row["batch_id"], []).append(row)
    for batch_id in sorted(claims):
        rows = claims[batch_id]
        objects = [bronze_uploads.object_of(row) for row in rows]
        own = attrs.evolve(job, definitions=kept_definitions(job.settings, batch_id))
        _run_batch(own, objects, ingest_date=rows[0]["ingest_date"], resumed=batch_id)


def _note_pending(job: _Job, objects: Sequence[UploadObject], day: dt.date) -> None:
    def decide(uploads: pa.Table) -> list[Row]:
        rows = bronze_uploads.pending_rows(objects, uploads, now_ns=time.time_ns())
        return [{**row, "ingest_date": day} for row in rows]

    if objects:
        bronze_uploads.merge_uploads(job.settings, decide)
        job.tally.outcomes["PENDING"] += len(objects)


def _run_batch(
    job: _Job,
    objects: Sequence[UploadObject],
    *,
    ingest_date: dt.date,
    resumed: str | None = None,
) -> None:
    """Take objects through all steps; `resumed` names the batch that holds them already."""
    _check_space(job.settings, sum(item.size_bytes for item in objects))
    indexed = index_objects(
        job.spark,
        objects,
        storage_options=job.settings.storage_options,
        progress=lambda done: job.progress("index", done, len(objects)),
    )
    pairs = [(item, indexed[item.uri]) for item in objects]
    claim = _claim(job, pairs, ingest_date=ingest_date, resumed=resumed)
    finals: list[Row] = []
    if claim.batch_id:
        batch = Batch(
            spark=job.spark,
            settings=job.settings,
            batch_id=claim.batch_id,
            ingest_date=ingest_date,
            rows=claim.work,
            indexed=indexed,
            definitions=job.definitions,
            progress=job.progress,
        )
        result = batch.run(is_repeat=claim.batch_id == resumed)
        finals = result.finals
        bronze_uploads.finish_uploads(job.settings, claim.batch_id, finals)
        forget_definitions(job.settings, claim.batch_id)
        job.tally.batch_ids.append(claim.batch_id)
        job.tally.rows.update(result.rows)
        job.tally.messages.update(result.messages)
    ended = [*claim.settled, *finals]
    job.tally.outcomes.update(row["state"] for row in ended)
    job.tally.alerts.update(flag for row in ended for flag in row["flags"] if flag in UPLOAD_ALERTS)
    job.tally.unchanged += claim.unchanged
    if len(claim.settled) + len(finals) + claim.unchanged != len(objects):
        raise ContractViolation(
            f"{len(objects)} objects in a batch, {len(claim.settled) + len(finals)} outcomes",
            code="CONSERVATION",
        )


def _check_space(settings: Settings, size_bytes: int) -> None:
    """Refuse to fill the disk: rows take at most about what their recordings do.

    Raises:
        PlatformError: DISK_FULL.
    """
    if not is_local(settings.lake_uri):
        return
    _, place = filesystem_of(settings.lake_uri)
    free = shutil.disk_usage(place).free
    needed = size_bytes + SPARE_BYTES
    if free < needed:
        raise PlatformError(
            f"{needed >> 20} MiB are needed for the next batch, {free >> 20} MiB are free",
            code="DISK_FULL",
            uri=settings.lake_uri,
            remedy="Free some space and run it again: nothing was lost",
        )


@attrs.frozen
class _Claim:
    """Rows that have their final state, and those that the batch now holds."""

    batch_id: str | None
    settled: tuple[Row, ...]
    work: tuple[Row, ...]
    unchanged: int


def _claim(
    job: _Job,
    pairs: Sequence[tuple[UploadObject, Indexed]],
    *,
    ingest_date: dt.date,
    resumed: str | None,
) -> _Claim:
    """Write the verdicts that need no decode, and take the rest for a batch.

    The identity of a batch is that of the claim and says what it is made of: members, definitions
    and pipeline. Where a resumed one would be made of others, because an object or the pipeline
    has changed since, what it had committed goes and a new claim follows.
    """
    found: list[_Claim] = []
    claim = uuid4().hex[:_CLAIM_DIGITS]

    def decide(uploads: pa.Table) -> Sequence[Row]:
        verdicts = bronze_uploads.judge(
            pairs,
            uploads,
            now_ns=time.time_ns(),
            batch_id=resumed,
            retry_quarantined=job.retry_quarantined,
        )
        members = sorted([*verdicts.recordings, *verdicts.definitions])
        definitions = {key: sha256_hex(data) for key, data in job.definitions.items()}
        made_of = content_hash(
            {"members": members, "definitions": definitions, "pipeline": pipeline_version()}
        )[_CLAIM_DIGITS:]
        name = f"{claim}{made_of}"
        if resumed and resumed[_CLAIM_DIGITS:] == made_of:
            name = resumed
        elif resumed:
            withdraw(job.settings, resumed, [str(item.expected_sha256) for item, _ in pairs])
        rows = [{"batch_id": None, "ingest_date": ingest_date, **row} for row in verdicts.rows]
        work = [{**row, "batch_id": name} for row in rows if bronze_uploads.needs_work(row)]
        settled = [row for row in rows if not bronze_uploads.needs_work(row)]
        if work:
            keep_definitions(job.settings, name, job.definitions)
        found[:] = [_Claim(name if work else None, tuple(settled), tuple(work), verdicts.unchanged)]
        return [*settled, *work, *verdicts.touched]

    bronze_uploads.merge_uploads(job.settings, decide)
    return found[0]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Take uploads into bronze and silver.")
    parser.add_argument("places", nargs="*", metavar="PLACE", help="folder, file or S3 prefix")
    parser.add_argument("--date", type=dt.date.fromisoformat, help="ingest day (UTC), today")
    parser.add_argument("--assume-complete", action="store_true", help="wait for no file to settle")
    parser.add_argument("--retry-quarantined", action="store_true", help="look into them again")
    parser.add_argument(
        "--definition",
        action="append",
        default=[],
        metavar="can:BUS=DBC",
        help="bus definition by binding; can:*=DBC for every bus",
    )
    chosen = parser.parse_args()
    settings = settings_from(os.environ, working_folder=Path.cwd())
    with connected(settings) as spark:
        report = ingest(
            spark,
            settings,
            chosen.places or [settings.landing_uri],
            ingest_date=chosen.date,
            definitions=dict(text.split("=", 1) for text in chosen.definition),
            assume_complete=chosen.assume_complete,
            retry_quarantined=chosen.retry_quarantined,
        )
    sys.stdout.write(json.dumps(attrs.asdict(report)) + "\n")


if __name__ == "__main__":
    _main()
