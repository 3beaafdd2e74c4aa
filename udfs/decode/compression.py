"""Decompression into a buffer of the declared size: never one byte more than was granted."""

from __future__ import annotations

import bz2
import ctypes
import functools
from collections.abc import Callable
from typing import cast

import lz4.frame
import numpy as np
import zstandard

from contracts.errors import DecodeError, UnsupportedFormatError
from contracts.recording import UInt8Array
from udfs.native.library import address_of, library

COMPRESSIONS = ("", "none", "zstd", "lz4", "bz2")
_ZSTD = zstandard.ZstdDecompressor(max_window_size=1 << 31)


def decompress_into(
    out: UInt8Array, *, data: memoryview, compression: str, offset: int | None = None
) -> None:
    """Fill `out` with the decompressed `data`, which must give exactly `len(out)` bytes.

    Args:
        out: (S,) uint8, S the declared size.
        data: Compressed bytes.
        compression: "" or "none", "zstd", "lz4" (frame) or "bz2".
        offset: Where the unit is in the file, for the message.

    Raises:
        DecodeError: CHUNK_DAMAGED, not a stream of that kind or cut short; SIZE_MISMATCH, more or
            fewer bytes than declared.
        UnsupportedFormatError: UNSUPPORTED_COMPRESSION:<name>.
    """
    if compression in ("", "none"):
        _check_size(len(data), len(out), offset)
        out[:] = np.frombuffer(data, np.uint8)
    elif compression == "zstd":
        _check_size(_unzstd(out, data, offset), len(out), offset)
    elif compression == "lz4" and _lz4_kernel()(*_parts(data), *_parts(out)):
        return
    elif compression in ("lz4", "bz2"):
        stepwise = (
            lz4.frame.LZ4FrameDecompressor() if compression == "lz4" else bz2.BZ2Decompressor()
        )
        _check_size(_unpack(out, data, stepwise, offset), len(out), offset)
    else:
        what = f"compression {compression!r}"
        code = f"UNSUPPORTED_COMPRESSION:{compression}"
        raise UnsupportedFormatError(what, code=code, offset=offset)


@functools.cache
def _lz4_kernel() -> Callable[..., int]:
    """`lz4_frame` of lz4.c, declared: 1 for a sound frame of the size, else the library's word."""
    kernel = library().lz4_frame
    kernel.argtypes = (ctypes.c_void_p, ctypes.c_int64) * 2
    kernel.restype = ctypes.c_int32
    return cast("Callable[..., int]", kernel)


def _parts(data: memoryview | UInt8Array) -> tuple[int, int]:
    """Address and size of bytes that are held elsewhere until a kernel is done with them."""
    return address_of(np.frombuffer(data, np.uint8)), len(data)


def _unzstd(out: UInt8Array, data: memoryview, offset: int | None) -> int:
    view = out.data
    try:
        with _ZSTD.stream_reader(data, read_across_frames=True) as reader:
            done = 0
            while done < len(view):
                step = reader.readinto(view[done:])
                if not step:
                    break
                done += step
            return done + len(reader.read(1))
    except zstandard.ZstdError as error:
        raise DecodeError(f"zstd: {error}", code="CHUNK_DAMAGED", offset=offset) from error


def _unpack(
    out: UInt8Array,
    data: memoryview,
    stepwise: lz4.frame.LZ4FrameDecompressor | bz2.BZ2Decompressor,
    offset: int | None,
) -> int:
    try:
        piece = stepwise.decompress(data, max_length=len(out) + 1)
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        raise DecodeError(str(error), code="CHUNK_DAMAGED", offset=offset) from error
    if len(piece) == len(out):
        out[:] = np.frombuffer(piece, np.uint8)
    return len(piece)


def _check_size(actual: int, declared: int, offset: int | None) -> None:
    if actual != declared:
        many = f"more than {declared}" if actual > declared else str(actual)
        what = f"unit declares {declared} bytes and holds {many}"
        raise DecodeError(what, code="SIZE_MISMATCH", offset=offset)
