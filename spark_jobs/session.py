"""A client of the Spark server. Everything here talks Spark Connect: DataFrames and SQL only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession
from pyspark.sql.connect.client.retries import DefaultPolicy

from contracts.settings import Settings
from spark_jobs.recording_source import register

_SESSION_CONFIGURATION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # A DataFrame's plan is small here; its rows may be megabytes of nested values.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
}
_RETRIES, _LONGEST_WAIT_MS = 8, 4_000
"""About 20 s of trying again, where Spark's default is ten minutes: a server that was away for
longer was started anew and knows nothing of the session; what it had begun is resumed by the next
run."""


def connect(settings: Settings) -> SparkSession:
    """Open a session of its own on the server at `settings.spark_remote`.

    It knows the format "recording". Close it with `stop()`; the server goes on.
    """
    builder = SparkSession.builder.remote(settings.spark_remote)
    for key, value in _SESSION_CONFIGURATION.items():
        builder = builder.config(key, value)
    spark = builder.create()
    patience = DefaultPolicy(max_retries=_RETRIES, max_backoff=_LONGEST_WAIT_MS)
    spark.client.set_retry_policies([patience])
    register(spark, settings.storage_options)
    return spark


@contextmanager
def connected(settings: Settings) -> Iterator[SparkSession]:
    """A session for the block, closed at its end.

    A session that is left open goes on retrying once its server has gone.
    """
    spark = connect(settings)
    try:
        yield spark
    finally:
        spark.stop()
