"""The `drivelake` command. Thin: it parses, calls the rest and prints."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer
from rich.table import Table
from rich.text import Text
from typer._click.exceptions import ClickException  # Typer gives its base error no public name

from assets.interrupts import heard_signals
from contracts.errors import (
    ContractViolation,
    IntegrityError,
    PlatformError,
    UnsupportedFormatError,
)
from contracts.limits import UPLOAD_ALERTS
from drivelake import clock_commands, recording_commands
from drivelake.environment import load_settings
from drivelake.output import err, out, print_json, print_table, printable

if TYPE_CHECKING:
    from governance.signing import PublicKey
    from spark_jobs.ingest import IngestReport

USAGE = 2
USAGE_CODES = frozenset({"SQL", "UNKNOWN_TABLE", "UNSUPPORTED_SCHEME", "USAGE"})
SPEAKING_CODES = frozenset({"PLATFORM", "SETUP"})
"""Codes that say no more than that there is an error: the sentence says it all."""
INTERRUPTED = 130
WITH_LOSS = 3
"""Exit code of an ingest that is done, but could not take all there was (as in `mcap recover`)."""
LONGEST_SECONDS = 3600.0
"""Of a simulated drive, which is planned in memory."""
STATE_WORDS = {
    "QUARANTINED": "not taken",
    "PARTIAL": "taken with losses",
    "PENDING": "not complete, or being taken",
}
UPLOADS = "bronze.uploads"
RESULT_FILES = ("csv", "json", "parquet")
ALERT_WORDS = {"NAME_REUSE": "a name that was taken before came with other bytes; both are kept"}
app = typer.Typer(
    name="drivelake",
    help="From raw drive recordings to models that run in the car, on one lakehouse.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=True,
)
recording_commands.register(app)
clock_commands.register(app)
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Run the command; a known error is one sentence, exit code 1, or 2 for a wrong request.

    Ctrl-C and SIGTERM end it in order, with what it started; exit code 130 and 143.
    """
    with _interrupts() as signal_number:
        try:
            code = app(standalone_mode=False)
        except ClickException as error:
            if sentence := error.format_message():  # without a command the help says it all
                _say(sentence)
            code = USAGE
        except (typer.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except Exception as error:
            if signal_number():  # a library that a signal stops may say so by an error of its own
                code = INTERRUPTED
            elif isinstance(error, (PlatformError, OSError)):
                code = _failure(error)
            else:
                raise
        if code == INTERRUPTED:  # Typer's own word for it too
            _say("stopped; run the same command again to carry on")
            code = 128 + (signal_number() or signal.SIGINT)
    sys.exit(code or 0)


def _say(sentence: str) -> None:
    """One sentence on stderr, in one line whatever the width, so that it can be searched."""
    err.print(f"drivelake: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)


def _failure(error: Exception) -> int:
    """Say what went wrong, the code of what can be looked up last; the exit code."""
    known = isinstance(error, PlatformError)
    sentence = error.sentence if known else str(error)
    is_named = known and error.code not in USAGE_CODES | SPEAKING_CODES
    _say(f"{_place_words(sentence) or sentence}{f' [{error.code}]' if is_named else ''}")
    is_request = isinstance(error, (ContractViolation, UnsupportedFormatError))
    is_usage = is_request and error.code in USAGE_CODES
    return USAGE if is_usage else 1


def _place_words(text: str) -> str | None:
    """What to look at where storage refuses or is silent; None if the text is of something else."""
    found = re.search(r"(?:key '([^']*)' in )?bucket '([^']*)': AWS Error (\w+)", text)
    if not found:
        return None
    place = f"s3://{found[2]}/{found[1] or ''}".rstrip("/")
    return f"{place} can't be read ({found[3]}): check network, AWS_ENDPOINT_URL and keys"


@contextmanager
def _interrupts() -> Iterator[Callable[[], int]]:
    """Within the block SIGTERM interrupts as Ctrl-C does; gives the number of the first, or 0."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with heard_signals() as number:
            yield number
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command(epilog="Example: `drivelake demo --drives 3 --seconds 12`")
def demo(
    drives: Annotated[int, typer.Option(min=3, help="Simulated drives.")] = 6,
    seconds: Annotated[
        float, typer.Option(min=8.0, max=LONGEST_SECONDS, help="Seconds a drive.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 7,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Take raw recordings to a signed edge binary, end to end, and show what was made."""
    from drivelake.demo import run_demo

    report = run_demo(load_settings(), drives=drives, seconds=seconds, seed=seed, console=err)
    if as_json:
        print_json(report.as_dict())
    else:
        report.show()


@app.command(epilog="Example: `drivelake up`, then open the addresses that it prints.")
def up(*, as_json: JsonFlag = False) -> None:
    """Start the platform: Spark server, Dagster page and daemon, MLflow page."""
    from drivelake.platform import start_platform

    services = start_platform(
        load_settings(),
        say=lambda service, new: err.print(f"{service.name}: {'up' if new else 'was up'}"),
    )
    if as_json:
        print_json([attrs.asdict(service) for service in services])
        return
    table = Table("service", "address", "log")
    for service in services:
        table.add_row(service.name, service.address, service.log)
    print_table(table)


@app.command(epilog="Example: `drivelake down`; what was made stays, `drivelake up` goes on.")
def down(*, as_json: JsonFlag = False) -> None:
    """End every service of the platform, children included."""
    from drivelake.platform import stop_platform

    ended = stop_platform(load_settings())
    if as_json:
        print_json(ended)
    else:
        out.print(", ".join(f"{name} ended" for name in ended) or "nothing was running")


@app.command(
    epilog="Example: `drivelake ingest /data/drives s3://fleet/uploads/`, or"
    " `drivelake ingest /data/drives --dbc 1=can.dbc --frames`"
)
def ingest(
    places: Annotated[list[str], typer.Argument(help="Files, folders or s3:// prefixes.")],
    dbc: Annotated[
        list[str] | None,
        typer.Option(
            help="Bus definition for frames without one; FILE, or BUS=FILE, a topic being a bus."
        ),
    ] = None,
    *,
    frames: Annotated[
        bool, typer.Option("--frames", help="Go on to clocks and synchronised frames.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Take recordings into bronze and silver; each object ends in one outcome.

    Drives that are dropped into landing while `drivelake up` runs go on to frames by themselves;
    here `--frames` does it. Exit code 3 where something was taken with losses or not at all:
    `drivelake status` says why.
    """
    from drivelake.ingest import ingest_places

    report = ingest_places(load_settings(), places, dbc=dbc or [], console=err, frames=frames)
    if as_json:
        print_json(attrs.asdict(report))
    else:
        _show_ingest(report)
    if report.outcomes.keys() & {"PARTIAL", "QUARANTINED"}:
        err.print("Not everything was taken whole: `drivelake status` says why.")
        raise typer.Exit(WITH_LOSS)


def _show_ingest(report: IngestReport) -> None:
    counted = [
        *report.outcomes.items(),
        *((f"ALERT {alert}", count) for alert, count in report.alerts.items()),
    ]
    if counted:
        table = Table("outcome", "objects", title="Uploads")
        for word, count in counted:
            table.add_row(word, f"{count:,}")
        print_table(table)
    if report.unchanged:
        taken = "1 object was" if report.unchanged == 1 else f"{report.unchanged:,} objects were"
        end = "" if counted else "; nothing to do"
        out.print(f"{taken} taken before{end}", highlight=False)
    if report.rows:
        rows = Table("table", "rows written", title=f"Rows, in {report.seconds:.1f} s")
        for name, count in sorted(report.rows.items()):
            rows.add_row(name, f"{count:,}")
        print_table(rows)


@app.command(epilog="Example: `drivelake status`; `--json` names every upload that is broken.")
def status(*, as_json: JsonFlag = False) -> None:
    """What runs, what came in, and what is broken."""
    from drivelake.catalogue import count_by, list_tables, troubled_uploads
    from drivelake.platform import SERVICES, running

    settings = load_settings()
    alive = running(settings)
    states = list_tables(settings)
    damaged = {state.name: state.damage for state in states if state.damage}
    is_told = any(state.name == UPLOADS and not state.damage for state in states)
    uploads = count_by(settings, UPLOADS, "state") if is_told else {}
    troubled = troubled_uploads(settings) if is_told else []
    if as_json:
        found = {name: attrs.asdict(service) for name, service in alive.items()}
        told = {"services": found, "uploads": uploads, "troubled": troubled, "damaged": damaged}
        print_json(told)
        return
    table = Table("service", "state", "address")
    for name in SERVICES:
        found = alive.get(name)
        table.add_row(name, "up" if found else "down", found.address if found else "")
    print_table(table)
    seen = Table("upload state", "objects")
    for state, count in uploads.items():
        seen.add_row(state, f"{count:,}")
    if uploads:
        print_table(seen)
    else:
        out.print("No upload was taken yet: try `drivelake ingest PATH`.")
    if troubled:
        print_table(_troubles(troubled))
    for name, damage in damaged.items():
        out.print(Text(f"{name} is damaged: {damage}", style="red"))


def _troubles(uploads: list[dict[str, Any]]) -> Table:
    """What is broken, by reason, each with the latest upload that shows it."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in uploads:
        if row["state"] in STATE_WORDS:
            groups.setdefault((row["state"], row["reason_code"] or ""), []).append(row)
        for flag in row["flags"] or ():
            if flag in UPLOAD_ALERTS:
                groups.setdefault(("ALERT", flag), []).append(row)
    table = Table("state", "reason", "objects", "for example", "which says")
    for (state, code), rows in groups.items():
        example = rows[0]
        name = example["recording_id"] or example["sha256"] or example["uri"].rsplit("/", 1)[1]
        says = ALERT_WORDS.get(code) or example["reason"] or STATE_WORDS[state]
        table.add_row(state, code, f"{len(rows):,}", Text(name[:16]), Text(says))
    return table


@app.command(
    epilog='Example: `drivelake sql "SELECT topic, count(*) AS n FROM silver.imu GROUP BY topic"`,'
    ' or `drivelake sql "SELECT * FROM silver.imu" --engine duckdb --format parquet'
    " --to rows.parquet`"
)
def sql(
    statement: Annotated[str, typer.Argument(help="One SQL statement that reads.")],
    output: Annotated[
        str | None, typer.Option("--format", "-f", help="table (unless set), csv, json or parquet.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    to: Annotated[Path | None, typer.Option("--to", "-o", help="File to write.")] = None,
    engine: Annotated[str, typer.Option(help="spark, or duckdb on the same files.")] = "spark",
    limit: Annotated[int, typer.Option(min=1, help="Rows shown of a table.")] = 50,
) -> None:
    """Ask the curated tables. No statement changes them: what would write is refused."""
    from drivelake.query import json_text, run_query, write_csv, write_result

    if as_json and output not in {None, "json"}:
        raise typer.BadParameter(f"--json and --format {output} exclude each other: name one.")
    output = "json" if as_json else output or "table"
    _one_of("--format", output, ("table", *RESULT_FILES))
    _one_of("--engine", engine, ("spark", "duckdb"))
    if output == "parquet" and to is None:
        raise typer.BadParameter("Parquet needs a file: add `--to FILE.parquet`.")
    if to is not None and not to.absolute().parent.is_dir():
        raise typer.BadParameter(f"There is no folder {to.absolute().parent}.")
    if to is not None and to.is_dir():
        raise typer.BadParameter(f"--to takes a file; {to} is a folder.")
    ending = to.suffix.lstrip(".") if to is not None else ""
    if ending in RESULT_FILES and output not in {"table", ending}:
        raise typer.BadParameter(f"--format {output} and {to} differ: leave out --format.")
    kind = ending if to is not None and output == "table" else output
    if to is not None:
        _one_of("--to", kind, RESULT_FILES)
    result = run_query(load_settings(), statement, engine=engine)  # type: ignore[arg-type]
    if to is not None:
        write_result(result, to, kind=kind)  # type: ignore[arg-type]
        err.print(f"{result.num_rows:,} rows written to {to}", highlight=False)
    elif output == "csv":
        write_csv(result, sys.stdout.buffer)
    elif output == "json":
        sys.stdout.write(json_text(result) + "\n")
    else:
        _show(result, limit=limit)


@app.command(epilog="Example: `drivelake tables`; `--json` for a script.")
def tables(*, as_json: JsonFlag = False) -> None:
    """List the tables with their rows, versions and sizes."""
    from drivelake.catalogue import list_tables

    states = list_tables(load_settings())
    if as_json:
        print_json([attrs.asdict(state) for state in states])
        return
    table = Table("table", "rows", "version", "files", "MB", "one row is")
    for state in states:
        about = state.damage or state.description.removeprefix("One row is ").rstrip(".")
        numbers = (f"{state.rows:,}", str(state.version), str(state.files))
        table.add_row(state.name, *numbers, f"{state.size_bytes / 1e6:.2f}", about)
    if states:
        print_table(table)
    else:
        out.print("There is no table yet: try `drivelake ingest PATH`.")


@app.command(epilog="Example: `drivelake simulate --drives 2 --seconds 10 --out drives`")
def simulate(
    drives: Annotated[int, typer.Option(min=1, help="Number of drives.")] = 6,
    seconds: Annotated[
        float, typer.Option(min=4.0, max=LONGEST_SECONDS, help="Seconds a drive.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 7,
    place: Annotated[
        Path | None,
        typer.Option("--out", help="Folder, and FOLDER-truth for the truth; else landing."),
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make drives with a known truth, recorded as a real fleet does."""
    from drivelake.simulate import simulate_drives

    made = simulate_drives(
        load_settings(), drives=drives, seconds=seconds, seed=seed, out=place, console=err
    )
    if as_json:
        print_json([str(folder) for folder in made])
    else:
        out.print("\n".join(str(folder) for folder in made), highlight=False)


@app.command(
    epilog="Example: `drivelake verify .drivelake/artefacts/bundles/front-camera-detector-…`, or"
    " `drivelake verify s3://fleet/artefacts/bundles/NAME --key release.pub`"
)
def verify(
    bundle: Annotated[str, typer.Argument(help="Folder of the bundle, or its s3:// place.")],
    key: Annotated[
        Path | None,
        typer.Option(help="Public key that must have signed it; that of this home if it has one."),
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Check a hand-off bundle: signature, every byte of every file, nothing missing or added."""
    from governance.sealing import is_sealed, verify_bundle
    from governance.signing import public_key_file
    from spark_jobs.storage import local_copy

    settings = load_settings()
    if not bundle:  # which a path would take for the working folder
        raise typer.BadParameter("The place of the bundle is empty: name its folder.")
    trusted = _public_key(key) if key is not None else public_key_file(settings.home / "keys")
    with local_copy(bundle, storage_options=settings.storage_options) as folder:
        if folder is None:
            raise typer.BadParameter(f"There is no bundle folder at {bundle}.")
        if not is_sealed(folder):
            raise typer.BadParameter(f"This is no bundle: {bundle} has neither manifest nor seal.")
        found = verify_bundle(folder, trusted_key=trusted)
    if as_json:
        print_json(attrs.asdict(found))
    elif found.ok:
        out.print(f"[green]VALID[/green]  {found.summary}", highlight=False)
    else:
        out.print(f"[red]INVALID[/red]  {found.summary}", highlight=False)
    if not found.ok:
        raise typer.Exit(1)


def _public_key(path: Path) -> PublicKey:
    from governance.signing import public_key_from

    if not path.is_file():
        raise typer.BadParameter(f"There is no key at {path}.")
    try:
        return public_key_from(path.read_bytes(), uri=str(path))
    except IntegrityError as error:
        what = f"--key takes an Ed25519 public key as PEM; {path} holds none."
        raise typer.BadParameter(what) from error


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise typer.BadParameter(f"{option} takes {', '.join(allowed)}; got '{value}'.")


def _show(result: Any, *, limit: int) -> None:
    table = Table()
    for name in result.column_names:
        table.add_column(Text(name))
    shown = result.slice(0, limit)
    columns = [column.to_pylist() for column in shown.columns]  # by position: names may repeat
    for row in range(shown.num_rows):
        table.add_row(*(Text(printable(_cell(column[row]))) for column in columns))
    print_table(table)
    if result.num_rows > limit:
        err.print(f"{limit} of {result.num_rows:,} rows; `--limit` or `--to` for more")


def _cell(value: Any) -> str:
    if value is None:
        return "∅"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"0x{value[:16].hex()}{'…' if len(value) > 16 else ''}"
    return str(value)
