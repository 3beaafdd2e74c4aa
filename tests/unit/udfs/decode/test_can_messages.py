"""CAN frames that were recorded as ROS messages are the frames of a CAN log."""

from __future__ import annotations

import io

import attrs
import can
import numpy as np
import pyarrow as pa
import pytest
from mcap.writer import Writer
from rosbags.typesys import get_types_from_msg

from contracts.recording import Schema
from tests.unit.udfs.decode.drive_files import STORES
from tests.unit.udfs.decode.recordings import CONTEXT, account_of
from udfs.decode.kinds import fits, kind_of
from udfs.decode.recording import index_recording, iter_selected_groups
from udfs.decode.selection import Selection
from udfs.decode.source import BytesSource
from udfs.encodings.can import DATA_LENGTHS
from udfs.encodings.registry import decoder_for

START_NS = 1_700_000_000_000_000_000
OWN = ("recording_id", "channel_id", "topic", "bus", "direction", "publish_time_ns")
HEADER = ("sensor_time_ns", "frame_id")
DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 7 Motion: 8 ECU
 SG_ Speed : 0|16@1+ (0.01,0) [0|200] "m/s" ECU
 SG_ Gear : 16|8@1- (1,0) [0|0] "" ECU
BO_ 2147483656 Wide: 8 ECU
 SG_ Angle : 0|16@1- (0.1,-3) [0|0] "deg" ECU
"""
DEFINITIONS = {"can:*": DBC.encode()}
RANDOM = np.random.default_rng(3)
FD_FRAME = """std_msgs/Header header
uint32 id
bool is_extended
bool is_error
uint8 len
uint8[<=64] data
"""
FD_NAME = "ros2_socketcan_msgs/msg/FdFrame"
STORES[2].register(get_types_from_msg(FD_FRAME, FD_NAME))


def frames(count=400):
    """Data, remote and error frames of both kinds of ids, known and unknown ones."""
    made = []
    for i in range(count):
        kind = i % 10
        made.append(
            can.Message(
                timestamp=START_NS / 1e9 + i / 1000,
                arbitration_id=int(RANDOM.choice([7, 8, 9])),
                is_extended_id=bool(i % 3 == 0) and kind != 9,
                is_remote_frame=kind == 8,
                is_error_frame=kind == 9,
                dlc=8 if kind != 5 else 3,
                data=b"" if kind == 8 else RANDOM.bytes(8 if kind != 5 else 3),
            )
        )
    return made


def as_log(messages) -> bytes:
    """A candump of them."""
    lines = []
    for i, one in enumerate(messages):
        width = 8 if one.is_extended_id or one.is_error_frame else 3
        number = one.arbitration_id | (0x20000000 if one.is_error_frame else 0)
        text = f"R{one.dlc}" if one.is_remote_frame else bytes(one.data).hex()
        at = f"{START_NS // 10**9}.{i * 1000:06d}"
        lines.append(f"({at}) vcan {number:0{width}X}#{text}")
    return "\n".join([*lines, ""]).encode()


def as_rows(messages):
    """The fields of their messages, as a driver for SocketCAN fills them in; and when."""
    for i, one in enumerate(messages):
        octets = (bytes(one.data) + b"\xee" * 8)[:8]
        yield (
            START_NS + i * 1_000_000,
            {
                "id": one.arbitration_id,
                "is_rtr": one.is_remote_frame,
                "is_extended": one.is_extended_id,
                "is_error": one.is_error_frame,
                "dlc": one.dlc,
                "data": np.frombuffer(octets, np.uint8),
            },
        )


def as_mcap(rows, version=2, *, name="can_msgs/msg/Frame") -> bytes:
    """An MCAP of frames on /can."""
    store = STORES[version]
    types = store.types
    out = io.BytesIO()
    writer = Writer(out)
    writer.start()
    shown = name if version == 2 else name.replace("/msg/", "/")
    encodings = ("ros2msg", "cdr") if version == 2 else ("ros1msg", "ros1")
    definition, _ = store.generate_msgdef(name, ros_version=version)
    schema = writer.register_schema(shown, encodings[0], definition.encode())
    channel = writer.register_channel("/can", encodings[1], schema)
    serialise = store.serialize_cdr if version == 2 else store.serialize_ros1
    for i, (time_ns, fields) in enumerate(rows):
        more = {"seq": 5} if version == 1 else {}
        stamp = types["builtin_interfaces/msg/Time"](time_ns // 10**9, time_ns % 10**9)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="can", **more)
        message = types[name](header=header, **fields)
        writer.add_message(channel, time_ns, bytes(serialise(message, name)), time_ns, i)
    writer.finish()
    return out.getvalue()


def told(account, table="can_frames") -> pa.Table:
    """Rows by time, without what a container numbers or says by itself."""
    rows = account.tables[table]
    rows = rows.drop_columns([name for name in (*OWN, *HEADER) if name in rows.column_names])
    order = [("log_time_ns", "ascending"), ("sequence", "ascending")]
    order += [("signal", "ascending")] if table == "signals" else []
    return rows.sort_by(order).combine_chunks()


@pytest.mark.parametrize("version", [1, 2])
def test_frames_in_messages_are_those_of_a_log(version):
    """The same frames, and the same signals, hash-equal but for what only one of them knows."""
    messages = frames()
    context = attrs.evolve(CONTEXT, definitions=DEFINITIONS)
    found = account_of(as_mcap(as_rows(messages), version), context=context)
    wanted = account_of(as_log(messages), context=context)
    assert found.tables.keys() == wanted.tables.keys() == {"can_frames", "signals"}
    for table in found.tables:
        assert told(found, table).equals(told(wanted, table)), table
    rows = found.tables["can_frames"]
    assert len(rows) == len(messages)
    assert rows["sensor_time_ns"].equals(rows["log_time_ns"])
    assert set(rows["frame_id"].to_pylist()) == {"can"}
    assert rows["bus"].null_count == rows["direction"].null_count == len(rows)
    (reason,) = {entry.detail for entry in found.ledger if entry.reason_code == "NO_DEFINITION"}
    assert reason in {entry.detail for entry in wanted.ledger}


@pytest.mark.parametrize(("binding", "is_known"), [("/can", True), ("/other", False), ("1", False)])
def test_a_definition_may_be_of_a_topic(binding, is_known):
    """A message names no bus: a definition is of its topic, or of any bus, and never guessed."""
    context = attrs.evolve(CONTEXT, definitions={f"can:{binding}": DBC.encode()})
    found = account_of(as_mcap(as_rows(frames(40))), context=context)
    assert ("signals" in found.tables) == is_known
    assert found.codes == {"NO_DEFINITION"}


def test_signals_of_frames_can_be_asked_for():
    """By table and by name, from a recording of messages as from a bus logger."""
    source = BytesSource(as_mcap(as_rows(frames())))
    index = index_recording(source)
    context = attrs.evolve(CONTEXT, definitions=DEFINITIONS)
    for selection, names in (
        (Selection(tables=frozenset({"signals"})), {"Speed", "Gear", "Angle"}),
        (Selection(signals=("Sp*",)), {"Speed"}),
    ):
        groups = iter_selected_groups(source, index, context=context, selection=selection)
        rows = [pair for group in groups for pair in group.tables]
        assert {table for table, _ in rows} == {"signals"}
        assert {name for _, one in rows for name in one["signal"].to_pylist()} == names


def test_fd_frames_have_the_code_of_their_length():
    """Sixty-four bytes at most; the bytes that a frame has are those that it says."""
    rows = [
        (
            START_NS + i,
            {
                "id": 7,
                "is_extended": False,
                "is_error": False,
                "len": length,
                "data": np.arange(length, dtype=np.uint8),
            },
        )
        for i, length in enumerate(DATA_LENGTHS.tolist())
    ]
    found = account_of(as_mcap(rows, name=FD_NAME)).tables["can_frames"]
    assert [len(one) for one in found["data"].to_pylist()] == DATA_LENGTHS.tolist()
    assert found["dlc"].to_pylist() == list(range(16))
    assert set(found["is_fd"].to_pylist()) == {True}


def test_a_length_beyond_its_bytes_takes_no_others():
    """What a driver says of a length is kept as its code; there are no more bytes than it had."""
    (row,) = as_rows(frames(1))
    data = account_of(as_mcap([(row[0], row[1] | {"dlc": 255})])).tables["can_frames"]
    assert data["dlc"].to_pylist() == [255]
    assert [len(one) for one in data["data"].to_pylist()] == [8]


def test_a_message_of_this_name_with_other_fields_is_no_frame():
    """By its own definition, never by its name alone: then it has a table of its own."""
    kind = kind_of("can_msgs/msg/Frame")
    text = "std_msgs/Header header\nuint32 id\nbool is_extended\nuint8 dlc\nuint8[8] data\n"
    schema = STORES[2].generate_msgdef("can_msgs/msg/Frame", ros_version=2)[0].split("=====", 1)
    definitions = [schema[0], text]
    decoders = [
        decoder_for("cdr", Schema(1, "can_msgs/msg/Frame", "ros2msg", data.encode(), ""))
        for data in (f"{one}====={schema[1]}" for one in definitions)
    ]
    assert [fits(kind, decoder.schema) for decoder in decoders] == [True, False]
