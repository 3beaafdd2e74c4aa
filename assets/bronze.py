"""Bronze and the message tables of silver: one job reads the recordings and writes them all."""

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from assets.failures import stated_failures
from assets.landing_uploads import uploads_of
from assets.partitions import ingest_days, last_day
from assets.resources import Deployment, Spark
from assets.table_state import table_state
from assets.tables import RETRIES, SPARK_POOL, table_result, table_spec
from contracts.settings import Settings
from contracts.tables import SILVER_KINDS, TABLES

if TYPE_CHECKING:
    from spark_jobs.ingest import IngestReport

_BRONZE_GROUPS = {
    "uploads": "catalogue",
    "recordings": "catalogue",
    "channels": "catalogue",
    "schemas": "catalogue",
    "chunks": "catalogue",
    "decode_ledger": "ledger",
    "bad_messages": "ledger",
}
INGESTED = (
    *(f"bronze.{table}" for table in _BRONZE_GROUPS),
    *(f"silver.{kind}" for kind in SILVER_KINDS),
)
OTHER_MESSAGES = dg.AssetKey(["silver", "other_messages"])
_INDEX = ("bronze.recordings", "bronze.schemas", "bronze.chunks")
_SPECS = [
    *(
        table_spec(f"bronze.{table}", group=group, deps=["raw.landing"])
        for table, group in _BRONZE_GROUPS.items()
    ),
    *(table_spec(f"silver.{kind}", group="messages", deps=_INDEX) for kind in SILVER_KINDS),
    dg.AssetSpec(
        OTHER_MESSAGES,
        deps=[name.split(".") for name in _INDEX],
        description="The tables of the message types that are of no common kind: one for each, "
        "with the columns of its definitions.",
        group_name="silver/messages",
        kinds={"spark", "deltalake"},
        owners=[TABLES["silver.raw_messages"].owner],
        partitions_def=ingest_days,
    ),
]


class IngestConfig(dg.Config):
    """What a run takes.

    Attributes:
        uris: Objects of landing; if there are none, every complete upload of the ingest day.
    """

    uris: list[str] = Field(default_factory=list)


@dg.multi_asset(
    name="ingest", specs=_SPECS, partitions_def=ingest_days, retry_policy=RETRIES, pool=SPARK_POOL
)
def ingest(
    context: dg.AssetExecutionContext, config: IngestConfig, deployment: Deployment, spark: Spark
) -> Iterator[dg.MaterializeResult[None]]:
    """Take uploads: hash, sniff and index them, decode their messages, give each one outcome."""
    from spark_jobs.ingest import ingest as run_ingest

    day = dt.date.fromisoformat(context.partition_key)
    settings = deployment.settings
    uris = config.uris or _uris_of_day(settings, day)
    context.log.info("%d objects to take", len(uris))

    def progress(stage: str, done: int, total: int) -> None:
        context.log.info("%s: %d of %d", stage, done, total)

    with stated_failures():
        report = run_ingest(spark.session, settings, uris, ingest_date=day, progress=progress)
    for name in INGESTED:
        more = _report_metadata(report) if name == "bronze.uploads" else {}
        yield table_result(settings, name, day=day, more=more)
    yield _other_messages(settings)


def _other_messages(settings: Settings) -> dg.MaterializeResult[None]:
    """The tables that no contract names, with what the Delta log says of each."""
    from spark_jobs.delta import table_names

    names = [name for name in table_names(settings) if name not in TABLES]
    states = {name: table_state(settings, name) for name in names if name.startswith("silver.")}
    lines = ["| table | rows | version |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {one.rows:,} | {one.version} |" for name, one in states.items()]
    return dg.MaterializeResult(
        asset_key=OTHER_MESSAGES,
        metadata={
            "dagster/row_count": sum(one.rows for one in states.values()),
            "tables": dg.MetadataValue.md("\n".join(lines)),
        },
    )


def _uris_of_day(settings: Settings, day: dt.date) -> list[str]:
    from spark_jobs.discover import discover

    objects = discover([settings.landing_uri], storage_options=settings.storage_options)
    last = last_day()
    return [
        uri for upload in uploads_of(objects) if upload.day(last=last) == day for uri in upload.uris
    ]


def _report_metadata(report: "IngestReport") -> dict[str, Any]:
    outcomes = {f"outcomes/{name.lower()}": count for name, count in report.outcomes.items()}
    lines = [f"| {name} | {count:,} |" for name, count in sorted(report.rows.items())]
    table = "\n".join(["| table | rows written |", "| --- | ---: |", *lines])
    return {
        **outcomes,
        "outcomes/unchanged": report.unchanged,
        "decode/written_messages": report.messages_written,
        "decode/bad_messages": report.messages_bad,
        "decode/lost_messages": report.messages_lost,
        "ingest/batch_ids": list(report.batch_ids),
        "ingest/seconds": round(report.seconds, 3),
        "ingest/rows": dg.MetadataValue.md(table),
    }
