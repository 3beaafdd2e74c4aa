from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

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
