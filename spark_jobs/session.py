"""A client of the Spark server. Everything here talks Spark Connect: DataFrames and SQL only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession
from pyspark.sql.connect.client.retries import DefaultPolicy

from contracts.settings import Settings
from spark_jobs.recording_source import register
from spark_jobs.server import start_if_asked

_SESSION_CONFIGURATION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # A DataFrame's plan is small here; its rows may be megabytes of nested values.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
}
_LOGS_OF_STATEMENTS = (
    "SQLQueryContextLogger",
    "DataFrameQueryContextLogger",
    "pyspark.sql.connect.logging",
)
_RETRIES, _LONGEST_WAIT_MS = 8, 4_000
"""About 20 s of trying again, where Spark's default is ten minutes: a server that was away for
longer was started anew and knows nothing of the session; what it had begun is resumed by the next
run."""


def connect(settings: Settings) -> SparkSession:
    """Open a session of its own on the server at `settings.spark_remote`.

    It knows the format "recording". Close it with `stop()`; the server goes on.
    """
    start_if_asked(settings.spark_remote)
    _keep_statements_out_of_logs()
    spark = SparkSession.builder.remote(settings.spark_remote).create()  # nothing is sent yet
    patience = DefaultPolicy(max_retries=_RETRIES, max_backoff=_LONGEST_WAIT_MS)
    spark.client.set_retry_policies([patience])
    try:
        for key, value in _SESSION_CONFIGURATION.items():
            spark.conf.set(key, value)
        register(spark, settings.storage_options)
    except BaseException:  # a signal too; left open it would ask its server at the process's end
        spark.client.close()
        raise
    return spark


def _keep_statements_out_of_logs() -> None:
    """Let PySpark raise its errors and not log them with their statements, which may name people.

    By level: a logging configuration of another library enables loggers that are switched off.
    """
    for name in _LOGS_OF_STATEMENTS:
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)


class DeferredSession:
    """A session that is opened when it is first asked for something: many runs find no work.

    Attributes:
        opening: Opens it.
    """

    def __init__(self, opening: Callable[[], SparkSession]) -> None:
        self.opening = opening
        self._session: SparkSession | None = None

    def __getattr__(self, name: str) -> object:
        """What the session has of this name."""
        if self._session is None:
            self._session = self.opening()
        return getattr(self._session, name)

    def stop(self) -> None:
        """Close the session, if it was opened."""
        if self._session is not None:
            self._session.stop()
            self._session = None


def deferred(opening: Callable[[], SparkSession]) -> SparkSession:
    """A session that `opening` opens when it is first asked for something."""
    return cast("SparkSession", DeferredSession(opening))


@contextmanager
def connected(settings: Settings) -> Iterator[SparkSession]:
    """A session for the block, opened when first used and closed at the block's end.

    A session that is left open goes on retrying once its server has gone.
    """
    spark = deferred(lambda: connect(settings))
    try:
        yield spark
    finally:
        spark.stop()
