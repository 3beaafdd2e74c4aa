"""Steps in the process of their run, one after the other, as Dagster's own executor has them.

Dagster's turns round and round while a step waits for a place in its pool, on a core of its own,
and hears no signal before it has one. A signal whose exception native code has swallowed it does
not hear at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.execute_in_process import core_execute_in_process, merge_run_tags
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor
from dagster._utils.interrupts import _received_interrupt as received_interrupt
from dagster._utils.interrupts import pop_captured_interrupt

from assets.interrupts import heard_signals

WAIT_SECONDS = 0.2


class _Claims(InstanceConcurrencyContext):
    """Places in pools; Dagster asks it how long to sleep while a step waits for one."""

    def interval_to_next_pending_claim_check(self) -> float:
        """Seconds to sleep.

        Raises:
            DagsterExecutionInterruptedError: A signal came.
        """
        if pop_captured_interrupt():
            raise DagsterExecutionInterruptedError
        return WAIT_SECONDS


class PatientExecutor(InProcessExecutor):
    """Dagster's in-process executor with another way to wait for a place in a pool."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Run the steps of a plan; yields what happens."""
        manager = PlanExecutionContextManager(
            job=plan_context.job,
            retry_mode=plan_context.retry_mode,
            execution_plan=execution_plan,
            run_config=plan_context.run_config,
            dagster_run=plan_context.dagster_run,
            instance=plan_context.instance,
            raise_on_error=plan_context.raise_on_error,
            output_capture=plan_context.output_capture,
            step_dependency_config=self.step_dependency_config,
        )
        yield from ExecuteRunWithPlanIterable(execution_plan, _iter_steps, manager)


@dg.executor(name="patient_in_process")
def patient_executor(_context: dg.InitExecutorContext) -> PatientExecutor:
    """Steps in one process, one after the other; it waits for a place in a pool without work."""
    return PatientExecutor(retries=RetryMode.ENABLED)


def execute_here(
    job: dg.JobDefinition,
    *,
    instance: dg.DagsterInstance,
    run_id: str,
    partition_key: str | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process with the executor it names.

    `JobDefinition.execute_in_process` replaces that by Dagster's own. No step's error is raised.
    """
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    tags = merge_run_tags(job, partition_key, None, None, instance, quiet)
    return core_execute_in_process(
        run_config=quiet,
        job=InMemoryJob(job),
        instance=instance,
        output_capturing_enabled=True,
        raise_on_error=False,
        run_tags=tags,
        run_id=run_id,
    )


def _iter_steps(
    job_context: PlanExecutionContext, execution_plan: ExecutionPlan
) -> Iterator[dg.DagsterEvent]:
    with heard_signals() as heard, _Claims(job_context.instance, job_context.dagster_run) as claims:
        for event in inner_plan_execution_iterator(job_context, execution_plan, claims):
            if heard():  # delivered once more, before the next line of a step
                received_interrupt["received"] = True
            yield event
