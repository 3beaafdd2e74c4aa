"""Databases whose definition rows are damaged: every one ends in rows that balance or a reason."""

from __future__ import annotations

import contextlib
import random
import sqlite3

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from contracts.errors import PlatformError
from spark_jobs.index_codec import pack_index, unpack_index
from tests.unit.udfs.decode.recordings import account_of
from udfs.decode.recording import index_recording, table_of_channel
from udfs.decode.source import BytesSource

ROS2 = get_typestore(Stores.ROS2_HUMBLE)
MESSAGES = 30
COLUMNS = {
    "schema": ("schema_version", "ros_distro"),
    "metadata": ("metadata",),
    "topics": ("id", "name", "type", "serialization_format", "offered_qos_profiles"),
    "message_definitions": ("topic_type", "encoding", "encoded_message_definition"),
}
JUNK = (
    None,
    0,
    -1,
    2**63 - 1,
    1.5,
    b"",
    b"\xff\xfe\0",
    "",
    "\0",
    "a" * 3000,
    "cdr",
    "ros2idl",
    "std_msgs/msg/String",
    "sensor_msgs/msg/CompressedImage",
    "uint8[] data\n",
    "../../x",
    "message_count: 99999999999999999999999",
)
LINES = (
    "string data",
    "float64 data",
    "uint8 data",
    "MSG: x/Y",
    "===",
    "int8 9x",
    "x/Y z",
    "uint8[99999999999] big",
    "int32 A=",
    "std_msgs/Header header",
)
TYPES = ("uint8[]", "string", "float64", "uint64", "int64", "bool", "float64[9]", "time", "wstring")


def _message(number: int):
    types = ROS2.types
    stamp = types["builtin_interfaces/msg/Time"](1, number)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="frame")
    kind = ("CompressedImage", "Imu", "String")[number % 3]
    if kind == "String":
        return "std_msgs/msg/String", types["std_msgs/msg/String"](f"message {number}")
    name = f"sensor_msgs/msg/{kind}"
    if kind == "CompressedImage":
        return name, types[name](header=header, format="jpeg", data=np.full(20, number, np.uint8))
    vector = types["geometry_msgs/msg/Vector3"](1.0, 2.0, 3.0)
    turn = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    none = np.zeros(9)
    return name, types[name](header, turn, none, vector, none, vector, none)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> bytes:
    """A good bag of schema version 4: ten images, ten IMU samples, ten strings."""
    path = tmp_path_factory.mktemp("definitions") / "good.db3"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            "CREATE TABLE schema(schema_version, ros_distro);"
            "CREATE TABLE metadata(metadata_version, metadata);"
            "CREATE TABLE topics(id, name, type, serialization_format, offered_qos_profiles);"
            "CREATE TABLE message_definitions(topic_type, encoding, encoded_message_definition);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data);"
            "INSERT INTO schema VALUES (4, 'humble');"
            f"INSERT INTO metadata VALUES (9, 'message_count: {MESSAGES}');"
        )
        for number in range(3):
            name, _ = _message(number)
            db.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')", (number + 1, "/t", name))
            text, _ = ROS2.generate_msgdef(name, ros_version=2)
            db.execute("INSERT INTO message_definitions VALUES (?, 'ros2msg', ?)", (name, text))
        for number in range(MESSAGES):
            name, message = _message(number)
            data = bytes(ROS2.serialize_cdr(message, name))
            row = (number % 3 + 1, 1000 + number, data)
            db.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
        db.commit()
    return path.read_bytes()


def _changed_text(text: str, chance: random.Random) -> str | bytes:
    lines = text.split("\n")
    how = chance.randrange(6)
    if how == 0:
        del lines[chance.randrange(len(lines))]
    elif how == 1:
        lines.insert(chance.randrange(len(lines)), chance.choice(LINES))
    elif how == 2:
        return text[: chance.randrange(len(text))]
    elif how == 3:
        data = bytearray(text.encode())
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    elif how == 4:
        return text.replace(chance.choice(TYPES), chance.choice(TYPES))
    else:
        return text.replace(chance.choice(("header", "data", "format")), "recording_id")
    return "\n".join(lines)


def _damage(db: sqlite3.Connection, chance: random.Random) -> None:
    """One fault in what a bag says of its topics, types and itself."""
    table = chance.choice(list(COLUMNS))
    column, row = chance.choice(COLUMNS[table]), chance.randrange(1, 4)
    how = chance.randrange(8)
    if how < 3:
        value = chance.choice(JUNK)
        db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
    elif how == 3:
        db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    elif how == 4:
        db.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
    else:
        where = "FROM message_definitions WHERE rowid = ?"
        ((text,),) = db.execute(f"SELECT encoded_message_definition {where}", (row,))
        value = _changed_text(text, chance)
        own = "UPDATE message_definitions SET encoded_message_definition = ? WHERE rowid = ?"
        db.execute(own, (value, row))


def test_a_good_database_has_its_kinds(database):
    """The database of the other test is one that decodes whole."""
    account = account_of(database, units=None)
    rows = {name: table.num_rows for name, table in account.tables.items()}
    assert rows == {"images": 10, "imu": 10, "std_msgs_string": 10}
    assert account.codes == set()


def test_damaged_definitions_end_in_rows_or_reasons(database, tmp_path):
    """Fault 33: whatever stands in a definition row, no message goes uncounted, nothing else fails.

    400 databases of one seed; each message ends written, bad, or counted as lost.
    """
    outcomes = {"whole": 0, "said": 0, "refused": 0}
    for seed in range(400):
        path = tmp_path / "damaged.db3"
        path.write_bytes(database)
        with contextlib.closing(sqlite3.connect(path)) as db:
            _damage(db, random.Random(seed))  # noqa: S311  no secret
            db.commit()
        data = path.read_bytes()
        try:
            index = index_recording(BytesSource(data))
            account = account_of(data, units=None)
        except PlatformError:
            outcomes["refused"] += 1
            continue
        assert unpack_index(pack_index(index)) == index
        assert all(table_of_channel(index, channel)[0] for channel in index.channels)
        written = sum(entry.messages_written for entry in account.ledger)
        assert written + len(account.bad) + (account.lost or 0) == MESSAGES, seed
        outcomes["said" if account.codes or account.bad else "whole"] += 1
    assert outcomes["said"] > 25
    assert outcomes["whole"] > 50
