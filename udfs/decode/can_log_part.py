"""What a reader of CAN logs makes of a part of one: frames, other events, and what is no record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.decode.text_lines import Lines
from udfs.encodings.can import DATA_LENGTHS, CanFrames

Mask = npt.NDArray[np.bool_]

UNIT_BYTES = 1 << 20
"""Bytes of a log that are read at a time: its words take many times as much, and twice the time
where they do not fit the cache."""
EVENTS = "events"
MAX_CLASSIC_BYTES = 8
MAX_TIME_NS = (1 << 63) - 1
_STANDARD_ID, _EXTENDED_ID = 0x7FF, 0x1FFFFFFF


@attrs.frozen(eq=False)
class Events:
    """E records that are no frames; each is kept as its own bytes.

    Attributes:
        names: What they are, one channel each.
        name: (E,) int64, which of the names.
        log_time_ns: (E,) int64, recorder's clock.
        starts: (E,) int64, in `arena`.
        lengths: (E,) int64.
        arena: (B,) uint8.
    """

    names: tuple[str, ...]
    name: Int64Array
    log_time_ns: Int64Array
    starts: Int64Array
    lengths: Int64Array
    arena: UInt8Array


@attrs.frozen
class BadRecord:
    """A record that could not be read: where it is in the part, and why."""

    offset: int
    error: str
    first_bytes: bytes


@attrs.frozen(eq=False)
class LogPart:
    """A part of a log.

    Attributes:
        frames: Its frames; their `sequence` is left for whoever knows what went before.
        buses: Names of the buses of its frames.
        bus: (N,) int64, which of the names each frame is of.
        events: Its other records.
        bad: Records that could not be read.
        state: What the next part must know of this one and those before.
    """

    frames: CanFrames
    buses: tuple[str, ...]
    bus: Int64Array
    events: Events
    bad: tuple[BadRecord, ...]
    state: Mapping[str, str]


@attrs.frozen(eq=False)
class Piece:
    """A split unit of a log as it is read.

    Attributes:
        offset: In the file.
        length: Bytes in the file.
        part: What is in it.
        state: What had to be known to read it.
        damage: What is wrong with it, "" for nothing; then some of it is lost, nobody knows what.
    """

    offset: int
    length: int
    part: LogPart
    state: Mapping[str, str]
    compression: str = ""
    damage: str = ""


@attrs.define(eq=False)
class LineFields:
    """The fields of L lines that may be frames, before those that are wrong are told apart.

    Attributes:
        lines: The lines.
        time_ns: (L,) int64.
        bus: (L,) int64, -1 for none.
        data_at: (L,) int64, first word of the data.
        data_length: (L,) int64, bytes of data.
        good: (L,) whether the line holds what it must, so far.
    """

    lines: Lines
    time_ns: Int64Array
    bus: Int64Array
    can_id: Int64Array
    is_extended: Mask
    is_fd: Mask
    is_remote: Mask
    is_error: Mask
    dlc: Int64Array
    is_transmitted: Int64Array
    data_at: Int64Array
    data_length: Int64Array
    good: Mask

    def check(self) -> None:
        """Refuse ids, lengths and times that no frame has."""
        most = np.where(self.is_extended, _EXTENDED_ID, _STANDARD_ID)
        limit = np.where(self.is_fd, int(DATA_LENGTHS[-1]), MAX_CLASSIC_BYTES)
        self.good &= (self.can_id <= most) & (self.data_length <= limit) & (self.dlc <= 15)
        self.good &= (self.time_ns >= 0) & (self.time_ns < MAX_TIME_NS)

    def frames(self, *, base: int) -> CanFrames:
        """The frames of the good lines; a line whose data are no bytes is good no more."""
        values, first, whole = self.data_words(base=base)
        self.good &= whole
        rows = np.flatnonzero(self.good)
        return self.frames_at(rows, values, first[rows])

    def data_words(self, *, base: int) -> tuple[UInt8Array, Int64Array, Mask]:
        """Every word as a byte, the first of each line's data, and whether all of those are."""
        values, none_before = self.lines.byte_words(base=base)
        first = np.minimum(self.lines.first + self.data_at, len(values))
        last = np.minimum(first + self.data_length, len(values))
        whole = self.data_at + self.data_length <= self.lines.counts
        whole &= none_before[last] == none_before[first]
        return values, first, whole | (self.data_length == 0)

    def frames_at(self, rows: Int64Array, arena: UInt8Array, starts: Int64Array) -> CanFrames:
        """Frames of some lines whose data stand in an arena."""
        return CanFrames(
            log_time_ns=self.time_ns[rows],
            sequence=np.zeros(len(rows), np.int64),
            bus=self.bus[rows],
            can_id=self.can_id[rows],
            is_extended=self.is_extended[rows],
            is_fd=self.is_fd[rows],
            is_remote=self.is_remote[rows],
            is_error=self.is_error[rows],
            dlc=self.dlc[rows],
            arena=arena,
            starts=np.where(self.data_length[rows] > 0, starts, 0),
            lengths=self.data_length[rows],
            is_transmitted=self.is_transmitted[rows],
        )


def line_part(
    fields: LineFields,
    frames: CanFrames,
    *,
    events: tuple[Lines, Int64Array],
    strange: Lines,
    state: Mapping[str, str],
    buses: tuple[tuple[str, ...], Int64Array] | None = None,
) -> LogPart:
    """Put a part together.

    Args:
        fields: Lines that may be frames.
        frames: Those that are.
        events: Other lines and their times.
        strange: Lines that are nothing known.
        state: For the next part.
        buses: Names of buses and which each of `fields` is of; by its number where not given.
    """
    broken = fields.lines.where(~fields.good)
    bad = [*_bad_lines(broken, "no frame as the format has it"), *_bad_lines(strange, "no record")]
    if buses is None:
        numbers, chosen = np.unique(frames.bus, return_inverse=True)
        names, which = tuple(f"CAN{number}" for number in numbers.tolist()), chosen
    else:
        names, which = buses[0], buses[1][fields.good]
    others, times = events
    kept = Events(
        (EVENTS,),
        np.zeros(len(times), np.int64),
        times,
        others.starts,
        others.ends - others.starts,
        others.data,
    )
    bad.sort(key=lambda record: record.offset)
    return LogPart(frames, names, which.astype(np.int64), kept, tuple(bad), state)


def code_of_length(lengths: Int64Array) -> Int64Array:
    """(N,) data length code of the smallest frame that holds so many bytes."""
    return np.minimum(np.searchsorted(DATA_LENGTHS, lengths), len(DATA_LENGTHS) - 1)


def joined_names(names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names, each once, and where each stands."""
    unique = tuple(dict.fromkeys(names))
    return unique, {name: at for at, name in enumerate(unique)}


def _bad_lines(lines: Lines, error: str) -> list[BadRecord]:
    return [BadRecord(int(start), error, lines.text(row)) for row, start in enumerate(lines.starts)]
