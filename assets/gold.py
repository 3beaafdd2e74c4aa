"""Gold: situations, labels and dataset versions, from the frames of all drives."""

from collections.abc import Iterator

import dagster as dg

from assets.failures import stated_failures
from assets.pictures import labelled_frame, picture
from assets.release import Release
from assets.resources import Deployment, Spark
from assets.tables import RETRIES, SPARK_POOL, job_metadata, table_result, table_spec

DATASET_TABLES = ("gold.datasets", "gold.dataset_samples")


@dg.multi_asset(
    name="scenarios",
    specs=[
        table_spec(name, group="scenarios", deps=["silver.frames", "silver.objects"])
        for name in ("gold.scenarios", "gold.scenario_versions")
    ],
    retry_policy=RETRIES,
    pool=SPARK_POOL,
)
def scenarios(deployment: Deployment, spark: Spark) -> Iterator[dg.MaterializeResult[None]]:
    """Find situations by SQL rules in the frames and tracks of every drive."""
    from spark_jobs import gold_scenarios

    settings = deployment.settings
    with stated_failures():
        report = gold_scenarios.run(spark.session, settings)
    yield table_result(settings, report.table, more=job_metadata(report))
    yield table_result(settings, gold_scenarios.VERSIONS)


@dg.multi_asset(
    name="labels",
    specs=[
        table_spec(
            name,
            group="labels",
            deps=["silver.frames", "silver.transforms", "bronze.recordings", "bronze.schemas"],
        )
        for name in ("gold.labels", "gold.label_versions")
    ],
    retry_policy=RETRIES,
    pool=SPARK_POOL,
)
def labels(deployment: Deployment, spark: Spark) -> Iterator[dg.MaterializeResult[None]]:
    """Label the lidar sweeps of the frames and project the boxes into the images."""
    from spark_jobs import gold_labels

    settings = deployment.settings
    with stated_failures():
        report = gold_labels.run(spark.session, settings)
    shown = labelled_frame(settings)
    more = {"labels/frame": picture(shown, title="A labelled frame")} if shown else {}
    yield table_result(settings, report.table, more={**job_metadata(report), **more})
    yield table_result(settings, gold_labels.VERSIONS)


@dg.multi_asset(
    name="dataset",
    specs=[
        table_spec(name, group="datasets", deps=["silver.frames", "gold.labels"])
        for name in DATASET_TABLES
    ],
    retry_policy=RETRIES,
    pool=SPARK_POOL,
)
def dataset(
    deployment: Deployment, spark: Spark, release: Release
) -> Iterator[dg.MaterializeResult[None]]:
    """Pin the tables, split the drives, and store the samples under the hash of their content."""
    from spark_jobs.gold_dataset_samples import build_dataset

    settings = deployment.settings
    with stated_failures():
        report = build_dataset(spark.session, settings, release.dataset_spec())
    more = {"dataset/id": report.dataset_id}
    for name in DATASET_TABLES:
        yield table_result(settings, name, more=more)
