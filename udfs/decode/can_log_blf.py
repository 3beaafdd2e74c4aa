"""Vector BLF logs: containers of objects, of which an object may begin in one and end in the next.

The checksums of zlib cover the objects, but not the start of the log from which all their times
count: its integrity is NONE, like that of the logs in text.

Source: Vector BLF as read by python-can 4.6 (`can/io/blf.py`), vblf and Technica's vector_blf
"""

from __future__ import annotations

import datetime as dt
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import DecodeError
from contracts.recording import Finding, Int64Array, LedgerEntry, Source, UInt8Array, Unit
from udfs.decode.can_log_blf_objects import Objects, grouped, iter_containers, objects_of
from udfs.decode.can_log_part import EVENTS, BadRecord, Events, LogPart, Piece
from udfs.decode.limits import FIRST_BYTES
from udfs.encodings.can import MAX_DATA_BYTES, CanFrames
from udfs.encodings.columns import windows

_FILE_HEADER = struct.Struct("<4sL8BQQLL8H8H")
_TIMED_HEADER_BYTES = 32
_TEN_MICROSECONDS = 1
_LIMIT_NS = 1 << 62
_EXTENDED, _ID_BITS = 0x80000000, 0x1FFFFFFF
_CAN, _CAN_ERROR, _CAN_ERROR_EXT, _CAN_2, _CAN_FD, _CAN_FD_64 = 1, 2, 73, 86, 100, 101
_BODY_BYTES = {_CAN: 16, _CAN_2: 16, _CAN_ERROR: 4, _CAN_ERROR_EXT: 32, _CAN_FD: 20, _CAN_FD_64: 40}

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
    containers = list(iter_containers(source, header.size))
    skip = 0
    groups = list(grouped(containers))
    for group, following in itertools.zip_longest(groups, groups[1:]):
        end = following[0].offset if following else source.size
        objects = objects_of(source, group, skip)
        state = {"skip": str(skip)}
        yield _piece(header, objects, group[0].offset, end - group[0].offset, state)
        skip = objects.skip


def read_piece(source: Source, unit: Unit, state: Mapping[str, str]) -> Piece:
    """Read one unit as `iter_pieces` gave it."""
    containers = list(iter_containers(source, unit.offset, end=unit.offset + unit.length))
    objects = objects_of(source, containers, int(state["skip"]))
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


def _piece(
    header: FileHeader, objects: Objects, offset: int, length: int, state: Mapping[str, str]
) -> Piece:
    part = _part(header, objects)
    return Piece(offset, length, part, state, compression="zlib", damage=objects.damage)


def _part(header: FileHeader, objects: Objects) -> LogPart:
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

    def __init__(self, header: FileHeader, objects: Objects) -> None:
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
