from __future__ import annotations

import io
import struct

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from rosbags.rosbag1 import Writer as BagWriter
from rosbags.typesys import Stores, get_typestore

from contracts.errors import ContractViolation
from udfs.decode import mcap_quick, ros1bag_quick
from udfs.decode.reading import Account, iter_rows, time_ns_of
from udfs.decode.recording import index_recording, quick_index
from udfs.decode.selection import Selection
from udfs.decode.source import PART_READ_AHEAD_BYTES, BytesSource, RemoteSource, open_source

from tests.unit.udfs.decode.recordings import mcap_bytes  # isort: skip

BLOB = "uint8[] data\n"
SECOND = 1_000_000_000


def two_topics(seconds=40, size=50_000):
    """An MCAP of 200 kB/s: /a is in the first half and /b in the second, 5 messages a second."""
    from mcap.writer import CompressionType, Writer

    out = io.BytesIO()
    writer = Writer(out, chunk_size=400_000, compression=CompressionType.NONE)
    writer.start("ros2", "test writer")
    schema = writer.register_schema("pkg/msg/Blob", "ros2msg", BLOB.encode())
    channels = [writer.register_channel(topic, "cdr", schema) for topic in ("/a", "/b")]
    data = np.random.default_rng(7).bytes(size)
    payload = b"\0\1\0\0" + struct.pack("<I", size) + data
    for i in range(seconds * 5):
        channel = channels[i >= seconds * 5 // 2]
        writer.add_message(channel, i * SECOND // 5, payload, i * SECOND // 5, i)
    writer.finish()
    return out.getvalue()


def bag_bytes(path, seconds=40, size=50_000):
    """The same as a ROS 1 bag."""
    store = get_typestore(Stores.ROS1_NOETIC)
    octets = store.types["std_msgs/msg/UInt8MultiArray"]
    layout = store.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    data = np.frombuffer(np.random.default_rng(7).bytes(size), np.uint8)
    payload = store.serialize_ros1(octets(layout=layout, data=data), octets.__msgtype__)
    with BagWriter(path) as writer:
        links = [
            writer.add_connection(topic, octets.__msgtype__, typestore=store)
            for topic in ("/a", "/b")
        ]
        for i in range(seconds * 5):
            writer.write(links[i >= seconds * 5 // 2], i * SECOND // 5, payload)
    return path.read_bytes()


@attrs.define
class CountingFiles:
    """Files on disk as a remote storage; counts the bytes that are fetched."""

    fetched: int = 0
    requests: int = 0

    def get_file_info(self, path):
        """As the disk has it."""
        return pafs.LocalFileSystem().get_file_info(path)

    def open_input_file(self, path):
        """The file, counted."""
        return CountingFile(self, pafs.LocalFileSystem().open_input_file(path))


@attrs.define
class CountingFile:
    """An open file of `CountingFiles`."""

    files: CountingFiles
    file: pa.NativeFile

    def read_at(self, length, offset):
        """Some bytes, counted."""
        self.files.fetched += length
        self.files.requests += 1
        return self.file.read_at(length, offset)

    def close(self):
        """Close the file."""
        self.file.close()


def read(source, index, selection, **options):
    account = Account.of_index(index)
    found = list(iter_rows(source, index, selection=selection, account=account, **options))
    return found, account


@pytest.mark.parametrize("container", ["mcap", "bag"])
@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        (Selection(topics=("/b",)), 100),
        (Selection(start_ns=10 * SECOND, end_ns=20 * SECOND), 50),
        (Selection(topics=("/a",), start_ns=15 * SECOND, end_ns=25 * SECOND), 25),
    ],
    ids=["topic", "ten-seconds", "both"],
)
def test_a_part_costs_the_bytes_of_its_chunks(tmp_path, container, selection, rows):
    """Of a remote file at most 1.1 times the bytes that the index names are fetched for a part."""
    path = tmp_path / f"drive.{container}"
    data = two_topics() if container == "mcap" else bag_bytes(path)
    path.write_bytes(data)
    files = CountingFiles()
    with RemoteSource(files, str(path), uri="s3://x/y", read_ahead=PART_READ_AHEAD_BYTES) as source:
        index = quick_index(source)
        found, account = read(source, index, selection)
    ids = {channel.id for channel in selection.channels(index)}
    needed = selection.units(index, channels=ids, among=None)
    needed_bytes = sum(unit.length for unit in needed)
    assert sum(batch.num_rows for _, batch in found) == rows
    assert account.is_whole
    assert len(needed) < 0.7 * len(index.units)
    assert files.fetched <= 1.1 * needed_bytes, files.fetched / needed_bytes
    assert files.requests <= 2 * len(needed) + 6


def test_both_ends_of_the_span_are_as_stated():
    """The start belongs to a span, the end does not; no message is lost between two spans."""
    with BytesSource(mcap_bytes(1000)) as source:
        index = quick_index(source)
        cut = SECOND + 500_000_000
        first, _ = read(source, index, Selection(end_ns=cut))
        second, _ = read(source, index, Selection(start_ns=cut))
        numbers = [
            [n for _, batch in part for n in batch.column("number").to_pylist()]
            for part in (first, second)
        ]
    assert sorted(numbers[0]) == list(range(500))
    assert sorted(numbers[1]) == list(range(500, 1000))


def test_quick_index_says_what_the_walk_says(tmp_path):
    """Units, counts, spans and channels from the index section are those that the walk finds."""
    bag = bag_bytes(tmp_path / "drive.bag", seconds=4)
    for data in (mcap_bytes(1000), two_topics(4), bag):
        with BytesSource(data) as source:
            walked = index_recording(source)
            quick = quick_index(source)
            units = quick.units
            if quick.format == "ros1bag":
                assert {unit.uncompressed_size for unit in units} == {None}
                units = tuple(ros1bag_quick.sized(source, units))
            assert units == walked.units
            for name in ("start_ns", "end_ns", "schemas", "messages_declared", "profile"):
                assert getattr(quick, name) == getattr(walked, name), name
            by_id = [sorted(index.channels, key=lambda c: c.id) for index in (quick, walked)]
            assert by_id[0] == by_id[1]


def test_damaged_summary_is_not_believed():
    """Wherever a byte of the summary is changed, its checksum sends the reader on the long way."""
    data = mcap_bytes(1000)
    with BytesSource(data) as source:
        assert mcap_quick.quick_index(source) is not None
        start = max(unit.offset + unit.length for unit in index_recording(source).units)
    for at in range(start + 13, len(data) - 12, 7):  # behind DataEnd, before the CRC and magic
        broken = bytearray(data)
        broken[at] ^= 0x10
        with BytesSource(bytes(broken)) as source:
            assert mcap_quick.quick_index(source) is None, at


def test_lying_index_without_checksum_is_not_believed():
    """Without a checksum, counts that do not add up send the reader on the long way."""
    data = mcap_bytes(1000, enable_crcs=False)
    with BytesSource(data) as source:
        assert mcap_quick.quick_index(source) is not None
        index = index_recording(source)
    offset = struct.pack("<Q", index.units[3].offset)
    broken = data[: index.units[-1].offset] + data[index.units[-1].offset :].replace(
        offset, struct.pack("<Q", index.units[3].offset + 1)
    )
    assert broken != data
    with BytesSource(broken) as source:
        assert mcap_quick.quick_index(source) is None


def test_cut_file_is_read_as_far_as_it_goes():
    """Without its index a file is walked; the part that is there comes, and the loss is said."""
    data = mcap_bytes(1000)
    with BytesSource(data[: len(data) // 2]) as source:
        index = quick_index(source)
        found, account = read(source, index, Selection(topics=("/odd",)))
    assert 100 < sum(batch.num_rows for _, batch in found) < 300
    assert not account.is_whole
    assert account.lost_unknown


def test_unit_of_unknown_channels_is_read_and_its_loss_said():
    """A chunk whose channels nobody defines may hold any topic: it is never left out unseen."""
    data = bytearray(
        mcap_bytes(40, chunk_size=1 << 20, repeat_channels=False, use_statistics=False)
    )
    with BytesSource(bytes(data)) as source:
        [unit] = index_recording(source).units
    data[unit.offset + 100 : unit.offset + 160] = bytes(60)  # the definitions are in there too
    with BytesSource(bytes(data)) as source:
        index = index_recording(source)
        found, account = read(source, index, Selection())
    assert not found
    assert account.lost == 40


def test_topics_may_be_patterns_and_unknown_ones_are_refused():
    """`/ev*` takes /even; a topic that is not there is an error that names those that are."""
    with BytesSource(mcap_bytes(100)) as source:
        index = quick_index(source)
        found, _ = read(source, index, Selection(topics=("/ev*",)))
        assert {topic for _, b in found for topic in b.column("topic").to_pylist()} == {"/even"}
        with pytest.raises(ContractViolation, match=r"no topic /od .*it has /even, /odd") as told:
            read(source, index, Selection(topics=("/od",)))
        assert told.value.code == "USAGE"


def test_signals_of_a_measurement_are_chosen_by_name(samples):
    """A signal, a pattern, an element of an array: its rows come, with those of no other."""
    with open_source(str(samples / "mdf/mf4_rust/string_and_array.mf4")) as source:
        index = quick_index(source)
        everything, _ = read(source, index, Selection())
        names = {n for _, batch in everything for n in batch.column("signal").to_pylist()}
        array = "Channel_lookup_with_default_axis"
        for asked, expected in (
            ("Channel_string", {"Channel_string"}),
            ("Channel_s*", {"Channel_string"}),
            (array, {name for name in names if name.startswith(array)}),
            (f"{array}[0][0][0]", {f"{array}[0][0][0]"}),
        ):
            found, _ = read(source, index, Selection(signals=(asked,)))
            rows = [n for _, batch in found for n in batch.column("signal").to_pylist()]
            assert set(rows) == expected, asked
            total = [n for _, batch in everything for n in batch.column("signal").to_pylist()]
            assert len(rows) == sum(n in expected for n in total)
        with pytest.raises(ContractViolation, match="no signal Speed"):
            read(source, index, Selection(signals=("Speed",)))
    with BytesSource(mcap_bytes(100)) as source:
        index = quick_index(source)
        with pytest.raises(ContractViolation, match="no signal Speed"):
            read(source, index, Selection(signals=("Speed",)))


def test_times_in_every_spelling():
    """ISO text, a datetime and nanoseconds name the same time; other text is refused."""
    assert time_ns_of("1970-01-01T00:00:01Z") == time_ns_of("1970-01-01T01:00:01+01:00") == SECOND
    assert time_ns_of("1970-01-01T00:00:01") == time_ns_of(str(SECOND)) == time_ns_of(SECOND)
    with pytest.raises(ContractViolation, match="'soon' is no time"):
        time_ns_of("soon")
