"""Runs that wait for a place in a pool: they take it when it is free, and hear a signal before."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid

import dagster as dg
import pytest

from assets.executor import execute_here, patient_executor
from assets.platform import platform_definitions
from drivelake.demo import _was_interrupted as was_interrupted

POOL = "spark"


@dg.asset(pool=POOL)
def table():
    return 1


@pytest.fixture
def job():
    waiting = dg.define_asset_job("job", selection=[table], executor_def=patient_executor)
    return dg.Definitions(assets=[table], jobs=[waiting]).resolve_job_def("job")


@pytest.fixture
def instance():
    """An instance in which another run has the only place of the pool."""
    with dg.instance_for_test() as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots(POOL, 1)
        assert storage.claim_concurrency_slot(POOL, "another run", "table").is_claimed
        yield instance


@pytest.fixture
def later():
    """`later(seconds, call)`: a call from another thread; handlers of signals come back."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    timers = []

    def start(seconds, call):
        timers.append(threading.Timer(seconds, call))
        timers[-1].start()

    yield start
    for timer in timers:
        timer.join()
    for each, handler in handlers.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_waits(job, instance, later, number):
    """Ctrl-C or SIGTERM while the pool is full ends the run at once, and its claim with it."""
    later(1.0, lambda: os.kill(os.getpid(), number))
    started = time.monotonic()
    result = execute_here(job, instance=instance, run_id=str(uuid.uuid4()))
    assert time.monotonic() - started < 30
    assert was_interrupted(result)
    assert not [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_START]
    info = instance.event_log_storage.get_concurrency_info(POOL)
    assert info.pending_step_count == 0
    assert [slot.run_id for slot in info.claimed_slots] == ["another run"]


def test_a_place_that_is_given_back_is_taken(job, instance, later):
    """The run that waits goes on when the other one has ended, and has not worked meanwhile."""
    free = instance.event_log_storage.free_concurrency_slots_for_run
    later(3.0, lambda: free("another run"))
    busy = time.thread_time()
    result = execute_here(job, instance=instance, run_id=str(uuid.uuid4()))
    assert result.success
    assert time.thread_time() - busy < 1.5
    assert result.output_for_node("table") == 1


def test_every_job_of_the_platform_waits_so(tmp_path):
    """No job goes back to an executor that is deaf while it waits."""
    repository = platform_definitions({"DRIVELAKE_HOME": str(tmp_path)}).get_repository_def()
    assert {job.executor_def for job in repository.get_all_jobs()} == {patient_executor}
