from __future__ import annotations

import bz2
import functools
import gc
import gzip
import io
import lzma
import stat
import tempfile
import zipfile
from pathlib import Path

import attrs
import lz4.frame
import numpy as np
import pyarrow.fs as pafs
import pytest
import zstandard
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from contracts.errors import DecodeError, ResourceLimitError, UnsupportedFormatError
from contracts.recording import Finding
from tests.unit.udfs.decode.recordings import CONTEXT, account_of, mcap_bytes
from udfs.decode import packed_stream
from udfs.decode.packed import unpacked
from udfs.decode.recording import (
    index_recording,
    iter_message_groups,
    iter_table_groups,
    quick_index,
    resolve_pointers,
)
from udfs.decode.rosbag2_metadata import split_files
from udfs.decode.selection import Selection
from udfs.decode.source import BytesSource, RemoteSource, open_source

STORE = get_typestore(Stores.ROS2_HUMBLE)
NUMBER = "std_msgs/msg/Int64"
PACKERS = {
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "gzip": functools.partial(gzip.compress, mtime=0),
    "bzip2": functools.partial(bz2.compress, compresslevel=1),  # blocks of 100 kB
    "xz": lzma.compress,
    "lz4": lz4.frame.compress,
}


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where recordings are unpacked to; empty again when all is closed."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    if any(folder.iterdir()):
        gc.collect()  # sources that a test has not closed go with what looks at them
    assert list(folder.iterdir()) == []


def zipped(*members: tuple[str, bytes], **about: int) -> bytes:
    """A zip archive; `about` are fields of every member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            for key, value in about.items():
                setattr(member, key, value)
            archive.writestr(member, data)
    return out.getvalue()


def pack(packing: str, data: bytes) -> bytes:
    """Some bytes as an object that is packed as a whole."""
    return zipped(("drive.bin", data)) if packing == "zip" else PACKERS[packing](data)


def make_bag(folder: Path, messages: int, mode: CompressionMode, plugin=StoragePlugin.SQLITE3):
    """A rosbag2 folder that rosbags wrote, with /number."""
    writer = Writer(folder, version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/number", NUMBER, typestore=STORE)
        for i in range(messages):
            data = bytes(STORE.serialize_cdr(STORE.types[NUMBER](i), NUMBER))
            writer.write(connection, 1_000_000_000 + i * 1_000_000, data)
    return folder


def numbers_of(source) -> list[int]:
    """The numbers of all rows of a recording."""
    index = index_recording(source)
    groups = iter_table_groups(source, index, context=CONTEXT)
    return [r["data"] for g in groups for _, rows in g.tables for r in rows.to_pylist()]


@pytest.mark.parametrize("packing", [*PACKERS, "zip"])
def test_every_packing_gives_the_rows_of_the_recording(packing):
    """Rows, units and counts are those of what is inside; the ledger tiles what is stored."""
    data = mcap_bytes()
    stored = pack(packing, data)
    plain = account_of(data)
    account = account_of(stored)  # asserts that ranges tile the stored bytes
    assert account.rows == plain.rows
    assert account.index.units == plain.index.units
    assert account.lost == 0
    what = f"{packing}, {len(stored)} bytes; {len(data)} bytes unpacked"
    assert account.index.findings == (Finding("PACKED", what),)


def test_ranges_of_the_ledger_are_where_the_bytes_were_unpacked_from():
    """A range of stored bytes, unpacked alone, holds the unit that the entry speaks of."""
    data = mcap_bytes(60_000, chunk_size=1 << 20)
    frames = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
    stored = b"".join(map(PACKERS["zstd"], frames))
    account = account_of(stored)
    assert len({entry.offset for entry in account.ledger if entry.messages_written}) > 2
    with BytesSource(stored) as source:
        unpacked(source)
        ends = [source.inner._unpacking.stored_at(at) for at in range(0, len(data), 1000)]
    assert ends == sorted(ends)
    for at, end in zip(range(0, len(data), 1000), ends, strict=True):
        held = zstandard.ZstdDecompressor().stream_reader(stored[:end], read_across_frames=True)
        assert at - (1 << 20) < len(held.read()) <= at


def test_streams_one_behind_the_other_are_one_recording():
    """Parallel packers write many streams, tar-like ones zeros behind the last: all are read."""
    data = mcap_bytes()
    for packer in PACKERS.values():
        parts = [packer(data[at : at + 9000]) for at in range(0, len(data), 9000)]
        account = account_of(b"".join(parts) + bytes(600))
        assert account.numbers == list(range(1000))
        assert account.lost == 0
        assert [one.code for one in account.index.findings] == ["PACKED"]


@pytest.mark.parametrize("packing", [*PACKERS, "zip"])
def test_a_cut_stream_gives_what_stands_before_the_cut(packing):
    """Half of the object gives about half of the messages, and says that some are lost."""
    data = mcap_bytes(20_000, chunk_size=1 << 14)
    stored = pack(packing, data)
    account = account_of(stored[: len(stored) // 2])
    assert 5_000 < len(account.numbers) < 20_000
    assert account.numbers == list(range(len(account.numbers)))
    assert "TRUNCATED" in account.codes
    found = [one for one in account.index.findings if one.loses and one.lost_messages is None]
    assert "stored object" in found[0].detail


@pytest.mark.parametrize("packing", ["zstd", "gzip", "bzip2", "xz", "zip"])
def test_a_flipped_bit_is_never_silent(packing):
    """Checksums of the stream speak where those of the container don't: no flip is ACCEPTED."""
    data = mcap_bytes(3000, enable_crcs=False, compression=_none())
    stored = pack(packing, data)
    draw = np.random.default_rng(2)
    for at in draw.integers(len(stored), size=40).tolist():
        flipped = bytearray(stored)
        flipped[at] ^= 1 << int(draw.integers(8))
        try:
            account = account_of(bytes(flipped))
        except (DecodeError, UnsupportedFormatError):
            continue
        is_same = account.numbers == list(range(3000))
        assert is_same or account.lost is None or account.lost > 0 or account.index.findings[1:]


def _none():
    from mcap.writer import CompressionType

    return CompressionType.NONE


def test_bytes_behind_the_stream_are_not_passed_over():
    """What follows a stream and is none might have been one: it is quarantined and said."""
    stored = pack("gzip", mcap_bytes())
    account = account_of(stored + b"some more")
    assert account.numbers == list(range(1000))
    assert account.ledger[-1].offset == len(stored)
    assert (account.ledger[-1].fate, account.ledger[-1].length) == ("quarantined", 9)


@pytest.mark.parametrize("packing", [*PACKERS, "zip"])
def test_a_bomb_is_refused_with_a_bounded_file(packing, monkeypatch):
    """Fault 10: what grows by more than 200 times, or beyond the limit, is BOMB; no file stays."""
    bomb = mcap_bytes(10) + bytes(64 << 20)
    with pytest.raises(ResourceLimitError) as caught, BytesSource(pack(packing, bomb)) as source:
        index_recording(source)
    assert caught.value.code == "BOMB"
    monkeypatch.setattr(packed_stream, "MAX_UNPACKED_BYTES", 10_000)
    stored = pack(packing, mcap_bytes())
    with pytest.raises(ResourceLimitError) as caught, BytesSource(stored) as source:
        index_recording(source)
    assert caught.value.code == "BOMB"


BAG = mcap_bytes(10)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (zipped(("../drive.mcap", BAG)), "leads out"),
        (zipped(("a/../../drive.mcap", BAG)), "leads out"),
        (zipped(("/etc/drive.mcap", BAG)), "leads out"),
        (zipped(("C:\\drive.mcap", BAG)), "leads out"),
        (zipped(("..\\drive.mcap", BAG)), "leads out"),
        (zipped(("drive.mcap", BAG), ("../x", b"x")), "leads out"),
        (zipped(("drive.mcap", BAG), external_attr=(stat.S_IFLNK | 0o777) << 16), "link"),
        (zipped(("drive.mcap", BAG), external_attr=(stat.S_IFCHR | 0o777) << 16), "device"),
        (zipped(("drive.mcap", pack("zstd", BAG))), "zstd archive in it"),
        (zipped(("drive.mcap", BAG), ("b.zip", zipped(("x", b"x")))), "zip archive in it"),
        (zipped(("a.mcap", BAG), ("b.mcap", BAG)), "more than one recording"),
        (zipped(("notes.txt", b"no recording")), "no recording"),
        (zipped(), "no recording"),
        (pack("zstd", pack("gzip", BAG)), "gzip archive"),
        (pack("gzip", b"no recording"), "no known format"),
        (pack("xz", b'VERSION ""\nBS_:\nBU_: A\n'), "bus_definition"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z archive"),
    ],
)
def test_hostile_and_unclear_archives_are_refused(stored, says, temporary):
    """Fault 24: links, names that lead away, archives in archives and riddles stay closed."""
    with (
        pytest.raises(UnsupportedFormatError, match=f"{says}.*unpack it") as caught,
        BytesSource(stored) as source,
    ):
        index_recording(source)
    assert caught.value.code == "UNSUPPORTED_FORMAT"
    assert list(temporary.iterdir()) == []


def test_an_encrypted_archive_is_refused():
    """A member that is flagged as encrypted is not taken for a damaged one."""
    stored = bytearray(zipped(("drive.mcap", BAG)))
    stored[6] |= 1
    stored[stored.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnsupportedFormatError, match="encrypted"):
        index_recording(BytesSource(bytes(stored)))


def test_an_archive_whose_two_names_differ_is_refused():
    """The name before the bytes and the one in the directory are the same, or nobody is right."""
    stored = bytearray(zipped(("drive.mcap", BAG)))
    stored[30:35] = b"other"
    with pytest.raises(UnsupportedFormatError, match="other members"):
        index_recording(BytesSource(bytes(stored)))


def test_a_zip_takes_other_files_along():
    """A recording beside notes is opened: all bytes have a fate, those of the notes too."""
    stored = zipped(("notes.txt", b"a fine drive" * 99), ("run/drive.mcap", mcap_bytes()))
    account = account_of(stored)
    assert account.numbers == list(range(1000))
    assert {entry.detail for entry in account.ledger if not entry.offset} == {"zip"}


def test_a_real_mdf_in_a_zip_gives_its_rows(samples):
    """`.mf4z` gives the rows of the `.mf4`, whatever it is called."""
    path = samples / "mdf/gomdf/sample2.mf4"
    plain, inside = account_of(path.read_bytes()), account_of(pack("zip", path.read_bytes()))
    assert inside.rows == plain.rows
    assert inside.rows


def test_a_real_bag_packed_gives_its_rows(samples):
    """`drive.bag.bz2` gives the rows of the bag; a pointer counts in the unpacked stream."""
    data = (samples / "bag/ros_comm/rosbag_storage_test.bag").read_bytes()
    assert account_of(pack("bzip2", data)).rows == account_of(data).rows


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_rosbag2_compressed_as_files_is_read(tmp_path, plugin):
    """FILE mode: the file that the metadata names is taken as it is, equal to rosbags' reading."""
    folder = make_bag(tmp_path / "bag", 500, CompressionMode.FILE, plugin)
    (name,) = split_files((folder / "metadata.yaml").read_bytes())
    assert name.endswith(".zstd")
    with Reader(folder) as reader:
        wanted = [STORE.deserialize_cdr(raw, NUMBER).data for _, _, raw in reader.messages()]
    with open_source(str(folder / name)) as source:
        assert numbers_of(source) == wanted == list(range(500))


def test_a_cut_database_in_a_stream_gives_its_rows_before_the_cut(tmp_path):
    """FILE mode, cut: rows that can be read are kept, and that more are lost is said."""
    folder = make_bag(tmp_path / "bag", 20_000, CompressionMode.FILE)
    stored = next(folder.glob("*.zstd")).read_bytes()
    with BytesSource(stored[: len(stored) * 2 // 3]) as source:
        found = numbers_of(source)
        codes = {one.code for one in index_recording(source).findings if one.loses}
    assert 5_000 < len(found) < 20_000
    assert found == list(range(len(found)))
    assert "TRUNCATED" in codes


def test_messages_of_a_rosbag2_compressed_one_by_one_are_read(tmp_path):
    """MESSAGE mode: equal to what was written."""
    folder = make_bag(tmp_path / "bag", 500, CompressionMode.MESSAGE)
    with open_source(str(next(folder.glob("*.db3")))) as source:
        assert numbers_of(source) == list(range(500))


@pytest.mark.parametrize("packing", ["zstd", "zip"])
@pytest.mark.parametrize("container", ["mcap", "mcap_plain", "db3"])
def test_pointers_resolve_in_the_unpacked_stream(tmp_path, packing, container):
    """Pointers made from a packed recording lead to the payloads, from the stored object anew."""
    if container == "db3":
        folder = make_bag(tmp_path / "bag", 100, CompressionMode.MESSAGE)
        data = next(folder.glob("*.db3")).read_bytes()
    else:
        data = mcap_bytes(**({} if container == "mcap" else {"use_chunking": False}))
    stored = pack(packing, data)
    wanted, pointers = [], {"unit_offset": [], "data_offset": [], "data_length": []}
    with BytesSource(stored) as source:
        index = quick_index(source)
        for group in iter_message_groups(source, index, selection=Selection()):
            for batch in group.batches:
                pairs = zip(batch.starts, batch.lengths, strict=True)
                wanted += [batch.arena[s : s + n].tobytes() for s, n in pairs]
                pointers["unit_offset"] += batch.unit_offset.tolist()
                pointers["data_offset"] += batch.payload_offset.tolist()
                pointers["data_length"] += batch.lengths.tolist()
    arrays = {name: np.array(values) for name, values in pointers.items()}
    with BytesSource(stored) as source:
        found = resolve_pointers(source, format=index.format, **arrays)
    assert found.to_pylist() == wanted
    assert wanted


def test_an_object_far_away_is_unpacked_as_it_is_read(tmp_path):
    """Ranged reads of a storage give what a file gives."""
    path = tmp_path / "drive.mcap.zst"
    path.write_bytes(pack("zstd", mcap_bytes()))
    filesystem = pafs.LocalFileSystem()
    with RemoteSource(filesystem, str(path), uri="s3://a/b", read_ahead=1000) as source:
        index = index_recording(source)
        found = list(iter_table_groups(source, index, context=CONTEXT))
        assert sum(sum(group.rows_by_channel.values()) for group in found) == 1000


def test_an_object_is_unpacked_once_while_it_is_open(temporary):
    """Index, rows and pointers share one temporary file, which is gone when the source is."""
    with BytesSource(pack("zstd", mcap_bytes())) as source:
        index = index_recording(source)
        names = [path.name for path in temporary.iterdir()]
        list(iter_table_groups(source, index, context=CONTEXT))
        assert [path.name for path in temporary.iterdir()] == names
        assert len(names) == 1
    assert attrs.has(type(index))
