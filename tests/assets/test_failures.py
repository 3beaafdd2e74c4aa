"""The boundary between the jobs' errors and Dagster's."""

from __future__ import annotations

import os
import signal

import dagster as dg
import pytest

from assets.failures import ErrorRetries, stated_failures
from assets.platform import platform_definitions
from assets.tables import RETRIES
from contracts.errors import ContractViolation


def test_a_stated_error_is_not_tried_again():
    """An error raised on purpose fails the step at once, with its code, place and remedy."""
    with pytest.raises(dg.Failure) as caught, stated_failures():
        raise ContractViolation("no dataset", code="NO_DATASET", uri="file:///x", remedy="Make one")
    failure = caught.value
    assert not failure.allow_retries
    assert "NO_DATASET" in failure.description
    assert {name: value.value for name, value in failure.metadata.items()} == {
        "code": "NO_DATASET",
        "uri": "file:///x",
        "remedy": "Make one",
    }


def test_any_other_error_may_be_tried_again():
    """A storage error passes as it is, so that the retry policy applies."""
    with pytest.raises(OSError, match="gone"), stated_failures():
        raise OSError("gone")


@pytest.mark.parametrize(("error", "attempts"), [(ContractViolation("no"), 1), (OSError("no"), 3)])
def test_the_retry_policy_follows(error, attempts):
    """In a run, a stated error is raised once and a storage error three times."""
    tried = []

    @dg.asset(retry_policy=ErrorRetries(max_retries=2))
    def broken():
        tried.append(1)
        with stated_failures():
            raise error

    with dg.instance_for_test() as instance:
        assert not dg.materialize([broken], instance=instance, raise_on_error=False).success
    assert len(tried) == attempts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_step_is_not_tried_again(number):
    """A signal ends the step and the run: no second attempt, and no step after it begins."""
    tried = []

    @dg.asset(retry_policy=RETRIES)
    def stopped():
        tried.append("stopped")
        with stated_failures():
            os.kill(os.getpid(), number)

    @dg.asset
    def zebra():
        tried.append("zebra")

    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with dg.instance_for_test() as instance:
            job = dg.Definitions(
                assets=[stopped, zebra],
                jobs=[dg.define_asset_job("job", executor_def=dg.in_process_executor)],
            ).resolve_job_def("job")
            result = job.execute_in_process(instance=instance, raise_on_error=False)
            assert result.dagster_run.status is dg.DagsterRunStatus.FAILURE
            events = {event.event_type for event in result.all_events}
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert tried == ["stopped"]
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in events


def test_every_step_that_is_tried_again_is_so_for_errors_only(tmp_path):
    """No asset has a retry policy that an interrupt would set off."""
    definitions = platform_definitions({"DRIVELAKE_HOME": str(tmp_path)})
    nodes = definitions.get_repository_def().asset_graph
    policies = [
        nodes.get(key).assets_def.op.retry_policy for key in nodes.materializable_asset_keys
    ]
    found = [policy for policy in policies if policy is not None]
    assert len(found) > 10
    assert all(isinstance(policy, ErrorRetries) for policy in found)
