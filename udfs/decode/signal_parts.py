"""Columns of `silver.signals` for signals of few samples, put one behind the other: parts.c."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from udfs.encodings.can_signals import SignalBlock, SignalLayout
from udfs.memory.arena import new_bytes
from udfs.native.library import address_of, library

_WORDS = ("source", "definition_hash", "signal", "unit")
_BITS, _ROWS, _FIRST_WORD = 4, 5, 6
_COLUMNS = _FIRST_WORD + len(_WORDS)
"""Of `Part` of parts.c: sequences, log times, values, raw values, bits, rows, words."""
_NO_WORD = -(1 << 40)
Parts = npt.NDArray[np.int64]


def block_columns(blocks: Sequence[SignalBlock]) -> tuple[int, dict[str, pa.Array]]:
    """Rows of some messages without texts, and their columns.

    Raises:
        OverflowError: More than 2^31 - 1 letters in a column.
    """
    words: list[str | None] = []
    factors, plus = [], []
    for block in blocks:
        layout, size = block.layout, len(block)
        sequence, log_time_ns, numbers_at, bits_at = block.addresses
        word = len(words)
        hash_word = word if block.definition_hash else _NO_WORD
        words += [block.message.name, block.definition_hash, *layout.names, *layout.units]
        factors.append((1, 1, 8 * size, 8 * size, block.bits.shape[1], 1, 1, 1, 1, 1))
        starts = sequence, log_time_ns, numbers_at, numbers_at, bits_at
        plus.append((*starts, size, word, hash_word, word, word))
    slots = [_slots(block.layout) for block in blocks]
    counts = [len(one) for one in slots]
    table = np.concatenate(slots)
    has_range = table[:, _BITS] >= 0
    table = table * np.repeat(factors, counts, 0) + np.repeat(plus, counts, 0)
    table[:, _BITS] *= has_range
    rows = int(table[:, _ROWS].sum())
    numbers = new_bytes(32 * rows)
    bits = np.zeros((2, -(-rows // 8)), np.uint8)
    _kernels().join_numbers(
        address_of(table),
        len(table),
        rows,
        address_of(numbers),
        address_of(bits[0]),
        address_of(bits[1]),
    )
    counted = numbers[: 16 * rows].view(np.int64).reshape(2, rows)
    value, raw = numbers[16 * rows :].view(np.float64).reshape(2, rows)
    times = pa.array(counted[1])
    in_range = [pa.py_buffer(bits[1]), pa.py_buffer(bits[0])]
    columns = {
        "sequence": pa.array(counted[0]),
        "log_time_ns": times,
        "publish_time_ns": times,
        "value": pa.array(value),
        "raw_value": pa.array(raw),
        "in_range": pa.Array.from_buffers(pa.bool_(), rows, in_range),
    }
    known = pa.array(words, pa.string())
    for at, name in enumerate(_WORDS):
        columns[name] = _word_column(table, at, known, rows)
    return rows, columns


@functools.lru_cache(maxsize=8192)
def _slots(layout: SignalLayout) -> Parts:
    """(S, columns) outputs of numbers, bitmaps and words, each counted from the first."""
    signals = len(layout.signals)
    at = np.arange(signals)
    found = np.zeros((signals, _COLUMNS), np.int64)
    found[:, 2], found[:, 3], found[:, _BITS] = layout.value, at, layout.range
    found[:, _FIRST_WORD + 1], found[:, _FIRST_WORD + 2] = 1, 2 + at
    has_unit = [unit is not None for unit in layout.units]
    found[:, _FIRST_WORD + 3] = np.where(has_unit, 2 + signals + at, _NO_WORD)
    return found


def _word_column(table: Parts, column: int, words: pa.StringArray, rows: int) -> pa.StringArray:
    chosen = table[:, _FIRST_WORD + column]
    _, starts, letters = words.buffers()
    is_none = chosen < 0
    sizes = np.where(is_none, 0, np.diff(np.frombuffer(starts, np.int32))[chosen * ~is_none])
    total = int(sizes @ table[:, _ROWS])
    if total > np.iinfo(np.int32).max:
        raise OverflowError(total)
    out, offsets = new_bytes(total), np.empty(rows + 1, np.int32)
    known = np.zeros(-(-rows // 8), np.uint8) if is_none.any() else None
    _kernels().join_words(
        address_of(table),
        len(table),
        column,
        starts.address,
        0 if letters is None else letters.address,
        address_of(offsets),
        address_of(out),
        None if known is None else address_of(known),
    )
    there = None if known is None else pa.py_buffer(known)
    buffers = [there, pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.string(), rows, buffers)


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    loaded.join_numbers.argtypes = (array, number, number, array, array, array)
    loaded.join_numbers.restype = None
    loaded.join_words.argtypes = (array, number, number, array, array, array, array, array)
    loaded.join_words.restype = None
    return loaded
