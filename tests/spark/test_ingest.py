"""Ingest on a real server: every object one outcome, every row once, whatever happens."""

from __future__ import annotations

import datetime as dt
import io
import json
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import attrs
import polars as pl
import pytest
from mcap.writer import CompressionType, Writer

from contracts.errors import ContractViolation, PlatformError
from contracts.tables import table_uri
from drivelake.catalogue import troubled_uploads
from drivelake.query import run_query
from spark_jobs.balance import balance_of
from spark_jobs.delta import open_table
from spark_jobs.ingest import ingest, resume
from spark_jobs.storage import spark_location
from spark_jobs.tables import list_tables, read_arrow
from tests.unit.udfs.decode.mcap_files import redefined
from tests.unit.udfs.decode.recordings import cdr_number

pytestmark = pytest.mark.spark
DAY = dt.date(2026, 11, 20)
REALS = {
    "definition": b"float64 number\n",
    "payload": lambda number: b"\0\1\0\0" + struct.pack("<d", number),
}

_INNER = b"=" * 80 + b"\nMSG: pkg/Inner\n"
NARROW = {
    "definition": b"int64 number\nInner nested\n" + _INNER + b"int64 x\n",
    "payload": lambda i: b"\0\1\0\0" + struct.pack("<qq", i, i),
}
WIDE = {
    "definition": b"float64 extra\nInner nested\nint64 number\n" + _INNER + b"int64 y\nint64 x\n",
    "payload": lambda i: b"\0\1\0\0" + struct.pack("<dqqq", -i, i, i, i),
}


def take(spark, lake, *places, **options):
    options = {"assume_complete": True, "register": False, "ingest_date": DAY, **options}
    return ingest(spark, lake, list(places) or [lake.landing_uri], **options)


def uploads(lake):
    rows = read_arrow(lake, "bronze.uploads").to_pylist()
    return {row["uri"].rsplit("/", 1)[1]: row for row in rows}


def numbers(lake):
    return sorted(read_arrow(lake, "silver.pkg_number", columns=["number"]).column(0).to_pylist())


def contents(lake):
    """Rows of every table as a multiset, without what the clock decides."""
    volatile = {"ingested_ns", "first_seen_ns", "updated_ns", "uri", "modified_ns", "batch_id"}
    found = {}
    for name in list_tables(lake):
        rows = read_arrow(lake, name).to_pylist()
        keep = [{k: v for k, v in row.items() if k not in volatile} for row in rows]
        found[name] = Counter(repr(row) for row in keep)
    return found


def test_recording_becomes_rows_with_every_account(spark, lake, landing, mcap_bytes):
    """All tables of bronze agree on one recording, and silver has its rows with their values."""
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=100, silent=True))
    report = take(spark, lake)
    assert report.outcomes == {"ACCEPTED": 1}
    assert (report.messages_written, report.messages_bad, report.messages_lost) == (100, 0, 0)
    assert numbers(lake) == list(range(100))
    (recording,) = read_arrow(lake, "bronze.recordings").to_pylist()
    upload = uploads(lake)["a.mcap"]
    assert recording["recording_id"] == upload["sha256"] == upload["recording_id"]
    assert recording["drive_id"] == f"rec-{upload['sha256'][:16]}"
    assert (recording["messages_declared"], recording["messages_written"]) == (100, 100)
    assert (recording["start_ns"], recording["end_ns"]) == (1_000_000_000, 1_099_000_000)
    channels = {row["topic"]: row for row in read_arrow(lake, "bronze.channels").to_pylist()}
    assert [channels[topic]["message_count"] for topic in ("/even", "/odd", "/silent")] == [
        50,
        50,
        0,
    ]
    assert channels["/even"]["rate_hz"] == pytest.approx(500.0)
    assert (channels["/odd"]["first_ns"], channels["/odd"]["last_ns"]) == (
        1_001_000_000,
        1_099_000_000,
    )
    assert channels["/even"]["table_name"] == "silver.pkg_number"
    assert channels["/silent"]["table_name"] is None
    chunks = read_arrow(lake, "bronze.chunks").to_pylist()
    assert sum(chunk["message_count"] for chunk in chunks) == 100
    ledger = sorted(read_arrow(lake, "bronze.decode_ledger").to_pylist(), key=lambda r: r["offset"])
    assert sum(row["messages_written"] for row in ledger) == 100
    ends = [row["offset"] + row["length"] for row in ledger]
    assert [row["offset"] for row in ledger] == [0, *ends[:-1]]
    assert ends[-1] == upload["size_bytes"]


def test_messages_without_a_definition_share_a_table(spark, lake, landing):
    """JSON needs no schema: its texts are rows of one table, whatever the topic."""
    out = io.BytesIO()
    writer = Writer(out)
    writer.start()
    for topic in ("/a", "/b"):
        channel = writer.register_channel(topic, "json", 0)
        writer.add_message(channel, 5, json.dumps({"topic": topic}).encode(), 5, 0)
    writer.finish()
    (landing / "a.mcap").write_bytes(out.getvalue())
    assert take(spark, lake).outcomes == {"ACCEPTED": 1}
    rows = read_arrow(lake, "silver.json_messages").to_pylist()
    assert sorted(row["json"] for row in rows) == ['{"topic": "/a"}', '{"topic": "/b"}']


def test_second_run_changes_nothing(spark, lake, landing, mcap_bytes):
    """The same landing area again: no object looked into, no table with a new version."""
    (landing / "a.mcap").write_bytes(mcap_bytes())
    take(spark, lake)
    versions = {name: open_table(lake, name).version() for name in list_tables(lake)}
    report = take(spark, lake)
    assert (report.outcomes, report.unchanged, report.batch_ids) == ({}, 1, ())
    assert {name: open_table(lake, name).version() for name in list_tables(lake)} == versions


def test_each_object_has_exactly_one_outcome(spark, lake, landing, mcap_bytes, write_manifest):
    """Good, damaged, foreign, empty, doubled, mismatched and unfinished objects side by side."""
    good = mcap_bytes(messages=100)
    (landing / "good.mcap").write_bytes(good)
    (landing / "twin.mcap").write_bytes(good)
    (landing / "cut.mcap").write_bytes(mcap_bytes(first=1000, messages=200)[:-3000])
    (landing / "bad.mcap").write_bytes(
        mcap_bytes(first=2000, messages=10, payload=lambda i: b"\0\1\0\0" + bytes(i % 10))
    )
    (landing / "empty.mcap").write_bytes(b"")
    (landing / "noise.mcap").write_bytes(b"noise" * 100)
    (landing / "bus.dbc").write_text('VERSION ""\n\nBU_: A\n\nBO_ 1 M: 8 A\n')
    (landing / "later.mcap.part").write_bytes(good[:100])
    drive = landing / "drive"
    drive.mkdir()
    (drive / "adas.mcap").write_bytes(mcap_bytes(first=3000, messages=10))
    write_manifest(drive, ["adas.mcap"])
    tampered = landing / "tampered"
    tampered.mkdir()
    (tampered / "changed.mcap").write_bytes(mcap_bytes(first=4000, messages=10))
    write_manifest(tampered, ["changed.mcap"])
    changed = bytearray((tampered / "changed.mcap").read_bytes())
    changed[100] ^= 1
    (tampered / "changed.mcap").write_bytes(changed)

    report = take(spark, lake)
    found = {
        f"{row['uri'].rsplit('/', 2)[1]}/{name}": (row["state"], row["reason_code"])
        for row in read_arrow(lake, "bronze.uploads").to_pylist()
        for name in [row["uri"].rsplit("/", 1)[1]]
    }
    assert found.pop("landing/cut.mcap")[0] == "PARTIAL"
    assert found == {
        "landing/good.mcap": ("ACCEPTED", None),
        "landing/twin.mcap": ("DUPLICATE", None),
        "landing/bad.mcap": ("PARTIAL", "TOPIC_QUARANTINED"),
        "landing/empty.mcap": ("QUARANTINED", "EMPTY"),
        "landing/noise.mcap": ("QUARANTINED", "BAD_MAGIC"),
        "landing/bus.dbc": ("ACCEPTED", None),
        "landing/later.mcap.part": ("PENDING", "INCOMPLETE"),
        "drive/adas.mcap": ("ACCEPTED", None),
        "drive/drive.json": ("ACCEPTED", None),
        "tampered/changed.mcap": ("QUARANTINED", "HASH_MISMATCH"),
        "tampered/drive.json": ("ACCEPTED", None),
    }
    assert sum(report.outcomes.values()) == 12
    recordings = {
        row["uri"].rsplit("/", 1)[1]: row
        for row in read_arrow(lake, "bronze.recordings").to_pylist()
    }
    assert set(recordings) == {"good.mcap", "cut.mcap", "bad.mcap", "adas.mcap"}
    assert recordings["adas.mcap"]["drive_id"] == "drive-1"
    assert recordings["adas.mcap"]["vehicle_key"] == "veh-1"
    assert recordings["adas.mcap"]["recorder"] == "adas"
    assert 0 < recordings["cut.mcap"]["messages_written"] < 200
    bad = read_arrow(lake, "bronze.bad_messages").to_pylist()
    assert len(bad) == recordings["bad.mcap"]["messages_bad"] == 10
    assert uploads(lake)["twin.mcap"]["duplicate_of"] == uploads(lake)["good.mcap"]["sha256"]
    schemas = {row["encoding"]: row for row in read_arrow(lake, "bronze.schemas").to_pylist()}
    assert schemas["dbc"]["name"] == "bus.dbc"
    rows = pl.from_arrow(read_arrow(lake, "silver.pkg_number"))
    assert rows.select("recording_id", "channel_id", "sequence").is_duplicated().sum() == 0


def with_bad_messages(*numbers):
    """Payloads of which those of some numbers are too short."""
    return {"payload": lambda i: cdr_number(i)[:-3] if i in numbers else cdr_number(i)}


def test_topic_with_too_many_bad_messages_is_quarantined(spark, lake, landing, mcap_bytes):
    """Fault 18: above one in a thousand no message of the topic is believed, all are kept.

    The other topics of the recording, and the other recordings of its task, are as ever.
    """
    (landing / "few.mcap").write_bytes(mcap_bytes(messages=2000, **with_bad_messages(8)))
    spoiled = mcap_bytes(first=5000, messages=2000, **with_bad_messages(5002, 5004))
    (landing / "many.mcap").write_bytes(spoiled)
    assert take(spark, lake).outcomes == {"PARTIAL": 2}
    found = uploads(lake)
    assert found["few.mcap"]["reason_code"] == "BAD_MESSAGES"
    assert found["many.mcap"]["reason_code"] == "TOPIC_QUARANTINED"
    assert "/even" in found["many.mcap"]["reason"]
    assert numbers(lake) == [*(i for i in range(2000) if i != 8), *range(5001, 7000, 2)]
    raw = read_arrow(lake, "silver.raw_messages", columns=["data"]).column(0).to_pylist()
    kept = set(range(5000, 7000, 2)) - {5002, 5004}
    assert sorted(raw) == sorted(cdr_number(i) for i in kept)
    channels = {
        row["topic"]: row
        for row in read_arrow(lake, "bronze.channels").to_pylist()
        if row["recording_id"] == found["many.mcap"]["sha256"]
    }
    assert channels["/even"]["decode_status"] == "QUARANTINED"
    assert channels["/even"]["table_name"] == "silver.raw_messages"
    assert (channels["/even"]["message_count"], channels["/even"]["bad_count"]) == (998, 2)
    assert channels["/odd"]["decode_status"] == "DECODED"
    (schema,) = read_arrow(lake, "bronze.schemas").to_pylist()
    assert schema["table_name"] == "silver.pkg_number"
    assert read_arrow(lake, "bronze.bad_messages").num_rows == 3
    (landing / "good.mcap").write_bytes(mcap_bytes(first=8000, messages=10))
    assert take(spark, lake).outcomes == {"ACCEPTED": 1}


def test_times_that_run_backward_are_said_in_whatever_task_they_come(
    spark, lake, landing, monkeypatch
):
    """Fault 20: rows keep their order; one old message in many is a flag, more make it PARTIAL."""
    monkeypatch.setattr("spark_jobs.ingest_decode.TASK_BYTES", 60_000)
    for name, old in (("few", {2000}), ("many", {300, 900, 2000, 2500})):
        out = io.BytesIO()
        writer = Writer(out, chunk_size=20_000, compression=CompressionType.NONE)
        writer.start()
        schema = writer.register_schema(f"pkg/msg/{name}", "ros2msg", b"int64 number\n")
        channel = writer.register_channel("/n", "cdr", schema)
        for i in range(3000):
            data = b"\0\1\0\0" + i.to_bytes(8, "little")
            log_time = 1_000_000_000 + (i - 1500 * (i in old)) * 1000
            writer.add_message(channel, log_time, data, 1, i)
        writer.finish()
        (landing / f"{name}.mcap").write_bytes(out.getvalue())
    assert take(spark, lake).outcomes == {"ACCEPTED": 1, "PARTIAL": 1}
    found = uploads(lake)
    assert found["few.mcap"]["flags"] == ["LOG_TIME_BACKWARD"]
    assert found["many.mcap"]["reason_code"] == "LOG_TIME_BACKWARD"
    assert "4 messages are older" in found["many.mcap"]["reason"]
    assert found["many.mcap"]["lost_messages"] == 0


@pytest.mark.parametrize("in_chunk", [True, False])
def test_changed_definition_holds_in_every_task(spark, lake, landing, in_chunk, monkeypatch):
    """Fault 15: behind a changed definition nothing is decoded, in whatever task it comes."""
    data, last = redefined(in_chunk=in_chunk)
    (landing / "a.mcap").write_bytes(data)
    whole = attrs.evolve(lake, lake_uri=(landing.parent / "whole").as_uri())
    take(spark, whole, lake.landing_uri)
    monkeypatch.setattr("spark_jobs.ingest_decode.TASK_BYTES", 2_000)
    report = take(spark, lake)
    assert numbers(lake) == numbers(whole) == list(range(last))
    assert (report.messages_written, report.messages_lost) == (last, 60 - last)
    assert len(open_table(lake, "bronze.decode_ledger").file_uris()) > 2
    upload = uploads(lake)["a.mcap"]
    assert (upload["state"], upload["reason_code"]) == ("PARTIAL", "SCHEMA_CONFLICT")
    assert contents(lake) == contents(whole)


def test_pending_upload_is_taken_when_it_completes(
    spark, lake, landing, mcap_bytes, write_manifest
):
    """A drive whose last object is missing waits as a whole, then is taken as a whole."""
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=10))
    (landing / "b.mcap").write_bytes(mcap_bytes(first=10, messages=10))
    write_manifest(landing, ["a.mcap", "b.mcap"])
    late = (landing / "b.mcap").read_bytes()
    (landing / "b.mcap").unlink()
    assert take(spark, lake, assume_complete=False).outcomes == {"PENDING": 2}
    (landing / "b.mcap").write_bytes(late)
    assert take(spark, lake, assume_complete=False).outcomes == {"ACCEPTED": 3}
    assert {row["state"] for row in uploads(lake).values()} == {"ACCEPTED"}
    assert read_arrow(lake, "bronze.uploads").num_rows == 3
    assert numbers(lake) == list(range(20))


def test_same_name_with_other_bytes_is_kept_beside(spark, lake, landing, mcap_bytes):
    """A file that is overwritten is a second recording; both stay, the reuse is flagged."""
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=10))
    take(spark, lake)
    (landing / "a.mcap").write_bytes(mcap_bytes(first=100, messages=10))
    assert take(spark, lake).outcomes == {"ACCEPTED": 1}
    rows = read_arrow(lake, "bronze.uploads").to_pylist()
    assert sorted(tuple(row["flags"]) for row in rows) == [(), ("NAME_REUSE",)]
    assert numbers(lake) == [*range(10), *range(100, 110)]


def test_same_bytes_later_are_a_duplicate(spark, lake, landing, mcap_bytes):
    """Bytes that were taken in an earlier run give no new row under another name."""
    (landing / "a.mcap").write_bytes(mcap_bytes())
    take(spark, lake)
    before = read_arrow(lake, "silver.pkg_number").num_rows
    (landing / "b.mcap").write_bytes(mcap_bytes())
    assert take(spark, lake).outcomes == {"DUPLICATE": 1}
    assert read_arrow(lake, "silver.pkg_number").num_rows == before
    assert read_arrow(lake, "bronze.recordings").num_rows == 1


def test_two_definitions_of_one_name_get_tables_of_their_own(spark, lake, landing, mcap_bytes):
    """Another type of a column under the same name never mixes with the first one's rows.

    Nothing is lost or refused, and each upload of the other definition says SCHEMA_BREAK with both
    tables and the columns that differ.
    """
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=10))
    assert take(spark, lake).alerts == {}
    (landing / "b.mcap").write_bytes(mcap_bytes(messages=10, **REALS))
    assert take(spark, lake).alerts == {"SCHEMA_BREAK": 1}
    (second,) = [name for name in list_tables(lake) if name.startswith("silver.pkg_number_")]
    reals = read_arrow(lake, second, columns=["number"]).column(0).to_pylist()
    assert sorted(reals) == [float(i) for i in range(10)]
    assert numbers(lake) == list(range(10))
    names = {row["table_name"] for row in read_arrow(lake, "bronze.schemas").to_pylist()}
    assert names == {"silver.pkg_number", second}
    (landing / "c.mcap").write_bytes(mcap_bytes(first=50, messages=10, **REALS))
    assert take(spark, lake).outcomes == {"ACCEPTED": 1}
    assert read_arrow(lake, second).num_rows == 20
    told = (
        f"SCHEMA_BREAK: {second} and not silver.pkg_number: number (double, in the table int64), "
        "text (absent, in the table string)"
    )
    assert {name: (row["flags"], row["reason"]) for name, row in uploads(lake).items()} == {
        "a.mcap": ([], None),
        "b.mcap": (["SCHEMA_BREAK"], told),
        "c.mcap": (["SCHEMA_BREAK"], told),
    }
    flags = sorted(row["flags"] for row in read_arrow(lake, "bronze.recordings").to_pylist())
    assert flags == [[], ["SCHEMA_BREAK"], ["SCHEMA_BREAK"]]
    assert {row["reason"] for row in troubled_uploads(lake)} == {told}


@pytest.mark.parametrize("arrival", ["narrow first", "wide first", "one batch", "race"])
def test_fields_that_a_definition_gains_are_null_in_the_rows_that_lack_them(
    spark, lake, landing, mcap_bytes, arrival
):
    """Definitions that only add fields share a table, in every engine, however they arrive.

    One explicit change of the table's columns comes before the commit; each recording still names
    its definition.
    """
    (landing / "narrow.mcap").write_bytes(mcap_bytes(messages=10, **NARROW))
    (landing / "wide.mcap").write_bytes(mcap_bytes(first=10, messages=10, **WIDE))
    files = [str(landing / f"{name}.mcap") for name in ("narrow", "wide")]
    if arrival == "one batch":
        reports = [take(spark, lake)]
    elif arrival == "race":
        with ThreadPoolExecutor(2) as pool:
            reports = list(pool.map(lambda place: take(spark, lake, place), files))
    else:
        reports = [take(spark, lake, file) for file in files[:: 1 if "narrow" in arrival else -1]]
    assert [report.alerts for report in reports] == [{}] * len(reports)
    wanted = [(i, {"x": i, "y": None}, None) for i in range(10)]
    wanted += [(i, {"x": i, "y": i}, -float(i)) for i in range(10, 20)]
    assert [name for name in list_tables(lake) if "pkg_number" in name] == ["silver.pkg_number"]
    query = "SELECT number, nested, extra FROM silver.pkg_number ORDER BY number"
    place = spark_location(table_uri(lake.lake_uri, "silver.pkg_number"))
    for rows in (
        run_query(lake, query, engine="duckdb"),
        read_arrow(lake, "silver.pkg_number").sort_by("number"),
        spark.read.format("delta").load(place).orderBy("number").toArrow(),
    ):
        found = [(row["number"], row["nested"], row["extra"]) for row in rows.to_pylist()]
        assert found == wanted
    nulls = spark.read.format("delta").load(place).where("extra IS NULL AND nested.y IS NULL")
    assert nulls.count() == 10
    kept = {row["schema_hash"]: row for row in read_arrow(lake, "bronze.schemas").to_pylist()}
    assert {row["table_name"] for row in kept.values()} == {"silver.pkg_number"}
    recordings = {row["recording_id"]: name for name, row in uploads(lake).items()}
    for row in read_arrow(lake, "bronze.channels").to_pylist():
        is_wide = recordings[row["recording_id"]] == "wide.mcap"
        assert kept[row["schema_hash"]]["data"] == (WIDE if is_wide else NARROW)["definition"]
    assert take(spark, lake).unchanged == 2


def test_large_recording_in_many_tasks_gives_the_same_rows(
    spark, lake, landing, mcap_bytes, monkeypatch
):
    """A recording split at its chunks has the rows, numbers and books of an undivided one."""
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=1000))
    (landing / "b.mcap").write_bytes(mcap_bytes(first=5000, messages=1000)[:-4000])
    whole = attrs.evolve(lake, lake_uri=(landing.parent / "whole").as_uri())
    take(spark, whole, lake.landing_uri)
    monkeypatch.setattr("spark_jobs.ingest_decode.TASK_BYTES", 8_000)
    take(spark, lake)
    parts = open_table(lake, "silver.pkg_number").file_uris()
    assert len(parts) > 4
    assert contents(lake) == contents(whole)


def test_two_ingests_of_one_landing_area_at_once(spark, lake, landing, mcap_bytes):
    """Two drivers that find the same objects at the same time write every row once."""
    for ordinal in range(6):
        (landing / f"{ordinal}.mcap").write_bytes(mcap_bytes(first=ordinal * 100, messages=50))
    take(spark, lake, str(landing / "0.mcap"))
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(take, spark, lake) for _ in range(3)]
        for job in jobs:
            job.result()
    resume(spark, lake, register=False)
    assert numbers(lake) == [first * 100 + i for first in range(6) for i in range(50)]
    assert {row["state"] for row in uploads(lake).values()} == {"ACCEPTED"}
    for name in ("bronze.uploads", "bronze.recordings"):
        assert read_arrow(lake, name).num_rows == 6
    assert read_arrow(lake, "bronze.channels").num_rows == 12


def test_full_disk_is_said_before_anything_is_claimed(
    spark, lake, landing, mcap_bytes, monkeypatch
):
    """Without room for the next batch ingest stops with DISK_FULL, and a rerun takes all."""
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=10))
    monkeypatch.setattr("spark_jobs.ingest.SPARE_BYTES", 1 << 60)
    with pytest.raises(PlatformError, match="DISK_FULL"):
        take(spark, lake)
    assert read_arrow(lake, "bronze.uploads").num_rows == 0
    monkeypatch.undo()
    assert take(spark, lake).outcomes == {"ACCEPTED": 1}


class Stopped(Exception):
    """Raised in the middle of an ingest, as a kill would come."""


def test_stop_at_any_step_is_finished_by_the_next_run(spark, lake, landing, mcap_bytes, tmp_path):
    """Stopped after each step in turn, the next run gives the rows of an undisturbed one."""
    for name, first in (("a", 0), ("b", 100), ("c", 200)):
        (landing / f"{name}.mcap").write_bytes(mcap_bytes(first=first, messages=40))
    (landing / "twin.mcap").write_bytes(mcap_bytes(first=0, messages=40))
    (landing / "noise").write_bytes(b"noise")
    undisturbed = attrs.evolve(lake, lake_uri=(tmp_path / "undisturbed").as_uri())
    steps = []
    take(spark, undisturbed, lake.landing_uri, progress=lambda *step: steps.append(step))
    expected = contents(undisturbed)
    assert len(steps) >= 7
    stops = [steps[0], steps[1], *[step for step in steps if step[0] == "commit"]]
    for stop in stops:
        own = attrs.evolve(lake, lake_uri=(tmp_path / f"{stop[0]}-{stop[1]}").as_uri())

        def progress(*step, stop=stop):
            if step == stop:
                raise Stopped

        with pytest.raises(Stopped):
            take(spark, own, lake.landing_uri, progress=progress)
        resume(spark, own, register=False)
        report = take(spark, own, lake.landing_uri)
        assert contents(own) == expected, stop
        assert report.messages_written in (0, 120)


def test_object_that_vanishes_before_resume_leaves_no_row(spark, lake, landing, mcap_bytes):
    """What a dead batch had committed of an object that is gone is withdrawn, the rest stays."""
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=40))
    (landing / "b.mcap").write_bytes(mcap_bytes(first=100, messages=40))

    def progress(stage, done, total):
        if (stage, done) == ("commit", total - 1):
            raise Stopped

    with pytest.raises(Stopped):
        take(spark, lake, progress=progress)
    assert len(numbers(lake)) == 80
    (landing / "b.mcap").unlink()
    assert resume(spark, lake, register=False).outcomes == {"ACCEPTED": 1, "QUARANTINED": 1}
    assert numbers(lake) == list(range(40))
    assert uploads(lake)["b.mcap"]["reason_code"] == "OBJECT_CHANGED"
    assert read_arrow(lake, "bronze.recordings").num_rows == 1
    assert {row["recording_id"] for row in read_arrow(lake, "bronze.chunks").to_pylist()} == {
        uploads(lake)["a.mcap"]["sha256"]
    }
    assert resume(spark, lake, register=False).batch_ids == ()


def test_batch_whose_objects_are_all_gone_ends(spark, lake, landing, mcap_bytes):
    """A dead batch of one object that vanished does not stand in the way for ever."""
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=40))

    def progress(stage, done, total):
        if (stage, done) == ("commit", total - 1):
            raise Stopped

    with pytest.raises(Stopped):
        take(spark, lake, progress=progress)
    (landing / "a.mcap").unlink()
    assert resume(spark, lake, register=False).outcomes == {"QUARANTINED": 1}
    assert numbers(lake) == []
    (landing / "a.mcap").write_bytes(mcap_bytes(messages=40))
    assert take(spark, lake, retry_quarantined=True).outcomes == {"ACCEPTED": 1}
    assert numbers(lake) == list(range(40))


def test_recording_whose_books_do_not_balance_is_out_alone(
    spark, lake, landing, mcap_bytes, monkeypatch
):
    """It is quarantined as CONSERVATION, and those decoded in the same task are all there."""
    for ordinal in range(3):
        (landing / f"{ordinal}.mcap").write_bytes(mcap_bytes(first=ordinal * 100, messages=40))
    (landing / "twin.mcap").write_bytes(mcap_bytes(first=100, messages=40))

    def unbalanced(index, counts):
        balance = balance_of(index, counts)
        if index.start_ns == 1_100_000_000:
            raise ContractViolation("a fault for the test", code="CONSERVATION")
        return balance

    monkeypatch.setattr("spark_jobs.ingest_batch.balance_of", unbalanced)
    assert take(spark, lake).outcomes == {"ACCEPTED": 2, "QUARANTINED": 2}
    assert {uploads(lake)[name]["reason_code"] for name in ("1.mcap", "twin.mcap")} == {
        "CONSERVATION"
    }
    assert numbers(lake) == [*range(40), *range(200, 240)]
    ledger = read_arrow(lake, "bronze.decode_ledger").to_pylist()
    (refused,) = [row for row in ledger if row["reason_code"] == "CONSERVATION"]
    assert (refused["offset"], refused["length"]) == (0, uploads(lake)["1.mcap"]["size_bytes"])
    silver = landing.parent / "lake" / "silver" / "pkg_number"
    files = {str(path) for path in silver.rglob("*.parquet")}
    assert files == set(open_table(lake, "silver.pkg_number").file_uris())


def test_quarantined_object_is_tried_again_on_request(spark, lake, landing):
    """After an upgrade quarantined objects can be looked into again; else they are left alone."""
    (landing / "noise").write_bytes(b"noise")
    take(spark, lake)
    assert take(spark, lake).outcomes == {}
    assert take(spark, lake, retry_quarantined=True).outcomes == {"QUARANTINED": 1}
    assert read_arrow(lake, "bronze.uploads").num_rows == 1


def test_tables_are_in_the_catalogue_of_one_lake(spark, settings, lake, tmp_path, mcap_bytes):
    """SQL sees the tables with all their columns; another lake on the same server is refused."""
    (tmp_path / "z.mcap").write_bytes(mcap_bytes(first=7, messages=3))
    take(spark, settings, str(tmp_path / "z.mcap"), register=True)
    rows = spark.sql("SELECT number, topic FROM silver.pkg_number WHERE number IN (7, 8, 9)")
    assert sorted(tuple(row) for row in rows.collect()) == [(7, "/odd"), (8, "/even"), (9, "/odd")]
    comment = spark.sql("DESCRIBE TABLE bronze.uploads").collect()[0]
    assert comment["comment"] == "Where it was seen"
    with pytest.raises(ContractViolation, match="OTHER_LAKE"):
        take(spark, lake, str(tmp_path / "z.mcap"), register=True)
