"""The one recording in a zip archive (`.mf4z`, `.zip`); no name in it ever becomes a path.

Source: PKWARE APPNOTE.TXT 6.3, 4.3 and 4.4.
"""

from __future__ import annotations

import io
import itertools
import re
import stat
import struct
import zipfile
from collections.abc import Iterator

import attrs

from contracts.errors import PlatformError, ResourceLimitError, UnsupportedFormatError
from contracts.recording import Source
from udfs.decode.limits import MAX_ARCHIVE_MEMBERS
from udfs.decode.packed_stream import PackedStream, Unpacking
from udfs.decode.sniff import HEAD_BYTES, packing_of, refused_pack, sniff
from udfs.decode.source import BytesSource

_CODINGS = {0: "stored", 8: "deflate", 12: "bzip2"}
_MAX_DIRECTORY_BYTES = 4 << 20
_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_IS_ENCRYPTED, _IS_STREAMED = 1 << 0, 1 << 3
_LEADS_AWAY = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0")
_UNKNOWN_SIZE = 0xFFFFFFFF


class _BeforeTheStart(OSError):
    """What zipfile expects of a file where it looks for a directory before its first byte."""


class _Reading(io.RawIOBase):
    """A source as a file, for the reader of the directory."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + (0, self._at, self._source.size)[whence]
        if at < 0:
            raise _BeforeTheStart
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        left = max(self._source.size - self._at, 0)
        size = left if size < 0 else min(size, left)
        if size > _MAX_DIRECTORY_BYTES:
            what = f"an archive with a directory of {size} bytes"
            raise ResourceLimitError(what, code="BOMB", uri=self._source.uri)
        found = bytes(self._source.read_at(self._at, size)) if size else b""
        self._at += size
        return found


_NO_DIRECTORY = (
    *(zipfile.BadZipFile, NotImplementedError, _BeforeTheStart),
    *(ValueError, struct.error, EOFError),
)


@attrs.frozen
class _Local:
    """What stands before the bytes of a member."""

    name: str
    flags: int
    method: int
    crc32: int
    packed: int
    unpacked: int
    start: int


def recording_in(source: Source) -> PackedStream:
    """Where the one recording of an archive is, told by its bytes.

    An archive whose directory is cut off still has its first member.

    Raises:
        UnsupportedFormatError: UNSUPPORTED_FORMAT, the archive is not opened: a member is a link,
            is encrypted, has a name that leads elsewhere or is an archive itself; or there is no
            recording in it, or more than one.
        ResourceLimitError: BOMB, more members than anybody packs.
    """
    try:
        with zipfile.ZipFile(_Reading(source)) as archive:
            members = archive.infolist()
    except _NO_DIRECTORY:
        return _first(source)
    if len(members) > MAX_ARCHIVE_MEMBERS:
        what = f"an archive of {len(members)} members, the limit is {MAX_ARCHIVE_MEMBERS}"
        raise ResourceLimitError(what, code="BOMB", uri=source.uri)
    for member in members:
        _check_name(member.orig_filename, source)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refused_pack("archive with a link or a device", source.uri)
    files = [_member(source, member) for member in members if not member.is_dir()]
    found = list(itertools.islice((one for one in files if _is_recording(source, one)), 2))
    if len(found) != 1:
        what = "archive with " + ("more than one recording" if found else "no recording in it")
        raise refused_pack(what, source.uri)
    return found[0]


def _first(source: Source) -> PackedStream:
    """The first member of an archive that has no directory."""
    local = _local(source, 0)
    size = source.size - local.start
    is_sized = local.packed not in (0, _UNKNOWN_SIZE) and not local.flags & _IS_STREAMED
    stream = PackedStream(
        packing="zip",
        coding=_coding(local.method, source),
        start=local.start,
        end=local.start + min(local.packed, size) if is_sized else source.size,
        cut="the archive has no directory: it is cut",
    )
    if size <= 0 or not _is_recording(source, stream):
        raise refused_pack("archive without a directory and no recording in front", source.uri)
    return stream


def _member(source: Source, member: zipfile.ZipInfo) -> PackedStream:
    local = _local(source, member.header_offset)
    if local.name != member.orig_filename:
        raise refused_pack("archive whose directory names other members", source.uri)
    return PackedStream(
        packing="zip",
        coding=_coding(member.compress_type, source),
        start=local.start,
        end=min(local.start + member.compress_size, source.size),
        declared=member.file_size,
        crc32=member.CRC,
    )


def _local(source: Source, offset: int) -> _Local:
    """The head of a member."""
    try:
        head = _LOCAL.unpack(source.read_at(offset, _LOCAL.size))
        magic, _, flags, method, _, _, crc, packed, unpacked, name_bytes, extra_bytes = head
        name = bytes(source.read_at(offset + _LOCAL.size, name_bytes))
    except PlatformError as error:
        raise refused_pack("archive with a member that is not there", source.uri) from error
    if magic != _LOCAL_MAGIC:
        raise refused_pack("archive with a member that is not there", source.uri)
    if flags & _IS_ENCRYPTED:
        raise refused_pack("encrypted archive", source.uri)
    is_utf8 = flags & 1 << 11
    text = name.decode("utf-8" if is_utf8 else "cp437", "replace")
    _check_name(text, source)
    start = offset + _LOCAL.size + name_bytes + extra_bytes
    return _Local(text, flags, method, crc, packed, unpacked, start)


def _check_name(name: str, source: Source) -> None:
    if _LEADS_AWAY.search(name):
        raise refused_pack("archive with a name that leads out of it", source.uri)


def _coding(method: int, source: Source) -> str:
    if method not in _CODINGS:
        raise refused_pack(f"archive with compression {method}", source.uri)
    return _CODINGS[method]


def _is_recording(source: Source, stream: PackedStream) -> bool:
    """Whether the first bytes of a member are those of a recording."""
    head = b"".join(_until(Unpacking(stream).pieces(source), HEAD_BYTES))
    packing = packing_of(head)
    if packing:
        raise refused_pack(f"archive with a {packing} archive in it", source.uri)
    try:
        return sniff(BytesSource(head)).kind == "recording"
    except (PlatformError, UnsupportedFormatError):
        return False


def _until(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pieces until they add up to a size."""
    for piece in pieces:
        yield piece
        size -= len(piece)
        if size <= 0:
            return
