from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zstandard
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as BagWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_typestore

from contracts.errors import DecodeError
from tests.unit.udfs.decode.recordings import CONTEXT, account_of, outcome_of
from udfs.decode import rosbag2
from udfs.decode.limits import GROUP_BYTES
from udfs.decode.recording import (
    index_recording,
    iter_table_groups,
    resolve_pointers,
    table_of_channel,
)
from udfs.decode.source import BytesSource, open_source

ROS1 = get_typestore(Stores.ROS1_NOETIC)
ROS2 = get_typestore(Stores.ROS2_HUMBLE)
STRING = "std_msgs/msg/String"
COUNTS = {
    "cdr_test/cdr_test_0.db3": 7,
    "chatter/chatter.db3": 7,
    "convert_a/rewriter_a_0.db3": 150,
    "convert_b/rewriter_b_0.db3": 75,
    "empty_bag/empty_bag_0.db3": 0,
    "nebula_40p/1673400149412331409_0.db3": 4,
    "nebula_vlp16/1673400471837873222_0.db3": 4,
    "nebula_vlp32/1713492677464078412_0.db3": 5,
    "nebula_xt32/1673400677802009732_0.db3": 4,
    "rosbags-rs_all_msgs/test_bag_sqlite3.db3": 188,
    "split_no_metadata/multiple_files_0.db3": 1324,
    "split_no_metadata/multiple_files_1.db3": 1324,
    "split_no_metadata/multiple_files_2.db3": 529,
    "talker/talker.db3": 20,
    "topics_and_services/topics_and_services.db3": 13,
}


def text_message(number: int) -> bytes:
    return bytes(ROS2.serialize_cdr(ROS2.types[STRING](f"message {number}"), STRING))


@pytest.fixture
def make_db3(tmp_path: Path):
    """`make_db3(payloads)`: path of a small bag of schema version 2, one message a millisecond."""

    def make(payloads: list[bytes], *, name: str = "some.db3", page_size: int = 4096) -> Path:
        path = tmp_path / name
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA page_size = {page_size}")
        db.executescript(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
            " serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,"
            " timestamp INTEGER NOT NULL, data BLOB NOT NULL);"
            "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
        )
        db.execute("INSERT INTO topics VALUES (1, '/text', ?, 'cdr', '')", (STRING,))
        rows = [(1, 1_000_000_000 + i * 1_000_000, data) for i, data in enumerate(payloads)]
        db.executemany("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", rows)
        db.commit()
        db.close()
        return path

    return make


def account(path: Path, **options):
    """What decode says of a file; its units are rows, so its ledger does not tile the bytes."""
    return account_of(path.read_bytes(), **{"units": None, **options})


def texts(path: Path) -> list[str]:
    return [row["data"] for row in sorted(account(path).rows, key=lambda row: row["log_time_ns"])]


@pytest.mark.parametrize("name", COUNTS)
def test_a_real_file_gives_every_row_of_its_database(samples, name):
    """Every row of `messages` is one message, with its bytes, topic and time, in rowid order."""
    path = samples / "db3" / name
    source = open_source(str(path))
    index = index_recording(source)
    found = [
        (
            int(batch.unit_offset[i]),
            batch.channel_id,
            int(batch.log_time_ns[i]),
            batch.arena[batch.starts[i] : batch.starts[i] + batch.lengths[i]].tobytes(),
        )
        for group in rosbag2.iter_message_groups(source, index)
        for batch in group.batches
        for i in range(len(batch.starts))
    ]
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1&mode=ro", uri=True)) as db:
        wanted = db.execute("SELECT id, topic_id, timestamp, data FROM messages").fetchall()
    assert sorted(found) == sorted(wanted)
    assert len(found) == COUNTS[name]
    assert index.findings == ()
    written = [
        entry.messages_written
        for group in iter_table_groups(source, index, context=CONTEXT)
        for entry in group.ledger
    ]
    assert sum(written) == COUNTS[name]


def test_every_message_type_of_a_real_file_decodes(samples):
    """All 94 types of the all-messages bag decode, none ends raw or bad."""
    found = account(samples / "db3/rosbags-rs_all_msgs/test_bag_sqlite3.db3")
    assert not found.bad
    assert "raw_messages" not in found.tables
    assert sum(entry.messages_written for entry in found.ledger) == 188
    assert found.index.messages_declared == 188


def test_a_definition_by_name_says_where_it_is_from(samples):
    """An old file has no definitions: one is taken by type name, and the channel says whose."""
    source = open_source(str(samples / "db3/chatter/chatter.db3"))
    index = index_recording(source)
    (channel,) = index.channels
    assert channel.metadata["definition_source"] == "rosbags/ROS2_HUMBLE"
    assert index.schemas[0].encoding == "ros2msg"
    assert table_of_channel(index, channel)[0] == "std_msgs_string"


def test_a_type_that_nobody_defines_is_kept_raw(samples):
    """Fault 16: without a definition the payload is kept whole, to be decoded later."""
    path = samples / "db3/nebula_vlp16/1673400471837873222_0.db3"
    found = account(path)
    channel = found.index.channels[0]
    assert table_of_channel(found.index, channel)[::2] == ("raw_messages", "NO_DEFINITION")
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:
        wanted = [data for (data,) in db.execute("SELECT data FROM messages ORDER BY id")]
    assert [row["data"] for row in found.rows] == wanted


def test_same_messages_give_equal_rows_in_every_container(tmp_path):
    """The same drive in MCAP, ROS 1 bag and db3 gives equal silver rows but for the ROS 1 seq."""
    names = {"/imu": "sensor_msgs/msg/Imu", "/fix": "sensor_msgs/msg/NavSatFix"}
    random = np.random.default_rng(3)
    rows = []
    for i in range(50):
        topic = ("/imu", "/fix")[i % 2]
        rows.append((topic, 1_700_000_000_000_000_000 + i * 10_000_000, _message(topic, i, random)))
    mcap, bag, folder = tmp_path / "a.mcap", tmp_path / "a.bag", tmp_path / "a_db3"
    with mcap.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start("ros2", "test")
        ids = {}
        for topic, name in names.items():
            text, _ = ROS2.generate_msgdef(name, ros_version=2)
            schema = writer.register_schema(name, "ros2msg", text.encode())
            ids[topic] = writer.register_channel(topic, "cdr", schema)
        for topic, time_ns, fields in rows:
            data = bytes(ROS2.serialize_cdr(_build(ROS2, names[topic], fields), names[topic]))
            writer.add_message(ids[topic], time_ns, data, time_ns)
        writer.finish()
    with BagWriter(bag) as writer:
        ids = {t: writer.add_connection(t, n, typestore=ROS1) for t, n in names.items()}
        for topic, time_ns, fields in rows:
            data = ROS1.serialize_ros1(_build(ROS1, names[topic], fields), names[topic])
            writer.write(ids[topic], time_ns, bytes(data))
    with Ros2Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        ids = {t: writer.add_connection(t, n, typestore=ROS2) for t, n in names.items()}
        for topic, time_ns, fields in rows:
            data = ROS2.serialize_cdr(_build(ROS2, names[topic], fields), names[topic])
            writer.write(ids[topic], time_ns, bytes(data))
    (db3,) = folder.glob("*.db3")
    found = [_comparable(path) for path in (mcap, bag, db3)]
    assert len(found[0]) == 50
    assert {row["table"] for row in found[0]} == {"imu", "gnss"}
    assert found[0] == found[1] == found[2]


def _comparable(path: Path) -> list[dict]:
    """All rows in order of time, without what a container numbers by itself."""
    made = account(path)
    rows = [
        {"table": name, **row} for name, table in made.tables.items() for row in table.to_pylist()
    ]
    for row in rows:
        del row["channel_id"], row["sequence"]
    return sorted(rows, key=lambda row: row["log_time_ns"])


def _message(topic: str, number: int, random: np.random.Generator) -> dict:
    stamp = (1_700_000_000, number * 1000)
    numbers = random.normal(0, 100, 40)
    return {"topic": topic, "stamp": stamp, "numbers": numbers, "frame": f"frame_{number % 3}"}


def _build(store, name: str, fields: dict):
    types = store.types
    time = types["builtin_interfaces/msg/Time"](*fields["stamp"])
    more = {"seq": 7} if store is ROS1 else {}
    header = types["std_msgs/msg/Header"](stamp=time, frame_id=fields["frame"], **more)
    n = fields["numbers"]
    if name.endswith("Imu"):
        vector = types["geometry_msgs/msg/Vector3"]
        return types[name](
            header=header,
            orientation=types["geometry_msgs/msg/Quaternion"](*n[:4]),
            orientation_covariance=n[4:13],
            angular_velocity=vector(*n[13:16]),
            angular_velocity_covariance=n[16:25],
            linear_acceleration=vector(*n[25:28]),
            linear_acceleration_covariance=n[28:37],
        )
    return types[name](
        header=header,
        status=types["sensor_msgs/msg/NavSatStatus"](status=1, service=3),
        latitude=n[0],
        longitude=n[1],
        altitude=n[2],
        position_covariance=n[3:12],
        position_covariance_type=2,
    )


def test_pointers_lead_to_the_payloads(make_db3):
    """A rowid read back gives the bytes of the message, in the order asked for."""
    payloads = [text_message(i) for i in range(20)]
    source = open_source(str(make_db3(payloads)))
    rowids = np.array([7, 3, 20, 3], np.int64)
    found = resolve_pointers(
        source,
        format="rosbag2_db3",
        unit_offset=rowids,
        data_offset=np.full(4, 4),
        data_length=np.full(4, 4),
    )
    assert found.to_pylist() == [payloads[i - 1][4:8] for i in rowids.tolist()]


def test_units_are_row_ranges_of_bounded_size(make_db3):
    """Large payloads split into units of about 32 MB that decode alone as they do together."""
    payloads = [text_message(i) + bytes(4 << 20) for i in range(20)]
    path = make_db3(payloads, page_size=65536)
    source = open_source(str(path))
    index = index_recording(source)
    assert len(index.units) == 3
    assert all(unit.uncompressed_size <= GROUP_BYTES + (4 << 20) + 32 for unit in index.units)
    assert sum(unit.length for unit in index.units) == 20
    numbers = [
        (int(time), int(number))
        for unit in index.units
        for group in rosbag2.iter_message_groups(source, index, units=[unit])
        for batch in group.batches
        for time, number in zip(batch.log_time_ns, batch.sequence, strict=True)
    ]
    assert [number for _, number in sorted(numbers)] == list(range(20))


def test_messages_compressed_one_by_one_decode(make_db3):
    """A recorder may compress each message with zstd: it decodes, and pointers count inside it."""
    plain = [text_message(i) for i in range(10)]
    path = make_db3([zstandard.compress(data) for data in plain])
    assert texts(path) == [f"message {i}" for i in range(10)]
    ((_, data),) = rosbag2.read_units(open_source(str(path)), [4])
    assert bytes(data) == plain[3]


def test_units_of_compressed_messages_are_bounded_by_what_they_unpack_to(make_db3):
    """A row range fits in memory when it is unpacked, not only as it is stored."""
    text = np.random.default_rng(5).bytes(200_000) * 50
    path = make_db3([zstandard.compress(text)] * 8)
    with open_source(str(path)) as source:
        units = index_recording(source).units
    assert [unit.length for unit in units] == [3, 3, 2]
    assert sum(unit.uncompressed_size for unit in units) == 80_000_000


def test_a_message_that_will_not_decompress_is_bad(make_db3):
    """Fault 18: one damaged message is a row of bad_messages, the others are kept."""
    packed = [zstandard.compress(text_message(i) * 20) for i in range(10)]
    packed[4] = packed[4][:20]
    packed[6] = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(300 << 20))
    found = account(make_db3(packed))
    assert [(one.unit_offset, one.error_class) for one in found.bad] == [
        (5, "SIZE_MISMATCH"),
        (7, "BOMB"),
    ]
    assert sum(entry.messages_written for entry in found.ledger) == 8


def test_a_truncated_file_gives_the_rows_before_the_cut(make_db3):
    """Fault 33: rows that can be read are kept; that some are lost, not how many, is said."""
    path = make_db3([text_message(i) for i in range(3000)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 // 4096 * 4096])
    found = account(path)
    numbers = [int(text.split()[1]) for text in texts(path)]
    assert 500 < len(numbers) < 3000
    assert numbers == list(range(len(numbers)))
    assert "DB_MALFORMED" in found.codes
    assert found.lost is None


def test_a_zeroed_page_costs_only_its_rows(make_db3):
    """Fault 33: around a damaged page both sides are read, and the rows between are counted."""
    path = make_db3([text_message(i) + bytes(500) for i in range(600)])
    data = bytearray(path.read_bytes())
    data[40 * 4096 : 41 * 4096] = bytes(4096)
    path.write_bytes(bytes(data))
    found = account(path)
    total = sum(entry.messages_written + (entry.messages_lost or 0) for entry in found.ledger)
    assert found.lost
    assert 0 < found.lost < 20
    assert total == 600
    (finding,) = found.index.findings
    assert (finding.code, finding.lost_messages) == ("DB_MALFORMED", found.lost)


def test_a_row_that_claims_four_gigabytes_costs_only_the_rows_around_it(make_db3):
    """Fault 33: SQLite calls a length that no memory holds a lack of memory; it is damage."""
    path = make_db3([text_message(i) + bytes(900) for i in range(40)])
    data = bytearray(path.read_bytes())
    head = data.index(bytes([11, 6, 0, 9, 4]))  # rowid, then the kinds of the row's columns
    data[head - 1 : head + 4] = b"\x8f\xff\xff\xff\x7f"  # the length in front of it
    path.write_bytes(data)
    with (
        contextlib.closing(sqlite3.connect(path)) as db,
        pytest.raises((MemoryError, sqlite3.Error)),
    ):
        db.execute("SELECT length(data) FROM messages ORDER BY rowid").fetchall()
    found = account(path)
    assert {finding.code for finding in found.index.findings} == {"DB_MALFORMED"}
    assert len(found.rows) + found.lost == 40
    assert 0 < found.lost < 5


@pytest.mark.parametrize(("start", "code"), [(0, "BAD_MAGIC"), (16, "NOT_A_DATABASE")])
def test_a_zeroed_head_is_refused(make_db3, start, code):
    """Fault 33: a file that SQLite can't open is refused with a reason."""
    path = make_db3([text_message(i) for i in range(10)])
    data = bytearray(path.read_bytes())
    data[start:100] = bytes(100 - start)
    with pytest.raises(DecodeError) as error:
        index_recording(BytesSource(bytes(data)))
    assert error.value.code == code


def test_a_log_beside_the_file_is_said_to_be_missing(make_db3):
    """Rows in a write-ahead log are not in the object: that they may be lost is stated."""
    path = make_db3([text_message(i) for i in range(10)])
    Path(f"{path}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(60))
    index = index_recording(open_source(str(path)))
    (finding,) = index.findings
    assert (finding.code, finding.loses, finding.lost_messages) == ("WAL_NOT_READ", True, None)
    Path(f"{path}-wal").write_bytes(b"")
    assert index_recording(open_source(str(path))).findings == ()


def test_messages_of_an_unknown_topic_are_counted(make_db3):
    """Fault 14: messages of a topic that is not there are counted, the others are kept."""
    path = make_db3([text_message(i) for i in range(10)])
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE messages SET topic_id = 9 WHERE id > 7")
        db.commit()
    found = account(path)
    assert len(found.rows) == 7
    assert found.lost == 3
    assert "ORPHAN_MESSAGES" in found.codes


def test_a_count_in_the_metadata_is_checked(samples, tmp_path):
    """Messages that the metadata counts and that are not there are lost, and said so."""
    path = tmp_path / "cut.db3"
    path.write_bytes((samples / "db3/rosbags-rs_all_msgs/test_bag_sqlite3.db3").read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM messages WHERE id > 180")
        db.commit()
    index = index_recording(open_source(str(path)))
    (finding,) = index.findings
    assert (finding.code, finding.lost_messages) == ("COUNT_MISMATCH", 8)


def test_deleted_rows_leave_no_gap_in_the_count(make_db3):
    """Rowids need not be consecutive: units count rows, not ids."""
    path = make_db3([text_message(i) for i in range(100)])
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM messages WHERE id % 3 = 0")
        db.commit()
    assert texts(path) == [f"message {i}" for i in range(100) if (i + 1) % 3]


def test_damage_never_goes_uncounted(make_db3):
    """Any damaged page ends in rows that balance with the ledger or in a reason.

    A bag is refused for few of them: most cost what they hit.
    """
    path = make_db3([text_message(i) + bytes(50) for i in range(400)])
    data = path.read_bytes()
    random = np.random.default_rng(9)
    outcomes = Counter()
    for _ in range(80):
        broken = bytearray(data)
        at = int(random.integers(100, len(data) - 64))
        broken[at : at + 64] = random.bytes(64)
        outcomes[outcome_of(bytes(broken), units=None)] += 1
    assert outcomes["reported"] > 20
    assert outcomes["refused"] < 8
