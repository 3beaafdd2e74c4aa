"""What became of the runs that the sensor started for an upload, and what is to be done next."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import attrs
import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

UPLOAD_TAG = "drivelake/upload"
ATTEMPT_TAG = "drivelake/attempt"
RETRY_MINUTES = (1, 5, 25, 125, 360)
"""Waits after the first, second, … failed run of an upload; the last one repeats."""
_FAILED_RUNS_READ = 500


class Next(StrEnum):
    """What is to be done for an upload."""

    START = "to be started"
    WAIT = "waiting after a failure"
    UNDER_WAY = "under way"
    NOTHING = "done"


@attrs.frozen
class RunHistory:
    """The runs of a job that are under way or failed, by the key of their upload.

    Attributes:
        under_way: Keys with a run that is queued or runs.
        failed: Keys with a failed run; a later one may have succeeded.
    """

    instance: dg.DagsterInstance
    under_way: frozenset[str]
    failed: frozenset[str]

    @property
    def open_keys(self) -> frozenset[str]:
        """Keys of uploads whose last run may not have succeeded."""
        return self.under_way | self.failed

    def next_of(self, key: str, *, now_s: float) -> tuple[Next, int]:
        """What is to be done for an upload, and how many of its runs failed.

        A run that succeeded, or that a person ended, is the last one.

        Args:
            key: Of the upload.
            now_s: Seconds since 1970, UTC.
        """
        if key in self.under_way:
            return Next.UNDER_WAY, 0
        records = self.instance.get_run_records(dg.RunsFilter(tags={UPLOAD_TAG: key}))
        return next_after(records, now_s=now_s)


def read_history(instance: dg.DagsterInstance, *, job: str) -> RunHistory:
    """The history of a job, from Dagster's run storage."""
    under_way = instance.get_runs(dg.RunsFilter(job_name=job, statuses=NOT_FINISHED_STATUSES))
    failed = instance.get_runs(
        dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.FAILURE]),
        limit=_FAILED_RUNS_READ,
    )
    return RunHistory(instance, _keys(under_way), _keys(failed))


def next_after(records: Sequence[dg.RunRecord], *, now_s: float) -> tuple[Next, int]:
    """What follows from the runs of an upload, newest first, and how many of them failed."""
    failure = dg.DagsterRunStatus.FAILURE
    failures = sum(record.dagster_run.status is failure for record in records)
    if not records:
        return Next.START, 0
    if records[0].dagster_run.status is not failure:
        return Next.NOTHING, failures
    ended_s = records[0].end_time or records[0].update_timestamp.timestamp()
    wait_s = 60 * RETRY_MINUTES[min(failures, len(RETRY_MINUTES)) - 1]
    return (Next.START if now_s >= ended_s + wait_s else Next.WAIT), failures


def _keys(runs: Sequence[dg.DagsterRun]) -> frozenset[str]:
    return frozenset(run.tags[UPLOAD_TAG] for run in runs if UPLOAD_TAG in run.tags)
