"""What starts runs: a completed upload in landing, on disk or in a bucket."""

import time
from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg

from assets.bronze import IngestConfig
from assets.jobs import ingest_job
from assets.landing_uploads import ObjectIdentity, Upload, uploads_of
from assets.partitions import last_day
from assets.raw import LANDING
from assets.resources import Deployment, Landing
from assets.upload_runs import (
    ATTEMPT_TAG,
    RETRY_MINUTES,
    UPLOAD_TAG,
    Next,
    RunHistory,
    read_history,
)
from contracts.ids import content_hash
from contracts.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_jobs.discover import UploadObject

INTERVAL_SECONDS = 15
_REASONS_SHOWN = 5


@dg.sensor(
    name="landing_sensor",
    job=ingest_job,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts one run for each completed upload that no ingest has taken. What is new is "
    "told by bronze.uploads, not by a time: storage stamps an object copied with its old date, or "
    "a multipart upload with the date of its beginning, earlier than objects already seen. An "
    "upload whose run failed is tried again "
    f"{', '.join(map(str, RETRY_MINUTES))} minutes after its first, second, … failure, then every "
    f"{RETRY_MINUTES[-1]} minutes, until a run succeeds or a person cancels one.",
)
def landing_sensor(
    context: dg.SensorEvaluationContext, deployment: Deployment, landing: Landing
) -> dg.SensorResult | dg.SkipReason:
    """The cursor is the hash of a listing in which nothing was left to do."""
    cursor = content_hash(landing.listing())[:32]
    if cursor == context.cursor:
        return dg.SkipReason("Nothing in landing has changed.")
    from spark_jobs.discover import discover

    settings = deployment.settings
    objects = discover([settings.landing_uri], storage_options=settings.storage_options)
    requests, left = _judged(
        uploads_of(objects),
        known=_known(settings),
        history=read_history(context.instance, job=ingest_job.name),
    )
    left.update(item.pending for item in objects if item.pending)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else _reason(left),
        # What is left may end without a change of the listing: look again.
        cursor=context.cursor if requests or left else cursor,
        asset_events=[_observation(objects, requests)] if requests else [],
    )


def _judged(
    uploads: "Sequence[Upload]", *, known: set[ObjectIdentity], history: RunHistory
) -> tuple[list[dg.RunRequest], Counter[str]]:
    """The runs to be started, and how many uploads are under way or wait."""
    requests = []
    left: Counter[str] = Counter()
    now_s = time.time()
    for upload in uploads:
        if upload.is_taken(known) and upload.key not in history.open_keys:
            continue
        step, failures = history.next_of(upload.key, now_s=now_s)
        if step is Next.START:
            requests.append(_request(upload, attempt=failures))
        elif step is not Next.NOTHING:
            left[step.value] += 1
    return requests, left


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


def _request(upload: Upload, *, attempt: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{upload.key}:{attempt}",
        partition_key=upload.day(last=last_day()).isoformat(),
        run_config=dg.RunConfig(ops={"ingest": IngestConfig(uris=upload.uris)}),
        tags={UPLOAD_TAG: upload.key, ATTEMPT_TAG: str(attempt)},
    )


def _reason(left: Counter[str]) -> dg.SkipReason:
    """Counts, no names: those of objects may say who drove."""
    if not left:
        return dg.SkipReason("Every upload in landing has been taken.")
    counts = "; ".join(f"{what}: {count}" for what, count in left.most_common(_REASONS_SHOWN))
    return dg.SkipReason(f"Nothing to start yet; {counts}.")


def _observation(
    objects: "Sequence[UploadObject]", requests: "Sequence[dg.RunRequest]"
) -> dg.AssetObservation:
    return dg.AssetObservation(
        LANDING,
        metadata={
            "landing/objects": len(objects),
            "landing/pending": sum(1 for item in objects if item.pending),
            "landing/new_uploads": sum(request.tags[ATTEMPT_TAG] == "0" for request in requests),
            "landing/tried_again": sum(request.tags[ATTEMPT_TAG] != "0" for request in requests),
            "landing/size_bytes": sum(item.size_bytes for item in objects),
        },
    )
