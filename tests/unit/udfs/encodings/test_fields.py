"""Fields of rows against the plainest reading of their bits."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.encodings.fields import (
    FIELD,
    FLOAT,
    SIGNED,
    UNSIGNED,
    map_bytes,
    nanoseconds,
    read_fields,
)
from udfs.encodings.fields import read_integers as read_whole


def field_of(place, *, kind, big, raw=0, value=-1, factor=1.0, offset=0.0, limits=(0, 0.0, 0.0)):
    byte, bit, bits = place
    return np.array([(byte, bit, bits, kind, big, raw, value, factor, offset, *limits)], FIELD)


def plain(row: bytes, place, *, signed, big) -> int:
    """The number, bit by bit as Python counts."""
    byte, bit, bits = place
    part = row[byte : byte + (bit + bits + 7) // 8]
    number = int.from_bytes(part, "big" if big else "little") >> bit & ((1 << bits) - 1)
    return number - (1 << bits) if signed and bits and number >> (bits - 1) else number


@st.composite
def places(draw):
    """(width of a row, (byte, bit, bits)) of a field that lies in it."""
    width = draw(st.integers(1, 70))
    bit = draw(st.integers(0, 7))
    bits = draw(st.integers(0, min(64, 8 * width - bit)))
    byte = draw(st.integers(0, width - max((bit + bits + 7) // 8, 1)))
    return width, (byte, bit, bits)


@given(places(), st.booleans(), st.booleans(), st.integers(1, 300), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_a_field_anywhere_is_the_number_that_its_bits_are(placed, signed, big, rows, seed):
    """Any place, size, sign and byte order, rows apart or not: what Python makes of the bits."""
    width, place = placed
    random = np.random.default_rng(seed)
    stride = width + int(random.integers(0, 3))
    data = random.integers(0, 256, (rows, stride), np.uint8)
    matrix = data[:, :width]
    kind = SIGNED if signed else UNSIGNED
    wanted = [plain(row.tobytes(), place, signed=signed, big=big) for row in matrix]
    out = np.empty((2, rows))
    read_fields(matrix, field_of(place, kind=kind, big=big, value=1, factor=0.1, offset=-3.0), out)
    assert out[0].tolist() == [float(number) for number in wanted]
    assert out[1].tolist() == [float(number) * 0.1 - 3.0 for number in wanted]
    whole = read_whole(matrix, field_of(place, kind=kind, big=big))[0]
    assert whole.tolist() == [number - 2**64 if number >= 2**63 else number for number in wanted]


@pytest.mark.parametrize("code", ["e", "f", "d"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_are_what_struct_reads(code, order):
    """Half, single and double, with infinities, NaN, denormals and both zeros.

    Fault 35: a number on an end of its range lies in it, NaN in none.
    """
    numbers = [0.0, -0.0, 1.5, -2.25, 6e-8, float("inf"), float("-inf"), float("nan"), 65504.0]
    rows = [b"\xaa" + struct.pack(order + code, number) for number in numbers]
    matrix = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    out = np.empty((1, len(rows)))
    place = 1, 0, 8 * struct.calcsize(code)
    bits = np.empty((2, map_bytes(len(rows))), np.uint8)
    field = field_of(place, kind=FLOAT, big=order == ">", limits=(2, -2.25, 65504.0))
    read_fields(matrix, field, out, bits=bits)
    marks = np.unpackbits(bits[1], count=len(rows), bitorder="little")
    assert marks.tolist() == [-2.25 <= number <= 65504.0 for number in numbers]
    wanted = [struct.unpack(order + code, row[1:])[0] for row in rows]
    np.testing.assert_array_equal(out[0], wanted)
    assert (np.signbit(out[0]) == np.signbit(wanted)).all()


def test_rows_are_picked_in_the_order_asked_for():
    """More rows than a block holds, any of them, twice too."""
    random = np.random.default_rng(2)
    matrix = random.integers(0, 256, (5000, 64), np.uint8)
    picked = random.integers(0, 5000, 9000)
    out = np.empty((1, 9000))
    read_fields(matrix, field_of((63, 2, 5), kind=UNSIGNED, big=0), out, picked=picked)
    assert (out[0] == (matrix[picked, 63] >> 2 & 31)).all()


@pytest.mark.parametrize(
    "place", [(8, 0, 1), (0, 0, 65), (-1, 0, 8), (0, 8, 8), (7, 1, 8), (2**62, 0, 8), (0, 0, -1)]
)
def test_a_field_outside_of_its_row_is_refused(place):
    """Whatever a file says of a place, no byte outside of a row is read."""
    matrix, out = np.zeros((3, 8), np.uint8), np.empty((1, 3))
    with pytest.raises(IndexError):
        read_fields(matrix, field_of(place, kind=UNSIGNED, big=0), out)
    with pytest.raises(IndexError):
        read_whole(matrix, field_of(place, kind=UNSIGNED, big=0))


def test_a_row_or_an_output_that_is_not_there_is_refused():
    """Rows are counted, picked ones and outputs too."""
    matrix, out = np.zeros((3, 8), np.uint8), np.empty((1, 3))
    good = field_of((0, 0, 8), kind=UNSIGNED, big=0)
    for picked in ([0, 1, 3], [0, 1, -1]):
        with pytest.raises(IndexError):
            read_fields(matrix, good, out, picked=np.array(picked))
    with pytest.raises(IndexError):
        read_fields(matrix, good, np.empty((1, 4)))
    with pytest.raises(IndexError):
        read_fields(matrix, field_of((0, 0, 8), kind=UNSIGNED, big=0, raw=1), out)
    with pytest.raises(IndexError):
        read_fields(matrix, field_of((0, 0, 8), kind=UNSIGNED, big=0, limits=(1, 0, 1)), out)


def test_seconds_become_nanoseconds_or_are_told_not_to_fit():
    """The nearest nanosecond; what is no time, or beyond the limit, does not fit."""
    seconds = np.array([0.0, 1e-9, 1.0000000005, np.nan, np.inf, -np.inf, 1e10, -1e10, 9e9])
    times, fits = nanoseconds(seconds, start_ns=1000, limit=9.2e18)
    assert fits.tolist() == [True, True, True, False, False, False, False, False, True]
    assert times[:3].tolist() == [1000, 1001, 1000 + int(np.rint(seconds[2] * 1e9))]
