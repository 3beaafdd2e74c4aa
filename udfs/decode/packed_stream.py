"""Packed streams, unpacked piece by piece: a step at a time in memory, never beyond the limits."""

from __future__ import annotations

import bz2
import lzma
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import attrs
import lz4.frame
import zstandard

from contracts.errors import ResourceLimitError
from contracts.recording import Source
from udfs.decode.limits import (
    MAX_RATIO,
    MAX_UNPACKED_BYTES,
    MAX_WINDOW_BYTES,
    RATIO_FREE_BYTES,
)

_READ_BYTES = 1 << 20
_STEP_BYTES = 2 << 10
"""What a decoder gets at a time: what it makes of the step that is damaged is lost, and zstandard's
has no limit on what it makes (2 KB of blocks of zeros are 64 MB)."""
_OUT_BYTES = 64 << 10
_MARK_BYTES = 64 << 10
_FAULTS = (
    *(zlib.error, lzma.LZMAError, zstandard.ZstdError),
    *(OSError, EOFError, RuntimeError, ValueError),
)


class Decoder(Protocol):
    """What the decoders of bz2, lzma and lz4 have in common."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether there is nothing more to give without more data."""
        ...

    @property
    def unused_data(self) -> bytes | None:
        """What follows a stream that has ended."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take some data, give at most so many bytes."""
        ...


class _Deflate:
    """zlib's decoder with the interface of the others."""

    needs_input = True

    def __init__(self, window_bits: int) -> None:
        self._own = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._own.eof

    @property
    def unused_data(self) -> bytes:
        return self._own.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._own.decompress(self._own.unconsumed_tail + data, max_length)
        self.needs_input = not self._own.unconsumed_tail
        return piece


class _Zstd:
    """zstandard's decoder of a frame with the interface of the others."""

    needs_input = True

    def __init__(self) -> None:
        self._own = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()

    @property
    def eof(self) -> bool:
        return self._own.eof

    @property
    def unused_data(self) -> bytes:
        return self._own.unused_data

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        return self._own.decompress(data)


class Stored:
    """The decoder of bytes that are not compressed."""

    eof = False
    needs_input = True
    unused_data = b""

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        """Give what was taken."""
        return data


DECODERS: Mapping[str, Callable[[], Decoder]] = {
    "zstd": _Zstd,
    "gzip": lambda: _Deflate(zlib.MAX_WBITS | 16),
    "deflate": lambda: _Deflate(-zlib.MAX_WBITS),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=MAX_WINDOW_BYTES),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "stored": Stored,
}


@attrs.frozen
class PackedStream:
    """Where the packed bytes of a recording are in an object.

    Attributes:
        packing: zstd, gzip, bzip2, xz, lz4 or zip.
        coding: Key of `DECODERS`.
        start: First byte in the object.
        end: Behind the last byte.
        repeats: Whether another stream may follow the first.
        declared: Unpacked bytes that the first stream declares; None where it declares nothing.
        crc32: Of the unpacked bytes, where the object has it beside the stream.
        cut: Why the object around the stream is not whole; empty if it is.
    """

    packing: str
    coding: str
    start: int
    end: int
    repeats: bool = False
    declared: int | None = None
    crc32: int | None = None
    cut: str = ""


@attrs.frozen
class Damage:
    """Where a stream stops making sense: an offset in the object, and why."""

    code: str
    what: str
    offset: int


@attrs.define
class Unpacking:
    """The unpacking of a stream, and what it has found when `pieces` has come to its end.

    Attributes:
        stream: What of it is unpacked.
        size: Bytes unpacked so far.
        damage: What is wrong with the stream; None if nothing is.
    """

    stream: PackedStream
    size: int = 0
    damage: Damage | None = None
    _unpacked_at: list[int] = attrs.field(factory=list)
    _stored_at: list[int] = attrs.field(factory=list)

    def pieces(self, source: Source) -> Iterator[bytes]:
        """Unpack from the start; a damaged stream ends where the damage begins.

        Raises:
            ResourceLimitError: BOMB, it declares or gives more than it may.
        """
        stream, whole = self.stream, zlib.crc32(b"")
        self._check(stream.declared or 0)
        for piece in self._decoded(source):
            self.size += len(piece)
            self._check(self.size)
            if stream.crc32 is not None:
                whole = zlib.crc32(piece, whole)
            yield piece
        is_other = not stream.repeats and stream.declared not in (None, self.size)
        if self.damage is None and (is_other or stream.crc32 not in (None, whole)):
            self._harm("CHECKSUM", "size or checksum of the unpacked bytes is another", stream.end)
        if self.damage is None and stream.cut:
            self._harm("TRUNCATED", stream.cut, stream.end)

    def stored_at(self, position: int) -> int:
        """Where in the object the bytes from a position of the unpacked stream on begin.

        To the step: what lies up to 64 KB before may still belong to them.
        """
        if position >= self.size:
            return self.damage.offset if self.damage else self.stream.end
        return self._stored_at[bisect_right(self._unpacked_at, position) - 1]

    def _decoded(self, source: Source) -> Iterator[bytes]:
        """Pieces of one stream after another."""
        decoder: Decoder | None = DECODERS[self.stream.coding]()
        for at, step in self._steps(source):
            self._mark(at)
            behind, data = at + len(step), step
            while data:
                if decoder is None:
                    data = data.lstrip(b"\0")  # archivers fill up their last block
                    if not data:
                        break
                    if not self.stream.repeats:
                        what = "bytes behind the stream's end"
                        self._harm("TRAILING_BYTES", what, behind - len(data))
                        return
                    decoder = DECODERS[self.stream.coding]()
                try:
                    yield from _given(decoder, data)
                except _FAULTS as error:
                    self._harm("PACK_DAMAGED", f"{self.stream.coding}: {error}", behind - len(data))
                    return
                data = b""
                if decoder.eof:
                    data, decoder = decoder.unused_data or b"", None
        if decoder is not None and self.stream.coding != "stored":
            self._harm("TRUNCATED", "the object ends inside the stream", self.stream.end)

    def _steps(self, source: Source) -> Iterator[tuple[int, bytes]]:
        """Where in the object the next few bytes of the stream are, and the bytes."""
        for start in range(self.stream.start, self.stream.end, _READ_BYTES):
            block = source.read_at(start, min(_READ_BYTES, self.stream.end - start))
            for at in range(0, len(block), _STEP_BYTES):
                yield start + at, bytes(block[at : at + _STEP_BYTES])

    def _mark(self, at: int) -> None:
        """Note that what has been unpacked so far stands before `at`."""
        is_first = not self._stored_at
        if is_first or (
            at >= self._stored_at[-1] + _MARK_BYTES and self.size > self._unpacked_at[-1]
        ):
            self._unpacked_at.append(self.size)
            self._stored_at.append(at)

    def _harm(self, code: str, what: str, offset: int) -> None:
        self.damage = Damage(code, what, offset)

    def _check(self, size: int) -> None:
        stored = self.stream.end - self.stream.start
        if size > MAX_UNPACKED_BYTES or size > max(RATIO_FREE_BYTES, MAX_RATIO * stored):
            what = (
                f"{stored} packed bytes unpack to {size} or more, the limits are"
                f" {MAX_RATIO} to 1 and {MAX_UNPACKED_BYTES}"
            )
            raise ResourceLimitError(what, code="BOMB", offset=self.stream.start)


def stream_of(packing: str, source: Source) -> PackedStream:
    """The stream that an object is from its first byte to its last."""
    declared = None
    if packing == "zstd":
        size = zstandard.frame_content_size(source.read_at(0, min(18, source.size)))
        declared = None if size < 0 else size
    return PackedStream(packing, packing, 0, source.size, repeats=True, declared=declared)


def _given(decoder: Decoder, data: bytes) -> Iterator[bytes]:
    """All that a decoder makes of some data, in pieces of bounded size."""
    while True:
        piece = decoder.decompress(data, _OUT_BYTES)
        if piece:
            yield piece
        if decoder.eof or decoder.needs_input or not (piece or data):
            return
        data = b""
