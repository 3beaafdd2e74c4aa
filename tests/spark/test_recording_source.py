"""`spark.read.format("recording")` on the real server."""

from __future__ import annotations

import shutil

import attrs
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql.functions import spark_partition_id

import drivelake
from spark_jobs.session import connected

from tests.spark.conftest import cdr_number  # isort: skip

pytestmark = pytest.mark.spark


@pytest.fixture
def recording(tmp_path, mcap_bytes):
    path = tmp_path / "in" / "drive.mcap"
    path.parent.mkdir()
    path.write_bytes(mcap_bytes(messages=500))
    return path


def load(spark, path, **options):
    return spark.read.format("recording").options(**options).load(str(path))


def test_one_kind_gives_the_rows_of_read(spark, recording):
    """Rows of a single kind are those of `drivelake.read`, column by column."""
    got = load(spark, recording).orderBy("number").toArrow()
    expected = pa.Table.from_batches(drivelake.read(str(recording), topics="/even"))
    both = got.filter(pa.compute.equal(got["topic"], "/even"))
    assert got["number"].to_pylist() == list(range(500))
    assert set(got["kind"].to_pylist()) == {"pkg_number"}
    for name in expected.column_names:
        assert both[name].to_pylist() == expected[name].to_pylist(), name


def test_options_choose_topics_times_and_kinds(spark, recording):
    """Options restrict what is read; a kind that is not there gives no rows."""
    some = load(spark, recording, topics="/odd", start="1100000000", end="1200000000")
    assert [row.number for row in some.orderBy("number").collect()] == list(range(101, 200, 2))
    assert load(spark, recording, kinds="pkg_number").count() == 500
    assert load(spark, recording, kinds="imu").count() == 0


def test_filters_hold_without_being_pushed_down(spark, recording):
    """A filter gives what it says, on a column of the rows and on one of every row."""
    rows = load(spark, recording)
    assert rows.where("number >= 490 AND topic = '/odd'").count() == 5
    assert rows.where("uri LIKE '%nothing%'").count() == 0


@pytest.mark.parametrize("name", ["bag/robot_localization/test2.bag", "db3/talker/talker.db3"])
def test_several_kinds_are_columns_of_their_own(spark, samples, name):
    """Kinds of a real recording come as structs, null in the rows of others; none is lost."""
    rows = load(spark, samples / name)
    counted = {row.kind: row["count"] for row in rows.groupBy("kind").count().collect()}
    expected = {}
    for batch in drivelake.read(str(samples / name)):
        kind = batch.schema.metadata[b"table"].decode()
        expected[kind] = expected.get(kind, 0) + batch.num_rows
    assert counted == expected
    for kind, count in expected.items():
        assert rows.where(f"{kind} IS NOT NULL").count() == count


def test_every_format_of_a_folder_is_read(spark, samples, tmp_path):
    """A folder gives the rows of all recordings in it, whatever their format, named by uri."""
    for name in ("db3/talker/talker.db3", "bag/embag/test_2.bag"):
        shutil.copy(samples / name, tmp_path)
    rows = load(spark, tmp_path, kinds="std_msgs_string")
    counted = {
        row.uri.rsplit("/", 1)[1]: row["count"] for row in rows.groupBy("uri").count().collect()
    }
    assert counted == {"talker.db3": 10, "test_2.bag": 2}


def test_large_recording_has_a_partition_for_some_units(spark, tmp_path, mcap_bytes):
    """A recording above the size of a partition is read by several tasks, each row once."""
    path = tmp_path / "large.mcap"
    text = "x" * 60_000
    path.write_bytes(mcap_bytes(messages=700, payload=lambda i: cdr_number(i, text)))
    rows = load(spark, path).select("number", spark_partition_id().alias("task")).collect()
    assert sorted(row.number for row in rows) == list(range(700))
    assert len({row.task for row in rows}) == 2


def test_damage_fails_the_read_unless_it_is_allowed(spark, recording):
    """A damaged chunk is an error that says so; with allowLoss the other chunks come."""
    data = bytearray(recording.read_bytes())
    data[400] ^= 1
    recording.write_bytes(data)
    with pytest.raises(PySparkException, match=r"INCOMPLETE: 463 messages read.*CHUNK_DAMAGED"):
        load(spark, recording).count()
    assert 0 < load(spark, recording, allowLoss="true").count() < 500


def test_what_is_not_there_is_said(spark, tmp_path):
    """A path with nothing at it and a topic that is not there are errors that name them."""
    with pytest.raises(PySparkException, match=r"no recording at .*nothing.mcap"):
        load(spark, tmp_path / "nothing.mcap").count()


def test_a_span_without_time_is_refused(spark, recording):
    """An end that is not after its start is an error, not an empty answer."""
    with pytest.raises(PySparkException, match="The end 5 is not after the start 7"):
        load(spark, recording, start="7", end="5").count()


def test_from_s3(settings, object_storage, new_bucket, spark_server, recording):
    """A session reads from the storage that its deployment names."""
    new_bucket("adhoc").upload_file(str(recording), "adhoc", "a/drive.mcap")
    with connected(attrs.evolve(settings, storage_options=object_storage)) as spark:
        assert load(spark, "s3://adhoc/a/drive.mcap", topics="/odd").count() == 250
