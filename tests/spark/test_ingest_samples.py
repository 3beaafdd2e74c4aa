"""Real recordings, of other people's making: counts equal those of the reference readers."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import warnings
from collections import Counter

import attrs
import pytest

from spark_jobs.ingest import ingest, resume
from spark_jobs.tables import read_arrow

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def taken(spark, settings, samples, tmp_path_factory):
    """A lake of its own that holds all samples, and the report of their ingest."""
    lake = attrs.evolve(settings, lake_uri=tmp_path_factory.mktemp("samples").as_uri())
    report = ingest(spark, lake, [str(samples)], assume_complete=True, register=False)
    return lake, report


@pytest.fixture(scope="module")
def counts(taken):
    """Messages in silver and bad ones by object and topic, as bronze.channels has them."""
    lake, _ = taken
    recordings = read_arrow(lake, "bronze.recordings").to_pylist()
    uris = {row["recording_id"]: row["uri"] for row in recordings}
    found = {uri: Counter() for uri in uris.values()}
    for row in read_arrow(lake, "bronze.channels").to_pylist():
        found[uris[row["recording_id"]]][row["topic"]] += row["message_count"] + row["bad_count"]
    return {uri: +counter for uri, counter in found.items()}


def test_every_object_has_exactly_one_outcome(taken, samples):
    """As many outcomes as files, one a file, and every reason is said."""
    lake, report = taken
    files = [path for path in samples.rglob("*") if path.is_file()]
    rows = read_arrow(lake, "bronze.uploads").to_pylist()
    assert sorted(row["uri"] for row in rows) == sorted(path.as_uri() for path in files)
    assert sum(report.outcomes.values()) == len(files)
    assert {row["state"] for row in rows} <= {"ACCEPTED", "PARTIAL", "QUARANTINED", "DUPLICATE"}
    for row in rows:
        assert (row["state"] in ("ACCEPTED", "DUPLICATE")) == (row["reason_code"] is None)


def test_books_balance(taken):
    """Declared = written + bad + lost in every recording; tables and ledger agree."""
    lake, report = taken
    recordings = {
        row["recording_id"]: row for row in read_arrow(lake, "bronze.recordings").to_pylist()
    }
    sums = {name: Counter() for name in recordings}
    for row in read_arrow(lake, "bronze.decode_ledger").to_pylist():
        if row["recording_id"] in sums:
            sums[row["recording_id"]]["written"] += row["messages_written"]
            sums[row["recording_id"]]["bad"] += row["messages_bad"]
    for name, row in recordings.items():
        assert sums[name]["written"] == row["messages_written"]
        assert sums[name]["bad"] == row["messages_bad"]
        if row["messages_declared"] is not None and row["messages_lost"] is not None:
            kept = row["messages_written"] + row["messages_bad"] + row["messages_lost"]
            assert kept == row["messages_declared"]
    assert report.messages_written == sum(row["messages_written"] for row in recordings.values())


def test_mcap_counts_equal_the_reference_reader(counts, samples):
    """Messages by topic of every MCAP file equal those that the mcap package reads."""
    from mcap.reader import NonSeekingReader

    files = sorted(samples.rglob("*.mcap"))
    for path in files:
        with path.open("rb") as stream:
            reader = NonSeekingReader(stream, validate_crcs=True)
            expected = Counter(channel.topic for _, channel, _ in reader.iter_messages())
        assert counts[path.as_uri()] == expected, path
    assert len(files) >= 97


def test_counts_equal_the_manifest(counts, samples):
    """Messages, by topic where it names them, and MDF records are as many as the manifest says.

    Other versions of the reference readers made it: one that changes its mind is found out.
    """
    compared = 0
    for line in (samples / "MANIFEST.md").read_text(encoding="utf-8").splitlines():
        path = re.match(
            r"\| ((?:mcap|bag|db3|mdf)/\S+\.(?:mcap|bag|db3|mf4)) \|", line, re.IGNORECASE
        )
        said = re.search(r'"(?:msgs|topics|samples)":', line)
        if not path or not said:
            continue
        found = counts[(samples / path[1]).as_uri()]
        topics = _json_behind(line, '"topics":')
        if isinstance(topics, dict):  # those of databases have their types behind them
            named = Counter({topic.partition(" [")[0]: n for topic, n in topics.items()})
            assert found == +named, path[1]
        records = _json_behind(line, '"samples":')
        if records is not None:
            each = records.values() if isinstance(records, dict) else records
            assert found.total() == sum(each), path[1]
        messages = _json_behind(line, '"msgs":')
        if messages is not None:
            assert found.total() == messages, path[1]
        compared += 1
    assert compared >= 45


def _json_behind(line, name):
    """The value of a field of the JSON in a line; None where it has none, or is cut short."""
    _, there, rest = line.partition(name)
    try:
        return json.JSONDecoder().raw_decode(rest.strip())[0] if there else None
    except json.JSONDecodeError:
        return None


def test_bag_counts_equal_the_reference_reader(counts, samples):
    """Messages by topic of every ROS 1 bag equal those that rosbags reads."""
    from rosbags.rosbag1 import Reader

    files = sorted(samples.rglob("*.bag"))
    for path in files:
        with Reader(path) as reader:
            expected = Counter(connection.topic for connection, _, _ in reader.messages())
        assert counts[path.as_uri()] == expected, path
    assert len(files) >= 8


def test_db3_counts_equal_sql(counts, samples):
    """Messages by topic of every rosbag2 database equal those that SQL counts."""
    files = sorted(samples.rglob("*.db3"))
    for path in files:
        with sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True) as connection:
            rows = connection.execute(
                "SELECT name, count(*) FROM messages JOIN topics ON topic_id = topics.id GROUP BY 1"
            )
            expected = Counter(dict(rows.fetchall()))
        assert counts[path.as_uri()] == expected, path
    assert len(files) >= 15


def test_mdf_counts_equal_the_reference_reader(counts, samples):
    """Records of every MDF file equal the cycles that asammdf counts, over all its groups."""
    from asammdf import MDF

    files = sorted(path for path in samples.rglob("*") if path.suffix.lower() == ".mf4")
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with MDF(path) as mdf:
                expected = sum(group.channel_group.cycles_nr for group in mdf.groups)
        assert counts[path.as_uri()].total() == expected, path
    assert len(files) >= 14


def test_values_in_the_lake_equal_the_reference_reader(taken, samples):
    """Poses, strings and stamps of a bag are in the lake as rosbags reads them, in their order."""
    from rosbags.highlevel import AnyReader

    lake, _ = taken
    path = samples / "bag" / "rosbag.js" / "example.bag"
    (recording,) = [
        row
        for row in read_arrow(lake, "bronze.recordings").to_pylist()
        if row["uri"] == path.as_uri()
    ]

    def stored(table, topic, *columns):
        rows = read_arrow(lake, table, columns=["recording_id", "topic", "log_time_ns", *columns])
        return [
            tuple(row[name] for name in ("log_time_ns", *columns))
            for row in rows.to_pylist()
            if (row["recording_id"], row["topic"]) == (recording["recording_id"], topic)
        ]

    poses, logs = [], []
    with AnyReader([path]) as reader:
        for connection, log_time, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            if connection.topic == "/turtle2/pose":
                poses.append((log_time, message.x, message.y, message.theta))
            elif connection.topic == "/rosout":
                stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
                logs.append((log_time, message.msg, message.file, stamp))
    own = ("x", "y", "theta")
    assert sorted(stored("silver.turtlesim_pose", "/turtle2/pose", *own)) == sorted(poses)
    own = ("msg", "file", "sensor_time_ns")
    assert sorted(stored("silver.rosgraph_msgs_log", "/rosout", *own)) == sorted(logs)
    assert (len(poses), len(logs)) == (1344, 10)


def test_rows_of_silver_are_the_messages(taken):
    """Tables with one row a message hold as many rows as their channels have messages."""
    lake, _ = taken
    several = {"silver.transforms", "silver.objects", "silver.signals", "silver.can_frames"}
    expected = Counter()
    for row in read_arrow(lake, "bronze.channels").to_pylist():
        if row["table_name"]:
            expected[row["table_name"]] += row["message_count"]
    for name, messages in expected.items():
        if name not in several and messages:
            assert read_arrow(lake, name, columns=["sequence"]).num_rows == messages, name
    assert len(expected) > 80


class Stopped(Exception):
    """Raised in the middle of an ingest, as a kill would come."""


def test_definition_of_a_call_holds_for_whoever_finishes_it(spark, settings, samples, tmp_path):
    """A DBC that was named decodes the frames, also when another run finishes without it."""
    recording = next((samples / "mdf" / "css_can_finalised_split").glob("*05-*.MF4"))
    definition = samples / "mdf" / "css_dbc" / "canmod-gps.dbc"
    options = {"assume_complete": True, "register": False}

    def progress(stage, done, total):
        if (stage, done) == ("commit", total - 1):
            raise Stopped

    found = []
    for stop in (False, True):
        lake = attrs.evolve(settings, lake_uri=(tmp_path / f"lake-{stop}").as_uri())
        given = {"definitions": {"can:*": definition.as_uri()}, **options}
        if stop:
            with pytest.raises(Stopped):
                ingest(spark, lake, [str(recording)], progress=progress, **given)
            resume(spark, lake, register=False)
        else:
            ingest(spark, lake, [str(recording)], **given)
        assert not list((tmp_path / f"lake-{stop}" / "_ingest").iterdir())
        rows = read_arrow(lake, "silver.signals", columns=["signal", "value", "definition_hash"])
        found.append(Counter(tuple(row.values()) for row in rows.to_pylist()))
        assert ingest(spark, lake, [str(recording)], **options).unchanged == 1
    assert found[0] == found[1]
    digest = hashlib.sha256(definition.read_bytes()).hexdigest()
    assert {row[2] for row in found[0]} == {digest}
    assert len({row[0] for row in found[0]}) > 20
    hashes = read_arrow(lake, "bronze.schemas", columns=["schema_hash"]).column(0).to_pylist()
    assert digest in hashes
