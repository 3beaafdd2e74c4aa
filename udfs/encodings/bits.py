"""Numbers at any bit of fixed-size records, all rows at once: one gather, one shift, one mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from contracts.errors import UnsupportedFormatError
from contracts.recording import UInt8Array

Integers = npt.NDArray[np.int64] | npt.NDArray[np.uint64]


def integers(
    matrix: UInt8Array,
    *,
    byte_offset: int,
    bit_offset: int,
    bit_count: int,
    is_signed: bool,
    is_big_endian: bool,
) -> Integers:
    """Integers of up to 64 bits.

    Args:
        matrix: (N, B) uint8.
        byte_offset: First byte that holds any of their bits.
        bit_offset: Bits below the integer: in the first byte, or in the last if big-endian.
        bit_count: Bits of the integer, 0 to 64.
        is_signed: Whether they are in two's complement.
        is_big_endian: Whether the first byte is the most significant.

    Returns:
        (N,) int64, or uint64 for unsigned ones of 64 bits.

    Raises:
        UnsupportedFormatError: UNSUPPORTED_TYPE, more than 64 bits.
    """
    word = words(
        matrix,
        byte_offset=byte_offset,
        bit_offset=bit_offset,
        bit_count=bit_count,
        is_big_endian=is_big_endian,
    )
    if is_signed and 0 < bit_count < 64:
        sign = np.int64(1 << (bit_count - 1))
        return (word.view(np.int64) ^ sign) - sign
    return word if bit_count == 64 and not is_signed else word.view(np.int64)


def words(
    matrix: UInt8Array, *, byte_offset: int, bit_offset: int, bit_count: int, is_big_endian: bool
) -> npt.NDArray[np.uint64]:
    """(N,) uint64 bit patterns; arguments and errors as for `integers`."""
    width = (bit_offset + bit_count + 7) // 8
    if bit_count > 64 or width > 9:
        raise UnsupportedFormatError(f"an integer of {bit_count} bits", code="UNSUPPORTED_TYPE")
    order = ">" if is_big_endian else "<"
    in_place = matrix.strides[1] == 1
    if in_place and bit_count == 8 * width and width in (1, 2, 4, 8):
        columns = matrix[:, byte_offset : byte_offset + width]
        return columns.view(f"{order}u{width}")[:, 0].astype(np.uint64)
    if in_place and 0 < width <= 8 <= matrix.shape[1]:
        begin = min(byte_offset, matrix.shape[1] - 8)
        word = matrix[:, begin : begin + 8].view(f"{order}u8")[:, 0].astype(np.uint64)
        below = 8 * (byte_offset - begin)
        if is_big_endian:
            below = 8 * (begin + 8 - byte_offset - width)
        word >>= np.uint64(below + bit_offset)
    else:
        word = _gathered(
            matrix[:, byte_offset : byte_offset + width], bit_offset, is_big_endian=is_big_endian
        )
    if bit_count < 64:
        word &= np.uint64((1 << bit_count) - 1)
    return word


def _gathered(
    columns: UInt8Array, bit_offset: int, *, is_big_endian: bool
) -> npt.NDArray[np.uint64]:
    """(N,) uint64 above `bit_offset` of up to 9 bytes, wherever these are."""
    if is_big_endian:
        columns = columns[:, ::-1]
    width = columns.shape[1]
    padded = np.zeros((len(columns), 8), np.uint8)
    padded[:, : min(width, 8)] = columns[:, :8]
    word = padded.view("<u8")[:, 0]
    if bit_offset:
        word = word >> np.uint64(bit_offset)
    if width == 9:
        word = word | columns[:, 8].astype(np.uint64) << np.uint64(64 - bit_offset)
    return word


def floats(
    matrix: UInt8Array, *, byte_offset: int, bit_count: int, is_big_endian: bool
) -> npt.NDArray[np.float64]:
    """(N,) float64 of IEEE numbers of 16, 32 or 64 bits that begin at a byte.

    Raises:
        UnsupportedFormatError: UNSUPPORTED_TYPE, another number of bits.
    """
    if bit_count not in (16, 32, 64):
        raise UnsupportedFormatError(f"a float of {bit_count} bits", code="UNSUPPORTED_TYPE")
    width = bit_count // 8
    columns = matrix[:, byte_offset : byte_offset + width]
    if columns.strides[1] != 1:
        columns = np.ascontiguousarray(columns)
    numbers = columns.view(f"{'>' if is_big_endian else '<'}f{width}")[:, 0]
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
        return numbers.astype(np.float64)
