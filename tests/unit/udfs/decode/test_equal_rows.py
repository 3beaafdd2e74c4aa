"""Identical data in any format gives identical silver rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as BagWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tests.unit.udfs.decode.recordings import account_of

THING = """std_msgs/Header header
float64[] numbers
string[] words
uint8[] blob
geometry_msgs/Vector3[] points
int16[3] three
int64 count
bool flag
"""
FORMS = ("mcap_ros2", "mcap_ros1", "ros1bag", "db3", "rosbag2_mcap")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
REAL = st.floats(allow_nan=False)
THINGS = st.fixed_dictionaries(
    {
        "frame": TEXT,
        "stamp": st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1)),
        "numbers": st.lists(REAL, max_size=3),
        "words": st.lists(TEXT, max_size=3),
        "blob": st.binary(max_size=5),
        "points": st.lists(st.tuples(REAL, REAL, REAL), max_size=2),
        "three": st.tuples(*[st.integers(-(2**15), 2**15 - 1)] * 3),
        "count": st.integers(-(2**63), 2**63 - 1),
        "flag": st.booleans(),
    }
)
NAMES = {
    "/thing": "pkg/msg/Thing",
    "/imu": "sensor_msgs/msg/Imu",
    "/tf": "tf2_msgs/msg/TFMessage",
}


def _store(version: Stores) -> Any:
    store = get_typestore(version)
    if "tf2_msgs/msg/TFMessage" not in store.types:
        text = "geometry_msgs/TransformStamped[] transforms\n"
        store.register(get_types_from_msg(text, "tf2_msgs/msg/TFMessage"))
    store.register(get_types_from_msg(THING, "pkg/msg/Thing"))
    return store


STORES = {1: _store(Stores.ROS1_NOETIC), 2: _store(Stores.ROS2_HUMBLE)}


def _built(version: int, topic: str, value: dict[str, Any]) -> bytes:
    """The message of a topic, serialised as a generation of ROS does it."""
    store = STORES[version]
    types = store.types
    time = types["builtin_interfaces/msg/Time"](*value["stamp"])
    more = {"seq": 5} if version == 1 else {}
    header = types["std_msgs/msg/Header"](stamp=time, frame_id=value["frame"], **more)
    vector, quaternion = (types[f"geometry_msgs/msg/{name}"] for name in ("Vector3", "Quaternion"))
    points = [vector(*one) for one in value["points"]]
    zero, turn = vector(1.0, 2.0, 3.0), quaternion(0.0, 0.0, 0.0, 1.0)
    if topic == "/thing":
        fields = {
            "numbers": np.array(value["numbers"], np.float64),
            "words": value["words"],
            "blob": np.frombuffer(value["blob"], np.uint8),
            "points": points,
            "three": np.array(value["three"], np.int16),
            "count": value["count"],
            "flag": value["flag"],
        }
    elif topic == "/imu":
        fields = {
            "orientation": turn,
            "orientation_covariance": np.arange(9.0) + value["flag"],
            "angular_velocity": (points or [zero])[0],
            "angular_velocity_covariance": np.arange(9.0),
            "linear_acceleration": zero,
            "linear_acceleration_covariance": np.arange(9.0),
        }
    else:
        transform = types["geometry_msgs/msg/Transform"]
        stamped = types["geometry_msgs/msg/TransformStamped"]
        fields = {
            "transforms": [
                stamped(header=header, child_frame_id=f"c{i}", transform=transform(one, turn))
                for i, one in enumerate(points)
            ]
        }
    headed = {} if topic == "/tf" else {"header": header}
    message = types[NAMES[topic]](**headed, **fields)
    serialise = store.serialize_ros1 if version == 1 else store.serialize_cdr
    return bytes(serialise(message, NAMES[topic]))


def _written(folder: Path, form: str, rows: list[tuple[str, int, dict[str, Any]]]) -> bytes:
    """A recording of some messages in one of the formats."""
    version = 1 if "ros1" in form else 2
    store = STORES[version]
    path = folder / form
    if form.startswith("mcap"):
        encoding = ("ros1", "ros1msg") if version == 1 else ("cdr", "ros2msg")
        with path.open("wb") as stream:
            writer = McapWriter(stream, chunk_size=512)
            writer.start(f"ros{version}", "test")
            ids = {}
            for topic, name in NAMES.items():
                text, _ = store.generate_msgdef(name, ros_version=version)
                shown = name.replace("/msg/", "/") if version == 1 else name
                schema = writer.register_schema(shown, encoding[1], text.encode())
                ids[topic] = writer.register_channel(topic, encoding[0], schema)
            for topic, time_ns, value in rows:
                writer.add_message(ids[topic], time_ns, _built(version, topic, value), time_ns)
            writer.finish()
        return path.read_bytes()
    if form == "ros1bag":
        with BagWriter(path) as bag:
            made = {t: bag.add_connection(t, n, typestore=store) for t, n in NAMES.items()}
            for topic, time_ns, value in rows:
                bag.write(made[topic], time_ns, _built(version, topic, value))
        return path.read_bytes()
    plugin = StoragePlugin.SQLITE3 if form == "db3" else StoragePlugin.MCAP
    with Ros2Writer(path, version=9, storage_plugin=plugin) as bag2:
        made2 = {t: bag2.add_connection(t, n, typestore=store) for t, n in NAMES.items()}
        for topic, time_ns, value in rows:
            bag2.write(made2[topic], time_ns, _built(version, topic, value))
    (file,) = (one for one in path.iterdir() if one.suffix in (".db3", ".mcap"))
    return file.read_bytes()


def _digests(data: bytes) -> dict[str, str]:
    """Hash of each silver table, sorted, without what a container numbers by itself."""
    digests = {}
    for name, table in sorted(account_of(data, units=None).tables.items()):
        kept = table.drop_columns(["channel_id", "sequence"])
        order = [("log_time_ns", "ascending"), ("topic", "ascending")]
        order += [("child_frame_id", "ascending")] if "child_frame_id" in kept.column_names else []
        sink = pa.BufferOutputStream()
        ordered = kept.sort_by(order).combine_chunks()
        with pa.ipc.new_stream(sink, ordered.schema) as stream:
            stream.write_table(pa.Table.from_pylist(ordered.to_pylist(), schema=ordered.schema))
        digests[name] = hashlib.sha256(sink.getvalue()).hexdigest()
    return digests


@given(st.lists(st.tuples(st.sampled_from(sorted(NAMES)), THINGS), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_one_drive_gives_the_same_rows_in_every_format(messages):
    """Any drive as MCAP (ROS 1 and 2), ROS 1 bag, db3 and rosbag2 MCAP: every table hash-equal."""
    start = 1_700_000_000_000_000_000
    rows = [(topic, start + i * 1_000_000, value) for i, (topic, value) in enumerate(messages)]
    with TemporaryDirectory() as name:
        found = {form: _digests(_written(Path(name), form, rows)) for form in FORMS}
    for form in FORMS[1:]:
        assert found[form] == found[FORMS[0]], form


@pytest.mark.parametrize("form", FORMS)
def test_another_value_gives_another_hash(tmp_path, form):
    """The comparison can fail: one other bit in one message gives another hash of its table."""
    value = {
        "frame": "a", "stamp": (1, 2), "numbers": [1.0], "words": ["w"], "blob": b"b",
        "points": [(1.0, 2.0, 3.0)], "three": (1, 2, 3), "count": 4, "flag": True,
    }  # fmt: skip
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = _digests(_written(tmp_path / "one", form, [("/thing", 10**9, value)]))
    two = _digests(_written(tmp_path / "two", form, [("/thing", 10**9, {**value, "count": 5})]))
    assert set(one) == set(two)
    assert one != two
