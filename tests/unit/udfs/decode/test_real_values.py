"""Every real bag and database: the values that the reference libraries read, to the bit.

Decoded here as a message of its own type, before any becomes a typed row of an imu or a transform.
The other real files: test_mcap.py and test_ros.py (MCAP), test_json_text.py, test_protobuf.py,
test_mdf4.py, test_mdf4_frames.py, test_can_log.py.
"""

from __future__ import annotations

import collections
import functools
from pathlib import Path
from typing import Any

import pytest
from mcap_ros2.decoder import DecoderFactory as Ros2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from contracts.recording import MessageBatch, Schema
from tests.unit.udfs.oracles import assert_same, plain
from udfs.decode import ros1bag, rosbag2
from udfs.decode.messages import plan_of_channel
from udfs.decode.recording import index_recording
from udfs.decode.source import open_source
from udfs.encodings.registry import decoder_for

MOST_PER_CHANNEL = 400
"""Messages of a channel that are compared in every run: evenly out of all."""


@functools.cache
def own_types(definition: str, name: str) -> Any:
    """Types of a message as its recording defines it."""
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition, name))
    return store


def reference_row(schema: Schema, payload: bytes, *, encoding: str) -> Any:
    """ROS 1 as rosbags reads it, CDR as mcap-ros2-support does.

    rosbags 0.11 takes a `byte` of ROS 2 for ROS 1's, which has a sign: 255 becomes -1 in cdr_test.
    """
    if encoding == "ros1":
        name = schema.name.replace("/", "/msg/")
        return plain(own_types(schema.data.decode(), name).deserialize_ros1(payload, name))
    return plain(Ros2().decoder_for("cdr", schema)(payload))


def compared_values(path: Path, reader: Any) -> collections.Counter[str]:
    """Messages of a recording that were compared, or had no decoder."""
    counts: collections.Counter[str] = collections.Counter()
    source = open_source(str(path))
    index = index_recording(source)
    schemas = {schema.id: schema for schema in index.schemas}
    channels = {channel.id: channel for channel in index.channels}
    decoders = {
        channel.id: decoder_for(channel.message_encoding, schemas[channel.schema_id])
        for channel in index.channels
        if plan_of_channel(index, channel, table_names={}).decoder
    }
    for group in reader.iter_message_groups(source, index):
        for batch in group.batches:
            channel = channels[batch.channel_id]
            decoder = decoders.get(batch.channel_id)
            if decoder is None:
                counts["no decoder"] += len(batch.starts)
                continue
            decoded = decoder.decode(batch)
            assert not decoded.bad, (path, channel.topic)
            every = range(0, len(batch.starts), -(-len(batch.starts) // MOST_PER_CHANNEL))
            rows = decoded.rows.take(list(every)).to_pylist()
            for row, payload in zip(rows, (payload_of(batch, i) for i in every), strict=True):
                wanted = reference_row(
                    schemas[channel.schema_id], payload, encoding=channel.message_encoding
                )
                assert_same(row, wanted, f"{path.name} {channel.topic}")
                counts["equal"] += 1
            counts["not compared"] += len(batch.starts) - len(every)
    source.close()
    return counts


def payload_of(batch: MessageBatch, row: int) -> bytes:
    start = batch.starts[row]
    return batch.arena[start : start + batch.lengths[row]].tobytes()


@pytest.mark.parametrize(
    ("pattern", "reader", "files", "equal"),
    [
        ("bag/**/*.bag", ros1bag, 8, {"equal": 8005, "not compared": 24090}),
        ("db3/**/*.db3", rosbag2, 15, {"equal": 1156, "no decoder": 248, "not compared": 2250}),
    ],
)
def test_values_of_real_recordings_equal_the_reference(samples, pattern, reader, files, equal):
    """Field by field, to the bit; what no definition is there for is counted."""
    paths = sorted(samples.glob(pattern))
    counts: collections.Counter[str] = collections.Counter()
    for path in paths:
        counts += compared_values(path, reader)
    assert (len(paths), dict(counts)) == (files, equal)
