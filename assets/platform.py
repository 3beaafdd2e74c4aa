"""The platform as one value: assets, checks, jobs and sensors with a deployment's resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import bronze, checks, edge, gold, jobs, model, raw, sensors, silver
from assets.code_version import versioned
from assets.executor import patient_executor
from assets.resources import resources_for


def platform_definitions(
    variables: Mapping[str, str] | None = None, *, release: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Everything that there is; libraries of weight are imported when a step needs them.

    Args:
        variables: Settings that stand in front of the environment's, e.g. `DRIVELAKE_HOME`.
        release: What is built, where it differs from the defaults of `assets.release.Release`.
    """
    return dg.Definitions(
        assets=versioned(
            [
                *(raw.landing, bronze.ingest, silver.clocks, silver.frames),
                *(gold.scenarios, gold.labels, gold.dataset),
                *(model.detector, model.evaluation, model.gate),
                *(edge.onnx, edge.int8, edge.qnn, edge.tensorrt, edge.parity, edge.bundle),
            ]
        ),
        asset_checks=checks.all_checks(),
        jobs=[jobs.ingest_job, jobs.release_job],
        sensors=[sensors.landing_sensor],
        resources=resources_for(variables, release=release),
        executor=patient_executor,
    )
