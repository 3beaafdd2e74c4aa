"""Recordings that were stored packed: `drive.bag.zst`, rosbag2's `x_0.db3.zstd`, `drive.mf4z`.

A compressed stream, or a zip archive, with one recording in it is unpacked to a temporary file that
is deleted when the source is closed; the object itself stays as it is. What a reader says of
positions (units, pointers of silver rows, findings) counts in the unpacked stream: whoever opens
the object anew unpacks it anew and finds the same bytes there. The ledger alone speaks of the
stored object, so that its ranges tile what lies in landing: a range of it is where the bytes of a
unit were unpacked from, to 64 KB.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from contracts.errors import DecodeError, PlatformError
from contracts.recording import Finding, LedgerEntry, Source
from udfs.decode.packed_stream import DECODERS, Unpacking, stream_of
from udfs.decode.packed_zip import recording_in
from udfs.decode.sniff import HEAD_BYTES, packing_of, refused_pack, sniff
from udfs.decode.source import BytesSource, MappedSource, OpenSource


class UnpackedSource(MappedSource):
    """The recording in a packed object, in a temporary file that lives until `close`."""

    def __init__(self, path: Path, *, unpacking: Unpacking, stored: Source) -> None:
        """Take over the file at `path`, which `unpacking` has filled from the `stored` object."""
        self._delete = weakref.finalize(self, path.unlink, missing_ok=True)
        super().__init__(path, uri=stored.uri)
        self._unpacking = unpacking
        self._stored_size = stored.size

    def close(self) -> None:
        """Delete the file."""
        super().close()
        self._delete()

    @property
    def is_whole(self) -> bool:
        """Whether the packed stream came to its end and its checksums hold."""
        return self._unpacking.damage is None

    def findings(self) -> Iterator[Finding]:
        """What is to be said of the packing; a loss if it is damaged."""
        stream, damage = self._unpacking.stream, self._unpacking.damage
        what = f"{stream.packing}, {self._stored_size} bytes; {self.size} bytes unpacked"
        yield Finding("PACKED", what)
        if damage:
            what = f"{damage.what}, at byte {damage.offset} of the stored object"
            yield Finding(damage.code, what, loses=True, lost_messages=None)

    def stored_entries(self, entries: Iterable[LedgerEntry]) -> tuple[LedgerEntry, ...]:
        """Entries of ranges of the unpacked stream as entries of ranges of the stored object."""
        found = []
        for entry in entries:
            start, end = map(self._unpacking.stored_at, (entry.offset, entry.offset + entry.length))
            found.append(attrs.evolve(entry, offset=start, length=end - start))
        return tuple(found)

    def around(self) -> Iterator[LedgerEntry]:
        """Fates of the stored bytes that gave none of the unpacked ones."""
        stream, damage = self._unpacking.stream, self._unpacking.damage
        start, end = stream.start, self._unpacking.stored_at(self.size)
        if start:
            yield LedgerEntry(0, start, "skipped", "STRUCTURE", stream.packing)
        if damage and end < self._stored_size:
            yield LedgerEntry(
                offset=end,
                length=self._stored_size - end,
                fate="quarantined",
                reason_code=damage.code,
                detail=damage.what,
                messages_declared=None,
                messages_lost=None,
            )
        elif end < self._stored_size:
            yield LedgerEntry(end, self._stored_size - end, "skipped", "STRUCTURE", stream.packing)


def unpacked(source: Source) -> Source:
    """The recording in a packed object, unpacked once for as long as it is open; else the object.

    Raises:
        DecodeError: TRUNCATED or PACK_DAMAGED, before the recording can be told.
        ResourceLimitError: BOMB.
        UnsupportedFormatError: UNSUPPORTED_FORMAT, a packing that is not opened, or no recording
            is in it.
    """
    if not isinstance(source, OpenSource):
        return source
    if source.is_packed is None:
        head = bytes(source.read_at(0, min(HEAD_BYTES, source.size)))
        packing = packing_of(head)
        source.is_packed = bool(packing)
        if packing:
            source.inner = _unpack(packing, source)
    return source.inner or source


def _unpack(packing: str, source: Source) -> UnpackedSource:
    if packing == "zip":
        stream = recording_in(source)
    elif packing in DECODERS:
        stream = stream_of(packing, source)
    else:
        raise refused_pack(f"{packing} archive", source.uri)
    unpacking = Unpacking(stream)
    pieces = unpacking.pieces(source)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    _check_head(head, unpacking, source.uri)
    path = _spilled(head, pieces)
    return UnpackedSource(path, unpacking=unpacking, stored=source)


def _check_head(head: bytes, unpacking: Unpacking, uri: str) -> None:
    """Refuse what begins as no recording does, before all of it is unpacked."""
    packing, damage = unpacking.stream.packing, unpacking.damage
    try:
        kind = sniff(BytesSource(head[:HEAD_BYTES], uri=uri)).kind
    except PlatformError as error:
        if damage:
            raise DecodeError(
                damage.what, code=damage.code, uri=uri, offset=damage.offset
            ) from error
        raise refused_pack(f"{packing} archive ({error.what})", uri) from error
    if kind != "recording":
        raise refused_pack(f"{packing} archive of a {kind}", uri)


def _spilled(head: bytes, pieces: Iterator[bytes]) -> Path:
    """A temporary file of all pieces; none is left behind if that fails."""
    with tempfile.NamedTemporaryFile(prefix="drivelake-", delete=False) as file:
        path = Path(file.name)
        try:
            file.write(head)
            file.writelines(pieces)
        except BaseException:
            path.unlink()
            raise
    return path
