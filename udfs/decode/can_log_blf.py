"""Vector BLF logs: containers of objects, of which an object may begin in one and end in the next.

The checksums of zlib cover the objects, but not the start of the log from which all their times
count: its integrity is NONE, like that of the logs in text.

Source: Vector BLF as read by python-can 4.6 (`can/io/blf.py`), vblf and Technica's vector_blf
"""

from __future__ import annotations

import datetime as dt
import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import DecodeError
from contracts.recording import Finding, Int64Array, LedgerEntry, Source, UInt8Array, Unit
from udfs.decode.can_log_part import EVENTS, UNIT_BYTES, BadRecord, Events, LogPart, Piece
from udfs.decode.limits import FIRST_BYTES, check_unit_size
from udfs.encodings.can import MAX_DATA_BYTES, CanFrames
from udfs.encodings.columns import windows

_FILE_HEADER = struct.Struct("<4sL8BQQLL8H8H")
_CONTAINER = struct.Struct("<4sHHLLH6xL4x")
_BASE_BYTES = 16
_TIMED_HEADER_BYTES = 32
_CONTAINER_TYPE = 10
_STORED, _ZLIB = 0, 2
_MOST_PADDING = 4
_SEARCH_BYTES = 1 << 20
_MAGIC = b"LOBJ"
_TEN_MICROSECONDS = 1
_LIMIT_NS = 1 << 62
_EXTENDED, _ID_BITS = 0x80000000, 0x1FFFFFFF
_CAN, _CAN_ERROR, _CAN_ERROR_EXT, _CAN_2, _CAN_FD, _CAN_FD_64 = 1, 2, 73, 86, 100, 101
_BODY_BYTES = {_CAN: 16, _CAN_2: 16, _CAN_ERROR: 4, _CAN_ERROR_EXT: 32, _CAN_FD: 20, _CAN_FD_64: 40}
_RESYNC = -1
_PADDING = 128

Mask = npt.NDArray[np.bool_]


@attrs.frozen
class FileHeader:
    """What the file says of itself; `start_ns` is None where it has no date."""

    size: int
    library: str
    file_bytes: int
    object_count: int
    start_ns: int | None


@attrs.frozen
class About:
    """What there is to say of a log when all of it was read."""

    library: str
    findings: tuple[Finding, ...]
    structure: tuple[LedgerEntry, ...]


@attrs.frozen
class _Container:
    """A container, or an object that stands in the file by itself, as `method` None.

    Attributes:
        offset: In the file.
        stored: Bytes in the file, header and all; less than its header says at the file's end.
        size: Bytes that it holds when decompressed.
        is_cut: Whether the file ends in it.
    """

    offset: int
    stored: int
    size: int
    method: int | None
    is_cut: bool = False


@attrs.frozen(eq=False)
class _Objects:
    """Objects of a unit in one arena; `end` is where the next unit's first one begins."""

    arena: UInt8Array
    starts: Int64Array
    sizes: Int64Array
    skip: int
    damage: str


def file_header(source: Source) -> FileHeader:
    """Header of the file; DecodeError TRUNCATED or BAD_MAGIC where it is none."""
    fields = _FILE_HEADER.unpack(source.read_at(0, _FILE_HEADER.size))
    if fields[0] != b"LOGG" or fields[1] < _FILE_HEADER.size:
        raise DecodeError("no BLF header", code="BAD_MAGIC", uri=source.uri, offset=0)
    library = f"application {fields[2]}, BLF {fields[6]}.{fields[7]}.{fields[8]}"
    return FileHeader(fields[1], library, fields[10], fields[12], _start_ns(fields[14:22]))


def iter_pieces(source: Source) -> Iterator[Piece]:
    """Yield the whole log, by units of some megabytes of containers."""
    header = file_header(source)
    containers = list(_containers(source, header.size))
    skip = 0
    groups = list(_grouped(containers))
    for group, following in itertools.zip_longest(groups, groups[1:]):
        end = following[0].offset if following else source.size
        objects = _objects(source, group, skip)
        state = {"skip": str(skip)}
        yield _piece(header, objects, group[0].offset, end - group[0].offset, state)
        skip = objects.skip


def read_piece(source: Source, unit: Unit, state: Mapping[str, str]) -> Piece:
    """Read one unit as `iter_pieces` gave it."""
    containers = list(_containers(source, unit.offset, end=unit.offset + unit.length))
    objects = _objects(source, containers, int(state["skip"]))
    return _piece(file_header(source), objects, unit.offset, unit.length, state)


def about(source: Source, units: Sequence[Unit], last: Mapping[str, str]) -> About:
    """What the header says, compared with what is there."""
    header = file_header(source)
    found = sum(unit.message_count or 0 for unit in units)
    what = "the start is local time of an unknown zone, taken as UTC"
    findings = [Finding("LOCAL_TIME", what)]
    if header.start_ns is None:
        findings = [Finding("NO_TIME", "the log has no date, its times count from 1970")]
    missing = max(header.object_count - found, 0)
    if header.file_bytes > source.size:
        what = f"the header declares {header.file_bytes} bytes, {source.size} are there"
        lost = missing if header.object_count else None
        findings.append(Finding("TRUNCATED", what, source.size, loses=True, lost_messages=lost))
    elif missing:
        what = f"the header declares {header.object_count} objects, {found} are there"
        findings.append(Finding("COUNT_MISMATCH", what, loses=True, lost_messages=missing))
    del last
    first = units[0].offset if units else source.size
    structure = (LedgerEntry(0, first, "skipped", "STRUCTURE", "file header"),)
    return About(header.library, tuple(findings), structure)


def _start_ns(parts: Sequence[int]) -> int | None:
    """A SYSTEMTIME (year, month, weekday, day, hour, minute, second, ms), taken as UTC.

    None where it is no date, or one from which not every time of an object fits 64 bits.
    """
    year, month, _, day, hour, minute, second, millisecond = parts
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    seconds = (moment - epoch) // dt.timedelta(seconds=1)
    start_ns = seconds * 1_000_000_000 + millisecond * 1_000_000
    return start_ns if abs(start_ns) < _LIMIT_NS else None


def _containers(source: Source, offset: int, end: int | None = None) -> Iterator[_Container]:
    """Walk over the objects of the file; where one is damaged, to the next that can be found."""
    end = source.size if end is None else end
    while offset + _CONTAINER.size <= end:
        head = _CONTAINER.unpack(source.read_at(offset, _CONTAINER.size))
        signature, header_size, _, size, kind, method, declared = head
        if signature != _MAGIC or size < _BASE_BYTES or header_size < _BASE_BYTES:
            found = _next_container(source, offset + 1, end)
            yield _Container(offset, found - offset, 0, method=-1)
            offset = found
            continue
        stored = min(size, source.size - offset)
        is_cut = stored < size
        if kind == _CONTAINER_TYPE:
            size_held = declared if method == _ZLIB else max(size - _CONTAINER.size, 0)
            yield _Container(offset, stored, size_held, method, is_cut)
        else:
            yield _Container(offset, stored, size, None, is_cut)
        offset += size + size % 4
    if offset < end:
        yield _Container(offset, end - offset, 0, method=-1, is_cut=True)


def _next_container(source: Source, offset: int, end: int) -> int:
    """Offset of the next thing that looks like a container, or the end."""
    while offset < end:
        length = min(_SEARCH_BYTES, end - offset)
        at = bytes(source.read_at(offset, length)).find(_MAGIC)
        if at >= 0:
            return offset + at
        offset += max(length - len(_MAGIC) + 1, 1)
    return end


def _grouped(containers: Sequence[_Container]) -> Iterator[list[_Container]]:
    group: list[_Container] = []
    held = 0
    for container in containers:
        if group and held + container.size > UNIT_BYTES:
            yield group
            group, held = [], 0
        group.append(container)
        held += container.size
    if group:
        yield group


def _content(source: Source, container: _Container) -> tuple[bytes, str]:
    """What a container holds, as far as it can be had, and what is wrong with it.

    Raises:
        ResourceLimitError: BOMB.
    """
    if container.method == -1:
        return b"", f"no object at {container.offset}"
    data = source.read_at(container.offset, container.stored)
    cut = f"the file ends in the container at {container.offset}" if container.is_cut else ""
    if container.method is None:
        padding = b"\0" * (container.size % 4)
        return bytes(data) + padding, cut
    body = data[_CONTAINER.size :]
    if container.method == _STORED:
        return bytes(body), cut
    if container.method != _ZLIB:
        return b"", f"compression method {container.method} at {container.offset}"
    check_unit_size(container.stored, declared=container.size, offset=container.offset)
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(body, container.size + 1)
    except zlib.error as error:
        return b"", f"container at {container.offset}: {error}"
    if cut:
        return content[: container.size], cut
    if len(content) != container.size or not decoder.eof:
        return b"", f"container at {container.offset} is not of the size it declares"
    return content, ""


def _objects(source: Source, containers: Sequence[_Container], skip: int) -> _Objects:
    """Objects that begin in some containers; the last is read to its end in those behind."""
    segments: list[list[bytes]] = [[]]
    damages: list[str] = []
    for container in containers:
        content, damage = _content(source, container)
        if content:
            segments[-1].append(content)
        if damage:
            damages.append(damage)
            segments.append([])
    arenas: list[bytes] = []
    starts: list[Int64Array] = []
    sizes: list[Int64Array] = []
    held, rest = 0, _RESYNC
    for number, parts in enumerate(segments):
        data = b"".join(parts)
        is_last = number == len(segments) - 1
        begin = skip if number == 0 else _RESYNC
        if begin >= len(data) > 0 and is_last and number == 0:
            rest = begin - len(data)
            continue
        own = len(data)
        if is_last:  # the header of the last object may go on behind these containers
            data += _behind(source, containers[-1], _BASE_BYTES)
        found = _chain(data, begin, own)
        if is_last and found.wanted > len(data):
            data = data[:own] + _behind(source, containers[-1], found.wanted - own)
            found = _chain(data, begin, own)
        if found.wanted > len(data):
            damages.append("an object goes on behind the last container")
        if found.strays:
            damages.append(f"{found.strays} objects do not follow one another")
        arenas.append(data)
        starts.append(found.starts + held)
        sizes.append(found.sizes)
        held += len(data)
        rest = max(found.wanted - own, 0) if is_last else rest
    if damages and len(segments) > 1 and not segments[-1]:
        rest = _RESYNC
    arena = np.frombuffer(b"".join([*arenas, bytes(_PADDING)]), np.uint8)
    none = np.zeros(0, np.int64)
    return _Objects(
        arena,
        np.concatenate([none, *starts]),
        np.concatenate([none, *sizes]),
        rest,
        "; ".join(damages[:3]),
    )


def _behind(source: Source, last: _Container, wanted: int) -> bytes:
    """The first bytes that the containers behind one hold, fewer if they are damaged."""
    offset = last.offset + last.stored + (last.stored % 4 if not last.is_cut else 0)
    parts: list[bytes] = []
    for container in _containers(source, offset):
        content, damage = _content(source, container)
        parts.append(content[:wanted])
        wanted -= len(parts[-1])
        if damage or wanted <= 0:
            break
    return b"".join(parts)


@attrs.frozen(eq=False)
class _Chain:
    """Objects one behind the other; `wanted` is where the last ends, beyond the data if cut."""

    starts: Int64Array
    sizes: Int64Array
    wanted: int
    strays: int


def _chain(data: bytes, begin: int, limit: int) -> _Chain:
    """Follow the objects from `begin`: those that begin in the first `limit` bytes.

    All that looks like the start of an object is found at once; nearly always each is followed by
    the next of them, and only where one is not is there a step to take.
    """
    none = np.zeros(0, np.int64)
    arena = np.frombuffer(data + bytes(_BASE_BYTES), np.uint8)
    looks = np.flatnonzero(arena[:limit] == _MAGIC[0])
    for k in range(1, len(_MAGIC)):
        looks = looks[arena[looks + k] == _MAGIC[k]]
    looks = looks[looks >= max(begin, 0)]
    if not len(looks):
        return _Chain(none, none, 0, int(limit > max(begin, 0) + _MOST_PADDING and begin >= 0))
    sizes = windows(arena, "<u4")[looks + 8].astype(np.int64)
    usable = sizes >= _BASE_BYTES
    ends = looks + np.where(usable, sizes, _BASE_BYTES)
    after = np.searchsorted(looks, ends)
    here = np.append(looks, limit)
    follows = usable & (after == np.arange(len(looks)) + 1)
    follows &= (here[after] - ends <= _MOST_PADDING) & (after < len(looks))
    breaks = np.flatnonzero(~follows)
    runs: list[tuple[int, int]] = []
    at, strays = 0, int(begin >= 0 and looks[0] - begin > _MOST_PADDING)
    wanted = 0
    while at < len(looks):
        stop = int(breaks[np.searchsorted(breaks, at)])
        is_whole = bool(usable[stop]) and int(ends[stop]) <= len(data)
        runs.append((at, stop + is_whole))
        if usable[stop] and int(ends[stop]) > limit:
            wanted = int(ends[stop])
            break
        following = int(after[stop])
        gap = int(here[following] - ends[stop])
        strays += int(not usable[stop] or gap > _MOST_PADDING)
        at = following if usable[stop] else stop + 1
    chosen = np.concatenate([none, *(np.arange(first, last) for first, last in runs)])
    return _Chain(looks[chosen], sizes[chosen], wanted, strays)


def _piece(
    header: FileHeader, objects: _Objects, offset: int, length: int, state: Mapping[str, str]
) -> Piece:
    part = _part(header, objects)
    return Piece(offset, length, part, state, compression="zlib", damage=objects.damage)


def _part(header: FileHeader, objects: _Objects) -> LogPart:
    reader = _Reader(header, objects)
    frames, rows, bad = reader.frames()
    numbers, bus = np.unique(frames.bus, return_inverse=True)
    bad_records = tuple(
        BadRecord(
            int(objects.starts[row]),
            "an object shorter than its kind is, or with no time",
            objects.arena[objects.starts[row] :][: int(objects.sizes[row])][:FIRST_BYTES].tobytes(),
        )
        for row in bad.tolist()
    )
    names = tuple(f"CAN{number}" for number in numbers.tolist())
    return LogPart(frames, names, bus.astype(np.int64), reader.events(rows, bad), bad_records, {})


class _Reader:
    """Reads the fields of objects."""

    def __init__(self, header: FileHeader, objects: _Objects) -> None:
        self._objects = objects
        starts = objects.starts
        self._header_bytes = self._at("<u2", starts + 4)
        self.type = self._at("<u4", starts + 12)
        flags = self._at("<u4", starts + 16)
        ticks = windows(objects.arena, "<u8")[starts + 24].astype(np.uint64)
        scale = np.where(flags == _TEN_MICROSECONDS, 10_000, 1)
        self._has_time = (self._header_bytes >= _TIMED_HEADER_BYTES) & (
            ticks < np.uint64(_LIMIT_NS) // scale.astype(np.uint64)
        )
        self._has_time &= objects.sizes >= self._header_bytes
        self._time_ns = (header.start_ns or 0) + np.where(
            self._has_time, ticks.astype(np.int64) * scale, 0
        )

    def _at(self, code: str, at: Int64Array) -> Int64Array:
        return windows(self._objects.arena, code)[at].astype(np.int64)

    def frames(self) -> tuple[CanFrames, Int64Array, Int64Array]:
        """Frames in file order; which objects they are; which would be frames but are broken."""
        parts: list[dict[str, npt.NDArray[np.generic]]] = []
        found: list[Int64Array] = []
        bad: list[Int64Array] = [np.zeros(0, np.int64)]
        for kind, body in _BODY_BYTES.items():
            rows = np.flatnonzero(self.type == kind)
            whole = self._objects.sizes[rows] >= self._header_bytes[rows] + body
            whole &= self._has_time[rows]
            bad.append(rows[~whole])
            rows = rows[whole]
            if not len(rows):
                continue
            fields = self._fields(kind, rows, self._objects.starts[rows] + self._header_bytes[rows])
            good = fields.pop("good").astype(np.bool_)
            bad.append(rows[~good])
            parts.append({name: values[good] for name, values in fields.items()})
            found.append(rows[good])
        every = np.concatenate([np.zeros(0, np.int64), *found])
        order = np.argsort(every, kind="stable")
        joined = {
            name: np.concatenate([part[name] for part in parts])[order]
            for name in (parts[0] if parts else ())
        }
        return self._built(joined, every[order]), every[order], np.sort(np.concatenate(bad))

    def _fields(
        self, kind: int, rows: Int64Array, at: Int64Array
    ) -> dict[str, npt.NDArray[np.generic]]:
        """Fields of frames of one kind whose bodies start at `at`."""
        none, zero = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.int64)
        bus = self._at("u1" if kind == _CAN_FD_64 else "<u2", at)
        if kind == _CAN_ERROR:
            return {"bus": bus, "id": zero - 1, "fd": none, "remote": none, "error": ~none,
                    "dlc": zero, "sent": zero - 1, "starts": zero, "lengths": zero,
                    "there": zero, "good": ~none}  # fmt: skip
        identity = self._at("<u4", at + (16 if kind == _CAN_ERROR_EXT else 4))
        fd, remote, error = none, none, none
        if kind == _CAN_FD_64:
            flags = self._at("<u4", at + 12)
            dlc, lengths = self._at("u1", at + 1), self._at("u1", at + 2)
            fd, remote = flags & 0x1000 != 0, flags & 0x10 != 0
            sent, starts = self._at("u1", at + 34), at + 40
            extra = self._at("u1", at + 35)
            end = np.where(extra > 0, extra, self._objects.sizes[rows])
            there = np.clip(end - self._header_bytes[rows] - 40, 0, lengths)
        elif kind == _CAN_ERROR_EXT:
            dlc, error, sent = self._at("u1", at + 10), ~none, zero - 1
            lengths, starts = np.minimum(dlc, 8), at + 24
            there = lengths
        else:
            flags, dlc = self._at("u1", at + 2), self._at("u1", at + 3)
            remote, sent = flags & 0x80 != 0, flags & 1
            lengths, starts = np.minimum(dlc, 8), at + 8
            if kind == _CAN_FD:
                fd = self._at("u1", at + 13) & 1 != 0
                lengths, starts = self._at("u1", at + 14), at + 20
            end = self._objects.starts[rows] + self._objects.sizes[rows]
            there = np.clip(end - starts, 0, lengths)
        lengths = np.where(remote, 0, lengths)
        return {"bus": bus, "id": identity, "fd": fd, "remote": remote, "error": error, "dlc": dlc,
                "sent": np.clip(sent, -1, 1), "starts": starts, "lengths": lengths,
                "there": np.minimum(there, lengths),
                "good": (lengths <= MAX_DATA_BYTES) & (dlc <= 15)}  # fmt: skip

    def _built(self, fields: Mapping[str, npt.NDArray[np.generic]], rows: Int64Array) -> CanFrames:
        count = len(rows)

        def of(name: str) -> Int64Array:
            return fields[name].astype(np.int64) if count else np.zeros(0, np.int64)

        arena, starts, lengths = self._objects.arena, of("starts"), of("lengths")
        cut = np.flatnonzero(of("there") < lengths)
        if len(cut):  # CANoe fills up what is not there with zeros (python-can#1905)
            arena, starts = _filled(arena, starts, of("there"), cut)
        identity = of("id")
        return CanFrames(
            log_time_ns=self._time_ns[rows],
            sequence=np.zeros(count, np.int64),
            bus=of("bus"),
            can_id=np.where(identity < 0, -1, identity & _ID_BITS),
            is_extended=(identity >= 0) & (identity & _EXTENDED != 0),
            is_fd=of("fd") != 0,
            is_remote=of("remote") != 0,
            is_error=of("error") != 0,
            dlc=of("dlc"),
            arena=arena,
            starts=starts,
            lengths=lengths,
            is_transmitted=of("sent"),
        )

    def events(self, frames: Int64Array, bad: Int64Array) -> Events:
        """Every other object, by its type; those without a time of their own have the start's."""
        taken = np.zeros(len(self.type), np.bool_)
        taken[frames] = True
        taken[bad] = True
        rows = np.flatnonzero(~taken)
        kinds, which = np.unique(self.type[rows], return_inverse=True)
        return Events(
            tuple(f"{EVENTS}/blf_type_{kind}" for kind in kinds.tolist()),
            which.astype(np.int64),
            self._time_ns[rows],
            self._objects.starts[rows],
            self._objects.sizes[rows],
            self._objects.arena,
        )


def _filled(
    arena: UInt8Array, starts: Int64Array, there: Int64Array, rows: Int64Array
) -> tuple[UInt8Array, Int64Array]:
    """The arena with copies of some payloads behind it, filled up with zeros."""
    columns = np.arange(MAX_DATA_BYTES)
    at = np.minimum(starts[rows, None] + columns, len(arena) - 1)
    copies = np.where(columns < there[rows, None], arena[at], 0).astype(np.uint8)
    moved = starts.copy()
    moved[rows] = len(arena) + np.arange(len(rows)) * MAX_DATA_BYTES
    return np.concatenate([arena, copies.reshape(-1)]), moved
