"""Compressed data blocks of MDF 4: rows of columns, and what is left of damaged ones."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from udfs.decode.mdf4_data import _decompressed, _transposed


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 16, 31, 238, 1000, 5000])
@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 63, 64, 65, 200])
def test_transposed_blocks_become_rows(columns, rows):
    """Whole rows are turned, what is left behind the last one stays as it is."""
    random = np.random.default_rng(columns * 1000 + rows)
    left = random.integers(0, columns)
    body = random.integers(0, 256, (rows, columns), np.uint8)
    tail = random.integers(0, 256, left, np.uint8)
    stored = np.concatenate([np.ascontiguousarray(body.T).reshape(-1), tail])
    found = _transposed(stored, columns)
    assert found.tobytes() == body.tobytes() + tail.tobytes()


def test_a_damaged_block_gives_what_comes_before_the_damage():
    """A cut stream gives its front, a wrong checksum nothing, a short one what it has."""
    plain = np.random.default_rng(1).integers(0, 50, 100_000, np.uint8).tobytes()
    packed = zlib.compress(plain)
    assert bytes(_decompressed(memoryview(packed), 0, len(plain))) == plain
    front = bytes(_decompressed(memoryview(packed[: len(packed) // 2]), 0, len(plain)))
    assert 0 < len(front) < len(plain)
    assert plain.startswith(front)
    wrong = packed[:-1] + bytes([packed[-1] ^ 1])
    assert bytes(_decompressed(memoryview(wrong), 0, len(plain))) == b""
    assert bytes(_decompressed(memoryview(packed), 0, len(plain) + 9)) == plain
