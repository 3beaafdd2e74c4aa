"""The records of MDF 4 channel groups, sorted or not, as byte matrices.

Sorted: one group, its records one behind the other. Unsorted: the records of several groups mixed,
each behind its id; those of a VLSD group are the variable-length values of another group's channel.

Source: ASAM MDF 4.1, clauses 4.13 (record layout) and 4.14 (unsorted, VLSD).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import DecodeError
from contracts.recording import Int64Array, Source, UInt8Array
from udfs.decode.limits import GROUP_BYTES
from udfs.decode.mdf4_data import DataStream, Fragment, Fragments
from udfs.decode.mdf4_types import (
    ChannelGroup,
    DataGroup,
    MdfChannel,
)
from udfs.decode.mdf4_walk import VARIABLE, RecordWalk, gather_rows

_PIECE_BYTES = 16 << 20
MOST_VIRTUAL_RECORDS = 100_000_000
"""Of a group without a byte a record; eleven days at 100 Hz. More is no count, but damage."""


@attrs.frozen(eq=False)
class Records:
    """Records of one group that are whole.

    Attributes:
        matrix: (N, data_bytes + invalid_bytes) uint8.
        ordinal: (N,) int64, which record of the group each is.
    """

    matrix: UInt8Array
    ordinal: Int64Array

    def where(self, chosen: npt.NDArray[np.bool_]) -> Records:
        """The records that are chosen; the same value if all are."""
        if chosen.all():
            return self
        return Records(self.matrix[chosen], self.ordinal[chosen])


@attrs.frozen(eq=False)
class Variable:
    """Variable-length values of N records in one arena; a start of -1 means it is not there."""

    arena: UInt8Array
    starts: Int64Array
    lengths: Int64Array


@attrs.frozen(eq=False)
class GroupRecords:
    """Where the records of a group are.

    Attributes:
        count: Records that are in the file.
        positions: (count,) int64 positions in the stream; None for one behind the other.
    """

    group: ChannelGroup
    count: int
    positions: Int64Array | None = None


@attrs.frozen(eq=False)
class _VlsdValues:
    """Values of a VLSD group: their virtual offsets, positions in the stream, and lengths."""

    offsets: Int64Array
    positions: Int64Array
    lengths: Int64Array


class DataGroupReader:
    """Reads the records of one data group.

    Attributes:
        groups: The groups that hold records of their own, with the number that is there.
        damage: Why the stream was not read to its end; empty if it was.
        fragments: All data blocks that belong to the group, those of VLSD channels included; one
            that groups share belongs to the first of them.
    """

    def __init__(
        self, source: Source, data_group: DataGroup, fragments: Fragments, *, is_only: bool
    ) -> None:
        """Find the records; nothing of a sorted group is read for that.

        Args:
            source: The file.
            data_group: One of its data groups.
            fragments: The data blocks of the file.
            is_only: Whether no other data group has data: unlisted blocks are then this one's.

        Raises:
            DecodeError: MDF_UNFINALISED_CHAIN, data blocks are not listed and may be anyone's;
                MDF_CYCLE with the address.
        """
        values, invalid = fragments.of(data_group.data_link)
        values += _unlisted(fragments, values, is_only=is_only)
        self._source = source
        self._stream = DataStream(source, values)
        self._invalid = DataStream(source, invalid) if invalid else None
        self._listed = fragments
        self._variable: dict[int, DataStream] = {}
        self._vlsd: dict[int, _VlsdValues] = {}
        self.damage = ""
        if data_group.record_id_bytes:
            self.groups = self._unsorted(data_group)
        else:
            self.groups = tuple(self._sorted(group) for group in data_group.groups[:1])
        for layout in self.groups:
            self._open_variable(layout.group.channels)
        streams = [self._stream, *([self._invalid] if self._invalid else [])]
        found = [f for stream in [*streams, *self._variable.values()] for f in stream.fragments]
        self.fragments = fragments.claim(found)

    def pieces(self) -> tuple[tuple[tuple[Fragment, ...], int, int], ...]:
        """Parts of about 32 MB of a sorted group: data blocks, and records [start, stop).

        A record belongs to the part that it begins in. Empty where the records are mixed or have
        their invalidation bits elsewhere.
        """
        layout = self.groups[0] if len(self.groups) == 1 else None
        width = layout.group.data_bytes + layout.group.invalid_bytes if layout else 0
        if layout is None or not width or layout.positions is not None or self._invalid:
            return ()
        found = []
        held: list[Fragment] = []
        begin = size = 0
        for fragment, end in zip(self._stream.fragments, self._stream.ends.tolist(), strict=True):
            held.append(fragment)
            size += fragment.size
            if size >= GROUP_BYTES or fragment is self._stream.fragments[-1]:
                stop = -(-end // width)
                found.append((tuple(held), begin, stop))
                held, begin, size = [], stop, 0
        return tuple(found)

    def _open_variable(self, channels: Sequence[MdfChannel]) -> None:
        for channel in channels:
            if channel.kind == 1 and channel.data_link and channel.data_link not in self._vlsd:
                found, _ = self._listed.of(channel.data_link, is_shared=True)
                self._variable[channel.address] = DataStream(self._source, found)
            self._open_variable(channel.parts)

    def _sorted(self, group: ChannelGroup) -> GroupRecords:
        if self._invalid is None:
            size = group.data_bytes + group.invalid_bytes
            if not size:  # virtual channels alone: what is declared is all that is known
                is_likely = group.cycle_count <= MOST_VIRTUAL_RECORDS
                return GroupRecords(group, group.cycle_count if is_likely else 0)
            return GroupRecords(group, self._stream.size // size)
        count = self._stream.size // max(group.data_bytes, 1)
        return GroupRecords(group, min(count, self._invalid.size // max(group.invalid_bytes, 1)))

    def _unsorted(self, data_group: DataGroup) -> tuple[GroupRecords, ...]:
        sizes = {
            group.record_id: VARIABLE if group.is_vlsd else group.data_bytes + group.invalid_bytes
            for group in data_group.groups
        }
        found, self.damage = _scan(self._stream, data_group.record_id_bytes, sizes)
        layouts = []
        for group in data_group.groups:
            table = found[group.record_id]
            if group.is_vlsd:
                table = table.reshape(-1, 2)
                lengths = table[:, 1]
                offsets = np.cumsum(lengths + 4) - lengths - 4
                self._vlsd[group.address] = _VlsdValues(offsets, table[:, 0], lengths)
            else:
                layouts.append(GroupRecords(group, len(table), table))
        return tuple(layouts)

    def records(self, layout: GroupRecords, start: int, stop: int) -> Records:
        """Records [start, stop) of a group, without those that touch bytes that can't be had."""
        group = layout.group
        ordinal = np.arange(start, stop, dtype=np.int64)
        if layout.positions is not None:
            return self._mixed(layout.positions[start:stop], ordinal, layout.group)
        if self._invalid is None:
            width = group.data_bytes + group.invalid_bytes
            matrix, good = _rows(self._stream, start, stop, width)
            return Records(matrix, ordinal).where(good)
        values, good = _rows(self._stream, start, stop, group.data_bytes)
        bits, also_good = _rows(self._invalid, start, stop, group.invalid_bytes)
        good = good & also_good
        return Records(np.hstack([values[good], bits[good]]), ordinal[good])

    def _mixed(self, positions: Int64Array, ordinal: Int64Array, group: ChannelGroup) -> Records:
        width = group.data_bytes + group.invalid_bytes
        rows = len(positions)
        if not rows or not width:
            return Records(np.empty((rows, width), np.uint8), ordinal)
        first, last = int(positions[0]), int(positions[-1])
        arena, _ = self._stream.read(first, last + width - first)
        step = (last - first) // max(rows - 1, 1)
        if bool((np.diff(positions) == step).all()):  # evenly mixed: seen where they are
            seen = np.ndarray((rows, width), np.uint8, arena.data, strides=(step, 1))
            return Records(seen, ordinal)
        return Records(gather_rows(arena, positions, base=first, width=width), ordinal)

    def variable(self, channel: MdfChannel, offsets: Int64Array) -> Variable:
        """Values of a VLSD channel at the offsets that its records hold."""
        if channel.data_link in self._vlsd:
            return self._from_vlsd_group(self._vlsd[channel.data_link], offsets)
        stream = self._variable.get(channel.address)
        if stream is None or not len(offsets):
            return Variable(
                np.empty(0, np.uint8), np.full(len(offsets), -1), np.zeros_like(offsets)
            )
        return _from_signal_data(stream, offsets)

    def _from_vlsd_group(self, values: _VlsdValues, offsets: Int64Array) -> Variable:
        at = np.searchsorted(values.offsets, offsets)
        inside = np.minimum(at, max(len(values.offsets) - 1, 0))
        there = (
            (at < len(values.offsets)) & (values.offsets[inside] == offsets)
            if len(values.offsets)
            else np.zeros(len(offsets), bool)
        )
        if not there.any():
            return Variable(
                np.empty(0, np.uint8), np.full(len(offsets), -1), np.zeros_like(offsets)
            )
        positions = np.where(there, values.positions[inside], 0)
        lengths = np.where(there, values.lengths[inside], 0)
        first = int(positions[there].min())
        last = int((positions + lengths)[there].max())
        arena, _ = self._stream.read(first, last - first)
        return Variable(arena, np.where(there, positions - first, -1), lengths)


def _unlisted(
    fragments: Fragments, listed: Sequence[Fragment], *, is_only: bool
) -> tuple[Fragment, ...]:
    """Data blocks of an unfinalised file that its lists leave out."""
    found = fragments.behind(listed[-1]) if listed else ()
    if found and not is_only:
        what = f"{len(found)} data blocks are in no list, and several groups have data"
        raise DecodeError(what, code="MDF_UNFINALISED_CHAIN", offset=found[0].address)
    return found


def _rows(
    stream: DataStream, start: int, stop: int, width: int
) -> tuple[UInt8Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """(stop - start, width) uint8, and which of the rows are whole."""
    good = np.ones(stop - start, bool)
    if not width:
        return np.empty((stop - start, 0), np.uint8), good
    data, holes = stream.read(start * width, (stop - start) * width)
    for begin, end in holes:
        good[begin // width : -(-end // width)] = False
    return data.reshape(-1, width), good


def _from_signal_data(stream: DataStream, offsets: Int64Array) -> Variable:
    """Values behind their 4-byte lengths in signal data blocks."""
    there = (offsets >= 0) & (offsets + 4 <= stream.size)
    if not there.any():
        return Variable(np.empty(0, np.uint8), np.full(len(offsets), -1), np.zeros_like(offsets))
    first, last = int(offsets[there].min()), int(offsets[there].max())
    (tail,) = struct.unpack("<I", stream.read(last, 4)[0].tobytes())
    end = min(last + 4 + tail, stream.size)
    arena, holes = stream.read(first, end - first)
    at = np.where(there, offsets - first, 0)
    heads = np.ndarray((len(arena) - 3,), "<u4", arena.data, strides=(1,))
    lengths = np.where(there, heads[at].astype(np.int64), 0)
    there &= at + 4 + lengths <= len(arena)
    for begin, stop in holes:
        there &= (at + 4 + lengths <= begin) | (at >= stop)
    return Variable(arena, np.where(there, at + 4, -1), np.where(there, lengths, 0))


def _scan(
    stream: DataStream, id_bytes: int, sizes: Mapping[int, int]
) -> tuple[Mapping[int, Int64Array], str]:
    """Walk mixed records: positions by record id (for VLSD ids: position and length by turns)."""
    walk = RecordWalk(id_bytes, sizes)
    at, damage = 0, ""
    while at < stream.size and not damage:
        data, holes = stream.read(at, min(_PIECE_BYTES, stream.size - at))
        end = walk.run(data[: holes[0][0] if holes else len(data)], base=at)
        if walk.strange is not None:
            if at + len(data) == stream.size and not np.any(data[end:]):
                break  # zeros behind the last record: space that was never written to
            damage = f"record id {walk.strange} at {at + end} of the data belongs to no group"
        at += end
        if holes:
            damage = damage or f"bytes from {at} of the data can't be had"
        elif end == 0 and not damage:
            damage = f"the data ends inside a record, {stream.size - at} bytes are left"
    return walk.found(), damage


def check_layout(group: ChannelGroup, channel: MdfChannel) -> None:
    """Raise DecodeError MDF_BAD_LAYOUT where a channel reads outside its record."""
    end = channel.byte_offset + (channel.bit_offset + channel.bit_count + 7) // 8
    if channel.array is not None:
        steps = channel.array.stride_bytes
        for size in channel.array.dimensions:
            steps *= max(size, 1)
        end += max(steps - channel.array.stride_bytes, 0)
    if channel.kind not in (3, 6) and (end > group.data_bytes or channel.bit_offset > 7):
        what = f"channel {channel.name} reaches byte {end} of records of {group.data_bytes}"
        raise DecodeError(what, code="MDF_BAD_LAYOUT", offset=channel.address)
