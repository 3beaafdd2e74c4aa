"""The code location. Alone in its file: a `definitions` function hides its neighbours' assets."""

from __future__ import annotations

import dagster as dg

from assets import bronze, checks, jobs, raw, sensors, silver
from assets.resources import resources_for


@dg.definitions
def definitions() -> dg.Definitions:
    """Everything that there is; libraries of weight are imported when a step needs them."""
    return dg.Definitions(
        assets=[raw.landing, bronze.ingest, silver.clocks, silver.frames],
        asset_checks=checks.all_checks(),
        jobs=[jobs.ingest_job],
        sensors=[sensors.landing_sensor],
        resources=resources_for(),
        executor=dg.in_process_executor,
    )
