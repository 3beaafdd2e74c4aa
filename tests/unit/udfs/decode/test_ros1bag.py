from __future__ import annotations

import functools
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Reader, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from contracts.errors import DecodeError, ResourceLimitError, UnsupportedFormatError
from tests.unit.udfs.decode.recordings import CONTEXT, account_of, outcome_of
from tests.unit.udfs.oracles import assert_same, plain
from udfs.decode import ros1bag, ros1bag_scan
from udfs.decode import ros1bag_records as rec
from udfs.decode.recording import index_recording, iter_table_groups, resolve_pointers
from udfs.decode.source import BytesSource, open_source

STORE = get_typestore(Stores.ROS1_NOETIC)
NUMBER = "std_msgs/msg/Int64"
CHUNK_BYTES = 4096
COMPRESSIONS = {
    "none": None,
    "bz2": Writer.CompressionFormat.BZ2,
    "lz4": Writer.CompressionFormat.LZ4,
}
BAGS = [
    "embag/array_test.bag",
    "embag/test_2.bag",
    "robot_localization/test2.bag",
    "ros_comm/rosbag_storage_test.bag",
    "rosbag.js/example-bz2.bag",
    "rosbag.js/example-lz4.bag",
    "rosbag.js/example.bag",
    "rosbag.js/no-messages.bag",
]


@pytest.fixture(scope="session")
def make_bag(tmp_path_factory):
    """`make_bag(messages, compression)`: bytes of a bag with /even and /odd, 1 ms apart."""

    def make(messages: int = 400, compression: str = "lz4") -> bytes:
        path = tmp_path_factory.mktemp("bags") / "some.bag"
        writer = Writer(path)
        if COMPRESSIONS[compression]:
            writer.set_compression(COMPRESSIONS[compression])
        writer.chunk_threshold = CHUNK_BYTES
        with writer:
            connections = [
                writer.add_connection(topic, NUMBER, typestore=STORE) for topic in ("/even", "/odd")
            ]
            for i in range(messages):
                message = STORE.types[NUMBER](i)
                data = bytes(STORE.serialize_ros1(message, NUMBER))
                writer.write(connections[i % 2], 1_000_000_000 + i * 1_000_000, data)
        return path.read_bytes()

    return make


def values(account) -> list[int]:
    """The numbers of all rows, in order of log time."""
    return [row["data"] for row in sorted(account.rows, key=lambda row: row["log_time_ns"])]


@functools.cache
def own_types(definition: str, name: str):
    """Types of a message as its bag defines it."""
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition, name))
    return store


def fields_of(connection, raw: bytes) -> dict:
    """The fields of a message as rosbags reads them with the bag's own definition."""
    store = own_types(connection.msgdef.data, connection.msgtype)
    found = plain(store.deserialize_ros1(raw, connection.msgtype))
    names = {name.lower() for name, _ in store.fielddefs[connection.msgtype][1]}
    return {name: value for name, value in found.items() if name.removesuffix("_ns") in names}


def unindexed(data: bytes) -> bytes:
    """The bag as a recorder leaves it that lost power between two chunks."""
    index_pos = ros1bag_scan._bag_header(BytesSource(data)).number(b"index_pos")
    at = data.index(b"index_pos=") + len(b"index_pos=")
    cut = bytearray(data[:index_pos])
    cut[at : at + 8] = bytes(8)
    return bytes(cut)


def chunks(data: bytes) -> list:
    return list(index_recording(BytesSource(data)).units)


@pytest.mark.parametrize("name", BAGS)
def test_a_real_bag_equals_rosbags_message_by_message(samples, name):
    """Each message of a real bag gives the fields, time and topic that rosbags reads."""
    path = samples / "bag" / name
    source = open_source(str(path))
    index = index_recording(source)
    assert index.findings == ()
    own: dict[str, list] = {}
    for group in iter_table_groups(source, index, context=CONTEXT):
        assert not group.bad
        for table, rows in group.tables:
            for row in rows.to_pylist():
                own.setdefault(row["topic"], []).append((row["log_time_ns"], table, row))
    with Reader(path) as reader:
        assert index.messages_declared == reader.message_count
        compared = 0
        seen: dict[str, list] = {}
        for connection, time_ns, raw in reader.messages():
            seen.setdefault(connection.topic, []).append((time_ns, connection, raw))
        kinds = {"imu", "odometry", "transforms"}
        for topic, messages in seen.items():
            rows = sorted(own[topic], key=lambda row: row[0])
            assert sum(b.message_count for b in index.channels if b.topic == topic) == len(messages)
            if rows[0][1] in kinds:
                assert {row[0] for row in rows} == {message[0] for message in messages}
                continue
            assert [row[0] for row in rows] == [message[0] for message in messages]
            for (_, _, row), (_, connection, raw) in zip(rows, messages, strict=True):
                wanted = fields_of(connection, raw)
                assert_same({name: row.get(name, row.get(f"{name}_")) for name in wanted}, wanted)
                compared += 1
        assert compared or all(rows[0][1] in kinds for rows in own.values()) or not seen


def test_imu_and_odometry_of_a_real_bag_equal_rosbags(samples):
    """Typed rows hold the numbers of the messages they come from, to the bit."""
    path = samples / "bag/robot_localization/test2.bag"
    source = open_source(str(path))
    index = index_recording(source)
    rows = [
        row
        for group in iter_table_groups(source, index, context=CONTEXT)
        for table, batch in group.tables
        if table == "imu"
        for row in batch.to_pylist()
    ]
    with Reader(path) as reader:
        wanted = [
            (time_ns, STORE.deserialize_ros1(raw, connection.msgtype))
            for connection, time_ns, raw in reader.messages()
            if connection.topic == "/imu/data"
        ]
    assert len(rows) == len(wanted) == 3061
    for row, (time_ns, message) in zip(rows, wanted, strict=True):
        assert row["log_time_ns"] == time_ns
        stamp = message.header.stamp
        assert row["sensor_time_ns"] == stamp.sec * 1_000_000_000 + stamp.nanosec
        assert row["frame_id"] == message.header.frame_id
        assert row["orientation_w"] == message.orientation.w
        assert row["angular_velocity_z_rad_s"] == message.angular_velocity.z
        assert row["linear_acceleration_x_m_s2"] == message.linear_acceleration.x
        assert row["orientation_covariance"] == message.orientation_covariance.tolist()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_gives_all_messages(make_bag, compression):
    """A bag of any compression gives every message once, in order; all bytes have a fate."""
    account = account_of(make_bag(compression=compression))
    assert values(account) == list(range(400))
    assert account.codes == set()
    assert account.index.messages_declared == 400
    assert [row["sequence"] for row in account.rows if row["topic"] == "/odd"] == list(range(200))
    assert (account.index.start_ns, account.index.end_ns) == (1_000_000_000, 1_399_000_000)
    assert {c.metadata["md5sum"] for c in account.index.channels} == {
        "34add168574510e6e17f5d23ecc077ef"
    }


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_pointers_lead_to_the_payloads(make_bag, compression):
    """(unit_offset, payload_offset) of a message read back give its bytes."""
    data = make_bag(60, compression)
    source = BytesSource(data)
    index = index_recording(source)
    for group in ros1bag.iter_message_groups(source, index):
        for batch in group.batches:
            found = resolve_pointers(
                source,
                format="ros1bag",
                unit_offset=batch.unit_offset,
                data_offset=batch.payload_offset,
                data_length=batch.lengths,
            )
            wanted = [
                batch.arena[start : start + length].tobytes()
                for start, length in zip(batch.starts, batch.lengths, strict=True)
            ]
            assert found.to_pylist() == wanted


def test_units_decode_alone_as_they_do_together(make_bag):
    """A split reader gives the same rows, with the same sequence numbers, as a reader of all."""
    data = make_bag()
    source = BytesSource(data)
    index = index_recording(source)
    assert len(index.units) > 3
    together = account_of(data).rows
    alone = [row for unit in index.units for row in account_of(data, units=[unit]).rows]
    key = lambda row: row["log_time_ns"]  # noqa: E731
    assert sorted(alone, key=key) == sorted(together, key=key)


def test_an_unindexed_bag_is_read_by_its_chunks(make_bag):
    """Fault 32: without index section all chunks are recovered; what is missing is unknown."""
    account = account_of(unindexed(make_bag()))
    assert values(account) == list(range(400))
    assert account.codes == {"NO_INDEX"}
    assert account.index.messages_declared is None
    (finding,) = account.index.findings
    assert finding.loses
    assert finding.lost_messages is None


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_bag_cut_inside_a_chunk_keeps_what_stands_before(make_bag, compression):
    """Fault 32: all messages before the cut are kept, and those of the cut chunk that read."""
    data = make_bag(compression=compression)
    units = chunks(data)
    whole = account_of(data, units=units[:-1]).rows
    chunk = rec.chunk_at(BytesSource(data), units[-1].offset)
    account = account_of(data[: chunk.data_offset + chunk.data_length // 2])
    assert "TRUNCATED" in account.codes
    assert values(account) == list(range(len(account.rows)))
    assert len(account.rows) >= len(whole)
    assert any(f.loses and f.lost_messages is None for f in account.index.findings)


def test_a_bag_cut_inside_the_index_section_loses_nothing(make_bag):
    """The bag header counts the chunks: if all are there, a cut behind them costs no message."""
    account = account_of(make_bag()[:-20])
    assert values(account) == list(range(400))
    assert account.codes == {"TRUNCATED"}
    assert not any(finding.loses for finding in account.index.findings)


def test_a_cut_head_says_so():
    """A file that ends inside the bag header is refused with the place."""
    with pytest.raises(DecodeError, match="TRUNCATED") as error:
        index_recording(BytesSource(b"#ROSBAG V2.0\n" + b"\x45\0\0\0"))
    assert error.value.offset == 13


def test_a_damaged_chunk_costs_only_itself(make_bag):
    """A chunk that won't decompress is counted lost from its index; the others are kept."""
    data = bytearray(make_bag(compression="bz2"))
    unit = chunks(bytes(data))[1]
    at = unit.offset + 90
    data[at : at + 16] = bytes(16)
    account = account_of(bytes(data))
    assert len(account.rows) == 400 - unit.message_count
    assert account.lost == unit.message_count
    assert "CHUNK_DAMAGED" in account.codes


@pytest.mark.parametrize("indexed", [True, False])
def test_a_destroyed_record_costs_its_chunk_with_or_without_index(make_bag, indexed):
    """Where a chunk record is destroyed, reading goes on at the next chunk, claimed or found."""
    data = make_bag()
    units = chunks(data)
    broken = bytearray(data if indexed else unindexed(data))
    broken[units[2].offset : units[2].offset + 40] = b"\xff" * 40
    account = account_of(bytes(broken))
    assert len(account.rows) == 400 - units[2].message_count
    assert "BAD_RECORD" in account.codes
    (entry,) = (entry for entry in account.ledger if entry.fate == "quarantined")
    assert entry.offset == units[2].offset
    assert entry.offset + entry.length == units[3].offset


def test_an_index_that_leaves_a_message_out_is_not_believed(make_bag):
    """Messages between the indexed ones are found; the claim that differs is reported."""
    data = bytearray(make_bag(compression="none"))
    unit = chunks(bytes(data))[0]
    at = data.index(b"op=\x04", unit.offset)
    start = data.rindex(b"count=", unit.offset, at + 60)
    count_at = start + 6
    (count,) = struct.unpack_from("<I", data, count_at)
    begin = data.index(struct.pack("<I", 12 * count), at)
    entries = begin + 4
    struct.pack_into("<I", data, count_at, count - 1)
    struct.pack_into("<I", data, begin, 12 * (count - 1))
    del data[entries : entries + 12]
    account = account_of(unindexed_after_edit(bytes(data)))
    assert values(account) == list(range(400))
    assert account.codes == {"NO_INDEX", "COUNT_MISMATCH"}


def unindexed_after_edit(data: bytes) -> bytes:
    """Without the index section, whose offsets an edit has moved."""
    at = data.index(b"index_pos=") + len(b"index_pos=")
    (index_pos,) = struct.unpack_from("<Q", data, at)
    cut = bytearray(data[: index_pos - 12])
    cut[at : at + 8] = bytes(8)
    return bytes(cut)


def test_an_index_that_lies_about_offsets_is_set_aside(make_bag):
    """Index records that point into the middle of messages change nothing."""
    data = bytearray(make_bag(compression="none"))
    unit = chunks(bytes(data))[0]
    at = data.index(b"op=\x04", unit.offset)
    body = data.index(struct.pack("<II", 1, 0), at)
    struct.pack_into("<I", data, body + 8, 7)
    assert values(account_of(bytes(data))) == list(range(400))


def test_messages_outside_chunks_are_read(make_bag):
    """Message records that stand in the file itself, as the format allows, are one unit."""
    data = make_bag(40, "none")
    unit = chunks(data)[0]
    source = BytesSource(data)
    chunk = rec.chunk_at(source, unit.offset)
    loose = data[chunk.data_offset : chunk.data_offset + chunk.data_length]
    at = data.index(b"index_pos=") + 10
    head = bytearray(data[: unit.offset])
    head[at : at + 8] = bytes(8)
    account = account_of(bytes(head) + loose)
    assert values(account) == list(range(40))
    assert {entry.fate for entry in account.ledger} == {"skipped", "decoded"}


def test_an_undefined_connection_is_counted(make_bag):
    """Fault 14: messages that name a connection nobody defines are counted, others are kept."""
    broken = bytearray(make_bag(compression="none"))
    for unit in chunks(bytes(broken)):
        view = bytes(broken[unit.offset : unit.offset + unit.length])
        broken[unit.offset : unit.offset + unit.length] = _messages_renamed(view)
    account = account_of(bytes(broken))
    assert len(account.rows) == 200
    assert account.lost == 200
    assert "ORPHAN_MESSAGES" in account.codes


def _messages_renamed(chunk: bytes) -> bytes:
    """Message and index records of connection 1 say 9; connection records stay."""
    head = b"\x04\0\0\0op=\x02\x09\0\0\0conn="
    other = b"\x09\0\0\0conn=\x01\0\0\0\x04\0\0\0op=\x02"
    chunk = chunk.replace(head + b"\x01\0\0\0", head + b"\x09\0\0\0")
    chunk = chunk.replace(other, other.replace(b"=\x01\0", b"=\x09\0"))
    for op in (b"op=\x04",):
        at = chunk.find(op)
        while at >= 0:
            near = chunk.find(b"conn=\x01\0\0\0", max(at - 60, 0), at + 60)
            if near >= 0:
                chunk = chunk[: near + 5] + b"\x09" + chunk[near + 6 :]
            at = chunk.find(op, at + 1)
    return chunk


def test_unknown_compression_is_refused_by_name(make_bag):
    """Fault 12: a compression that no reader knows is named, never taken for no compression."""
    data = make_bag(20, "lz4").replace(b"compression=lz4", b"compression=lzx")
    with pytest.raises(UnsupportedFormatError, match="lzx") as error:
        index_recording(BytesSource(data))
    assert error.value.code == "UNSUPPORTED_COMPRESSION:lzx"


def test_an_encrypted_bag_is_refused(make_bag):
    """An encrypted bag is named as such."""
    data = make_bag(4, "none")
    field = b"encryptor=rosbag/AesCbcEncryptor"
    more = struct.pack("<I", len(field)) + field
    (length,) = struct.unpack_from("<I", data, 13)
    head = struct.pack("<I", length + len(more)) + data[17 : 17 + length] + more
    with pytest.raises(UnsupportedFormatError, match="AesCbc") as error:
        index_recording(BytesSource(data[:13] + head + data[17 + length :]))
    assert error.value.code == "ENCRYPTED"


def test_a_bomb_is_refused_before_it_is_opened(make_bag):
    """Fault 10: a chunk that declares more than a unit may hold is refused unread."""
    data = bytearray(make_bag(20, "bz2"))
    at = data.index(b"size=") + 5
    struct.pack_into("<I", data, at, 1 << 30)
    with pytest.raises(ResourceLimitError, match="BOMB"):
        index_recording(BytesSource(bytes(data)))


def test_bit_flips_never_go_uncounted(make_bag):
    """Any flipped bit ends in rows that balance with the ledger or in a reason, never in a hang.

    A bag is refused for few of them: most cost nothing, or what they hit.
    """
    random = np.random.default_rng(5)
    outcomes = Counter()
    for compression in COMPRESSIONS:
        data = make_bag(120, compression)
        for _ in range(60):
            flipped = bytearray(data)
            bit = int(random.integers(8 * 13, 8 * len(data)))
            flipped[bit // 8] ^= 1 << bit % 8
            outcomes[outcome_of(bytes(flipped))] += 1
    assert outcomes["reported"] > 20
    assert outcomes["refused"] < 18


def test_a_selection_reads_only_its_channels(make_bag):
    """Channels that were not asked for are counted as not selected, not as lost."""
    data = make_bag(100)
    index = index_recording(BytesSource(data))
    channel = next(c for c in index.channels if c.topic == "/odd")
    account = account_of(data, selection=[channel.id])
    assert {row["topic"] for row in account.rows} == {"/odd"}
    assert len(account.rows) == 50
    assert account.lost == 0


def test_the_name_of_the_file_means_nothing(samples, tmp_path: Path):
    """Fault 2: a bag is known by its bytes, whatever it is called."""
    path = tmp_path / "holiday.jpg"
    path.write_bytes((samples / "bag/ros_comm/rosbag_storage_test.bag").read_bytes())
    assert index_recording(open_source(str(path))).format == "ros1bag"
