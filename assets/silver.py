"""Silver above the messages: clocks and synchronised frames, drive by drive."""

import datetime as dt
from collections.abc import Iterator

import dagster as dg

from assets.failures import stated_failures
from assets.partitions import ingest_days
from assets.pictures import picture
from assets.resources import Deployment, Spark
from assets.tables import RETRIES, SPARK_POOL, job_metadata, table_result, table_spec
from contracts.settings import Settings

_EVIDENCE = (
    "bronze.recordings",
    "silver.imu",
    "silver.odometry",
    "silver.signals",
)
_STREAMS = ("silver.images", "silver.point_clouds", "silver.gnss", *_EVIDENCE)


@dg.multi_asset(
    name="clocks",
    specs=[table_spec("silver.clocks", group="sync", deps=_EVIDENCE)],
    partitions_def=ingest_days,
    retry_policy=RETRIES,
    pool=SPARK_POOL,
)
def clocks(
    context: dg.AssetExecutionContext, deployment: Deployment, spark: Spark
) -> dg.MaterializeResult[None]:
    """Estimate the clock of every recorder of the drives that came in on the day."""
    from quality.plots import plot_clock_courses, plot_clock_offsets
    from spark_jobs import silver_clocks
    from spark_jobs.tables import read_arrow

    settings, day = deployment.settings, dt.date.fromisoformat(context.partition_key)
    with stated_failures():
        report = silver_clocks.run(spark.session, settings, drive_ids=_drives_of(settings, day))
    rows = read_arrow(settings, report.table, filters=[("ingest_date", "=", day)])
    offsets = picture(plot_clock_offsets(rows), title="Clock offsets by drive")
    courses = picture(
        plot_clock_courses(rows), title="Clocks of the drives where they went farthest"
    )
    more = {**job_metadata(report), "clocks/offsets": offsets, "clocks/courses": courses}
    return table_result(settings, report.table, day=day, more=more)


@dg.multi_asset(
    name="frames",
    specs=[
        table_spec(name, group="sync", deps=["silver.clocks", *_STREAMS])
        for name in ("silver.frames", "silver.frame_versions")
    ],
    partitions_def=ingest_days,
    retry_policy=RETRIES,
    pool=SPARK_POOL,
)
def frames(
    context: dg.AssetExecutionContext, deployment: Deployment, spark: Spark
) -> Iterator[dg.MaterializeResult[None]]:
    """Bring every sensor to the instants of the camera, for the drives of the day."""
    from quality.plots import plot_sync_errors, plot_timeline
    from spark_jobs import silver_frames
    from spark_jobs.tables import read_arrow

    settings, day = deployment.settings, dt.date.fromisoformat(context.partition_key)
    with stated_failures():
        report = silver_frames.run(spark.session, settings, drive_ids=_drives_of(settings, day))
    rows = read_arrow(settings, report.table, filters=[("ingest_date", "=", day)])
    errors = picture(plot_sync_errors(rows), title="Sync error by stream")
    timeline = picture(plot_timeline(rows), title="Streams of the drives with most gaps")
    more = {**job_metadata(report), "frames/sync_errors": errors, "frames/timeline": timeline}
    yield table_result(settings, report.table, day=day, more=more)
    yield table_result(settings, silver_frames.VERSIONS, day=day)


def _drives_of(settings: Settings, day: dt.date) -> list[str]:
    """Drives of which a recording came in on the day."""
    from spark_jobs.tables import read_arrow

    rows = read_arrow(
        settings, "bronze.recordings", columns=["drive_id"], filters=[("ingest_date", "=", day)]
    )
    return sorted(set(rows["drive_id"].drop_null().to_pylist()))
