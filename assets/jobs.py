"""Jobs: ingest, which the sensor starts, and release, which a person starts."""

from __future__ import annotations

import dagster as dg

from assets.executor import patient_executor

INGEST_SECONDS = 3600
RELEASE_SECONDS = 7200

_TO_FRAMES = dg.AssetSelection.key_prefixes("bronze", "silver")

ingest_job = dg.define_asset_job(
    "ingest_job",
    selection=_TO_FRAMES,
    description="From completed uploads to synchronised frames, for one ingest day.",
    tags={"dagster/max_runtime": INGEST_SECONDS},
    executor_def=patient_executor,
)
release_job = dg.define_asset_job(
    "release_job",
    selection=dg.AssetSelection.key_prefixes("gold", "model", "edge"),
    description="From synchronised frames to a signed bundle: scenarios, labels, dataset, "
    "detector, evaluation, compiled targets, gate.",
    tags={"dagster/max_runtime": RELEASE_SECONDS},
    executor_def=patient_executor,
)
