"""One drive, serialised as each generation of ROS does it and written in each format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as BagWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

THING = """std_msgs/Header header
float64[] numbers
string[] words
uint8[] blob
geometry_msgs/Vector3[] points
int16[3] three
int64 count
bool flag
"""
FRAME = """std_msgs/Header header
uint32 id
bool is_rtr
bool is_extended
bool is_error
uint8 dlc
uint8[8] data
"""
FORMS = ("mcap_ros2", "mcap_ros1", "ros1bag", "db3", "rosbag2_mcap")
NAMES = {
    "/thing": "pkg/msg/Thing",
    "/imu": "sensor_msgs/msg/Imu",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/can": "can_msgs/msg/Frame",
}


def store_of(version: Stores) -> Any:
    store = get_typestore(version)
    if "tf2_msgs/msg/TFMessage" not in store.types:
        text = "geometry_msgs/TransformStamped[] transforms\n"
        store.register(get_types_from_msg(text, "tf2_msgs/msg/TFMessage"))
    store.register(get_types_from_msg(THING, "pkg/msg/Thing"))
    store.register(get_types_from_msg(FRAME, "can_msgs/msg/Frame"))
    return store


STORES = {1: store_of(Stores.ROS1_NOETIC), 2: store_of(Stores.ROS2_HUMBLE)}


def built(version: int, topic: str, value: dict[str, Any]) -> bytes:
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
    elif topic == "/can":
        octets = (value["blob"] + bytes(8))[:8]
        fields = {
            "id": value["count"] & 0x1FFFFFFF,
            "is_rtr": len(value["words"]) == 1,
            "is_extended": value["flag"],
            "is_error": len(value["words"]) == 2,
            "dlc": len(value["blob"]),
            "data": np.frombuffer(octets, np.uint8),
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


def written(
    folder: Path,
    form: str,
    rows: list[tuple[str, int, dict[str, Any]]],
    *,
    compression: BagWriter.CompressionFormat | None = None,
    chunk_bytes: int = 512,
    **mcap_options: Any,
) -> bytes:
    """A recording of some messages in one of the formats; options are those of its writer."""
    version = 1 if "ros1" in form else 2
    store = STORES[version]
    path = folder / form
    if form.startswith("mcap"):
        encoding = ("ros1", "ros1msg") if version == 1 else ("cdr", "ros2msg")
        with path.open("wb") as stream:
            writer = McapWriter(stream, **{"chunk_size": chunk_bytes, **mcap_options})
            writer.start(f"ros{version}", "test")
            ids = {}
            for topic, name in NAMES.items():
                text, _ = store.generate_msgdef(name, ros_version=version)
                shown = name.replace("/msg/", "/") if version == 1 else name
                schema = writer.register_schema(shown, encoding[1], text.encode())
                ids[topic] = writer.register_channel(topic, encoding[0], schema)
            for topic, time_ns, value in rows:
                writer.add_message(ids[topic], time_ns, built(version, topic, value), time_ns)
            writer.finish()
        return path.read_bytes()
    if form == "ros1bag":
        bag = BagWriter(path)
        bag.chunk_threshold = chunk_bytes
        if compression is not None:
            bag.set_compression(compression)
        with bag:
            made = {t: bag.add_connection(t, n, typestore=store) for t, n in NAMES.items()}
            for topic, time_ns, value in rows:
                bag.write(made[topic], time_ns, built(version, topic, value))
        return path.read_bytes()
    plugin = StoragePlugin.SQLITE3 if form == "db3" else StoragePlugin.MCAP
    with Ros2Writer(path, version=9, storage_plugin=plugin) as bag2:
        made2 = {t: bag2.add_connection(t, n, typestore=store) for t, n in NAMES.items()}
        for topic, time_ns, value in rows:
            bag2.write(made2[topic], time_ns, built(version, topic, value))
    (file,) = (one for one in path.iterdir() if one.suffix in (".db3", ".mcap"))
    return file.read_bytes()
