"""Runs that wait for a place in a pool, and runs that get a signal: it ends them, always."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from contextlib import suppress

import dagster as dg
import pytest

from assets.executor import execute_here, patient_executor
from assets.interrupts import heard_signals
from assets.platform import platform_definitions
from drivelake.demo import _was_interrupted as was_interrupted

POOL = "spark"


@dg.asset(pool=POOL)
def table():
    return 1


@dg.multi_asset(
    outs={"early": dg.AssetOut(is_required=False), "late": dg.AssetOut(is_required=False)}
)
def swallowing():
    """A step in which native code loses what the handler of a signal raises, as deltalake does."""
    with suppress(BaseException):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5.0)
    yield dg.Output(1, "early")
    yield dg.Output(1, "late")


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=3))
def converting():
    """A step in which native code makes an error of its own of it, as DuckDB does."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5.0)
    except BaseException as error:
        raise RuntimeError("Query interrupted") from error


@dg.asset(deps=["late"])
def behind():
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


@pytest.mark.parametrize("steps", [[swallowing, behind], [converting]])
def test_a_signal_that_native_code_swallows_ends_the_run(steps, later):
    """Whatever becomes of the exception: the run ends before the next line of a step."""
    lossy = dg.define_asset_job("lossy", executor_def=patient_executor)
    job = dg.Definitions(assets=steps, jobs=[lossy]).resolve_job_def("lossy")
    with dg.instance_for_test() as instance:
        with heard_signals() as heard:
            result = execute_here(job, instance=instance, run_id=str(uuid.uuid4()))
            assert heard() == signal.SIGTERM  # the command around it hears of it too
        assert was_interrupted(result)
        assert instance.get_run_by_id(result.run_id).is_failure
    events = [(event.event_type, event.step_key) for event in result.all_events]
    assert (dg.DagsterEventType.STEP_SUCCESS, "swallowing") not in events
    begun = [step for kind, step in events if kind is dg.DagsterEventType.STEP_START]
    assert begun == [steps[0].op.name]


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
