"""Runs whose process is killed: found, ended, and done again, with no hand on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from assets.run_launcher import LocalRunLauncher, worker_lives

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
JOB = """
import os, time
from pathlib import Path
import dagster as dg

@dg.asset(pool="spark")
def table():
    begun = Path(os.environ["BEGUN"])
    if not begun.exists():
        begun.touch()
        time.sleep(600)

job = dg.define_asset_job("job", selection=[table], executor_def=dg.in_process_executor)
defs = dg.Definitions(assets=[table], jobs=[job])
"""


@pytest.fixture
def environment(tmp_path):
    """A Dagster home with the deployment's configuration, polled each second."""
    text = (ROOT / "deploy" / "dagster" / "dagster.yaml").read_text()
    for name in ("poll_interval_seconds", "free_slots_after_run_end_seconds"):
        assert f"{name}: 10" in text
        text = text.replace(f"{name}: 10", f"{name}: 1")
    (tmp_path / "dagster.yaml").write_text(text)
    (tmp_path / "pools.py").write_text(JOB)
    return {**os.environ, "DAGSTER_HOME": str(tmp_path), "BEGUN": str(tmp_path / "begun")}


@pytest.fixture
def instance(environment):
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
        yield instance


@contextmanager
def daemon(environment):
    """Dagster's daemon, which launches runs and watches them; ended with all its children."""
    home = Path(environment["DAGSTER_HOME"])
    command = [str(SCRIPTS / "dagster-daemon"), "run", "-f", str(home / "pools.py")]
    with (
        (home / "daemon.log").open("ab") as log,
        subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition, *, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)
    return found


def test_a_killed_run_is_ended_and_its_place_is_free(environment, instance, tmp_path):
    """Kill -9 a run with all that watches it: the next daemon ends it and does the work again."""
    assert isinstance(instance.run_launcher, LocalRunLauncher)
    with daemon(environment):
        launch = [str(SCRIPTS / "dagster"), "job", "launch", "-f", "pools.py", "-j", "job"]
        subprocess.run(launch, cwd=tmp_path, env=environment, check=True, capture_output=True)
        wait_for((tmp_path / "begun").exists)
        [run] = instance.get_runs()
        assert worker_lives(instance, run)
    wait_for(lambda: not worker_lives(instance, run))  # the kernel ends it in its own time
    storage = instance.event_log_storage
    assert storage.get_concurrency_run_ids() == {run.run_id}
    with daemon(environment):
        ended = wait_for(lambda: [r for r in instance.get_runs() if r.is_success])
    assert instance.get_run_by_id(run.run_id).is_failure
    assert [again.parent_run_id for again in ended] == [run.run_id]
    assert not storage.get_concurrency_run_ids()


def test_a_process_with_a_recycled_id_is_not_the_run(instance, monkeypatch):
    """A process younger than the run's first event does not keep the run alive."""
    seen = []

    @dg.op
    def look(context):
        run = context.instance.get_run_by_id(context.run_id)
        seen.append(worker_lives(context.instance, run))
        [record] = context.instance.all_logs(context.run_id, dg.DagsterEventType.RUN_START)
        monkeypatch.setattr("psutil.Process.create_time", lambda _process: record.timestamp + 60.0)
        seen.append(worker_lives(context.instance, run))

    @dg.job
    def job():
        look()

    assert job.execute_in_process(instance=instance).success
    assert seen == [True, False]
