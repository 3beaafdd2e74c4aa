"""What a job says of itself when it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from contracts.settings import Settings
from spark_jobs.delta import open_table
from spark_jobs.tables import table_version


@attrs.frozen
class JobReport:
    """The outcome of one run of one job.

    Attributes:
        table: Table it writes.
        version: Delta version of the table afterwards.
        committed: Whether this run committed; False when everything was there already.
        rows: Rows that this run wrote, from Delta's own commit metrics.
        drives: Drives that this run worked on.
        seconds: How long it took.
    """

    table: str
    version: int
    committed: bool
    rows: int
    drives: tuple[str, ...]
    seconds: float


def report_since(
    settings: Settings, table: str, *, before: int, drives: Sequence[str], started_s: float
) -> JobReport:
    """The report of a run that began at a table version and a reading of `time.monotonic`."""
    after = table_version(settings, table)
    return JobReport(
        table=table,
        version=after,
        committed=after > before,
        rows=_rows_written(settings, table, commits=after - before),
        drives=tuple(drives),
        seconds=round(time.monotonic() - started_s, 3),
    )


def _rows_written(settings: Settings, table: str, *, commits: int) -> int:
    """Rows that the latest commits wrote."""
    if commits <= 0:
        return 0
    history = open_table(settings, table).history(commits)
    metrics = [commit.get("operationMetrics", {}) for commit in history]
    # A file is rewritten whole: rows that it also held are copied, not written.
    written = [
        (metric.get("numOutputRows", 0), metric.get("numCopiedRows", 0)) for metric in metrics
    ]
    return sum(int(output) - int(copied) for output, copied in written)
