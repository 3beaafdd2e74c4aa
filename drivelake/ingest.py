"""`drivelake ingest`: a Spark server at hand, the definitions that were named, and progress."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from deltalake.exceptions import DeltaError
from pyspark.errors import PySparkException
from rich.console import Console

from contracts.errors import ContractViolation, PlatformError, SetupError
from contracts.settings import Settings
from drivelake.bindings import binding_of
from drivelake.platform import spark_at_hand
from drivelake.progress import shown_stages
from spark_jobs import silver_clocks, silver_frames
from spark_jobs.discover import discover
from spark_jobs.ingest import IngestReport, ingest
from spark_jobs.server import local_port, reachable
from spark_jobs.session import connected

_ERROR_LINE = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception)\b.*")


def ingest_places(
    settings: Settings, places: list[str], *, dbc: list[str], console: Console, frames: bool = False
) -> IngestReport:
    """Take every object under the places; what is there already is left alone.

    Args:
        settings: The deployment.
        places: Files, folders or `s3://` prefixes.
        dbc: `FILE` or `BUS=FILE`, bus definitions for frames that carry none; a topic that holds
            frames is a bus, too.
        console: Where progress is shown.
        frames: Whether to go on to clocks and synchronised frames, of every drive that is new.

    Raises:
        ContractViolation: USAGE, a place that is not there, or that holds nothing.
        SetupError: No Spark server answers at the address that is set.
        PlatformError: As `spark_jobs.ingest`; SPARK, the server or the storage failed on the way.
    """
    uris = [_as_uri(place) for place in places]
    definitions = dict(_definition(text) for text in dbc)
    found = discover(uris, storage_options=settings.storage_options, assume_complete=True)
    if not found:
        raise ContractViolation(f"There is nothing under {', '.join(places)}", code="USAGE")
    _reach(settings)
    with (
        _in_one_sentence(),
        spark_at_hand(settings),
        connected(settings) as spark,
        shown_stages(console, "ingest") as stage,
    ):
        report = ingest(
            spark,
            settings,
            uris,
            definitions=definitions,
            found=found,
            progress=stage,
        )
        rows = dict(report.rows)
        for job in (silver_clocks, silver_frames) if frames else ():
            stage(job.TABLE)
            rows[job.TABLE] = job.run(spark, settings).rows
        return attrs.evolve(report, rows=rows)


def _reach(settings: Settings) -> None:
    """Refuse a server on another machine that does not answer: a client would retry for minutes."""
    if local_port(settings.spark_remote) is not None or reachable(settings.spark_remote):
        return  # here one is started if there is none
    raise SetupError(
        f"No Spark server answers at {settings.spark_remote}",
        remedy="Start it there, or unset SPARK_REMOTE: `drivelake up` starts one here, and"
        " without it `drivelake ingest` brings its own",
    )


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Say what failed in Spark, in a worker or in the storage without its stack traces."""
    try:
        yield
    except (PySparkException, DeltaError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = [line for line in lines if _ERROR_LINE.fullmatch(line)] or lines
        raise PlatformError(
            (told[-1] if told else type(error).__name__)[:300],
            code="SPARK",
            remedy="Nothing that was committed is lost: run the same command again to carry on",
        ) from error


def _as_uri(place: str) -> str:
    if not place:  # which a path would take for the working folder
        what = "An empty place was named"
        raise ContractViolation(
            what, code="USAGE", remedy="Name a file, a folder or an s3:// prefix"
        )
    if "://" in place:
        return place
    path = Path(place).resolve()
    if not path.exists():
        raise ContractViolation(f"There is nothing at {place}", code="USAGE")
    return path.as_uri()


def _definition(text: str) -> tuple[str, str]:
    """Binding of a bus definition, and its URI."""
    binding, place = binding_of(text)
    uri = _as_uri(place)
    if "://" not in place and Path(place).is_dir():
        raise ContractViolation(f"--dbc takes a file; {place} is a folder", code="USAGE")
    return binding, uri
