"""`drivelake ingest`: a Spark server at hand, the definitions that were named, and progress."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from contracts.errors import ContractViolation
from contracts.settings import Settings
from drivelake.platform import spark_at_hand
from spark_jobs.ingest import IngestReport, ingest
from spark_jobs.session import connected


def ingest_places(
    settings: Settings, places: list[str], *, dbc: list[str], console: Console
) -> IngestReport:
    """Take every object under the places; what is there already is left alone.

    Args:
        settings: The deployment.
        places: Files, folders or `s3://` prefixes.
        dbc: `FILE` or `BUS=FILE`, bus definitions for frames that carry none.
        console: Where progress is shown.
    """
    uris = [_as_uri(place) for place in places]
    definitions = dict(_definition(text) for text in dbc)
    with (
        spark_at_hand(settings),
        connected(settings) as spark,
        console.status("ingest: starting") as line,
    ):
        return ingest(
            spark,
            settings,
            uris,
            definitions=definitions,
            assume_complete=True,
            progress=lambda stage, done, total: line.update(f"ingest: {stage} {done:,}/{total:,}"),
        )


def _as_uri(place: str) -> str:
    if "://" in place:
        return place
    path = Path(place).resolve()
    if not path.exists():
        raise ContractViolation(f"There is nothing at {place}", code="USAGE")
    return path.as_uri()


def _definition(text: str) -> tuple[str, str]:
    """`can:*` or `can:<bus>` and the URI of its definition."""
    bus, separator, place = text.partition("=")
    if not separator:
        return "can:*", _as_uri(text)
    if not bus.isdigit():
        raise ContractViolation(f"--dbc takes FILE or BUS=FILE; got '{text}'", code="USAGE")
    return f"can:{bus}", _as_uri(place)
