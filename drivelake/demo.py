"""`drivelake demo`: the main job end to end on embedded defaults, and what came of it."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status

from contracts.errors import PlatformError
from contracts.settings import Settings
from drivelake.environment import PROJECT
from drivelake.ingest import ingest_places
from drivelake.platform import make_storage, service_environment, spark_at_hand
from drivelake.report import DemoReport, collect_report
from drivelake.simulate import local_folder, simulate_drives

if TYPE_CHECKING:
    import dagster as dg


def run_demo(
    settings: Settings, *, drives: int, seconds: float, seed: int, console: Console
) -> DemoReport:
    """Simulate, ingest, synchronise, label, train, judge, compile, sign; each step once.

    Raises:
        PlatformError: A step failed; Dagster's own words stand above.
        KeyboardInterrupt: A signal came; the run under way is ended first.
    """
    took: dict[str, float] = {}
    with _step(console, took, f"simulate {drives} drives of {seconds:g} s"):
        simulate_drives(settings, drives=drives, seconds=seconds, seed=seed, console=console)
    with spark_at_hand(settings, brief=True), _instance(settings) as instance:
        samples = samples_folder(settings)
        if samples is None:
            console.print("[yellow]no real recordings here: set DRIVELAKE_SAMPLES to take some")
        else:
            with _step(console, took, f"ingest the real recordings of {samples.name}/"):
                ingest_places(settings, [str(samples)], dbc=[], console=console)
        with _step(console, took, "recordings to frames, through Dagster"):
            for day in _landing_days(settings):
                _run_job(instance, "ingest_job", console, partition_key=day)
        with _step(console, took, "frames to a signed bundle, through Dagster"):
            _run_job(instance, "release_job", console)
    return collect_report(settings, seconds_by_step=took)


def samples_folder(settings: Settings) -> Path | None:
    """Folder of the real recordings, or None where there are none."""
    named = settings.samples_uri
    place = local_folder(named) if named else PROJECT.parent / "shared" / "data"
    return place if place.is_dir() and any(place.iterdir()) else None


@contextmanager
def _step(console: Console, took: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    console.print(f"[bold]▸ {name}")
    yield
    took[name] = time.monotonic() - started
    console.print(f"  done in {took[name]:.1f} s", highlight=False)


@contextmanager
def _instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of this home, so that the page shows these runs too."""
    make_storage(settings)
    os.environ.update(service_environment(settings))
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        _end_dead_runs(instance)
        yield instance


def _end_dead_runs(instance: dg.DagsterInstance) -> None:
    """End the runs whose process was killed, as the daemon does: they hold places in the pools."""
    from dagster import DagsterRunStatus, RunsFilter

    from assets.run_launcher import worker_lives

    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED])):
        if not worker_lives(instance, run):
            instance.report_run_failed(run, "The process of this run was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _landing_days(settings: Settings) -> list[str]:
    from assets.landing_uploads import uploads_of
    from assets.partitions import last_day
    from spark_jobs.discover import discover

    uploads = uploads_of(discover([settings.landing_uri], storage_options=settings.storage_options))
    last = last_day()
    return sorted({upload.day(last=last).isoformat() for upload in uploads})


def _run_job(
    instance: dg.DagsterInstance, name: str, console: Console, *, partition_key: str | None = None
) -> None:
    """Run a job of the code location in this process; each step is named as it ends."""
    from dagster import DagsterEventType

    from assets.definitions import definitions
    from assets.executor import execute_here

    run_id = str(uuid.uuid4())
    with _shown_steps(instance, run_id, console):
        result = execute_here(
            definitions().resolve_job_def(name),
            instance=instance,
            run_id=run_id,
            partition_key=partition_key,
        )
    if _was_interrupted(result):
        raise KeyboardInterrupt
    if not result.success:
        reasons = [
            (event.step_failure_data.error.cause or event.step_failure_data.error).message.strip()
            for event in result.all_events
            if event.event_type is DagsterEventType.STEP_FAILURE and event.step_failure_data.error
        ]
        raise PlatformError(
            f"{name} failed: {' · '.join(reasons)}",
            code="RUN_FAILED",
            remedy=f"`drivelake up` and look at run {run_id}",
        )


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a signal ended the run; Dagster makes it a failure among others."""
    from dagster import DagsterEventType
    from dagster._core.events import RunFailureReason

    return any(
        event.event_type is DagsterEventType.RUN_FAILURE
        and event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION
        for event in result.all_events
    )


@contextmanager
def _shown_steps(instance: dg.DagsterInstance, run_id: str, console: Console) -> Iterator[None]:
    """Name the step under way and those that ended, from the run's own log."""
    ended = threading.Event()
    with console.status("starting") as line:
        watcher = threading.Thread(
            target=_watch_steps, args=(instance, run_id, console, line, ended), daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _watch_steps(
    instance: dg.DagsterInstance,
    run_id: str,
    console: Console,
    line: Status,
    ended: threading.Event,
) -> None:
    from dagster import DagsterEventType as Event

    marks = {Event.STEP_SUCCESS: "✓", Event.STEP_FAILURE: "✗", Event.STEP_UP_FOR_RETRY: "↻"}
    seen = 0
    last = False
    while not last:
        last = ended.wait(0.5)
        events = instance.all_logs(run_id, of_type={Event.STEP_START, *marks})
        for event in events[seen:]:
            assert event.dagster_event is not None
            step = event.dagster_event.step_key
            if event.dagster_event_type in marks:
                console.print(f"  {marks[event.dagster_event_type]} {step}", highlight=False)
            else:
                line.update(f"{step} …")
        seen = len(events)
