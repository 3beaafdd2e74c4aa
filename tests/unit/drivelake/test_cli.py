from __future__ import annotations

import contextlib
import csv
import datetime as dt
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from deltalake import write_deltalake
from typer.main import get_command

from contracts.errors import PlatformError
from contracts.settings import settings_from
from contracts.tables import TABLES
from drivelake import cli
from spark_jobs.tables import create_table

from tests.conftest import free_port  # isort: skip

COMMANDS = (
    "demo",
    "up",
    "down",
    "ingest",
    "status",
    "sql",
    "tables",
    "simulate",
    "verify",
    "inspect",
    "doctor",
    "convert",
    "recover",
    "clocks",
)


FAILING_JAVA = """#!/bin/sh
echo 'Exception in thread "main" org.apache.spark.SparkException: no server'
echo '	at org.apache.spark.Server.start(Server.scala:1)'
echo 'Caused by: java.net.BindException: it is taken'
echo '	... 12 more'
exit 1
"""


@attrs.frozen
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Run the command's entry point in a home of its own."""
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    monkeypatch.setenv("DRIVELAKE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRIVELAKE_SPARK_PORT", "1")
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> Done:
        from drivelake.cli import main

        monkeypatch.setattr(sys, "argv", ["drivelake", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        text = capfd.readouterr()
        return Done(ended.value.code, text.out, text.err)

    return run


def test_the_installed_script_is_the_entry_point():
    """The `drivelake` script of the environment runs and hands on the exit code."""
    script = str(Path(sys.executable).parent / "drivelake")
    done = subprocess.run([script, "frob"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.fixture
def lake(tmp_path):
    """Folder of a lake with one small table."""
    table = pa.table({"topic": ["/a", "/b"], "n": [1, 2], "data": [b"\x01", None]})
    write_deltalake(str(tmp_path / "home" / "lake" / "silver" / "demo"), table)
    return tmp_path / "home" / "lake"


def test_help_lists_every_command(call):
    """The help names all commands, and each has a help text of its own."""
    done = call("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert command in done.stdout
        assert len(call(command, "--help").stdout) > 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frob"], "No such command 'frob'"),
        (["ingest"], "Missing argument"),
        (["ingest", "/no/such/place"], "nothing at /no/such/place"),
        (["sql", "SELECT 1", "--format", "xml"], "--format takes table, csv, json, parquet"),
        (["sql", "SELECT 1", "--format", "parquet"], "Parquet needs a file"),
        (["verify", "/no/such/bundle"], "no bundle folder"),
        (["demo", "--drives", "1"], "--drives"),
        (["sql", "SELEC 1", "--engine", "duckdb"], "syntax error"),
        (["demo", "--seconds", "inf"], "'--seconds': Input should be less than or equal to 3600"),
        (["demo", "--seconds", "nan"], "'--seconds'"),
        (["simulate", "--seconds", "inf"], "'--seconds': Input should be less than or equal"),
        (["simulate", "--seconds", "3600.5"], "'--seconds': Input should be less than or equal"),
        (["simulate", "--out", "file"], "A file is in the way of the folder"),
        (["simulate", "--out", "file/in"], "A file is in the way of the folder"),
        (["simulate", "--out", "taken"], "A file is in the way of the folder"),
        (["ingest", ""], "An empty place was named"),
        (["ingest", "file", "--dbc", ""], "--dbc takes FILE or BUS=FILE; got ''"),
        (["ingest", "file", "--dbc", "1=."], "--dbc takes a file; . is a folder"),
        (["ingest", "gs://fleet/a"], "storage scheme 'gs' (at gs://fleet/a). Name a path"),
        (["ingest", "s3:///a"], "s3:///a names no bucket. Write s3://bucket/key"),
        (["verify", "file://"], "file:// names no path"),
        (["verify", ""], "The place of the bundle is empty"),
        (["verify", "."], "This is no bundle: . has neither manifest nor seal"),
        (["sql", "SELECT 1", "-f", "csv", "-o", "r.json"], "--format csv and r.json differ: leave"),
        (["verify", "gs://fleet/a"], "storage scheme 'gs' (at gs://fleet/a). Name a path"),
        (["verify", ".", "--key", "file"], "--key takes an Ed25519 public key as PEM; file holds"),
        (["sql", "SELECT 1", "--to", "."], "--to takes a file; . is a folder"),
        (["sql", "SELECT 1", "--to", "x.xml"], "--to takes csv, json, parquet; got 'xml'"),
        (["sql", "SELECT 1", "--json", "-f", "csv"], "--json and --format csv exclude each other"),
    ],
)
def test_bad_arguments_are_one_sentence_and_code_2(call, tmp_path, monkeypatch, arguments, says):
    """A wrong request gives one sentence on stderr, no traceback, exit code 2; nothing is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no key")
    (tmp_path / "taken-truth").write_text("")
    done = call(*arguments)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert says in line
    made = {path.name for path in tmp_path.iterdir()} - {"file", "home", "taken", "taken-truth"}
    assert not made


def test_no_server_is_a_sentence_that_says_what_to_do(call):
    """Without a Spark server `sql` says how to start one or do without, exit code 1."""
    done = call("sql", "SELECT 1")
    assert done.returncode == 1
    assert "drivelake up" in done.stderr
    assert "--engine duckdb" in " ".join(done.stderr.split())


def test_empty_home_says_what_to_try(call):
    """On a fresh machine `tables` and `status` answer and point at the first step."""
    assert "drivelake ingest" in call("tables").stdout
    assert json.loads(call("tables", "--json").stdout) == []
    assert "drivelake ingest" in call("status").stdout


def test_tables_reports_rows_and_version_from_the_log(call, lake):
    """`tables --json` gives rows, version and files of each Delta table."""
    [table] = json.loads(call("tables", "--json").stdout)
    assert (table["name"], table["rows"], table["version"]) == ("silver.demo", 2, 0)


def test_sql_gives_table_csv_json_and_parquet(call, lake, tmp_path):
    """The same rows come out in every format, without Spark."""
    query = ["sql", "SELECT topic, n FROM silver.demo ORDER BY n", "--engine", "duckdb"]
    assert "/b" in call(*query).stdout
    expected = [{"topic": "/a", "n": 1}, {"topic": "/b", "n": 2}]
    assert json.loads(call(*query, "--format", "json").stdout) == expected
    assert call(*query, "-f", "csv").stdout.splitlines()[1:] == ['"/a",1', '"/b",2']
    for suffix, reader in (("parquet", pa.parquet.read_table), ("csv", pa.csv.read_csv)):
        place = tmp_path / f"result.{suffix}"
        assert call(*query, "--to", str(place)).returncode == 0
        assert reader(place).to_pylist() == expected


def test_bytes_are_shown_as_hex(call, lake):
    """Binary columns print as hex in JSON; nulls stay null."""
    done = call("sql", "SELECT data FROM silver.demo", "--engine", "duckdb", "-f", "json")
    assert {row["data"] for row in json.loads(done.stdout)} == {"01", None}


def test_numbers_are_numbers_in_json(call):
    """Sums and decimals come with all their digits, not as text; NaN is null."""
    values = "sum(1) AS s, 12345678901234567.25 AS d, [1.5, NULL] AS l, 'nan'::DOUBLE AS f"
    query = ["sql", f"SELECT {values}", "--engine", "duckdb"]
    wanted = '[{"s": 1, "d": 12345678901234567.25, "l": [1.5, null], "f": null}]'
    assert call(*query, "--json").stdout.strip() == wanted
    assert call(*query, "-f", "csv").stdout.splitlines()[1].startswith('1,12345678901234567.25,"[')


def test_unreachable_server_elsewhere_is_a_sentence(call, tmp_path, monkeypatch):
    """A Spark server on another machine that does not answer: how to start one, exit code 1."""
    monkeypatch.setenv("SPARK_REMOTE", "sc://127.0.0.2:9")
    (tmp_path / "a.mcap").write_bytes(b"")
    done = call("ingest", str(tmp_path / "a.mcap"))
    assert done.returncode == 1
    assert "No Spark server answers at sc://127.0.0.2:9" in " ".join(done.stderr.split())
    assert "drivelake up" in done.stderr
    assert "Traceback" not in done.stderr


def test_failure_in_a_worker_is_one_sentence(monkeypatch, call, tmp_path):
    """Of an error with a stack trace from a Spark worker only its last word is told."""
    from pyspark.errors import PythonException

    trace = (
        "An exception was thrown from the Python worker:\nTraceback (most recent call last):\n"
        '  File "stage.py", line 3, in work\nOSError: No space left on device\n\n\tat org.apache'
    )

    def fail(*_args, **_options):
        raise PythonException(trace)

    monkeypatch.setattr("drivelake.ingest.connected", fail)
    monkeypatch.setattr("drivelake.ingest.spark_at_hand", contextlib.nullcontext)
    (tmp_path / "a.mcap").write_bytes(b"")
    done = call("ingest", str(tmp_path / "a.mcap"))
    assert done.returncode == 1
    told = " ".join(done.stderr.split())
    assert "drivelake: OSError: No space left on device. Nothing that was committed" in told
    assert told.endswith("run the same command again to carry on [SPARK]")
    assert "worker:" not in told


def test_every_command_has_an_example(call):
    """The help of each command ends in an example."""
    for command in COMMANDS:
        assert "Example:" in call(command, "--help").stdout, command


def test_every_example_is_taken_by_the_parser():
    """The command lines of the examples name commands, options and values that there are."""
    commands = get_command(cli.app).commands
    lines = [
        line
        for command in commands.values()
        for line in re.findall(r"`(drivelake [^`]+)`", command.epilog)
    ]
    for line in lines:
        [_, name, *arguments] = shlex.split(line.partition(" && ")[0])
        commands[name].make_context(name, arguments)
    assert len(lines) > len(COMMANDS)


def test_drives_can_be_made_in_the_working_folder(call, tmp_path, monkeypatch):
    """`--out .` names the folder that it is, and the truth beside it."""
    folder = tmp_path / "drives"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = call("simulate", "--drives", "1", "--seconds", "4", "--out", ".", "--json")
    assert json.loads(done.stdout) == [str(folder / "drive-0001")]
    assert (tmp_path / "drives-truth" / "drive-0001").is_dir()


@pytest.mark.parametrize("of_its_own", [PlatformError, RuntimeError])
def test_a_library_that_tells_a_signal_as_its_own_error_is_stopped_too(
    monkeypatch, capsys, of_its_own
):
    """DuckDB makes a RuntimeError of an interrupt, a step of it fails: still exit code 143."""

    def interrupted(**_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            raise of_its_own("Query interrupted") from None

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit, match="143"):
        cli.main()
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sql", "", "--engine", "duckdb"], "One statement that reads is needed"),
        (["sql", "/* nothing */"], "One statement that reads is needed"),
        (["sql", "/* - */ drop TABLE t"], "One statement that reads is needed; this one begins w"),
        (["sql", "SELECT 1; SELECT 2", "--engine", "duckdb"], "One statement that reads"),
        (["sql", "COPY (SELECT 1) TO 'x.csv'", "--engine", "duckdb"], "One statement that reads"),
        (["sql", "FROM read_csv('/etc/hostname')", "--engine", "duckdb"], "Permission Error"),
        (["sql", "SELECT topics FROM silver.demo", "--engine", "duckdb"], '"topic"'),
        (["sql", "FROM silver.demos", "--engine", "duckdb"], 'Did you mean "demo"?'),
        (["sql", "SELECT 1", "--engine", "duckdb", "--to", "/no/x.csv"], "There is no folder /no"),
        (["verify", ".", "--key", "nokey"], "There is no key at nokey"),
        (["ingest", "empty"], "There is nothing under empty"),
    ],
)
def test_wrong_requests_are_one_sentence_and_code_2(
    call, tmp_path, monkeypatch, arguments, sentence
):
    """What the user got wrong is told in one line, whatever its length, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = call(*arguments)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert sentence in line
    assert not (tmp_path / "x.csv").exists()


def test_wrong_setting_is_one_sentence(call, monkeypatch):
    """A port that is no number names its variable."""
    monkeypatch.setenv("DRIVELAKE_JDBC_PORT", "abc")
    done = call("tables")
    assert done.returncode == 2
    assert "DRIVELAKE_JDBC_PORT takes a port number; got 'abc'" in done.stderr


def test_the_sentence_comes_before_its_code(call):
    """People read what is wrong first; a code stands behind it where there is one to look up."""
    done = call("ingest", "/no/such/place")
    assert done.stderr == "drivelake: There is nothing at /no/such/place\n"
    done = call("sql", "SELEC 1", "--engine", "duckdb")
    assert done.stderr.startswith("drivelake: Parser Error: syntax error")


def test_no_table_of_the_engine_itself_is_suggested(call):
    """On an empty lake DuckDB's own tables are the nearest names, and none of the lake's."""
    done = call("sql", "SELECT * FROM silver.imu", "--engine", "duckdb")
    assert (done.returncode, "Did you mean" in done.stderr) == (2, False)
    assert "imu does not exist" in done.stderr


def test_storage_that_gives_no_answer_is_a_sentence(call, monkeypatch):
    """Nobody listens at the endpoint: the place and what to look at, not the words of curl."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    done = call("verify", "s3://nope/bundle")
    assert done.returncode == 1
    words = "s3://nope/bundle can't be read (NETWORK_CONNECTION): check network"
    assert done.stderr == f"drivelake: {words}, AWS_ENDPOINT_URL and keys\n"


def test_server_that_does_not_start_is_one_sentence(call, tmp_path, monkeypatch):
    """A Java that fails: its last error and the log are told, not its trace; exit code 1."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(FAILING_JAVA)
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (tmp_path / "a.mcap").write_bytes(b"")
    monkeypatch.setenv("DRIVELAKE_SPARK_PORT", str(free_port()))
    monkeypatch.setenv("DRIVELAKE_JDBC_PORT", str(free_port()))
    done = call("ingest", str(tmp_path / "a.mcap"))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    log = tmp_path / "home" / "spark" / "server.log"
    assert line.endswith(f": java.net.BindException: it is taken (at {log}). The log says more")
    assert "at org.apache" in log.read_text()


def test_unreachable_server_of_a_query_is_a_sentence(call, monkeypatch):
    """A query to a server that does not answer ends at once."""
    monkeypatch.setenv("SPARK_REMOTE", "sc://127.0.0.2:9")
    done = call("sql", "SELECT 1")
    assert done.returncode == 1
    assert "No Spark server answers at sc://127.0.0.2:9" in done.stderr


def test_nested_values_have_a_place_in_csv(call):
    """A struct and a list are JSON in a cell."""
    query = ["sql", "SELECT {'a': 1} AS s, [1, NULL] AS l", "--engine", "duckdb", "-f", "csv"]
    rows = list(csv.reader(call(*query).stdout.splitlines()))
    assert rows == [["s", "l"], ['{"a": 1}', "[1, null]"]]


def test_damaged_log_is_told_and_the_other_tables_answer(call, lake):
    """A cut Delta log: `status` and `tables` name the table, a query of it too; others answer."""
    write_deltalake(str(lake / "gold" / "whole"), pa.table({"n": [1]}))
    log = lake / "silver" / "demo" / "_delta_log" / "00000000000000000000.json"
    log.write_bytes(log.read_bytes()[:10])
    assert "silver.demo is damaged" in call("status").stdout
    damage = {row["name"]: row["damage"] for row in json.loads(call("tables", "--json").stdout)}
    assert damage["gold.whole"] == ""
    assert "the log of silver.demo can't be read" in damage["silver.demo"]
    done = call("sql", "SELECT * FROM silver.demo", "--engine", "duckdb")
    assert done.returncode == 1
    assert "DAMAGED_TABLE" in done.stderr
    done = call("sql", "SELECT n FROM gold.whole", "--engine", "duckdb", "--json")
    assert json.loads(done.stdout) == [{"n": 1}]


def test_missing_data_file_is_named_with_its_version(call, lake):
    """A file that the log names and nobody finds: which table, version and file; exit code 1."""
    [file] = (lake / "silver" / "demo").glob("*.parquet")
    file.unlink()
    done = call("sql", "SELECT * FROM silver.demo", "--engine", "duckdb")
    assert done.returncode == 1
    assert "version 0 of silver.demo names a file that is not there" in done.stderr
    assert file.name in done.stderr


def test_damaged_record_of_a_service_is_no_service(call, tmp_path):
    """A cut record in the run folder: `status` and `down` go on, and `down` removes it."""
    record = tmp_path / "home" / "run" / "spark.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"name": "spa')
    assert call("status").returncode == 0
    assert call("down").returncode == 0
    assert not record.exists()


def test_status_reads_uploads_as_ingest_writes_them(call, tmp_path):
    """Files that delta-rs merges hold string views, with which pyarrow compares no string.

    An accepted upload with a flag that a person should look at is among the troubled, with words.
    """
    home = tmp_path / "home"
    settings = settings_from({"DRIVELAKE_HOME": str(home)}, working_folder=tmp_path)
    uploads = create_table(settings, TABLES["bronze.uploads"])
    common = {"flags": [], "updated_ns": 1, "ingest_date": dt.date(2026, 11, 21)}
    rows = [
        {**common, "uri": "a", "state": "QUARANTINED", "reason_code": "EMPTY", "sha256": "e3" * 32},
        {**common, "uri": "b", "state": "ACCEPTED", "sha256": "7f" * 32},
        {
            **common,
            "uri": "c",
            "state": "ACCEPTED",
            "sha256": "8a" * 32,
            "flags": ["SCHEMA_BREAK"],
            "reason": "SCHEMA_BREAK: silver.a_1",
        },
    ]
    merger = uploads.merge(
        pa.Table.from_pylist(rows, TABLES["bronze.uploads"].schema),
        predicate="target.uri = source.uri",
        source_alias="source",
        target_alias="target",
    )
    merger.when_not_matched_insert_all().execute()
    told = json.loads(call("status", "--json").stdout)
    assert {(one["state"], one["reason_code"]) for one in told["troubled"]} == {
        ("QUARANTINED", "EMPTY"),
        ("ACCEPTED", None),
    }
    shown = call("status").stdout
    for word in ("EMPTY", "ALERT", "SCHEMA_BREAK", "silver.a_1"):
        assert word in shown
