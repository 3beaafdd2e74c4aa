"""What starts runs: a completed upload in landing, on disk or in a bucket."""

from typing import TYPE_CHECKING

import dagster as dg

from assets.bronze import IngestConfig
from assets.jobs import ingest_job
from assets.landing_uploads import ObjectIdentity, Upload, new_uploads
from assets.partitions import last_day
from assets.raw import LANDING
from assets.resources import Deployment, Landing
from contracts.ids import content_hash
from contracts.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_jobs.discover import UploadObject

INTERVAL_SECONDS = 15


@dg.sensor(
    name="landing_sensor",
    job=ingest_job,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts one run for each completed upload that no ingest has taken. What is new is "
    "told by bronze.uploads, not by a time: storage stamps an object copied with its old date, or "
    "a multipart upload with the date of its beginning, earlier than objects already seen.",
)
def landing_sensor(
    context: dg.SensorEvaluationContext, deployment: Deployment, landing: Landing
) -> dg.SensorResult | dg.SkipReason:
    """The cursor is the hash of a listing in which nothing was left to do, and its last object."""
    listing = landing.listing()
    cursor = (
        f"{content_hash(listing)[:32]} {' '.join(map(str, listing[-1][:2])) if listing else ''}"
    )
    if cursor == context.cursor:
        return dg.SkipReason("Nothing in landing has changed.")
    from spark_jobs.discover import discover

    settings = deployment.settings
    objects = discover([settings.landing_uri], storage_options=settings.storage_options)
    uploads = new_uploads(objects, known=_known(settings))
    pending = [item for item in objects if item.pending]
    return dg.SensorResult(
        run_requests=[_request(upload) for upload in uploads],
        skip_reason=None if uploads else _reason(pending),
        # Pending objects may complete without a change of the listing: look again.
        cursor=context.cursor if pending else cursor,
        asset_events=[_observation(objects, uploads)] if uploads else [],
    )


def _known(settings: Settings) -> set[ObjectIdentity]:
    """Objects that an ingest has given an outcome."""
    from spark_jobs.tables import read_arrow, table_exists

    if not table_exists(settings, "bronze.uploads"):
        return set()
    columns = ["uri", "size_bytes", "modified_ns"]
    rows = read_arrow(
        settings, "bronze.uploads", columns=columns, filters=[("state", "!=", "PENDING")]
    )
    return set(zip(*(rows[name].to_pylist() for name in columns), strict=True))


def _request(upload: Upload) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=upload.run_key,
        partition_key=upload.day(last=last_day()).isoformat(),
        run_config=dg.RunConfig(ops={"ingest": IngestConfig(uris=upload.uris)}),
    )


def _reason(pending: "Sequence[UploadObject]") -> dg.SkipReason:
    if not pending:
        return dg.SkipReason("Every upload in landing has been taken.")
    first = pending[0]
    return dg.SkipReason(f"{len(pending)} objects are not complete; {first.uri}: {first.pending}.")


def _observation(
    objects: "Sequence[UploadObject]", uploads: "Sequence[Upload]"
) -> dg.AssetObservation:
    return dg.AssetObservation(
        LANDING,
        metadata={
            "landing/objects": len(objects),
            "landing/pending": sum(1 for item in objects if item.pending),
            "landing/new_uploads": len(uploads),
            "landing/size_bytes": sum(item.size_bytes for item in objects),
        },
    )
