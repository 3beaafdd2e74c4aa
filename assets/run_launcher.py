"""Runs as processes of this machine, with the health check that Dagster's own launcher lacks.

Run monitoring asks it at each poll, so a run whose process was killed, with its code server or
alone, is ended by the daemon and gives back its place in the pools.
"""

from __future__ import annotations

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

_CLOCK_SLACK_SECONDS = 10.0


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's launcher of processes; knows whether the process of a run is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING, or NOT_FOUND where the process of a run in state STARTED is gone."""
        if worker_lives(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The process of the run is gone")


def worker_lives(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process that started a run is alive on this machine.

    The run's first event holds the process id; a process that is younger than the event is
    another one, to which the id was given again.
    """
    records = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_START)
    if not records or (event := records[0].dagster_event) is None or event.pid is None:
        return True  # not begun: the start timeout decides
    try:
        process = psutil.Process(event.pid)
        older = process.create_time() <= records[0].timestamp + _CLOCK_SLACK_SECONDS
        return older and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
