"""Recordings to measure with: the small topics of a drive, in each container and encoding."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RATES_HZ = {
    ("/imu/data", "sensor_msgs/msg/Imu"): 400,
    ("/gnss/fix", "sensor_msgs/msg/NavSatFix"): 10,
    ("/odom", "nav_msgs/msg/Odometry"): 50,
    ("/wheels", "sensor_msgs/msg/JointState"): 100,
    ("/tf", "tf2_msgs/msg/TFMessage"): 100,
    ("/temperature", "sensor_msgs/msg/Temperature"): 20,
    ("/rosout", "rcl_interfaces/msg/Log"): 5,
    ("/twist", "geometry_msgs/msg/TwistStamped"): 100,
}
_TEXTS = {"frame_id": ["base_link"], "child_frame_id": ["wheel_left", "wheel_right"]}
_ROS1_NAMES = {
    "rcl_interfaces/msg/Log": "rosgraph_msgs/msg/Log",
    "tf2_msgs/msg/TFMessage": "tf/msg/tfMessage",
}


def small_mcap(path: Path, *, seconds: int) -> Path:
    """ROS 2 messages in chunks of 1 MB, zstd, as mcap's own writer makes them."""
    from mcap.writer import CompressionType, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=1 << 20, compression=CompressionType.ZSTD)
        writer.start("ros2", "drivelake benchmark")
        channels = {}
        for topic, kind in RATES_HZ:
            text, _ = store.generate_msgdef(kind, ros_version=2)
            schema = writer.register_schema(kind, "ros2msg", text.encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for number, (time_ns, topic, kind, message) in enumerate(messages(store, seconds)):
            payload = bytes(store.serialize_cdr(message, kind))
            writer.add_message(channels[topic], time_ns, payload, time_ns, number)
        writer.finish()
    return path


def small_bag(path: Path, *, seconds: int) -> Path:
    """The same in a ROS 1 bag, lz4."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    transforms = "geometry_msgs/TransformStamped[] transforms"
    store.register(get_types_from_msg(transforms, "tf/msg/tfMessage"))
    writer = Writer(path)
    writer.set_compression(Writer.CompressionFormat.LZ4)
    with writer:
        connections = {}
        for time_ns, topic, kind, message in messages(store, seconds):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], time_ns, bytes(store.serialize_ros1(message, kind)))
    return path


def small_db3(path: Path, *, seconds: int) -> Path:
    """The same in a rosbag2 folder with one db3; the path of the db3."""
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(path, version=9) as writer:
        connections = {}
        for time_ns, topic, kind, message in messages(store, seconds):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], time_ns, bytes(store.serialize_cdr(message, kind)))
    return next(path.glob("*.db3"))


def messages(store: Any, seconds: int) -> Iterator[tuple[int, str, str, Any]]:
    """(time_ns, topic, type, message) of all topics in the order of time; the same every time."""
    events = sorted(
        (int(i * 1e9 / rate), topic, kind)
        for (topic, kind), rate in RATES_HZ.items()
        for i in range(seconds * rate)
    )
    random = np.random.default_rng(7)
    for time_ns, topic, name in events:
        kind = name if name in store.fielddefs else _ROS1_NAMES[name]
        yield time_ns, topic, kind, _message(store, kind, random, time_ns)


def _message(store: Any, kind: str, random: np.random.Generator, time_ns: int) -> Any:
    """A message with random numbers and the frames and names a drive has."""
    from rosbags.interfaces import Nodetype

    values: dict[str, Any] = {}
    for name, (node, desc) in store.get_msgdef(kind).fields:
        if node == Nodetype.NAME and desc == "builtin_interfaces/msg/Time":
            values[name] = store.types[desc](*divmod(time_ns, 1_000_000_000))
        elif node == Nodetype.NAME:
            values[name] = _message(store, desc, random, time_ns)
        elif node == Nodetype.BASE:
            values[name] = _scalar(name, desc[0], random)
        else:
            (inner, inner_desc), size = desc
            count = size if node == Nodetype.ARRAY else 4
            if inner == Nodetype.NAME:
                values[name] = [_message(store, inner_desc, random, time_ns) for _ in range(count)]
            elif inner_desc[0] == "string":
                values[name] = [f"joint_{i}" for i in range(count)]
            else:
                values[name] = random.normal(size=count).astype(inner_desc[0])
    return store.types[kind](**values)


def _scalar(name: str, kind: str, random: np.random.Generator) -> object:
    if kind == "string":
        return str(random.choice(_TEXTS.get(name, ["a", "some text", "x" * 40])))
    return float(random.normal()) if "float" in kind else int(random.integers(100))


def simulated_adas(folder: Path) -> Path:
    """The ADAS computer's recording of one simulated drive: camera, lidar and small topics."""
    from simulation.fleet import FleetSpec, simulate_drive

    simulate_drive(FleetSpec(drives=1), index=0, out=folder / "out", truth=folder / "truth")
    return next((folder / "out").rglob("adas.mcap"))


def repeated_mcap(path: Path, out: Path, *, times: int, name: str = "drivelake benchmark") -> None:
    """The messages of a recording again and again, each time behind the last.

    Files that are to differ have different names of their writer.
    """
    from mcap.reader import make_reader
    from mcap.writer import CompressionType, Writer

    with path.open("rb") as file, out.open("wb") as grown:
        reader = make_reader(file)
        found = [(s, c, m) for s, c, m in reader.iter_messages(log_time_order=False)]
        span = max(m.log_time for *_, m in found) - min(m.log_time for *_, m in found) + 1
        writer = Writer(grown, chunk_size=1 << 20, compression=CompressionType.ZSTD)
        writer.start("ros2", name)
        schemas: dict[int, int] = {0: 0}
        channels: dict[int, int] = {}
        for schema, channel, _ in found:
            if schema is not None and schema.id not in schemas:
                schemas[schema.id] = writer.register_schema(
                    schema.name, schema.encoding, schema.data
                )
            if channel.id not in channels:
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, schemas[channel.schema_id]
                )
        for turn in range(times):
            for _, channel, one in found:
                time_ns, sent_ns = one.log_time + turn * span, one.publish_time + turn * span
                writer.add_message(channels[channel.id], time_ns, one.data, sent_ns, one.sequence)
        writer.finish()


def repeated_bag(path: Path, out: Path, *, times: int) -> None:
    """The same of a bag."""
    from rosbags.rosbag1 import Reader, Writer

    writer = Writer(out)
    writer.set_compression(Writer.CompressionFormat.LZ4)
    with Reader(path) as reader, writer:
        found = list(reader.messages())
        connections = {
            one.id: writer.add_connection(
                one.topic, one.msgtype, msgdef=one.msgdef.data, md5sum=one.digest
            )
            for one in reader.connections
        }
        for turn in range(times):
            later = turn * (reader.duration + 1)
            for connection, time_ns, data in found:
                writer.write(connections[connection.id], time_ns + later, data)


def json_texts(count: int) -> list[bytes]:
    """States of a vehicle as JSON, as a gateway sends them."""
    random = np.random.default_rng(7)
    numbers = random.normal(size=(count, 8)).round(6).tolist()
    return [
        json.dumps(
            {
                "time_ns": 1_700_000_000_000_000_000 + 10_000_000 * i,
                "frame": "base_link",
                "mode": ("manual", "assisted", "automatic")[i % 3],
                "speed_m_s": row[0],
                "position": {"x": row[1], "y": row[2], "z": row[3]},
                "wheels": row[4:],
                "valid": i % 7 != 0,
                "gear": i % 6,
            }
        ).encode()
        for i, row in enumerate(numbers)
    ]


JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "time_ns": {"type": "integer"},
        "frame": {"type": "string"},
        "mode": {"type": "string"},
        "speed_m_s": {"type": "number"},
        "position": {
            "type": "object",
            "properties": {axis: {"type": "number"} for axis in "xyz"},
        },
        "wheels": {"type": "array", "items": {"type": "number"}},
        "valid": {"type": "boolean"},
        "gear": {"type": "integer"},
    },
}


def protobuf_file() -> Any:
    """Descriptor of two types: a flat one of numbers, and a nested one as perception sends it."""
    from google.protobuf import descriptor_pb2

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")

    def message(name: str, *fields: tuple[str, Any, bool, str]) -> None:
        kind = file.message_type.add(name=name)
        for number, (field_name, code, is_list, type_name) in enumerate(fields, 1):
            label = field.LABEL_REPEATED if is_list else field.LABEL_OPTIONAL
            one = kind.field.add(name=field_name, number=number, type=code, label=label)
            if type_name:
                one.type_name = type_name

    message(
        "State",
        ("time_ns", field.TYPE_INT64, False, ""),
        ("speed", field.TYPE_DOUBLE, False, ""),
        ("acceleration", field.TYPE_DOUBLE, False, ""),
        ("yaw_rate", field.TYPE_FLOAT, False, ""),
        ("gear", field.TYPE_UINT32, False, ""),
        ("is_braking", field.TYPE_BOOL, False, ""),
        ("odometer", field.TYPE_UINT64, False, ""),
        ("steering", field.TYPE_SINT32, False, ""),
    )
    message(
        "Vector",
        *((axis, field.TYPE_DOUBLE, False, "") for axis in "xyz"),
    )
    message(
        "Object",
        ("id", field.TYPE_UINT32, False, ""),
        ("label", field.TYPE_STRING, False, ""),
        ("position", field.TYPE_MESSAGE, False, ".bench.Vector"),
        ("size", field.TYPE_MESSAGE, False, ".bench.Vector"),
        ("score", field.TYPE_FLOAT, False, ""),
    )
    message(
        "Objects",
        ("time_ns", field.TYPE_INT64, False, ""),
        ("frame_id", field.TYPE_STRING, False, ""),
        ("objects", field.TYPE_MESSAGE, True, ".bench.Object"),
        ("ranges", field.TYPE_FLOAT, True, ""),
    )
    return file


def protobuf_payloads(kind: Any, count: int) -> list[bytes]:
    """Serialised messages of one of the two types."""
    random = np.random.default_rng(7)
    found = []
    for i in range(count):
        one = kind(time_ns=1_700_000_000_000_000_000 + 10_000_000 * i)
        if kind.DESCRIPTOR.name == "State":
            one.speed, one.acceleration, one.yaw_rate = random.normal(size=3).tolist()
            one.gear, one.is_braking = i % 6, i % 3 == 0
            one.odometer, one.steering = 10_000_000 + 3 * i, int(random.integers(-500, 500))
        else:
            one.frame_id = "base_link"
            one.ranges.extend(random.normal(size=16).tolist())
            for j in range(int(random.integers(0, 9))):
                thing = one.objects.add(id=j, label=("car", "pedestrian", "")[j % 3], score=0.5)
                for part in (thing.position, thing.size):
                    part.x, part.y, part.z = random.normal(size=3).tolist()
        found.append(one.SerializeToString())
    return found


EPOCH_DATE = dt.date(2026, 1, 1)
