"""Lake and landing on S3, and writers that share a table there: no commit is lost."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import attrs
import numpy as np
import pyarrow as pa
import pyspark
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from spark_jobs.discover import discover
from spark_jobs.ingest import ingest, resume
from spark_jobs.server import server_configuration, start_server, stop_server
from spark_jobs.session import connected
from spark_jobs.storage import filesystem_of
from spark_jobs.tables import list_tables, read_arrow, register_existing
from tests.spark.recorded_drive import add_recording, frames_by_slices, rows_by_time

pytestmark = pytest.mark.spark
DAY = dt.date(2026, 11, 20)
APPENDS = 8
ENTRIES = 40


@pytest.fixture(scope="module")
def s3(object_storage, new_bucket):
    """Storage options of an S3 server with conditional writes that has the bucket `fleet`."""
    new_bucket("writers")
    return object_storage


@pytest.fixture(scope="module")
def deployment(s3, new_deployment, tmp_path_factory):
    """`deployment()`: settings of one more deployment on the one bucket."""

    def make():
        return new_deployment(
            tmp_path_factory.mktemp("s3"),
            lake_uri="s3://writers/lake",
            landing_uri="s3://writers/landing",
            storage_options=s3,
        )

    return make


@contextmanager
def running(settings):
    server = start_server(settings, memory="768m")
    try:
        with connected(settings) as spark:
            yield spark
    finally:
        stop_server(server)


@pytest.fixture(scope="module")
def first(deployment):
    """A Spark server on S3: its settings and a session."""
    settings = deployment()
    with running(settings) as spark:
        yield settings, spark


def put(s3, uri, data):
    filesystem, path = filesystem_of(uri, storage_options=s3)
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


class Stopped(Exception):
    """Raised in the middle of an ingest, as a kill would come."""


def test_ingest_from_s3_to_s3(first, s3, mcap_bytes):
    """Uploads on S3 become tables on S3 that Spark and delta-rs read; a stop is finished."""
    settings, spark = first
    good = mcap_bytes(messages=100)
    objects = {"d/adas.mcap": good, "d/twin.mcap": good, "noise.bin": b"noise", "empty": b""}
    for name, data in objects.items():
        put(s3, f"s3://writers/landing/{name}", data)
    found = discover([settings.landing_uri], storage_options=s3)
    assert [item.uri for item in found] == [
        f"s3://writers/landing/{name}" for name in sorted(objects)
    ]
    assert not any(item.pending for item in found)

    def progress(stage, done, total):
        if (stage, done) == ("commit", total - 1):
            raise Stopped

    with pytest.raises(Stopped):
        ingest(spark, settings, [settings.landing_uri], ingest_date=DAY, progress=progress)
    resume(spark, settings)
    report = ingest(spark, settings, [settings.landing_uri], ingest_date=DAY)
    assert (report.outcomes, report.unchanged) == ({}, 4)
    states = Counter(row["state"] for row in read_arrow(settings, "bronze.uploads").to_pylist())
    assert states == {"ACCEPTED": 1, "DUPLICATE": 1, "QUARANTINED": 2}
    rows = spark.sql("SELECT number FROM silver.pkg_number").collect()
    assert sorted(row.number for row in rows) == list(range(100))
    assert read_arrow(settings, "silver.pkg_number").num_rows == 100
    assert register_existing(spark, settings) == []
    assert "bronze.uploads" in list_tables(settings)


def test_slices_of_a_drive_on_s3_show_no_seam(first):
    """Workers read what their slices need from S3, and make the frames of the whole drive."""
    settings, spark = first
    camera, pose = np.arange(0.005, 20, 0.1), np.arange(0.0, 20, 0.02)
    add_recording(settings, "one", drive="sliced", images=camera, odometry=pose[:500])
    add_recording(settings, "two", drive="sliced", odometry=pose[500:])
    whole, sliced = (
        frames_by_slices(spark, settings, "sliced", slice_ns=slice_ns)
        for slice_ns in (10**13, 3 * 10**9)
    )
    assert whole["pose_state"].to_pylist() == ["ok"] * len(camera)
    assert rows_by_time(sliced) == rows_by_time(whole)


def test_upload_in_several_steps_on_s3(s3, mcap_bytes):
    """A drive on S3 waits for the last object of its manifest."""
    data = mcap_bytes(first=500, messages=10)
    manifest = {
        "drivelake_manifest": 1,
        "drive_id": "drive-s3",
        "objects": [
            {"path": "a.mcap", "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        ],
    }
    put(s3, "s3://writers/more/drive.json", json.dumps(manifest).encode())
    (waiting,) = discover(["s3://writers/more"], storage_options=s3)
    assert waiting.pending
    put(s3, "s3://writers/more/a.mcap", data)
    assert [item.pending for item in discover(["s3://writers/more/"], storage_options=s3)] == [
        "",
        "",
    ]


def racer(settings, s3, name, store, folder):
    """A JVM that writes log entries through a log store once it reads a line."""
    spark_jars = Path(pyspark.__file__).parent / "jars"
    path = [settings.jars / folder / "*" for folder in ("drivelake", "delta", "s3a")]
    configuration = server_configuration(attrs.evolve(settings, storage_options=s3))
    hadoop = [
        f"{key.removeprefix('spark.hadoop.')}={value}"
        for key, value in configuration.items()
        if key.startswith("spark.hadoop.fs.")
    ]
    program = Path(__file__).with_name("LogStoreRace.java")
    class_path = os.pathsep.join(str(entry) for entry in [*path, spark_jars / "*"])
    java = shutil.which("java")
    return subprocess.Popen(
        [java, "-cp", class_path, program, store, folder, name, str(ENTRIES), *hadoop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_of_two_drivers_that_write_one_log_entry_one_wins(settings, s3):
    """In a race for each of many entries exactly one of two JVMs wins, and its bytes stay."""
    store, folder = "drivelake.ConditionalPutLogStore", "s3://writers/race"
    names = ("left", "right")
    racers = [racer(settings, s3, name, store, folder) for name in names]
    try:
        for one in racers:
            assert one.stdout.readline() == "ready\n"
        for one in racers:
            one.stdin.write("go\n")
            one.stdin.flush()
        won = [[int(line) for line in one.communicate(timeout=300)[0].split()] for one in racers]
    finally:
        for one in racers:
            one.kill()
            one.wait()
    assert sorted(won[0] + won[1]) == list(range(ENTRIES))
    filesystem, path = filesystem_of(folder, storage_options=s3)
    for name, entries in zip(names, won, strict=True):
        for entry in entries:
            with filesystem.open_input_stream(f"{path}/{entry:020d}.json") as stream:
                assert stream.read().decode() == f"{name}\nentry {entry}\n"


def test_two_spark_drivers_and_a_third_writer_lose_nothing(first, deployment, s3):
    """Every append that was acknowledged is there, from two Spark servers and delta-rs at once."""
    uri = "s3://writers/shared/appends"
    schema = pa.schema([("writer", pa.string()), ("number", pa.int64())])
    DeltaTable.create(uri, schema, storage_options=s3)
    _, spark = first
    with running(deployment()) as other:

        def by_spark(session, name):
            done = []
            for i in range(APPENDS):
                df = session.createDataFrame([(name, i)], "writer string, number long")
                df.write.format("delta").mode("append").save(uri)
                done.append((name, i))
            return done

        def by_delta_rs(name):
            done = []
            for i in range(APPENDS):
                rows = pa.table({"writer": [name], "number": [i]}, schema=schema)
                write_deltalake(
                    uri,
                    rows,
                    mode="append",
                    storage_options=s3,
                    commit_properties=CommitProperties(max_commit_retries=100),
                )
                done.append((name, i))
            return done

        with ThreadPoolExecutor(3) as pool:
            jobs = [
                pool.submit(by_spark, spark, "first"),
                pool.submit(by_spark, other, "second"),
                pool.submit(by_delta_rs, "third"),
            ]
            acknowledged = [row for job in jobs for row in job.result()]
        seen = other.read.format("delta").load(uri).collect()
    table = DeltaTable(uri, storage_options=s3)
    rows = table.to_pyarrow_table().to_pylist()
    assert len(acknowledged) == 3 * APPENDS
    assert Counter((row["writer"], row["number"]) for row in rows) == Counter(acknowledged)
    assert Counter((row.writer, row.number) for row in seen) == Counter(acknowledged)
    assert table.version() == 3 * APPENDS
