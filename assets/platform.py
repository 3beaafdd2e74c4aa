"""The platform as one value: assets, checks, jobs and sensors with a deployment's resources."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets import bronze, checks, jobs, raw, sensors, silver
from assets.resources import resources_for


def platform_definitions(variables: Mapping[str, str] | None = None) -> dg.Definitions:
    """Everything that there is; libraries of weight are imported when a step needs them.

    Args:
        variables: Settings that stand in front of the environment's, e.g. `DRIVELAKE_HOME`.
    """
    return dg.Definitions(
        assets=[raw.landing, bronze.ingest, silver.clocks, silver.frames],
        asset_checks=checks.all_checks(),
        jobs=[jobs.ingest_job],
        sensors=[sensors.landing_sensor],
        resources=resources_for(variables),
        executor=dg.in_process_executor,
    )
