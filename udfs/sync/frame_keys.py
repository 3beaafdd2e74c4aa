"""Bus frames as keys: equal frames have equal keys, whichever logger wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.recording import Int64Array

FRAME_COLUMNS = ("recording_id", "log_time_ns", "can_id", "is_extended", "data")

KeyArray = npt.NDArray[np.uint64]

_BYTES = 64
_ROWS = 1 << 18
_EXTENDED = 1 << 40
# Numbers for ids, bytes and lengths must differ, or their exclusive or could cancel.
_OF_BYTES, _OF_LENGTHS = np.uint64(1 << 56), np.uint64(1 << 57)


@attrs.frozen(eq=False)
class BusFrames:
    """Frames of one logger, in the order in which it wrote them.

    Attributes:
        t_ns: (N,) int64 logger's clock.
        stream: (N,) int64 what tells messages apart: the id and whether it is extended.
        key: (N,) uint64 hash of stream and payload.
    """

    t_ns: Int64Array
    stream: Int64Array
    key: KeyArray = attrs.field()

    @key.validator
    def _same_length(self, _attribute: object, value: KeyArray) -> None:
        if not len(self.t_ns) == len(self.stream) == len(value):
            raise ValueError("one time and one stream for each key")

    def __len__(self) -> int:
        return len(self.t_ns)

    def part(self, start: int, end: int) -> BusFrames:
        """Frames start to end, exclusive."""
        return BusFrames(self.t_ns[start:end], self.stream[start:end], self.key[start:end])

    def where(self, kept: npt.NDArray[np.bool_]) -> BusFrames:
        """Those of (N,) bool."""
        return BusFrames(self.t_ns[kept], self.stream[kept], self.key[kept])

    def at(self, t_ns: Int64Array) -> BusFrames:
        """The same at (N,) int64 times of another clock."""
        return BusFrames(t_ns, self.stream, self.key)


def bus_frames_by_recorder(rows: pa.Table, *, recorders: Mapping[str, str]) -> dict[str, BusFrames]:
    """Frames of each recorder, by time of its clock.

    Args:
        rows: Of `silver.can_frames` with `FRAME_COLUMNS`, in any order.
        recorders: Recorder by recording_id; recordings that are not named are left out.
    """
    known = pa.array(sorted(recorders), pa.string())
    is_frame = pc.less_equal(pc.fill_null(pc.binary_length(rows["data"]), 0), _BYTES)
    rows = rows.filter(pc.and_(pc.is_in(rows["recording_id"], known), is_frame))
    names = pa.array([recorders[each] for each in known.to_pylist()], pa.string())
    of_row = pc.take(names, pc.index_in(rows["recording_id"], known))
    return {
        name: bus_frames_from(rows.filter(pc.equal(of_row, name)).sort_by("log_time_ns"))
        for name in pc.unique(of_row).to_pylist()
    }


def bus_frames_from(rows: pa.Table) -> BusFrames:
    """Frames from rows of `silver.can_frames`; the bus is left out, since loggers number their own.

    Args:
        rows: In the order of the recording, with `log_time_ns`, `can_id`, `is_extended`, `data`.
    """
    stream = rows["can_id"].to_numpy().astype(np.int64)
    is_extended = pc.fill_null(rows["is_extended"], False).to_numpy()
    stream = stream + np.where(is_extended, _EXTENDED, 0)
    t_ns = rows["log_time_ns"].to_numpy().astype(np.int64)
    return BusFrames(t_ns, stream, frame_keys(stream, rows["data"]))


def frame_keys(stream: Int64Array, data: pa.ChunkedArray) -> KeyArray:
    """(N,) uint64 hash of stream and payload.

    Each byte at each place has a random number of its own; those of a payload are combined by
    exclusive or, so no two payloads collide by their structure.

    Args:
        stream: (N,) int64.
        data: (N,) binary payloads of at most 64 bytes; null counts as empty.

    Source:
        Zobrist, "A new hashing method with application for game playing", 1970.
    """
    keys = mixed(np.asarray(stream, dtype=np.int64).view(np.uint64))
    at = 0
    for chunk in data.chunks:
        for start in range(0, len(chunk), _ROWS):
            part = chunk.slice(start, _ROWS).cast(pa.large_binary())
            keys[at : at + len(part)] ^= _payload_keys(part)
            at += len(part)
    return mixed(keys)


def mixed(values: KeyArray) -> KeyArray:
    """(N,) uint64 with every bit of the input spread over all bits.

    Source:
        Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 (SplitMix64).
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


@cache
def _numbers() -> KeyArray:
    """(64 * 256,) a number for each byte at each place."""
    return mixed(np.arange(_BYTES * 256, dtype=np.uint64) + _OF_BYTES)


def _payload_keys(part: pa.LargeBinaryArray) -> KeyArray:
    offsets = np.frombuffer(part.buffers()[1], dtype=np.int64)[part.offset :][: len(part) + 1]
    lengths = np.diff(offsets)
    if part.null_count:
        lengths = np.where(part.is_valid().to_numpy(zero_copy_only=False), lengths, 0)
    if len(lengths) and lengths.max() > _BYTES:
        raise ValueError("a payload of more than 64 bytes is no bus frame")
    keys = mixed(lengths.astype(np.uint64) + _OF_LENGTHS)
    for place in range(int(lengths.max()) if len(lengths) else 0):
        there = np.flatnonzero(lengths > place)
        octets = np.frombuffer(part.buffers()[2], dtype=np.uint8)[offsets[there] + place]
        keys[there] ^= _numbers()[octets.astype(np.int64) + 256 * place]
    return keys
