"""The index of a ROS 1 bag as its index section states it: for reading a part of a large file.

The index section is believed where it agrees with the bag header; a chunk still answers for its
content when it is read. Ingest never goes this way.

Source: ROS bag format 2.0, http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from contracts.errors import DecodeError, PlatformError
from contracts.recording import Channel, RecordingIndex, Schema, Source, Unit
from udfs.decode import ros1bag_records as rec
from udfs.decode.limits import check_unit_size
from udfs.decode.ros1bag_scan import MAGIC, connection_of
from udfs.decode.units import messages_by_channel

_CHUNK_INFO_VERSION = 1


def quick_index(source: Source) -> RecordingIndex | None:
    """The index as the bag has it; None where only a walk through the file can tell.

    Units have neither a compression nor a size: `sized` looks those up for the units that are
    to be read.
    """
    try:
        return _read_index(source)
    except PlatformError:
        return None


def sized(source: Source, units: Sequence[Unit]) -> list[Unit]:
    """The units with what the heads of their chunks say of compression and size.

    Raises:
        DecodeError: BAD_RECORD or TRUNCATED, no chunk is there.
        ResourceLimitError: BOMB.
    """
    return [_sized(source, unit) for unit in units]


def _sized(source: Source, unit: Unit) -> Unit:
    record = rec.read_record(source, unit.offset)
    if record.op != rec.OP_CHUNK:
        raise DecodeError("no chunk is here", code="BAD_RECORD", offset=unit.offset)
    size = record.number(b"size")
    check_unit_size(record.data_length, declared=size, offset=unit.offset)
    compression = record.fields.get(b"compression", b"none").decode("ascii", "backslashreplace")
    return attrs.evolve(
        unit, compression="" if compression == "none" else compression, uncompressed_size=size
    )


def _read_index(source: Source) -> RecordingIndex | None:
    start = bytes(source.read_at(0, min(len(MAGIC), source.size)))
    header = rec.read_record(source, len(MAGIC))
    index_at = header.number(b"index_pos") if header.op == rec.OP_BAG_HEADER else 0
    if start != MAGIC or not 0 < index_at < source.size or header.fields.get(b"encryptor"):
        return None
    source.read_at(index_at, source.size - index_at)  # remote: one request for the section
    channels: dict[int, Channel] = {}
    schemas: dict[str, Schema] = {}
    infos: list[tuple[int, int, int, Mapping[int, int]]] = []
    for record in rec.iter_records(source, index_at, source.size):
        data = source.read_at(record.data_offset, record.data_length)
        if record.op == rec.OP_CONNECTION:
            channel = connection_of(record.fields, data, schemas)
            channels[channel.id] = channel
        elif record.op == rec.OP_CHUNK_INFO and record.number(b"ver") == _CHUNK_INFO_VERSION:
            infos.append(_info(record, data))
    if (len(infos), len(channels)) != (header.number(b"chunk_count"), header.number(b"conn_count")):
        return None
    return _index_of(sorted(infos, key=lambda info: info[0]), channels, schemas, index_at)


def _info(record: rec.Record, data: memoryview) -> tuple[int, int, int, Mapping[int, int]]:
    """Offset, first and last time, and messages by connection of a chunk."""
    if len(data) != 8 * record.number(b"count"):
        raise DecodeError("a chunk info does not add up", code="BAD_RECORD", offset=record.offset)
    counts = np.frombuffer(data, "<u4").reshape(-1, 2).tolist()
    start_ns, end_ns = _time_ns(record.number(b"start_time")), _time_ns(record.number(b"end_time"))
    return record.number(b"chunk_pos"), start_ns, end_ns, dict(counts)


def _time_ns(value: int) -> int:
    """Seconds in the lower four bytes, nanoseconds in the upper."""
    return (value & 0xFFFFFFFF) * 1_000_000_000 + (value >> 32)


def _index_of(
    infos: Sequence[tuple[int, int, int, Mapping[int, int]]],
    channels: Mapping[int, Channel],
    schemas: Mapping[str, Schema],
    index_at: int,
) -> RecordingIndex | None:
    offsets = [info[0] for info in infos] + [index_at]
    units = []
    for index, ((offset, start_ns, end_ns, counts), (_, end)) in enumerate(
        zip(infos, itertools.pairwise(offsets), strict=True)
    ):
        if offset < len(MAGIC) or end <= offset or start_ns > end_ns:
            return None
        holds = bool(counts)
        units.append(
            Unit(
                index=index,
                offset=offset,
                length=end - offset,
                start_ns=start_ns if holds else None,
                end_ns=end_ns if holds else None,
                message_count=sum(counts.values()),
                channel_counts=counts,
            )
        )
    totals = messages_by_channel(units)
    if not totals.keys() <= channels.keys():
        return None
    return RecordingIndex(
        format="ros1bag",
        profile="ros1",
        library="",
        start_ns=min((unit.start_ns for unit in units if unit.start_ns is not None), default=None),
        end_ns=max((unit.end_ns for unit in units if unit.end_ns is not None), default=None),
        schemas=tuple(schemas.values()),
        channels=tuple(
            attrs.evolve(channel, message_count=totals.get(channel.id, 0))
            for _, channel in sorted(channels.items())
        ),
        units=tuple(units),
        messages_declared=sum(totals.values()),
    )
