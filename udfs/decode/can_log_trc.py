"""PEAK trace files, versions 1.0 to 2.1.

Source: PEAK CAN TRC file format, PEAK-System, 2024
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import attrs
import numpy as np

from contracts.recording import Int64Array
from udfs.decode.can_log_part import LineFields, LogPart, code_of_length, line_part
from udfs.decode.text_lines import Lines, Mask
from udfs.encodings.can import DATA_LENGTHS

_DAYS_TO_EPOCH = 25_569
_DAY_NS = 86_400 * 1_000_000_000
_BEHIND = 63
"""A word that no line has."""
_SHORT_ID_DIGITS = 4
_V2 = 200
_FD_TYPES = (b"FD", b"FB", b"FE", b"BI")
_VERSIONS = {"1.0": 100, "1.1": 101, "1.2": 102, "1.3": 103, "2.0": 200, "2.1": 201}


@attrs.frozen
class _Columns:
    """Which word of a line holds what; `_BEHIND` where none does."""

    bus: int
    type: int
    id: int
    direction: int
    length: int
    data: int
    is_bytes: bool = False


_OLD = {
    100: _Columns(bus=_BEHIND, type=_BEHIND, id=2, direction=_BEHIND, length=3, data=4),
    101: _Columns(bus=_BEHIND, type=2, id=3, direction=2, length=4, data=5),
    102: _Columns(bus=2, type=3, id=4, direction=3, length=5, data=6),
    103: _Columns(bus=2, type=3, id=4, direction=3, length=6, data=7),
}


def parse_part(lines: Lines, state: Mapping[str, str]) -> LogPart:
    """Frames of a part of a trace.

    Args:
        lines: The part.
        state: Of the part before; empty for the first. `dated` tells whether a date was found.
    """
    comment = lines.data[lines.starts_of_words] == ord(";")
    stated = comment & (lines.data[lines.starts_of_words + 1] == ord("$"))
    after = dict(state)
    for row in np.flatnonzero(stated).tolist():
        after |= _statement(lines.text(row).decode("utf-8", "replace").strip())
    version = int(after.get("version", "100"))
    columns = _OLD.get(version) or _columns(after.get("columns", ""))
    ticks, timed = lines.decimal(1, digits=6)
    timed &= ~comment & _is_numbered(lines)
    rows = np.flatnonzero(timed)
    some = lines.where(rows)
    times = int(after.get("start_ns", "0")) + ticks[rows]
    is_frame = _is_frame(some, columns, version)
    fields = _fields(some.where(is_frame), times[is_frame], columns, version)
    fields.check()
    return line_part(
        fields,
        fields.frames(base=16),
        events=(some.where(~is_frame), times[~is_frame]),
        strange=lines.where(~timed & ~comment),
        state=after,
    )


def _statement(text: str) -> dict[str, str]:
    name, _, value = text.partition("=")
    value = value.strip()
    if name == ";$FILEVERSION" and value in _VERSIONS:
        return {"version": str(_VERSIONS[value])}
    if name == ";$COLUMNS":
        return {"columns": value}
    if name == ";$STARTTIME":
        try:
            since = (Decimal(value) - _DAYS_TO_EPOCH) * _DAY_NS
            start = int(since.to_integral_value())
        except (InvalidOperation, OverflowError, ValueError):
            return {}
        # The trace is written in days with some ten digits: nothing below 1 µs is meant.
        start = round(start, -3)
        return {"start_ns": str(start), "dated": "1"} if 0 <= start < 1 << 62 else {}
    return {}


def _columns(text: str) -> _Columns:
    names = [name.strip() for name in text.split(",")]

    def of(name: str) -> int:
        return names.index(name) if name in names else _BEHIND

    is_bytes = "l" in names
    length = of("l") if is_bytes else of("L")
    return _Columns(of("B"), of("T"), of("I"), of("d"), length, of("D"), is_bytes)


def _is_numbered(lines: Lines) -> Mask:
    starts, lengths = lines.span(0)
    bracket = lines.data[starts + lengths - 1] == ord(")")
    _, good = lines.number(0, most=18, but_last=bracket)
    return good


def _is_frame(lines: Lines, columns: _Columns, version: int) -> Mask:
    """Lines that claim to be frames; the rest are events of the hardware or the bus."""
    if version >= _V2:
        return lines.is_word(columns.type, b"DT", b"RR", b"ER", *_FD_TYPES)
    if columns.type == _BEHIND:
        return ~lines.is_word(columns.id, b"FFFFFFFF")
    return lines.is_word(columns.type, b"Rx", b"Tx")


def _fields(lines: Lines, times: Int64Array, columns: _Columns, version: int) -> LineFields:
    rows = len(times)
    new = version >= _V2
    error = lines.is_word(columns.type, b"ER") if new else np.zeros(rows, np.bool_)
    # An error frame has no id: what stands behind is one word further to the front.
    left = np.where(error & lines.is_word(columns.id, b"Rx", b"Tx"), 1, 0)
    bus, has_bus = lines.number(columns.bus, most=5)
    can_id, good = lines.number(columns.id, base=16, most=8)
    _, digits = lines.span(columns.id)
    code, has_code = lines.number(columns.length - left, most=2)
    if columns.is_bytes:
        length, code = code, code_of_length(code)
    else:
        length = DATA_LENGTHS[np.minimum(code, len(DATA_LENGTHS) - 1)]
    is_fd = lines.is_word(columns.type, *_FD_TYPES) if new else np.zeros(rows, np.bool_)
    remote = lines.is_word(columns.type, b"RR") if new else lines.is_word(columns.data, b"RTR")
    length = np.where(is_fd, length, np.minimum(length, 8))
    direction = columns.direction - left
    sent = np.where(lines.is_word(direction, b"Tx"), 1, -1 * ~lines.is_word(direction, b"Rx"))
    return LineFields(
        lines=lines,
        time_ns=times,
        bus=np.where(has_bus, bus, -1),
        can_id=np.where(error, -1, can_id),
        is_extended=(digits > _SHORT_ID_DIGITS) & ~error,
        is_fd=is_fd,
        is_remote=remote,
        is_error=error,
        dlc=code,
        is_transmitted=sent.astype(np.int64),
        data_at=columns.data - left,
        data_length=np.where(remote, 0, length),
        good=has_code & (good | error),
    )
