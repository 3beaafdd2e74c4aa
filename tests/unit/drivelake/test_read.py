from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest
from mcap.writer import Writer

import drivelake
from contracts.errors import ContractViolation, DecodeError, UnsupportedFormatError

from tests.unit.udfs.decode.recordings import mcap_bytes  # isort: skip


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "drive.mcap"
    path.write_bytes(mcap_bytes(1000))
    return path


def test_batches_of_one_topic_make_a_table(recording):
    """Batches of a topic share a schema, name their table and carry no column of the lake."""
    batches = list(drivelake.read(str(recording), topics="/odd"))
    table = pa.Table.from_batches(batches)
    assert table["number"].to_pylist() == list(range(1, 1000, 2))
    assert batches[0].schema.metadata[b"table"] == b"pkg_number"
    assert not {"recording_id", "ingest_date"} & set(table.column_names)


def test_from_s3_as_from_disk(recording, object_storage, new_bucket, monkeypatch):
    """A URI on S3 gives the rows that the file on disk gives, ranges and all."""
    new_bucket("read").upload_file(str(recording), "read", "a/drive.mcap")
    for key, value in object_storage.items():
        monkeypatch.setenv(key, value)
    span = {"start": 1_200_000_000, "end": 1_300_000_000}
    there = pa.Table.from_batches(drivelake.read("s3://read/a/drive.mcap", topics="/odd", **span))
    here = pa.Table.from_batches(drivelake.read(recording.as_uri(), topics="/odd", **span))
    assert there.equals(here)
    assert here["number"].to_pylist() == list(range(201, 300, 2))


def test_damage_is_said_at_the_end_unless_allowed(recording):
    """A damaged recording gives all that can be read, then raises; or does not if that is asked."""
    data = bytearray(recording.read_bytes())
    data[400] ^= 1  # inside the first chunk
    recording.write_bytes(data)
    kept = list(drivelake.read(str(recording), allow_loss=True))
    assert 0 < sum(batch.num_rows for batch in kept) < 1000
    batches = drivelake.read(str(recording))
    assert [next(batches) for _ in kept] == kept
    with pytest.raises(DecodeError, match="CHUNK_CRC") as told:
        next(batches)
    assert told.value.code == "INCOMPLETE"


def test_what_can_not_be_read_is_one_sentence(tmp_path):
    """A table's name, a missing file and a file that is no recording each say what to do."""
    with pytest.raises(ContractViolation, match=r'drivelake.table\("silver.imu"\)'):
        next(drivelake.read("silver.imu"))
    with pytest.raises(ContractViolation, match="no recording at /no/such"):
        next(drivelake.read("/no/such"))
    with pytest.raises(ContractViolation, match="not after the start 5"):
        drivelake.read("/no/such", start=5, end=2)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(UnsupportedFormatError, match="zip"):
        next(drivelake.read(str(tmp_path / "a.zip")))


def test_reading_needs_neither_spark_nor_dagster(recording):
    """`drivelake.read` imports no engine: it is a library of its own."""
    code = (
        "import sys, drivelake; n = sum(b.num_rows for b in drivelake.read(sys.argv[1]));"
        "assert n == 1000; assert not {'pyspark', 'dagster', 'deltalake'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(recording)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def numbers(place, **options):
    batches = drivelake.read(str(place), **options)
    return [number for batch in batches for number in batch["number"].to_pylist()]


def test_the_folder_of_a_bag_is_read_as_one_recording(tmp_path):
    """Its files one after the other, by their numbers; what its metadata names must be there."""
    for part in (10, 2, 9):
        (tmp_path / f"bag_{part}.mcap").write_bytes(mcap_bytes(part))
    (tmp_path / "notes.txt").write_text("no recording")
    wanted = [[*range(0, n, 2), *range(1, n, 2)] for n in (2, 9, 10)]
    every = [number for part in wanted for number in part]
    assert numbers(tmp_path) == every
    odd = [number for number in every if number % 2]
    assert numbers(f"{tmp_path}/", topics="/odd") == odd
    with pytest.raises(ContractViolation, match="no topic /none"):
        numbers(tmp_path, topics="/none")
    (tmp_path / "metadata.yaml").write_text(
        "a:\n  relative_file_paths:\n    - bag_9.mcap\n    - bag_11.mcap\n"
    )
    assert numbers(tmp_path, allow_loss=True) == wanted[1]
    with pytest.raises(DecodeError, match=r"SPLIT_MISSING: bag_11\.mcap"):
        numbers(tmp_path)


def test_a_topic_that_a_part_of_a_bag_lacks_is_read_from_the_others(tmp_path):
    """And damage in one part is said when all have been read."""
    (tmp_path / "bag").mkdir()
    with (tmp_path / "bag/a.mcap").open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        writer.finish()
    (tmp_path / "bag/b.mcap").write_bytes(mcap_bytes(1000)[:20_000])
    (tmp_path / "bag/c.mcap").write_bytes(mcap_bytes(4))
    found = numbers(tmp_path / "bag", topics="/even", allow_loss=True)
    assert found[-2:] == [0, 2]
    with pytest.raises(DecodeError, match="INCOMPLETE"):
        numbers(tmp_path / "bag")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ContractViolation, match="no recording in the folder"):
        numbers(tmp_path / "empty")
