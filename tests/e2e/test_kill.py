"""Kill -9 in the middle of ingest: the next run finishes it, same rows, none twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest

from spark_jobs.bronze_uploads import NAME as UPLOADS
from spark_jobs.bronze_uploads import rows_where
from spark_jobs.ingest import ingest, resume
from spark_jobs.server import start_server, stop_server
from spark_jobs.tables import list_tables, read_arrow

pytestmark = [pytest.mark.e2e, pytest.mark.spark]
KILLS = 10
CLOCK = {"ingested_ns", "first_seen_ns", "updated_ns"}
PROGRAM = {"pipeline_version", "batch_id"}  # the client reads the program anew
CLIENT = """
import os, sys
from pathlib import Path
from contracts.settings import settings_from
from spark_jobs.ingest import ingest
from spark_jobs.session import connect

settings = settings_from(os.environ, working_folder=Path.cwd())
spark = connect(settings)
print("ready", flush=True)
sys.stdin.readline()
ingest(spark, settings, [settings.landing_uri], assume_complete=True, register=False)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    """A dozen recordings of several formats and sizes, a duplicate and a foreign file."""
    from mcap.writer import Writer
    from rosbags.rosbag1 import Writer as BagWriter
    from rosbags.typesys import Stores, get_typestore

    folder = tmp_path_factory.mktemp("kill") / "landing"
    folder.mkdir()
    for ordinal in range(8):
        with (folder / f"{ordinal}.mcap").open("wb") as stream:
            writer = Writer(stream, chunk_size=64 << 10)
            writer.start("ros2", "test writer")
            for kind in range(4):
                text = b"int64 number\nfloat64[] values\n"
                schema = writer.register_schema(f"pkg/msg/Kind{kind}", "ros2msg", text)
                channel = writer.register_channel(f"/kind{kind}", "cdr", schema)
                for i in range(500):
                    number = (ordinal * 10_000 + i).to_bytes(8, "little")
                    payload = b"\0\1\0\0" + number + b"\2\0\0\0" + bytes(4) + bytes(16)
                    writer.add_message(channel, 1_000 + i, payload, 1_000 + i, i)
            writer.finish()
    store = get_typestore(Stores.ROS1_NOETIC)
    string = store.types["std_msgs/msg/String"]
    for ordinal in range(3):
        with BagWriter(folder / f"{ordinal}.bag") as bag:
            connection = bag.add_connection("/words", string.__msgtype__, typestore=store)
            for i in range(300):
                data = store.serialize_ros1(string(data=f"word {ordinal} {i}"), string.__msgtype__)
                bag.write(connection, 10**9 + i, data)
    (folder / "twin.mcap").write_bytes((folder / "3.mcap").read_bytes())
    (folder / "noise").write_bytes(b"noise")
    return folder


def contents(lake):
    """Rows of every table as a multiset, without what clock and program decide."""
    found = {}
    for name in list_tables(lake):
        rows = read_arrow(lake, name).to_pylist()
        kept = [{k: v for k, v in row.items() if k not in CLOCK | PROGRAM} for row in rows]
        found[name] = Counter(repr(row) for row in kept)
    return found


@pytest.fixture(scope="module")
def lake_at(settings, landing, tmp_path_factory):
    """`lake_at(name)`: settings of the shared server with a lake of its own."""

    def make(name):
        lake = tmp_path_factory.mktemp(name)
        return attrs.evolve(settings, lake_uri=lake.as_uri(), landing_uri=landing.as_uri())

    return make


def take(spark, lake):
    return ingest(spark, lake, [lake.landing_uri], assume_complete=True, register=False)


@pytest.fixture(scope="module")
def undisturbed(spark, lake_at):
    """What an undisturbed run leaves, and the seconds that a warm one takes."""
    take(spark, lake_at("first"))
    lake = lake_at("undisturbed")
    report = take(spark, lake)
    assert report.outcomes == {"ACCEPTED": 11, "DUPLICATE": 1, "QUARANTINED": 1}
    assert report.messages_written == 8 * 2_000 + 3 * 300
    return contents(lake), report.seconds


def client_of(lake):
    environment = {
        **os.environ,
        "DRIVELAKE_HOME": str(lake.home),
        "DRIVELAKE_LAKE": lake.lake_uri,
        "DRIVELAKE_LANDING": lake.landing_uri,
        "SPARK_REMOTE": lake.spark_remote,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        text=True,
    )


def test_client_killed_at_ten_random_moments(spark, lake_at, undisturbed):
    """After each kill one resume gives exactly the rows of an undisturbed run."""
    expected, seconds = undisturbed
    moments = random.Random(20261120)  # noqa: S311  no secret
    interrupted = 0
    for kill in range(KILLS):
        lake = lake_at(f"killed{kill}")
        with client_of(lake) as client:
            assert client.stdout.readline() == "ready\n"
            client.stdin.write("go\n")
            client.stdin.flush()
            time.sleep(moments.uniform(0.0, 1.2) * seconds)
            client.kill()
            interrupted += "done" not in client.stdout.read()
        resume(spark, lake, register=False)
        take(spark, lake)
        assert contents(lake) == expected, f"kill {kill}"
        assert take(spark, lake).unchanged == 13
    assert interrupted >= KILLS // 2


def python_workers(server_pid):
    """The Python processes that the Spark server works with."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                is_python = b"pyspark" in (entry / "cmdline").read_bytes()
                parents[int(entry.name)] = (int(status[1]), is_python)
    found = []
    for pid, (parent, is_python) in parents.items():
        above = parent
        while above not in (0, 1, server_pid):
            above = parents.get(above, (0, False))[0]
        if is_python and above == server_pid:
            found.append(pid)
    return found


def test_workers_killed_in_the_middle(spark, spark_server, lake_at, undisturbed):
    """Workers that die fail the run at most; a rerun gives the same rows, none quarantined."""
    expected, seconds = undisturbed
    lake = lake_at("workers")
    stop = threading.Event()
    killed = []

    def kill_some():
        moments = random.Random(7)  # noqa: S311  no secret
        while not stop.wait(moments.uniform(0.1, 0.4) * seconds):
            for pid in python_workers(spark_server.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill_some)
    killer.start()
    failures = 0
    try:
        for _ in range(3):
            try:
                take(spark, lake)
            except Exception:  # noqa: BLE001  Spark's own error: the run failed, as it may
                failures += 1
    finally:
        stop.set()
        killer.join()
    take(spark, lake)
    assert killed
    assert contents(lake) == expected


def is_claimed(lake):
    """Whether a batch holds objects: it is being decoded now."""
    if UPLOADS not in list_tables(lake):
        return False
    pending = rows_where(read_arrow(lake, UPLOADS), "state", ["PENDING"])
    return any(row["batch_id"] for row in pending)


def test_server_killed_in_the_middle(spark, lake_at, undisturbed, new_deployment, tmp_path):
    """The run fails by itself, every table reads, and another server ends what was begun."""
    expected, _ = undisturbed
    own = new_deployment(tmp_path / "home")
    lake = attrs.evolve(lake_at("server"), spark_remote=own.spark_remote)
    server = start_server(own, memory="1g")
    try:
        with client_of(lake) as client:
            assert client.stdout.readline() == "ready\n"
            client.stdin.write("go\n")
            client.stdin.flush()
            deadline = time.monotonic() + 120
            while not is_claimed(lake):
                assert client.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.kill(server.pid, signal.SIGKILL)
            assert client.wait(timeout=180) != 0
            assert "done" not in client.stdout.read()
    finally:
        stop_server(server)
    assert not any(contents(lake).get(name) for name in expected if name.startswith("silver."))
    resume(spark, lake, register=False)
    take(spark, lake)
    assert contents(lake) == expected
