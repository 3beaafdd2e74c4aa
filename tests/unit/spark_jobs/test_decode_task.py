"""A task of decode: what it hands back is whole, whatever one of its recordings does."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spark_jobs import ingest_decode, ingest_index
from spark_jobs.guard import Bounds
from spark_jobs.ingest_decode import Claimed, DecodePlan, decode_task, split_tasks
from spark_jobs.ingest_index import index_task
from tests.unit.udfs.decode.test_can_messages import DEFINITIONS, as_mcap, as_rows, frames

DAY = dt.date(2026, 11, 20)


def mcap_of(first, messages=40):
    from mcap.writer import Writer

    out = io.BytesIO()
    writer = Writer(out, chunk_size=1024)
    writer.start("ros2", "test writer")
    schema = writer.register_schema("pkg/msg/Number", "ros2msg", b"int64 number\n")
    channel = writer.register_channel("/number", "cdr", schema)
    for i in range(first, first + messages):
        data = b"\0\1\0\0" + i.to_bytes(8, "little")
        writer.add_message(channel, 1_000 + i, data, 1_000 + i, i)
    writer.finish()
    return out.getvalue()


@pytest.fixture
def recordings(tmp_path):
    """Three recordings on disk, indexed by the first stage's own task."""
    paths = [tmp_path / f"{ordinal}.mcap" for ordinal in range(3)]
    for ordinal, path in enumerate(paths):
        path.write_bytes(mcap_of(first=100 * ordinal))
    payload = json.dumps([[path.as_uri(), path.stat().st_size] for path in paths]).encode()
    answer = json.loads(index_task(payload, storage_options={}))
    return paths, [ingest_index._revived(item) for item in answer]


def run(tmp_path, found, definitions=None):
    claimed = [
        Claimed(
            item.sha256,
            item.uri,
            item.size_bytes,
            item.index,
            tuple((unit.index, unit.length) for unit in item.recording_index().units),
        )
        for item in found
    ]
    plan = DecodePlan(
        batch_id="b" * 64,
        ingest_date=DAY,
        lake_uri=(tmp_path / "lake").as_uri(),
        schemas={plan.table: [plan.schema] for item in found for plan in item.plans},
        table_names={},
        definitions=definitions or {},
    )
    (task,) = split_tasks(claimed)
    return json.loads(decode_task(ingest_decode.payload_of(task, plan), storage_options={}))


def numbers(tmp_path, result):
    root = tmp_path / "lake" / "silver" / "pkg_number"
    paths = [root / part["path"] for part in result["parts"] if part["table"].startswith("silver")]
    files = {path for path in root.rglob("*.parquet") if not path.name.startswith(".")}
    assert files == set(paths) or result["left_behind"]
    return sorted(
        number
        for path in paths
        for number in pq.read_table(path, partitioning=None).column("number").to_pylist()
    )


def test_task_writes_one_part_a_table_for_all_its_recordings(tmp_path, recordings):
    """Small recordings share files, and each has its own counts."""
    _, found = recordings
    result = run(tmp_path, found)
    assert numbers(tmp_path, result) == [100 * n + i for n in range(3) for i in range(40)]
    assert sorted(part["table"] for part in result["parts"]) == [
        "bronze.decode_ledger",
        "silver.pkg_number",
    ]
    assert [result["counts"][item.sha256]["written"] for item in found] == [40, 40, 40]
    assert result["failed"] == {}
    assert not result["left_behind"]


def test_recording_that_fails_leaves_no_row_and_the_others_are_whole(tmp_path, recordings):
    """A recording that is cut after it was indexed fails alone, with its reason."""
    paths, found = recordings
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    result = run(tmp_path, found)
    assert numbers(tmp_path, result) == [*range(40), *range(200, 240)]
    assert set(result["failed"]) == {found[1].sha256}
    assert result["failed"][found[1].sha256][0] == "OBJECT_CHANGED"
    assert set(result["counts"]) == {found[0].sha256, found[2].sha256}


def test_task_that_exceeds_its_bounds_is_taken_apart(tmp_path, recordings, monkeypatch):
    """When the child of all dies, each recording gets one of its own; all may succeed there."""
    _, found = recordings
    sizes = []

    def bounds(size):
        sizes.append(size)
        return Bounds(wall_seconds=0.0 if len(sizes) == 1 else 60.0)

    monkeypatch.setattr(ingest_decode.Bounds, "for_input", bounds)
    result = run(tmp_path, found)
    assert numbers(tmp_path, result) == [100 * n + i for n in range(3) for i in range(40)]
    assert len(sizes) == 4
    assert result["failed"] == {}
    assert result["left_behind"]


def test_storage_failure_fails_the_task(tmp_path, recordings):
    """An object that the storage does not give is no verdict on it: the task fails."""
    paths, found = recordings
    paths[2].unlink()
    with pytest.raises(OSError, match="No such file"):
        run(tmp_path, found)
    assert not [path for path in Path(tmp_path / "lake").rglob("*") if path.is_file()]


def test_frames_that_were_recorded_as_messages_give_signals_too(tmp_path):
    """A channel of CAN frames fills two tables, and is balanced by its frames."""
    path = tmp_path / "bus.mcap"
    path.write_bytes(as_mcap(as_rows(frames(100))))
    payload = json.dumps([[path.as_uri(), path.stat().st_size]]).encode()
    found = [
        ingest_index._revived(one) for one in json.loads(index_task(payload, storage_options={}))
    ]
    result = run(tmp_path, found, DEFINITIONS)
    rows = {part["table"]: part["rows"] for part in result["parts"]}
    assert rows["silver.can_frames"] == 100
    assert rows["silver.signals"] > 0
    (counts,) = result["counts"].values()
    assert counts["written"] == 100


def test_first_stage_reads_bus_definitions(tmp_path):
    """Fault 34: a DBC that does not parse is refused, one that is not sound is flagged."""
    head = 'VERSION ""\nNS_ :\nBS_:\nBU_: E\n'
    signal = ' SG_ {} : {}|8@1+ (1,0) [0|0] "" E\n'
    texts = {
        "sound": f"{head}BO_ 1 A: 2 E\n{signal.format('A', 0)}{signal.format('B', 8)}",
        "overlap": f"{head}BO_ 1 A: 2 E\n{signal.format('A', 0)}{signal.format('B', 4)}",
        "broken": f"{head}BO_ 1 A: 2 E\n SG_ what is this\n",
    }
    paths = [tmp_path / name for name in texts]
    for path in paths:
        path.write_text(texts[path.name])
    payload = json.dumps([[path.as_uri(), 1] for path in paths]).encode()
    sound, overlap, broken = json.loads(index_task(payload, storage_options={}))
    assert (sound["flags"], overlap["flags"]) == ([], ["UNSOUND_LAYOUT"])
    assert "fault" not in overlap
    assert broken["fault"][0] == "BAD_DEFINITION"


def test_first_stage_looks_for_the_files_of_a_bag(tmp_path):
    """Fault 33: the files that a bag's metadata names are looked for beside it, nowhere else."""
    text = "rosbag2_bagfile_information:\n  version: 5\n  relative_file_paths:\n"
    names = ["bag_0.db3", "bag_1.db3", "../../outside.db3"]
    metadata = tmp_path / "bag" / "metadata.yaml"
    metadata.parent.mkdir()
    metadata.write_text(text + "".join(f"    - {name}\n" for name in names) + "  files: []\n")
    (metadata.parent / "bag_0.db3").touch()
    (tmp_path / "outside.db3").touch()
    payload = json.dumps([[metadata.as_uri(), 1]]).encode()
    (found,) = json.loads(index_task(payload, storage_options={}))
    assert found["kind"] == "recording_metadata"
    assert found["missing"] == [["bag_1.db3", "outside.db3"], 3]


def test_first_stage_says_what_each_object_is(tmp_path):
    """Hash, kind and fault of every object, in one answer; a missing one is unreadable."""
    good, noise = tmp_path / "good", tmp_path / "noise"
    good.write_bytes(mcap_of(first=0))
    noise.write_bytes(b"noise")
    uris = [path.as_uri() for path in (good, noise, tmp_path / "gone")]
    payload = json.dumps([[uri, 1] for uri in uris]).encode()
    found = {i["uri"]: i for i in json.loads(index_task(payload, storage_options={}))}
    assert [found[uri].get("kind") for uri in uris] == ["recording", None, None]
    assert found[uris[1]]["fault"][0] == "BAD_MAGIC"
    assert found[uris[2]]["unreadable"].startswith("FileNotFoundError")
