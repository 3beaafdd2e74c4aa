"""`drivelake inspect`, `doctor`, `convert` and `recover`: recordings by themselves.

What reads a recording does so in a child process with bounds on time and memory, as an ingest
does; what it says comes back as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from drivelake.output import err, out, print_json, print_line, print_table, printable

HARD_FAILURE = 1
WITH_LOSS = 3
_SHOWN_PROBLEMS = 20
_UNITS = ("B", "kB", "MB", "GB", "TB")
Recording = Annotated[str, typer.Argument(help="File, or its s3:// place.", metavar="FILE")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Topics = Annotated[
    list[str] | None, typer.Option("--topic", help="Topic, or pattern as '/camera/*'; repeatable.")
]
Signals = Annotated[
    list[str] | None, typer.Option("--signal", help="Signal, or pattern as 'Wheel*'; repeatable.")
]
Start = Annotated[
    str | None, typer.Option(help="First time: 2026-11-20T10:00:00Z, or nanoseconds since 1970.")
]
End = Annotated[str | None, typer.Option(help="End of the times, not included.")]
Dbc = Annotated[
    list[str] | None,
    typer.Option(
        help="Bus definition for frames without one; FILE, or BUS=FILE, a topic being a bus."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(
        epilog="Example: `drivelake inspect drive.bag`, or"
        " `drivelake inspect s3://fleet/uploads/drive.mcap --json`"
    )(inspect)
    app.command(
        epilog="Example: `drivelake doctor drive.mcap && echo clean`, or"
        " `drivelake doctor drive.mf4 --dbc 1=can.dbc`"
    )(doctor)
    app.command(
        epilog="Example: `drivelake convert drive.mf4 --to parquet --out drive`, or"
        " `drivelake convert drive.bag --to mcap --out drive.mcap --topic /imu`"
    )(convert)
    app.command(epilog="Example: `drivelake recover broken.mcap --out clean.mcap`")(recover)


def inspect(recording: Recording, *, as_json: JsonFlag = False) -> None:
    """Say what is in a recording: format, span, chunks, and every channel with its rate.

    Taken from the recording's own index where it has one that holds; `drivelake doctor` reads it
    all. Exit code 3 where something is seen to be missing.
    """
    from drivelake.recording_jobs import inspect_recording

    found = inspect_recording(recording)
    if as_json:
        print_json(found)
    else:
        _show_summary(found)
    if any(finding["loses"] for finding in found["findings"]):
        print_line(err, "Something is missing: `drivelake doctor` says what.")
        raise typer.Exit(WITH_LOSS)


def doctor(recording: Recording, dbc: Dbc = None, *, as_json: JsonFlag = False) -> None:
    """Read a whole recording and say what is wrong with it, where, and what would be recovered.

    Exit code 0 where it is clean, 1 where nothing can be recovered, 3 where something is lost.
    """
    from drivelake.recording_jobs import definitions_of, diagnose_recording

    found = diagnose_recording(recording, definitions=definitions_of(dbc or []))
    if as_json:
        print_json(found)
    else:
        _show_diagnosis(found)
    if found["outcome"] != "ACCEPTED":
        raise typer.Exit(WITH_LOSS if found["recovered"] else HARD_FAILURE)


def convert(
    recording: Recording,
    to: Annotated[str, typer.Option("--to", help="mcap or parquet.")],
    place: Annotated[
        str, typer.Option("--out", help="New file (mcap) or folder (parquet); s3:// too.")
    ],
    *,
    topic: Topics = None,
    signal: Signals = None,
    start: Start = None,
    end: End = None,
    dbc: Dbc = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a recording, or a part of it, as MCAP or as Parquet files, one for each kind of row.

    MCAP keeps the messages as they were published. Parquet has the decoded rows; images and
    sweeps come along. Exit code 3 where something could not be taken.
    """
    from drivelake.recording_jobs import convert_recording, definitions_of
    from udfs.decode.reading import selection_of

    if to not in {"mcap", "parquet"}:
        raise typer.BadParameter(f"--to takes mcap, parquet; got '{to}'.")
    found = convert_recording(
        recording,
        place,
        container=to,
        selection=selection_of(topics=topic, start=start, end=end, signals=signal),
        definitions=definitions_of(dbc or []),
    )
    _report_copy(found, place, as_json=as_json)


def recover(
    recording: Recording,
    place: Annotated[
        str, typer.Option("--out", help="New file; .bag for a ROS 1 bag, else MCAP. s3:// too.")
    ],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Write what can be read of a damaged recording to a clean file; the original is not touched.

    Exit code 0 where nothing was missing, 1 where nothing could be recovered, 3 where some was.
    """
    from drivelake.recording_jobs import recover_recording

    _report_copy(recover_recording(recording, place), place, as_json=as_json)


def _report_copy(found: Mapping[str, Any], place: str, *, as_json: bool) -> None:
    lost = "unknown" if found["lost"] is None else f"{found['lost']:,}"
    if as_json:
        print_json(found)
    else:
        table = Table("file", "rows" if len(found["files"]) > 1 else "messages")
        for name, count in found["files"]:
            table.add_row(Text(printable(name)), f"{count:,}")
        if len(found["files"]) > 1:
            print_table(table)
        bad = f", would not decode {found['bad']:,}" if found["bad"] else ""
        print_line(out, f"{place}: recovered {found['recovered']:,}, lost {lost}{bad}")
    whole = not (found["bad"] or found["lost"] != 0 or found["reasons"])
    if not whole:
        for code, words in found["reasons"].items():
            print_line(err, f"{code}: {words}")
        raise typer.Exit(WITH_LOSS)


def _show_summary(found: Mapping[str, Any]) -> None:
    about = Table.grid(padding=(0, 2))
    for name, text in _summary_lines(found):
        about.add_row(f"{name}:", Text(printable(text)))
    out.print(about)
    table = Table("topic", "type", "encoding", "messages", "Hz", "from", "to", "table", box=None)
    for one in found["channels"]:
        start = found["start_ns"]
        table.add_row(
            Text(printable(one["topic"])),
            Text(printable(one["type"])),
            Text(printable(one["encoding"])),
            "?" if one["messages"] is None else f"{one['messages']:,}",
            "" if one["rate_hz"] is None else f"{one['rate_hz']:.4g}",
            _seconds_from(start, one["start_ns"]),
            _seconds_from(start, one["end_ns"]),
            Text(one["table"] + ("" if one["status"] == "DECODED" else f" ({one['status']})")),
        )
    if found["channels"]:
        print_table(table)
    for finding in found["findings"]:
        print_line(err, f"{finding['code']}: {finding['detail']}")


def _summary_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    by = f"written by {found['library']}" if found["library"] else ""
    profile = f"profile {found['profile']}" if found["profile"] else ""
    yield "file", found["uri"]
    yield "format", ", ".join(text for text in (found["format"], profile, by) if text)
    yield "size", _size(found["size_bytes"])
    messages = found["messages"]
    yield "messages", "not known without reading all" if messages is None else f"{messages:,}"
    if found["start_ns"] is not None:
        seconds = (found["end_ns"] - found["start_ns"]) / 1e9
        yield "span", f"{seconds:.3f} s, {_date(found['start_ns'])} to {_date(found['end_ns'])}"
    yield from (("chunks", _chunk_words(one)) for one in found["chunks"])
    if found["is_checked"]:
        yield "checksums", {"CRC": "hold where there are any"}.get(found["integrity"], "none")
    else:
        yield "checksums", "not looked at: this is what the recording's own index says"
    for one in found["attachments"]:
        yield "attachment", f"{one['name']} ({one['media_type']}, {_size(one['size_bytes'])})"
    if found["metadata"]:
        yield "metadata", ", ".join(found["metadata"])


def _chunk_words(one: Mapping[str, Any]) -> str:
    words = f"{one['count']:,} {one['compression']}, {_size(one['stored_bytes'])}"
    if one["size_bytes"] and one["compression"] not in ("none", "?"):
        words += f" of {_size(one['size_bytes'])} ({one['stored_bytes'] / one['size_bytes']:.0%})"
    return words


def _show_diagnosis(found: Mapping[str, Any]) -> None:
    colour = {"ACCEPTED": "green", "PARTIAL": "yellow"}.get(found["outcome"], "red")
    line = Text(found["outcome"], style=colour)
    line.append(f"  {printable(found['uri'])}", style="default")
    out.print(line, soft_wrap=True)
    if found["outcome"] == "QUARANTINED":
        print_line(out, f"nothing can be recovered: {found['reason']}")
    else:
        lost = "unknown" if found["lost"] is None else f"{found['lost']:,}"
        declared = "" if found["declared"] is None else f" of {found['declared']:,} declared"
        bad = f", would not decode {found['bad']:,}" if found["bad"] else ""
        counts = f"recoverable {found['recovered']:,}{declared}, lost {lost}{bad}"
        print_line(out, f"{counts}; checksums: {found['integrity']}")
        if found["reason"]:
            print_line(out, found["reason"])
    _show_problems(found)
    for note in found["notes"]:
        print_line(out, f"note: {note}")


def _show_problems(found: Mapping[str, Any]) -> None:
    if not found["problems"]:
        return
    at = "row" if found["format"] == "rosbag2_db3" else "byte"
    table = Table("what", at, "length", "messages lost", "what is there", box=None)
    for one in found["problems"][:_SHOWN_PROBLEMS]:
        lost = "unknown" if one["lost_messages"] is None else f"{one['lost_messages']:,}"
        table.add_row(
            Text(printable(one["code"])),
            "" if one["offset"] is None else f"{one['offset']:,}",
            "" if one["length"] is None else f"{one['length']:,}",
            f"{one['bad_messages']:,} bad" if one["bad_messages"] else lost,
            Text(printable(one["detail"])),
        )
    print_table(table)
    more = len(found["problems"]) - _SHOWN_PROBLEMS
    if more > 0:
        out.print(f"{more:,} more: `--json` lists them")


def _date(time_ns: int) -> str:
    import numpy as np

    return f"{np.datetime_as_string(np.datetime64(time_ns, 'ns'), unit='ms')}Z"


def _seconds_from(start_ns: int | None, time_ns: int | None) -> str:
    if start_ns is None or time_ns is None:
        return ""
    return f"+{(time_ns - start_ns) / 1e9:.3f} s"


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            return f"{count:.4g} {unit}"
        count /= 1000
    raise AssertionError
