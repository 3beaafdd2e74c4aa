"""Logs of candump: the file format of `-L`, and what `-ta` shows on a console.

Source: linux-can/can-utils, candump.c and lib.c (`sprint_canframe`, `sprint_long_canframe`)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from contracts.recording import Int64Array, UInt8Array
from udfs.decode.can_log_part import (
    MAX_CLASSIC_BYTES,
    LineFields,
    LogPart,
    code_of_length,
    joined_names,
    line_part,
)
from udfs.decode.text_lines import DIGITS, Lines, Mask, digits_at

_ERROR_FLAG, _EXTENDED_FLAG, _ID_BITS = 0x20000000, 0x80000000, 0x1FFFFFFF
_SHORT_ID_DIGITS = 3
_MAX_ID_DIGITS = 8
_MAX_NAME_BYTES = 16
_HASH, _OPEN, _CLOSE = ord("#"), ord("("), ord(")")


def parse_part(lines: Lines, state: Mapping[str, str]) -> LogPart:
    """Frames of a part of a log; every line is one."""
    times, timed = _times(lines)
    rows = np.flatnonzero(timed)
    some = lines.where(rows)
    names, bus_name, has_name = _interfaces(some)
    hashes = np.flatnonzero(some.data == _HASH)
    starts, lengths = some.span(2)
    hash_at = np.append(hashes, len(some.data))[np.searchsorted(hashes, starts)]
    compact = hash_at < starts + lengths
    fields, data = _fields(some, times[rows], hash_at=hash_at, compact=compact)
    fields.bus = _numbers(names)[bus_name]
    fields.good &= has_name
    fields.check()
    words, _, whole = fields.data_words(base=16)
    nibbles = _nibbles_are_digits(some.data, data, fields.data_length * 2)
    fields.good &= np.where(compact, nibbles, whole)
    chosen = np.flatnonzero(fields.good)
    arena, begins = _arena(fields, chosen, begins=data, words=words, compact=compact)
    frames = fields.frames_at(chosen, arena, begins)
    none = lines.where(np.zeros(0, np.int64))
    return line_part(
        fields,
        frames,
        events=(none, np.zeros(0, np.int64)),
        strange=lines.where(~timed),
        state=dict(state),
        buses=(names, bus_name),
    )


def _times(lines: Lines) -> tuple[Int64Array, Mask]:
    """Times between round brackets."""
    starts, lengths = lines.span(0)
    bracketed = (lines.data[starts] == _OPEN) & (lines.data[starts + lengths - 1] == _CLOSE)
    inner = Lines(
        lines.data,
        lines.starts,
        lines.ends,
        np.arange(len(starts)),
        np.ones(len(starts), np.int64),
        starts + 1,
        np.maximum(starts + lengths - 1, starts + 1),
    )
    times, good = inner.decimal(0, digits=9)
    return times, good & bracketed


def _interfaces(lines: Lines) -> tuple[tuple[str, ...], Int64Array, Mask]:
    """Names of interfaces, which of them each line has, and whether it is one."""
    starts, lengths = lines.span(1)
    good = (lengths > 0) & (lengths <= _MAX_NAME_BYTES)
    words = np.zeros((len(starts), _MAX_NAME_BYTES), np.uint8)
    for k in range(min(int(lengths.max(initial=0)), _MAX_NAME_BYTES)):
        words[:, k] = np.where((k < lengths) & good, lines.data[starts + k], 0)
    unique, which = np.unique(words.view(f"S{_MAX_NAME_BYTES}")[:, 0], return_inverse=True)
    decoded = [name.decode("ascii", "backslashreplace") for name in unique.tolist()]
    names, at = joined_names(decoded)
    order = np.array([at[name] for name in decoded], np.int64)
    return names, order[which] if len(order) else which.astype(np.int64), good


def _numbers(names: tuple[str, ...]) -> Int64Array:
    """Number of an interface: the digits it ends with, -1 without."""
    found = [re.search(r"(\d{1,6})$", name) for name in names]
    return np.array([int(one[1]) if one else -1 for one in found] or [0], np.int64)


def _fields(
    lines: Lines,
    times: Int64Array,
    *,
    hash_at: Int64Array,
    compact: Mask,
) -> tuple[LineFields, Int64Array]:
    """Fields of both forms, and where the hexadecimal data of the compact one begin."""
    data = lines.data
    starts, lengths = lines.span(2)
    ends = starts + lengths
    last = len(data) - 1
    id_length = np.where(compact, hash_at, ends) - starts
    identity, good = digits_at(data, starts, id_length, base=16, most=_MAX_ID_DIGITS)
    is_fd = compact & (data[np.minimum(hash_at + 1, last)] == _HASH)
    begin = hash_at + np.where(is_fd, 3, 1)
    tail = data[np.minimum(begin, last)] | 0x20
    remote = (compact & ~is_fd & (tail == ord("r"))) | lines.is_word(4, b"remote")
    length = np.where(compact, (ends - begin) // 2, 0)
    code = code_of_length(np.maximum(length, 0))
    # A ninth digit of the length, behind a line: `#1122334455667788_E`.
    raw_code = compact & ~is_fd & (length > MAX_CLASSIC_BYTES) & (ends - begin == 18)
    raw_code &= data[np.minimum(begin + 16, last)] == ord("_")
    code = np.where(raw_code, DIGITS[data[np.minimum(begin + 17, last)]], code)
    length = np.where(raw_code, MAX_CLASSIC_BYTES, length)
    good &= ~compact | remote | ((ends - begin) % 2 == 0)
    stated, has_length, wide = _console_length(lines)
    length = np.where(compact, length, stated)
    code = np.where(compact, code, code_of_length(stated))
    good &= compact | has_length
    asked, has_asked = digits_at(data, begin + 1, ends - begin - 1, base=16, most=1)
    code = np.where(remote & compact, np.where(has_asked, asked, 0), code)
    sent = lines.is_word(3, b"T", b"TX")
    received = lines.is_word(3, b"R", b"RX")
    error = identity & _ERROR_FLAG != 0
    error &= id_length == _MAX_ID_DIGITS
    fields = LineFields(
        lines=lines,
        time_ns=times,
        bus=np.zeros(len(times), np.int64),
        can_id=np.where(error, -1, identity & _ID_BITS),
        is_extended=(id_length > _SHORT_ID_DIGITS) & ~error,
        is_fd=np.where(compact, is_fd, wide),
        is_remote=remote,
        is_error=error,
        dlc=code,
        is_transmitted=np.where(sent, 1, -1 * ~received),
        data_at=np.where(compact, 0, 4),
        data_length=np.where(remote, 0, np.maximum(length, 0)),
        good=good,
    )
    fields.good &= ~(identity & _EXTENDED_FLAG != 0) | (id_length == _MAX_ID_DIGITS)
    return fields, begin


def _console_length(lines: Lines) -> tuple[Int64Array, Mask, Mask]:
    """Bytes between square brackets; two digits for CAN FD."""
    starts, lengths = lines.span(3)
    last = len(lines.data) - 1
    closed = lines.data[np.minimum(starts + np.maximum(lengths - 1, 0), last)] == ord("]")
    opened = (lengths > 2) & (lines.data[starts] == ord("["))
    stated, good = digits_at(lines.data, starts + 1, lengths - 2, base=10, most=2)
    return np.where(good, stated, 0), good & opened & closed, lengths == 4


def _nibbles_are_digits(data: UInt8Array, starts: Int64Array, counts: Int64Array) -> Mask:
    none = np.zeros(len(data) + 1, np.int64)
    np.cumsum(DIGITS[data] > 15, out=none[1:])
    ends = np.minimum(starts + counts, len(data))
    return none[ends] == none[np.minimum(starts, len(data))]


def _arena(
    fields: LineFields,
    rows: Int64Array,
    *,
    begins: Int64Array,
    words: UInt8Array,
    compact: Mask,
) -> tuple[UInt8Array, Int64Array]:
    """Bytes of the frames: those of pairs of digits first, then the words of the console form."""
    lengths = np.where(compact, fields.data_length, 0)[rows]
    ends = np.cumsum(lengths)
    every = np.arange(int(lengths.sum()))
    at = np.repeat(begins[rows] - 2 * (ends - lengths), lengths) + 2 * every
    data = fields.lines.data
    pairs = DIGITS[data[at]] << 4 | DIGITS[data[at + 1]]
    console = len(pairs) + fields.lines.first[rows] + fields.data_at[rows]
    starts = np.where(compact[rows], ends - lengths, console)
    return np.concatenate([pairs, words]), starts
