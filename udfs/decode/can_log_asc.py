"""Vector ASC logs.

Times count from the start of the measurement, or from the event before; dates are local time.

Source: Vector ASC logging format, as CANoe, CANalyzer and python-can write it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

import numpy as np

from contracts.recording import Int64Array
from udfs.decode.can_log_part import MAX_CLASSIC_BYTES, LineFields, LogPart, line_part
from udfs.decode.text_lines import TIME_LIMIT_NS, Lines, Mask
from udfs.encodings.can import DATA_LENGTHS

_MONTHS = {
    "jan": 1,
    "feb": 2,
    "mar": 3,
    "apr": 4,
    "may": 5,
    "jun": 6,
    "jul": 7,
    "aug": 8,
    "sep": 9,
    "oct": 10,
    "nov": 11,
    "dec": 12,
    "mär": 3,
    "mrz": 3,
    "mai": 5,
    "okt": 10,
    "dez": 12,
}
_DATE = re.compile(
    r"(?P<month>[^\W\d]{3})\w*\.?\s+(?P<day>\d{1,2})\s+"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<second>\d{2})(\.(?P<part>\d{1,9}))?"
    r"(\s+(?P<half>[ap])m)?\s+(?P<year>\d{4})",
    re.IGNORECASE,
)
_STRUCTURE = (b"date", b"base", b"begin", b"end", b"internal", b"no", b"measurement", b"comment:")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_REMOTE, _FD = 0x10, 0x1000
_MAX_CODE = 15


def parse_part(lines: Lines, state: Mapping[str, str]) -> LogPart:
    """Frames of a part of a log.

    Args:
        lines: The part.
        state: Of the part before; empty for the first. `dated` tells whether a date was found.
    """
    ticks, timed = lines.decimal(0, digits=9)
    first = lines.data[lines.starts_of_words]
    second = lines.data[lines.starts_of_words + 1]
    comment = (first == ord("/")) & (second == ord("/"))
    structure = ~timed & (comment | lines.is_word(0, *_STRUCTURE))
    header = np.flatnonzero(structure & lines.is_word(0, b"date", b"base", b"begin"))
    after = dict(state)
    changes: list[tuple[int, int]] = [(-1, int(state.get("start_ns", "0")))]
    for row in header.tolist():
        text = lines.text(row).decode("utf-8", "replace").strip()
        start = _start_ns(text)
        if start is not None:
            changes.append((row, start))
            after |= {"start_ns": str(start), "elapsed_ns": "0", "dated": "1"}
        _set_base(text, after)
    is_relative = after.get("relative") == "1"
    if is_relative:  # what leads beyond 64 bits is no time
        elapsed = np.cumsum(np.where(timed, ticks, 0), dtype=np.float64)
        timed &= elapsed + int(state.get("elapsed_ns", "0")) < TIME_LIMIT_NS
    times = _times(ticks, timed, changes, state, is_relative=is_relative)
    if timed.any() and is_relative:
        last = int(times[np.flatnonzero(timed)[-1]])
        after["elapsed_ns"] = str(last - int(after.get("start_ns", "0")))
    base = 10 if after.get("base") == "dec" else 16
    rows = np.flatnonzero(timed)
    some = lines.where(rows)
    is_frame = _may_be_frame(some)
    fields = _fields(some.where(is_frame), times[rows[is_frame]], base=base)
    fields.check()
    return line_part(
        fields,
        fields.frames(base=base),
        events=(some.where(~is_frame), times[rows[~is_frame]]),
        strange=lines.where(~timed & ~structure),
        state=after,
    )


def _start_ns(text: str) -> int | None:
    """Nanoseconds of the date in a header line, taken as UTC; None without a date."""
    found = _DATE.search(text)
    if found is None or found["month"].lower() not in _MONTHS:
        return None
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + (12 if found["half"].lower() == "p" else 0)
    try:
        moment = dt.datetime(
            int(found["year"]),
            _MONTHS[found["month"].lower()],
            int(found["day"]),
            hour,
            int(found["minute"]),
            int(found["second"]),
            tzinfo=dt.UTC,
        )
    except ValueError:
        return None
    nanoseconds = int((found["part"] or "0").ljust(9, "0"))
    start_ns = (moment - _EPOCH) // dt.timedelta(seconds=1) * 1_000_000_000 + nanoseconds
    return start_ns if abs(start_ns) < TIME_LIMIT_NS else None


def _set_base(text: str, state: dict[str, str]) -> None:
    words = text.lower().split()
    if words[0] == "base" and len(words) > 1:
        state["base"] = words[1]
        state["relative"] = "1" if "relative" in words else "0"


def _times(
    ticks: Int64Array,
    timed: Mask,
    changes: list[tuple[int, int]],
    state: Mapping[str, str],
    *,
    is_relative: bool,
) -> Int64Array:
    """(L,) ns; a date in a header line holds for the lines behind it."""
    rows = np.array([row for row, _ in changes], np.int64)
    starts = np.array([start for _, start in changes], np.int64)
    part = np.searchsorted(rows, np.arange(len(ticks)), side="right") - 1
    if not is_relative:
        return starts[part] + ticks
    elapsed = np.cumsum(np.where(timed, ticks, 0))
    before = np.concatenate([np.zeros(1, np.int64), elapsed])[np.maximum(rows, 0)]
    before[0] = -int(state.get("elapsed_ns", "0"))
    return starts[part] + elapsed - before[part]


def _may_be_frame(lines: Lines) -> Mask:
    """Lines that claim to be frames; the rest are events: statistics, LIN, J1939 and more."""
    _, has_bus = lines.number(1, most=5)
    classic = lines.is_word(3, b"Rx", b"Tx") & lines.is_word(4, b"d", b"r")
    classic |= lines.is_word(2, b"ErrorFrame")
    _, fd_bus = lines.number(2, most=5)
    fd = lines.is_word(1, b"CANFD") & fd_bus & lines.is_word(3, b"Rx", b"Tx")
    return (has_bus & classic) | fd


def _fields(lines: Lines, times: Int64Array, *, base: int) -> LineFields:
    fd = lines.is_word(1, b"CANFD")
    bus, _ = lines.number(np.where(fd, 2, 1), most=5)
    error = lines.is_word(np.where(fd, 4, 2), b"ErrorFrame")
    id_at = np.where(fd, 4, 2)
    starts, lengths = lines.span(id_at)
    extended = (lines.data[starts + np.maximum(lengths - 1, 0)] | 0x20) == ord("x")
    can_id, good = lines.number(id_at, base=base, most=10, but_last=extended)
    is_named = fd & ~lines.is_word(5, b"0", b"1")
    code_at = np.where(fd, 7 + is_named, 5)
    dlc, has_code = _codes(lines, code_at, base=base)
    stated, has_length = lines.number(8 + is_named, most=2)
    data_at = np.where(fd, 9 + is_named, 6)
    flags, has_flags = lines.number(data_at + np.where(fd, stated, 0) + 2, base=16, most=8)
    has_flags &= fd & has_length
    remote = ~fd & lines.is_word(4, b"r")
    remote |= fd & np.where(has_flags, flags & _REMOTE != 0, (stated == 0) & (dlc > 0))
    length = np.where(fd, stated, DATA_LENGTHS[np.minimum(dlc, _MAX_CODE)])
    long = ~fd & (length > MAX_CLASSIC_BYTES)
    is_long = long
    if long.any():
        is_long = long & _has_bytes(lines, data_at, length, base=base)
    length = np.where(long & ~is_long, MAX_CLASSIC_BYTES, length)
    none = error | remote
    good &= np.where(fd, has_code & has_length, has_code | remote)
    dlc = np.where(error | (remote & ~has_code), 0, dlc)
    return LineFields(
        lines=lines,
        time_ns=times,
        bus=bus,
        can_id=np.where(error, -1, can_id),
        is_extended=extended & ~error,
        is_fd=(np.where(has_flags, flags & _FD != 0, fd) | (length > MAX_CLASSIC_BYTES)) & ~error,
        is_remote=remote & ~error,
        is_error=error,
        dlc=dlc,
        is_transmitted=np.where(lines.is_word(3, b"Tx"), 1, -1 * ~lines.is_word(3, b"Rx")),
        data_at=data_at,
        data_length=np.where(none, 0, length),
        good=good | error,
    )


def _codes(lines: Lines, at: Int64Array, *, base: int) -> tuple[Int64Array, Mask]:
    """Data length codes. None is above 15: some writers give 10 to 15 in decimal all the same."""
    code, good = lines.number(at, base=base, most=2)
    plain, is_plain = lines.number(at, most=2)
    return np.where((code > _MAX_CODE) & is_plain, plain, code), good


def _has_bytes(lines: Lines, at: Int64Array, length: Int64Array, *, base: int) -> Mask:
    """Whether so many bytes stand there: a classic frame of a code above 8 holds only 8."""
    values, none_before = lines.byte_words(base=base)
    first = np.minimum(lines.first + at, len(values))
    last = np.minimum(first + length, len(values))
    return (at + length <= lines.counts) & (none_before[last] == none_before[first])
