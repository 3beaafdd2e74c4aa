"""Good recordings of a few kilobytes, in every format, shape and encoding that is decoded."""

from __future__ import annotations

import io
import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import can
import numpy as np
import zstandard
from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag1 import Writer as BagWriter

from tests.unit.udfs.decode import can_logs, mdf_files
from tests.unit.udfs.decode.drive_files import NAMES, STORES, built, written
from tests.unit.udfs.decode.recordings import mcap_bytes
from tests.unit.udfs.decode.test_mdf3 import mdf3_file
from tests.unit.udfs.encodings.flatbuffer_files import DRIVE, drive_message
from tests.unit.udfs.encodings.test_protobuf import FILES, All

START_NS = 1_700_000_000_000_000_000
DBC = b"""VERSION ""
BU_: A
BO_ 291 Speed: 8 A
 SG_ speed_m_s : 0|16@1+ (0.5,0) [0|100] "m/s" A
 SG_ kind M : 16|4@1+ (1,0) [0|15] "" A
 SG_ one m1 : 24|8@1+ (1,0) [0|255] "" A
"""


@attrs.frozen
class Good:
    """A good recording.

    Attributes:
        name: What it is.
        group: Its format, in whose row of the table it counts.
        make: Its bytes.
        definitions: Bus definitions that it is decoded with.
    """

    name: str
    group: str
    make: Callable[[], bytes] = attrs.field(repr=False)
    definitions: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)


def good_files() -> list[Good]:
    """All of them, in a fixed order."""
    return [*_mcap(), *_bags(), *_mdf(), *_can_logs()]


def _drive(count: int = 24) -> list[tuple[str, int, dict[str, Any]]]:
    """A drive with strings, arrays, structs and transforms."""
    return [
        (
            sorted(NAMES)[i % len(NAMES)],
            START_NS + i * 1_000_000,
            {
                "frame": "map" * (i % 2),
                "stamp": (1_700_000_000, i),
                "numbers": [i / 7, -1.0][: i % 3],
                "words": ["", "wörter", "w" * i][: i % 4],
                "blob": bytes(range(i)),
                "points": [(1.0, 2.0, float(i))] * (1 + i % 2),
                "three": (i, -i, 0),
                "count": -i << 40,
                "flag": bool(i % 2),
            },
        )
        for i in range(count)
    ]


def _written(form: str, **options: Any) -> bytes:
    with TemporaryDirectory() as folder:
        return written(Path(folder), form, _drive(), **options)


BARE = {
    "index_types": IndexType.NONE,
    "repeat_channels": False,
    "repeat_schemas": False,
    "use_statistics": False,
    "use_summary_offsets": False,
}


def _mcap() -> Iterator[Good]:
    numbered = partial(mcap_bytes, 60, chunk_size=512, enable_data_crcs=True)
    for one in CompressionType:
        yield Good(f"mcap {one.name.lower()}", "mcap", partial(numbered, compression=one))
    shapes: dict[str, dict[str, Any]] = {
        "without summary": BARE,
        "without index": {"index_types": IndexType.NONE},
        "without data CRC": {"enable_data_crcs": False},
        "without CRC": {"enable_crcs": False, "enable_data_crcs": False},
        "without CRC and summary": {**BARE, "enable_crcs": False, "enable_data_crcs": False},
        "unchunked": {"use_chunking": False},
        "unchunked without CRC": {
            "use_chunking": False,
            "enable_crcs": False,
            "enable_data_crcs": False,
        },
    }
    for name, options in shapes.items():
        yield Good(f"mcap {name}", "mcap", partial(numbered, **options))
    yield Good("mcap with attachments", "mcap", _mcap_with_attachments)
    plain = {"enable_crcs": False, "compression": CompressionType.NONE, "chunk_bytes": 2048}
    yield Good("mcap CDR drive", "mcap", partial(_written, "mcap_ros2", chunk_bytes=4096))
    yield Good("mcap CDR without CRC", "mcap", partial(_written, "mcap_ros2", **plain))
    yield Good("mcap ROS 1 without CRC", "mcap", partial(_written, "mcap_ros1", **plain))
    for name, (encoding, about, payload) in _PAYLOADS.items():
        make = partial(_mcap_of, encoding, about, payload)
        yield Good(f"mcap {name}", "mcap", make)
        yield Good(f"mcap {name} without CRC", "mcap", partial(make, enable_crcs=False))


def _mcap_of(
    encoding: str,
    about: tuple[str, str, bytes],
    payload: Callable[[int], bytes],
    **options: Any,
) -> bytes:
    """Messages of one encoding, as they are."""
    out = io.BytesIO()
    options = {"chunk_size": 1024, "compression": CompressionType.NONE, **options}
    writer = Writer(out, **options)
    writer.start("", "test writer")
    channel = writer.register_channel("/thing", encoding, writer.register_schema(*about))
    for i in range(30):
        writer.add_message(channel, START_NS + i, payload(i), START_NS + i, i)
    writer.finish()
    return out.getvalue()


def _mcap_with_attachments() -> bytes:
    out = io.BytesIO()
    writer = Writer(out, chunk_size=256, enable_data_crcs=True)
    writer.start("ros2", "test writer")
    schema = writer.register_schema("pkg/msg/Number", "ros2msg", b"int64 number\n")
    channel = writer.register_channel("/number", "cdr", schema)
    for i in range(40):
        data = b"\0\1\0\0" + i.to_bytes(8, "little")
        writer.add_message(channel, START_NS + i, data, START_NS + i, i)
        if i == 20:
            writer.add_attachment(START_NS, START_NS, "log.txt", "text/plain", b"words " * 20)
            writer.add_metadata("vehicle", {"software_version": "7"})
    writer.finish()
    return out.getvalue()


def _protobuf(i: int) -> bytes:
    message = All(f_double=i / 3, f_int32=i, f_string="s" * i, f_bytes=bytes(i))
    message.rf_int64.extend(range(i % 4))
    message.at.FromNanoseconds(START_NS + i)
    message.inner.v = i
    message.inners.add(v=i)
    message.counts["a"] = i
    return message.SerializeToString()


def _json(i: int) -> bytes:
    value = {"id": i, "name": "nämé" * (i % 3), "xy": [i / 2, -1], "inner": {"v": None}}
    return json.dumps(value).encode()


def _flatbuffer(i: int) -> bytes:
    part = {"name": "part", "weight": 2.0}
    return drive_message(
        {
            "timestamp_ns": START_NS + i,
            "count": i,
            "text": "t" * i,
            "numbers": [0.5] * (i % 3),
            "point": {"x": 1.0, "y": float(i)},
            "points": [{"x": 0.0, "y": 1.0}] * (i % 2),
            "part": part,
            "parts": [part] * (i % 3),
            "words": ["a", ""],
        }
    )


_JSON_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "name": {"type": "string"},
            "xy": {"type": "array", "items": {"type": "number"}},
            "inner": {"type": "object", "properties": {"v": {"type": ["number", "null"]}}},
        },
    }
).encode()
_PAYLOADS: Mapping[str, tuple[str, tuple[str, str, bytes], Callable[[int], bytes]]] = {
    "protobuf": ("protobuf", ("test.All", "protobuf", FILES.SerializeToString()), _protobuf),
    "JSON": ("json", ("Thing", "jsonschema", _JSON_SCHEMA), _json),
    "FlatBuffers": ("flatbuffer", ("pkg.Root", "flatbuffer", DRIVE), _flatbuffer),
}


def _bags() -> Iterator[Good]:
    kinds = {
        "none": None,
        "bz2": BagWriter.CompressionFormat.BZ2,
        "lz4": BagWriter.CompressionFormat.LZ4,
    }
    for name, kind in kinds.items():
        make = partial(_written, "ros1bag", compression=kind, chunk_bytes=2048)
        yield Good(f"ros1bag {name}", "ros1bag", make)
    yield Good("rosbag2 mcap", "rosbag2 mcap", partial(_written, "rosbag2_mcap"))
    yield Good("db3", "rosbag2 db3", partial(_written, "db3"))
    yield Good("db3 small pages", "rosbag2 db3", _db3)
    yield Good("db3 zstd messages", "rosbag2 db3", partial(_db3, packed=True))


def _db3(*, packed: bool = False, count: int = 60) -> bytes:
    """A bag of schema version 2 in pages of 512 bytes, so that its table is a tree."""
    name = NAMES["/thing"]
    rows = [row for row in _drive(len(NAMES) * count) if row[0] == "/thing"]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.db3"
        db = sqlite3.connect(path)
        db.execute("PRAGMA page_size = 512")
        db.executescript(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
            " serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,"
            " timestamp INTEGER NOT NULL, data BLOB NOT NULL);"
            "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL,"
            " encoding TEXT NOT NULL, encoded_message_definition TEXT NOT NULL,"
            " type_description_hash TEXT NOT NULL);"
        )
        text, _ = STORES[2].generate_msgdef(name, ros_version=2)
        db.execute("INSERT INTO topics VALUES (1, '/thing', ?, 'cdr', '')", (name,))
        db.execute("INSERT INTO message_definitions VALUES (1, ?, 'ros2msg', ?, '')", (name, text))
        pack = zstandard.compress if packed else bytes
        db.executemany(
            "INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)",
            [(time_ns, pack(built(2, topic, value))) for topic, time_ns, value in rows],
        )
        db.commit()
        db.close()
        return path.read_bytes()


def _mdf() -> Iterator[Good]:
    made: dict[str, Callable[[], bytes]] = {
        "DT": partial(mdf_files.plain_file, count=60),
        "DL": partial(mdf_files.plain_file, count=60, blocks=4),
        "DZ and transposed": partial(mdf_files.zipped_file, count=240, blocks=4),
        "unsorted with VLSD": partial(mdf_files.mixed_file, 40),
        "unfinalised": partial(mdf_files.plain_file, count=60, cycles=0, unfinalised_flags=0x25),
        "bus log": partial(
            mdf_files.bus_file, attached=mdf_files.DBC.encode(), frames=mdf_files.FRAMES * 5
        ),
        "of asammdf": partial(_of_asammdf, "4.10", 0),
        "of asammdf, transposed": partial(_of_asammdf, "4.10", 2),
    }
    for name, make in made.items():
        yield Good(f"mdf4 {name}", "mdf4", make)
    for name, options in {"": {}, " big-endian": {"order": ">"}, " with ids": {"ids": 2}}.items():
        yield Good(f"mdf3{name}", "mdf3", partial(mdf3_file, **options))
    yield Good("mdf3 of asammdf", "mdf3", partial(_of_asammdf, "3.30", 0))


def _of_asammdf(version: str, compression: int) -> bytes:
    """Numbers, texts, arrays, conversions and invalidation bits, as asammdf writes them."""
    import datetime as dt

    from asammdf import MDF, Signal

    count = 20
    times = np.arange(count) * 0.01
    raw = np.arange(count, dtype="u1")
    texts = {"val_0": 0, "text_0": b"zero", "val_1": 3, "text_1": b"three", "default_addr": b"no"}
    words = np.array([b"alpha", b"be", b"gamma gamma", b""], "S12")
    signals = [
        Signal(raw.astype("f8") / 3, times, name="double", unit="V"),
        Signal(raw.astype(">i4"), times, name="motorola"),
        Signal(raw, times, name="linear", conversion={"a": 0.5, "b": -3.0}),
        Signal(raw, times, name="words_of_numbers", conversion=texts),
        Signal(words[raw % 4], times, name="words", encoding="utf-8"),
        Signal(raw, times, name="gaps", invalidation_bits=raw % 2 == 0),
    ]
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with MDF(version=version) as mdf:
            mdf.header.start_time = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
            mdf.append(signals, acq_name="first", common_timebase=True)
            path = Path(folder) / "some.mf4"
            return mdf.save(path, overwrite=True, compression=compression).read_bytes()


def _can_logs() -> Iterator[Good]:
    for form in can_logs.SUFFIXES:
        make = partial(_can_log, form)
        yield Good(form, form, make, {"can:*": DBC})
    make = partial(_can_log, "blf", container=300)
    yield Good("blf in many containers", "blf", make, {"can:*": DBC})


def _can_log(form: str, *, container: int = 0) -> bytes:
    frames = can_logs.messages(60, form=form)
    frames += [
        can.Message(
            timestamp=can_logs.START_S + 1 + i / 1000,
            channel=1,
            arbitration_id=291,
            is_extended_id=False,
            data=bytes([i, 0, i % 2, 7, 0, 0, 0, 0]),
        )
        for i in range(10)
    ]
    largest = can.BLFWriter.max_container_size
    try:
        can.BLFWriter.max_container_size = container or largest
        with TemporaryDirectory() as folder:
            return can_logs.written(Path(folder), form, frames)
    finally:
        can.BLFWriter.max_container_size = largest
