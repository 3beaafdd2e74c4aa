from __future__ import annotations

import gc
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from contracts.errors import DecodeError, UnsupportedFormatError
from udfs.decode.recording import index_recording, iter_table_groups
from udfs.decode.sniff import sniff
from udfs.decode.source import READ_AHEAD_BYTES, BytesSource, open_source, sha256_of

from tests.unit.udfs.decode.recordings import CONTEXT, mcap_bytes  # isort: skip


@pytest.fixture(scope="module")
def storage():
    """Options of an S3 server of its own, with a bucket `fleet`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-central-1",
        "AWS_ALLOW_HTTP": "true",
    }
    client = boto3.client(
        "s3",
        endpoint_url=options["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
        region_name="eu-central-1",
    )
    client.create_bucket(
        Bucket="fleet", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield options, client
    server.stop()


def test_a_path_a_file_uri_and_memory_read_alike(tmp_path):
    """Every way to name a file on disk gives its bytes, its size and its hash."""
    data = os.urandom(100_000)
    path = tmp_path / "with space.bin"
    path.write_bytes(data)
    for source in (open_source(str(path)), open_source(path.as_uri()), BytesSource(data)):
        with source:
            assert source.size == len(data)
            assert bytes(source.read_at(500, 1000)) == data[500:1500]
            assert sha256_of(source, chunk=777) == hashlib.sha256(data).hexdigest()
            assert Path(source.local_path()).read_bytes() == data


def test_reads_past_the_end_are_truncation(tmp_path):
    """A range that is not whole inside the object raises, never gives fewer bytes."""
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    for offset, length in ((0, 6), (5, 1), (-1, 2), (1 << 60, 1)):
        with open_source(str(path)) as source, pytest.raises(DecodeError) as caught:
            source.read_at(offset, length)
        assert caught.value.code == "TRUNCATED"


def test_the_copy_of_a_source_is_gone_after_close():
    """A temporary copy lives as long as its source."""
    with BytesSource(b"abc") as source:
        path = Path(source.local_path())
        assert path.exists()
    assert not path.exists()
    path = Path(BytesSource(b"never closed").local_path())
    gc.collect()
    assert not path.exists()


def test_what_is_not_there_and_what_is_no_storage_are_told_apart():
    """A missing file is FileNotFoundError, an unknown scheme UNSUPPORTED_SCHEME."""
    with pytest.raises(FileNotFoundError):
        open_source("/no/such/recording.mcap")
    with pytest.raises(UnsupportedFormatError):
        open_source("ftp://host/recording.mcap")


def test_s3_reads_ranges_and_decodes_like_a_file(storage):
    """An object on S3: any range equals the bytes, and the recording gives the same rows."""
    options, client = storage
    data = mcap_bytes(500) + os.urandom(2 * READ_AHEAD_BYTES)
    client.put_object(Bucket="fleet", Key="a/b.bin", Body=data)
    with open_source("s3://fleet/a/b.bin", storage_options=options) as source:
        assert source.size == len(data)
        for offset, length in ((0, 8), (100, 10), (len(data) - 5, 5), (7, READ_AHEAD_BYTES + 9)):
            assert bytes(source.read_at(offset, length)) == data[offset : offset + length]
        with pytest.raises(DecodeError):
            source.read_at(len(data) - 1, 2)
        copy = Path(source.local_path())
        assert copy.read_bytes() == data
    assert not copy.exists()
    client.put_object(Bucket="fleet", Key="drive.mcap", Body=mcap_bytes(500))
    with open_source("s3://fleet/drive.mcap", storage_options=options) as source:
        groups = iter_table_groups(source, index_recording(source), context=CONTEXT)
        assert sum(entry.messages_written for g in groups for entry in g.ledger) == 500


def test_a_key_on_s3_is_taken_as_it_stands(storage):
    """What means something in other URIs is a letter of a key."""
    options, client = storage
    client.put_object(Bucket="fleet", Key="run #2?%20.bin", Body=b"12345")
    with open_source("s3://fleet/run #2?%20.bin", storage_options=options) as source:
        assert bytes(source.read_at(0, source.size)) == b"12345"


def test_a_missing_object_on_s3_is_not_found(storage):
    """An absent key raises when it is opened, not when it is read."""
    with pytest.raises(FileNotFoundError):
        open_source("s3://fleet/none", storage_options=storage[0])


def test_samples_are_told_by_content(samples):
    """Every file of the samples by its bytes: how many of each kind and format there are."""
    found: dict[str, int] = {}
    for path in sorted(samples.rglob("*")):
        if path.is_file():
            try:
                name = sniff(open_source(str(path))).format
            except DecodeError:  # tables and notes that lie beside the recordings
                continue
            found[name] = found.get(name, 0) + 1
    assert found == {
        "mcap": 97,
        "ros1bag": 8,
        "rosbag2_db3": 15,
        "mdf4": 15,
        "dbc": 34,
        "arxml": 4,
        "rosbag2_metadata": 12,
        "asc": 6,
        "blf": 1,
    }


@pytest.mark.parametrize(
    ("head", "kind", "format_"),
    [
        (b"\x89MCAP0\r\n", "recording", "mcap"),
        (b"#ROSBAG V2.0\n", "recording", "ros1bag"),
        (b"MDF     4.11    ", "recording", "mdf4"),
        (b"UnFinMF 4.10    ", "recording", "mdf4"),
        (b"LOGG\x90\0\0\0", "recording", "blf"),
        (b"date Fri Feb 14 08:51:20 am 2020\nbase hex  timestamps absolute\n", "recording", "asc"),
        (b";$FILEVERSION=1.1\n", "recording", "trc"),
        (b"(1436509052.249713) vcan0 044#2A366C2BBA\n", "recording", "candump"),
        (b'VERSION ""\n\nNS_ :\n\nBS_:\n', "bus_definition", "dbc"),
        (b'{"drivelake_manifest": 1, "files": []}', "upload_manifest", "upload_manifest"),
        (b"rosbag2_bagfile_information:\n  version: 5\n", "recording_metadata", "rosbag2_metadata"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<AUTOSAR xmlns="x">', "bus_definition", "arxml"),
    ],
)
def test_each_format_is_told_by_its_first_bytes(head, kind, format_):
    """The kind and format of a minimal example of each."""
    found = sniff(BytesSource(head, uri="misleading.csv"))
    assert (found.kind, found.format) == (kind, format_)


@pytest.mark.parametrize(
    "head",
    [
        b"#ROSBAG V1.2\n",
        b"\x89MCAP9\r\n",
        b"SQLite format 3\0",
    ],
)
def test_known_formats_without_a_reader_say_so(head):
    """Known but not served is UNSUPPORTED_FORMAT, not damage."""
    with pytest.raises(UnsupportedFormatError) as caught:
        sniff(BytesSource(head))
    assert caught.value.code == "UNSUPPORTED_FORMAT"


@pytest.mark.parametrize("pack", ["zip", "tar", "tar.gz"])
def test_archives_that_lead_away_are_refused_unopened(tmp_path, pack):
    """Fault 24: none of their links and paths leads anywhere; others are in test_packed."""
    target = tmp_path / "outside.mf4"
    data = b"MDF     4.10    " + bytes(100)
    if pack == "zip":
        with zipfile.ZipFile(tmp_path / pack, "w") as archive:
            archive.writestr("../outside.mf4", data)
    else:
        with tarfile.open(tmp_path / pack, "w:gz" if pack == "tar.gz" else "w") as archive:
            link = tarfile.TarInfo("drive.mf4")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
            away = tarfile.TarInfo("../outside.mf4")
            away.size = len(data)
            archive.addfile(away, io.BytesIO(data))
    with pytest.raises(UnsupportedFormatError, match="unpack it") as caught:
        index_recording(open_source(str(tmp_path / pack)))
    assert caught.value.code == "UNSUPPORTED_FORMAT"
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == [pack]


def test_a_definition_is_no_recording():
    """Asked to index what is no recording, the reader names what it is."""
    with pytest.raises(UnsupportedFormatError) as caught:
        index_recording(BytesSource(b'VERSION ""\nBS_:\nBU_: A\n'))
    assert caught.value.code == "NOT_A_RECORDING"
