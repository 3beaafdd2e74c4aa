from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from contracts.tables import TABLES
from tests.unit.udfs.decode.recordings import Account, account_of
from udfs.decode.recording import index_recording, resolve_pointers, table_of_channel
from udfs.decode.source import BytesSource

LINE = "=" * 80 + "\n"
POSE = (
    "MSG: geometry_msgs/Pose\ngeometry_msgs/Point position\ngeometry_msgs/Quaternion orientation\n"
    f"{LINE}MSG: geometry_msgs/Point\nfloat64 x\nfloat64 y\nfloat64 z\n"
    f"{LINE}MSG: geometry_msgs/Quaternion\nfloat64 x\nfloat64 y\nfloat64 z\nfloat64 w\n"
    f"{LINE}MSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n"
    f"{LINE}MSG: vision_msgs/BoundingBox3D\ngeometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n"
)
DETECTIONS_NOW = (
    "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n"
    f"{LINE}MSG: vision_msgs/Detection3D\nstd_msgs/Header header\n"
    "vision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox3D bbox\nstring id\n"
    f"{LINE}MSG: vision_msgs/ObjectHypothesisWithPose\nvision_msgs/ObjectHypothesis hypothesis\n"
    "geometry_msgs/Pose pose\n"
    f"{LINE}MSG: vision_msgs/ObjectHypothesis\nstring class_id\nfloat64 score\n"
    f"{LINE}MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    f"{LINE}MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n{LINE}{POSE}"
)
DETECTIONS_ROS1 = (
    "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n"
    f"{LINE}MSG: vision_msgs/Detection3D\nstd_msgs/Header header\n"
    "vision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox3D bbox\n"
    f"{LINE}MSG: vision_msgs/ObjectHypothesisWithPose\nint64 id\nfloat64 score\n"
    "geometry_msgs/Pose pose\n"
    f"{LINE}MSG: std_msgs/Header\nuint32 seq\ntime stamp\nstring frame_id\n{LINE}{POSE}"
)


def filled(store: Any, kind: str, values: dict[str, Any], salt: int = 1) -> Any:
    """A message with a different number in each field; `values` sets some by dotted path."""
    fields: dict[str, Any] = {}
    definition = store.get_msgdef(kind).fields
    for number, (name, (node, desc)) in enumerate(definition, start=salt):
        inner = {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"{name}.")}
        if name in values:
            fields[name] = values[name]
        elif node.name == "NAME":
            fields[name] = filled(store, desc, inner, number * 7)
        elif node.name == "BASE":
            base = desc[0]
            fields[name] = {"string": f"t{number}", "bool": True}.get(base, number % 100)
        elif node.name == "ARRAY":
            fields[name] = np.arange(desc[1], dtype=desc[0][1][0]) + number
        else:
            fields[name] = np.array([], dtype="f8") if desc[0][0].name == "BASE" else []
    return store.types[kind](**fields)


def recorded(store: Any, messages: dict[str, tuple[str, list[Any]]], *, ros1: bool) -> bytes:
    """An MCAP file with the messages of each topic, ten milliseconds apart."""
    out = io.BytesIO()
    writer = Writer(out)
    writer.start("ros1" if ros1 else "ros2")
    for topic, (kind, ones) in messages.items():
        text, _ = store.generate_msgdef(kind, ros_version=1 if ros1 else 2)
        name = kind.replace("/msg/", "/") if ros1 else kind
        schema = writer.register_schema(name, "ros1msg" if ros1 else "ros2msg", text.encode())
        channel = writer.register_channel(topic, "ros1" if ros1 else "cdr", schema)
        for i, one in enumerate(ones):
            data = store.serialize_ros1(one, kind) if ros1 else store.serialize_cdr(one, kind)
            writer.add_message(channel, 1000 + i * 10_000_000, bytes(data), 1000, i)
    writer.finish()
    return out.getvalue()


def drive(*, ros1: bool) -> bytes:
    """The same messages of every common kind, as ROS 1 or ROS 2 writes them."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    if ros1:
        text = "geometry_msgs/TransformStamped[] transforms\n"
        store.register(get_types_from_msg(text, "tf2_msgs/msg/TFMessage"))
    header = {"header.stamp.sec": 5, "header.stamp.nanosec": 6, "header.frame_id": "base"}
    point_field = store.types["sensor_msgs/msg/PointField"]
    cloud = {
        "fields": [point_field("x", 0, 7, 1), point_field("intensity", 12, 2, 1)],
        "data": np.arange(30, dtype=np.uint8),
    }
    transform = {f"transform.rotation.{axis}": i for i, axis in enumerate("xyzw")}
    transform |= {f"transform.translation.{axis}": i + 10 for i, axis in enumerate("xyz")}
    one = "geometry_msgs/msg/TransformStamped"
    lists = [
        store.types["tf2_msgs/msg/TFMessage"](
            [
                filled(store, one, {**header, **transform, "child_frame_id": f"c{i}"})
                for i in range(n)
            ]
        )
        for n in (1, 3, 0, 2)
    ]

    def some(kind: str, **values: Any) -> tuple[str, list[Any]]:
        return kind, [filled(store, kind, {**header, **values}, salt) for salt in (1, 5)]

    return recorded(
        store,
        {
            "/imu": some("sensor_msgs/msg/Imu"),
            "/fix": some("sensor_msgs/msg/NavSatFix"),
            "/odom": some("nav_msgs/msg/Odometry"),
            "/image": some("sensor_msgs/msg/Image", data=np.arange(9, dtype=np.uint8)),
            "/jpeg": some("sensor_msgs/msg/CompressedImage", data=np.arange(7, dtype=np.uint8)),
            "/cloud": some("sensor_msgs/msg/PointCloud2", **cloud),
            "/tf": ("tf2_msgs/msg/TFMessage", lists),
            "/tf_static": ("tf2_msgs/msg/TFMessage", lists[:1]),
            "/temperature": some("sensor_msgs/msg/Temperature"),
        },
        ros1=ros1,
    )


def rows_of(account: Account, table: str) -> list[dict[str, Any]]:
    return account.tables[table].to_pylist()


@pytest.fixture(scope="module")
def ros2() -> Account:
    return account_of(drive(ros1=False))


def test_ros_1_and_ros_2_give_the_same_rows(ros2):
    """Same drive, same rows: every kind and a plain message, whichever generation recorded it."""
    ros1 = account_of(drive(ros1=True))
    assert set(ros1.tables) == set(ros2.tables)
    pointers = {"unit_offset", "data_offset"}
    for name, table in ros2.tables.items():
        keep = [column for column in table.column_names if column not in pointers]
        other = ros1.tables[name]
        assert other.schema.equals(table.schema)
        mine, theirs = table.select(keep).to_pylist(), other.select(keep).to_pylist()
        if name == "odometry":
            assert len(mine) == 2
        assert mine == theirs, name


def test_rows_hold_exactly_the_schema_of_their_table(ros2):
    """Every batch of a kind is in the order and types of the contract, to the last column."""
    for name in ("imu", "gnss", "odometry", "images", "point_clouds", "transforms"):
        wanted = TABLES[f"silver.{name}"].schema
        assert ros2.tables[name].schema.equals(wanted), name


def test_imu_values_stand_in_their_columns(ros2):
    """Each column of an IMU row is the field that its name says."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    message = filled(store, "sensor_msgs/msg/Imu", {}, 1)
    row = rows_of(ros2, "imu")[0]
    for axis in "xyz":
        assert row[f"angular_velocity_{axis}_rad_s"] == getattr(message.angular_velocity, axis)
        assert row[f"linear_acceleration_{axis}_m_s2"] == getattr(message.linear_acceleration, axis)
    for axis in "xyzw":
        assert row[f"orientation_{axis}"] == getattr(message.orientation, axis)
    assert row["orientation_covariance"] == message.orientation_covariance.tolist()
    assert (row["sensor_time_ns"], row["frame_id"]) == (5_000_000_006, "base")
    assert (row["topic"], row["sequence"], row["log_time_ns"]) == ("/imu", 0, 1000)
    assert row["recording_id"] == "ab" * 32


def test_a_transform_list_gives_a_row_for_each_transform(ros2):
    """One, three, none and two transforms: six rows with their message's times, all counted."""
    rows = [row for row in rows_of(ros2, "transforms") if row["topic"] == "/tf"]
    assert [row["child_frame_id"] for row in rows] == ["c0", "c0", "c1", "c2", "c0", "c1"]
    assert [row["sequence"] for row in rows] == [0, 1, 1, 1, 3, 3]
    assert [row["translation_y_m"] for row in rows] == [11.0] * 6
    assert not any(row["is_static"] for row in rows)
    static = [row for row in rows_of(ros2, "transforms") if row["topic"] == "/tf_static"]
    assert [row["is_static"] for row in static] == [True]


@pytest.mark.parametrize("ros1", [True, False])
def test_image_and_cloud_pointers_give_the_bytes(ros1):
    """Rows of images and clouds hold no bytes, and their pointers lead to them."""
    data = drive(ros1=ros1)
    account = account_of(data)
    for table, length in (("images", {7, 9}), ("point_clouds", {30})):
        rows = rows_of(account, table)
        names = ("unit_offset", "data_offset", "data_length")
        pointers = {name: np.array([row[name] for row in rows]) for name in names}
        found = resolve_pointers(BytesSource(data), format="mcap", **pointers).to_pylist()
        assert {len(one) for one in found} == length
        assert all(one == bytes(range(len(one))) for one in found)
    assert [row["is_compressed"] for row in rows_of(account, "images")] == [False] * 2 + [True] * 2
    assert rows_of(account, "images")[2]["height_px"] is None
    fields = rows_of(account, "point_clouds")[0]["fields"]
    assert fields[1] == {"name": "intensity", "offset": 12, "datatype": 2, "count": 1}


def detections(store: Any, counts: list[int], *, ros1: bool) -> list[Any]:
    made = []
    types = store.types
    hypothesis = types["vision_msgs/msg/ObjectHypothesisWithPose"]
    pose = filled(store, "geometry_msgs/msg/Pose", {})
    for count in counts:
        ones = []
        for i in range(count):
            box = filled(store, "vision_msgs/msg/BoundingBox3D", {}, i + 1)
            scores = [0.2, 0.9, 0.5][: i % 4]
            if ros1:
                results = [hypothesis(j, score, pose) for j, score in enumerate(scores)]
                extra: dict[str, Any] = {}
            else:
                name = types["vision_msgs/msg/ObjectHypothesis"]
                results = [hypothesis(name(str(j), s), pose) for j, s in enumerate(scores)]
                extra = {"id": f"track{i}"}
            header = filled(store, "std_msgs/msg/Header", {"frame_id": ""})
            one = types["vision_msgs/msg/Detection3D"](
                header=header, results=results, bbox=box, **extra
            )
            ones.append(one)
        header = filled(store, "std_msgs/msg/Header", {"stamp.sec": 1, "stamp.nanosec": 2})
        made.append(types["vision_msgs/msg/Detection3DArray"](header=header, detections=ones))
    return made


@pytest.mark.parametrize("ros1", [True, False])
def test_detections_give_a_row_each_with_the_likeliest_class(ros1):
    """Both spellings of vision_msgs: the hypothesis with the highest score, null without any."""
    text = DETECTIONS_ROS1 if ros1 else DETECTIONS_NOW
    store = get_typestore(Stores.EMPTY)
    plain = text.replace("time stamp", "builtin_interfaces/Time stamp") if ros1 else text
    store.register(get_types_from_msg(plain, "vision_msgs/msg/Detection3DArray"))
    kind = "vision_msgs/msg/Detection3DArray"
    messages = detections(store, [5, 0, 2] * 30, ros1=ros1)
    out = io.BytesIO()
    writer = Writer(out)
    writer.start()
    schema = writer.register_schema(kind, "ros1msg" if ros1 else "ros2msg", text.encode())
    channel = writer.register_channel("/objects", "ros1" if ros1 else "cdr", schema)
    for i, one in enumerate(messages):
        raw = store.serialize_ros1(one, kind) if ros1 else store.serialize_cdr(one, kind)
        writer.add_message(channel, i, bytes(raw), i, i)
    writer.finish()
    rows = rows_of(account_of(out.getvalue()), "objects")
    assert len(rows) == 210
    assert [row["class_name"] for row in rows[:5]] == [None, "0", "1", "1", None]
    assert [row["score"] for row in rows[:5]] == [None, 0.2, 0.9, 0.9, None]
    assert [row["object_id"] for row in rows[:2]] == ([None] * 2 if ros1 else ["track0", "track1"])
    box = messages[0].detections[1].bbox
    assert rows[1]["position_x_m"] == box.center.position.x
    assert rows[1]["size_z_m"] == box.size.z
    assert {row["sensor_time_ns"] for row in rows} == {1_000_000_002}


def test_a_table_follows_from_the_definition_alone(ros2):
    """What table_of_channel says before decode is what decode gives: table, schema and status."""
    index = index_recording(BytesSource(drive(ros1=False)))
    for channel in index.channels:
        table, schema, status = table_of_channel(index, channel)
        assert status == "DECODED"
        assert ros2.tables[table].schema.equals(schema)
    names = {schema.hash: "elsewhere" for schema in index.schemas if "Temperature" in schema.name}
    channel = next(one for one in index.channels if one.topic == "/temperature")
    assert table_of_channel(index, channel, table_names=names)[0] == "elsewhere"


def message_file(name: str, text: str, payload: bytes, encoding: str = "cdr") -> bytes:
    out = io.BytesIO()
    writer = Writer(out)
    writer.start()
    schema = writer.register_schema(name, "ros2msg", text.encode())
    writer.add_message(writer.register_channel("/t", encoding, schema), 9, payload, 9, 9)
    writer.finish()
    return out.getvalue()


def test_a_type_of_a_common_name_with_other_fields_gets_its_own_table():
    """A definition that lacks what the kind needs is not forced into it, and collides with none."""
    account = account_of(message_file("sensor_msgs/msg/Imu", "int32 a\n", b"\0\1\0\0\7\0\0\0"))
    assert list(account.tables) == ["sensor_msgs_imu"]
    assert account.rows[0]["a"] == 7
    account = account_of(message_file("Imu", "int32 a\n", b"\0\1\0\0\7\0\0\0"))
    assert list(account.tables) == ["message_imu"]


def test_fields_named_like_common_columns_are_kept_beside_them():
    """A message's own `topic` or `sequence` never replaces the recording's."""
    text = "int32 sequence\nint32 channel_id\nint32 _empty\n"
    account = account_of(message_file("pkg/msg/T", text, b"\0\1\0\0" + b"\5\0\0\0" * 3))
    (row,) = account.rows
    assert (row["sequence"], row["sequence_"], row["channel_id_"]) == (9, 5, 5)


@pytest.mark.parametrize(
    ("name", "encoding", "status"),
    [("pkg/msg/T", "cdr", "NO_DEFINITION"), ("std_msgs/msg/Empty", "cdr", "DECODED")],
)
def test_an_empty_definition_is_none_but_for_an_empty_message(name, encoding, status):
    """An empty text defines std_msgs/Empty; for any other type it is a definition that lacks."""
    data = message_file(name, "", b"\0\1\0\0\0", encoding)
    index = index_recording(BytesSource(data))
    assert table_of_channel(index, index.channels[0])[2] == status
    assert len(account_of(data).rows) == 1
