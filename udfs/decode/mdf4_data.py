"""The data of an MDF 4 group as one stream of bytes, whatever blocks it is cut into.

DT, DV, DI, SD and RD blocks hold bytes, DZ blocks hold them compressed, DL, LD and HL blocks list
them. A block that won't decompress leaves a hole of the size that it declares: what stands behind
it keeps its place, and the caller is told which bytes are not there. No hole is ever a zero.

Source: ASAM MDF 4.1 and 4.2, clauses 4.20 to 4.26; zip types of MDF 4.3.
"""

from __future__ import annotations

import bisect
import ctypes
import functools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import attrs
import deflate
import lz4.frame
import numpy as np
import zstandard
from isal import isal_zlib

from contracts.errors import DecodeError
from contracts.recording import Finding, Source, UInt8Array
from udfs.decode.limits import GROUP_BYTES, check_unit_size
from udfs.decode.mdf4_blocks import Block, BlockReader
from udfs.memory.arena import new_bytes
from udfs.native.library import address_of, library

_DZ = struct.Struct("<2sBBIQQ")
_DL = struct.Struct("<BBHI")
_LD_HAS_INVALID = 1 << 31
_PLAIN = ("DT", "DV", "DI", "SD", "RD")
_ANY = (*_PLAIN, "DZ", "DL", "LD", "HL")
_STEP_BYTES = 1 << 20


@attrs.frozen
class Fragment:
    """A data block, or a piece of it: `stored` bytes in the file give `size` of the stream."""

    address: int
    data_address: int
    stored: int
    size: int
    zip_kind: int = -1
    columns: int = 0

    @property
    def length(self) -> int:
        """Bytes of the whole block in the file."""
        return self.data_address + self.stored - self.address

    @property
    def compression(self) -> str:
        """Name of the compression, empty if there is none."""
        names = ("deflate", "zstd", "lz4")
        return names[self.zip_kind // 2] if 0 <= self.zip_kind < 6 else ""


class DataStream:
    """The bytes of consecutive fragments; the last decompressed one is kept."""

    def __init__(self, source: Source, fragments: Sequence[Fragment]) -> None:
        """Read from `source`; nothing is read yet."""
        self._source = source
        self.fragments = tuple(fragments)
        sizes = np.array([fragment.size for fragment in fragments], np.int64)
        self.ends = np.cumsum(sizes)
        self.size = int(self.ends[-1]) if len(sizes) else 0
        self._held: tuple[int, UInt8Array, int] = (-1, np.empty(0, np.uint8), 0)

    def read(self, start: int, length: int) -> tuple[UInt8Array, tuple[tuple[int, int], ...]]:
        """Bytes [start, start + length) of the stream, which must lie inside it.

        Returns:
            (length,) uint8, a view of the file where possible, and the holes: ranges [from, to)
            within them whose bytes can't be had and must not be used.
        """
        if length == 0:
            return np.empty(0, np.uint8), ()
        if start < 0 or start + length > self.size:
            what = f"bytes {start} to {start + length} of a stream of {self.size}"
            raise DecodeError(what, code="TRUNCATED")
        first = int(np.searchsorted(self.ends, start, side="right"))
        begin = start - (int(self.ends[first]) - self.fragments[first].size)
        data, good = self._fragment(first)
        if begin + length <= len(data):
            holes = ((max(good - begin, 0), length),) if begin + length > good else ()
            return data[begin : begin + length], holes
        return self._gathered(first, begin, length)

    def _gathered(
        self, index: int, begin: int, length: int
    ) -> tuple[UInt8Array, tuple[tuple[int, int], ...]]:
        out = new_bytes(length)
        holes = []
        at = 0
        while at < length:
            data, good = self._fragment(index)
            take = min(len(data) - begin, length - at)
            out[at : at + take] = data[begin : begin + take]
            if begin + take > good:
                holes.append((at + max(good - begin, 0), at + take))
            at, begin, index = at + take, 0, index + 1
        return out, tuple(holes)

    def _fragment(self, index: int) -> tuple[UInt8Array, int]:
        """Bytes of a fragment, and how many of them at its front are good."""
        fragment = self.fragments[index]
        if fragment.zip_kind < 0:
            data = self._source.read_at(fragment.data_address, fragment.stored)
            return np.frombuffer(data, np.uint8), fragment.size
        if self._held[0] != index:
            self._held = (index, *_unzipped(self._source, fragment))
        return self._held[1], self._held[2]


def _unzipped(source: Source, fragment: Fragment) -> tuple[UInt8Array, int]:
    """(size,) uint8 of a DZ block, and how many of its bytes are good."""
    packed = source.read_at(fragment.data_address, fragment.stored)
    plain = np.frombuffer(_decompressed(packed, fragment.zip_kind, fragment.size), np.uint8)
    is_whole = len(plain) == fragment.size
    if fragment.zip_kind % 2 == 0:
        missing = np.zeros(fragment.size - len(plain), np.uint8)
        return plain if is_whole else np.concatenate([plain, missing]), len(plain)
    if not is_whole:
        return np.zeros(fragment.size, np.uint8), 0
    return _transposed(plain, max(fragment.columns, 1)), fragment.size


def _transposed(plain: UInt8Array, columns: int) -> UInt8Array:
    """Rows again of what was stored by columns; what is left behind the last row stays."""
    out = new_bytes(len(plain))
    kernel = _rows_of_columns()
    kernel(address_of(plain), len(plain), columns, address_of(out))
    return out


@functools.cache
def _rows_of_columns() -> Callable[..., None]:
    kernel = library().rows_of_columns
    number, array = ctypes.c_int64, ctypes.c_void_p
    kernel.argtypes = (array, number, number, array)
    kernel.restype = None
    return kernel


def _decompressed(packed: memoryview, zip_kind: int, size: int) -> bytes | bytearray:
    """At most `size` bytes; what comes before a damage where the stream is damaged."""
    if zip_kind < 2:
        try:
            whole = deflate.zlib_decompress(packed, size)
        except deflate.DeflateError:
            pass  # read it step by step, to have what comes before the damage
        else:
            if len(whole) == size:
                return whole
    parts: list[bytes] = []
    left = size
    try:
        if zip_kind < 2:
            inflate = isal_zlib.decompressobj()
            feed: bytes | memoryview = packed
            while left > 0 and not inflate.eof:
                part = inflate.decompress(feed, min(left, _STEP_BYTES))
                if not part and not inflate.unconsumed_tail:
                    break
                feed = inflate.unconsumed_tail
                parts.append(part)
                left -= len(part)
            if left == 0 and not inflate.eof:
                inflate.decompress(feed, 1)  # reads the checksum
        elif zip_kind < 4:
            with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
                while left > 0 and (part := reader.read(min(left, _STEP_BYTES))):
                    parts.append(part)
                    left -= len(part)
        else:
            parts.append(lz4.frame.LZ4FrameDecompressor().decompress(bytes(packed), left))
    except (isal_zlib.IsalError, zstandard.ZstdError, RuntimeError, EOFError):  # type: ignore[misc]
        if left == 0:
            return b""  # all bytes are there and their checksum says that they are wrong
    return b"".join(parts)


def _pieces(fragment: Fragment) -> Iterator[Fragment]:
    """A plain data block in pieces of about 32 MB, so that a large one splits into units."""
    if fragment.zip_kind >= 0 or fragment.size <= 2 * GROUP_BYTES:
        yield fragment
        return
    end = fragment.data_address + fragment.size
    address = fragment.address
    for start in range(fragment.data_address, end, GROUP_BYTES):
        size = min(GROUP_BYTES, end - start)
        yield Fragment(address, start, size, size)
        address = start + size


class Fragments:
    """Finds the data blocks of the groups of one file, each of which has its one place."""

    def __init__(
        self,
        source: Source,
        *,
        unfinalised: bool,
        known: Sequence[int] = (),
        lengths: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """Read from `source`.

        Args:
            source: The file.
            unfinalised: Whether the writer may have left the last data block without a length.
            known: Ascending addresses of the metadata blocks, which no data block runs into.
            lengths: Bytes of the data blocks that do not tell them, by address.
        """
        self._lengths = lengths
        self._source = source
        self._reader = BlockReader(source)
        self._unfinalised = unfinalised
        self._known = known
        self._found: dict[int, tuple[tuple[Fragment, ...], tuple[Fragment, ...]]] = {}
        self._claimed: set[int] = set()
        self.findings: list[Finding] = []

    def of(
        self, link: int, *, is_shared: bool = False
    ) -> tuple[tuple[Fragment, ...], tuple[Fragment, ...]]:
        """Data blocks that a link leads to: those of the values, those of invalidation bits.

        Args:
            link: Address of a data block, or of a list of them.
            is_shared: Whether several channels may have it, as they may variable-length values.

        Raises:
            DecodeError: MDF_CYCLE with the address of the block that is linked again.
        """
        if is_shared and link in self._found:
            return self._found[link]
        if link in self._lengths:
            self._reader.enter(link)
            return self._bare(link), ()
        values: list[Fragment] = []
        invalid: list[Fragment] = []
        try:
            for kind, address in self._listed(link):
                pieces = _pieces(self._fragment(address))
                (invalid if kind == "DI" else values).extend(pieces)
        except DecodeError as error:
            if error.code not in ("MDF_TRUNCATED", "MDF_BAD_BLOCK"):
                raise
            self._add(error.code, error.what, error.offset)
        self._found[link] = tuple(values), tuple(invalid)
        return self._found[link]

    def _bare(self, address: int) -> tuple[Fragment, ...]:
        """A data block without a head."""
        size = self._lengths[address]
        there = max(min(size, self._limit(address) - address), 0)
        if size > there:
            self._cut(address, f"{size - there} of {size} data bytes are not there")
        return tuple(_pieces(Fragment(address, address, there, there))) if there else ()

    def claim(self, fragments: Sequence[Fragment]) -> tuple[Fragment, ...]:
        """The fragments that nobody has claimed before, each once."""
        mine = tuple(f for f in dict.fromkeys(fragments) if f.address not in self._claimed)
        self._claimed.update(fragment.address for fragment in mine)
        return mine

    def _listed(self, link: int) -> Iterator[tuple[str, int]]:
        """(kind, address) of the data blocks in the order of the stream."""
        if not link:
            return
        block = self._reader.block(link, *_ANY)
        if block.kind == "HL":
            self._reader.enter(link)
            yield from self._listed(block.links[0])
        elif block.kind in ("DL", "LD"):
            for part in self._reader.chain(link, block.kind):
                yield from self._links(part)
        else:
            yield block.kind, link

    def _links(self, part: Block) -> Iterator[tuple[str, int]]:
        """The data blocks of a DL block; of an LD block also those of the invalidation bits."""
        flags, *_, count = self._reader.fields(part, _DL)
        if part.kind == "DL":
            yield from (("DT", link) for link in part.links[1 : 1 + count] if link)
            return
        flags, count = struct.unpack("<II", self._reader.data(part, 8))
        yield from (("DV", link) for link in part.links[1 : 1 + count] if link)
        if flags & _LD_HAS_INVALID:
            yield from (("DI", link) for link in part.links[1 + count : 1 + 2 * count] if link)

    def _fragment(self, address: int) -> Fragment:
        self._reader.enter(address)
        block = self._reader.block(address, *_PLAIN, "DZ")
        there = max(self._limit(address) - block.data_address, 0)
        if block.kind != "DZ":
            size = self._open_length(block) if self._unfinalised else block.data_length
            if size > there:
                self._cut(address, f"{size - there} of {size} data bytes are not there")
            return Fragment(address, block.data_address, min(size, there), min(size, there))
        _, zip_kind, _, parameter, original, packed = self._reader.fields(block, _DZ)
        check_unit_size(packed, declared=original, offset=address)
        if zip_kind > 5:
            what = f"zip type {zip_kind}"
            raise DecodeError(what, code=f"UNSUPPORTED_COMPRESSION:{zip_kind}", offset=address)
        if packed > there - _DZ.size:
            self._cut(address, "a compressed data block is cut")
        stored = min(packed, there - _DZ.size)
        at = block.data_address + _DZ.size
        return Fragment(address, at, stored, original, zip_kind, parameter)

    def _open_length(self, block: Block) -> int:
        """Data bytes of a block in an unfinalised file: as it says if a block follows, or all."""
        end = block.address + block.length
        limit = self._limit(block.address)
        if block.data_length and end <= limit and self._is_block(end):
            return block.data_length
        return limit - block.data_address

    def _limit(self, address: int) -> int:
        """Address of the next metadata block, or the end of the file: no data goes on behind it."""
        follows = bisect.bisect_right(self._known, address)
        return self._known[follows] if follows < len(self._known) else self._source.size

    def _is_block(self, address: int) -> bool:
        at = address + -address % 8
        return at + 4 <= self._source.size and bytes(self._source.read_at(at, 2)) == b"##"

    def behind(self, fragment: Fragment) -> tuple[Fragment, ...]:
        """Data blocks that stand behind the last listed one: a lost power left them unlisted."""
        found: list[Fragment] = []
        at = fragment.address + fragment.length
        while self._unfinalised and self._is_block(at):
            at += -at % 8
            kind = bytes(self._source.read_at(at + 2, 2)).decode("latin-1")
            block = self._reader.block(at, kind)
            if kind in ("DT", "DV", "DZ"):
                found.append(self._fragment(at))
                block = attrs.evolve(block, length=found[-1].length)
            at += block.length
        return tuple(found)

    def _cut(self, address: int, what: str) -> None:
        self._add("MDF_TRUNCATED", what, address)

    def _add(self, code: str, what: str, offset: int | None) -> None:
        """Note a loss; how much it is follows from the counts, where the file has any."""
        lost = None if self._unfinalised else 0
        self.findings.append(Finding(code, what, offset, loses=True, lost_messages=lost))
