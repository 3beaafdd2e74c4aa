"""Random access to the bytes of an object: mapped files on disk, ranged reads on S3."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs

from contracts.errors import ContractViolation, DecodeError, UnsupportedFormatError
from contracts.recording import Source

READ_AHEAD_BYTES = 8 << 20
PART_READ_AHEAD_BYTES = 16 << 10
"""For reading parts of a recording: what lies behind a read is not needed then."""
_COPY_BYTES = 16 << 20


class OpenSource:
    """A source that holds a file or connection open until `close`; a context manager.

    Attributes:
        uri: As it was opened.
        size: Bytes in the object.
        is_local: Whether reading a byte here and there costs next to nothing.
        inner: What `unpacked` has unpacked of it, closed with it; None where it is not packed.
        is_packed: Whether it is packed, once somebody has looked.
    """

    uri: str
    size: int
    is_local: bool = True
    inner: OpenSource | None = None
    is_packed: bool | None = None

    def read_at(self, offset: int, length: int) -> memoryview:
        """Read exactly `length` bytes at `offset`.

        Raises:
            DecodeError: TRUNCATED, the range does not lie inside the object.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            what = f"{length} bytes wanted, the object has {self.size}"
            raise DecodeError(what, code="TRUNCATED", uri=self.uri, offset=offset)
        return self._read(offset, length)

    def _read(self, offset: int, length: int) -> memoryview:
        raise NotImplementedError

    def local_path(self) -> str:
        """Path of a local copy that lives until `close`."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file or connection, and of what was copied or unpacked."""
        if self.inner is not None:
            self.inner.close()
        self.inner = self.is_packed = None

    def __enter__(self) -> Self:
        """Enter the block that closes the source."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the source."""
        self.close()


class MappedSource(OpenSource):
    """A file on disk, mapped: reads copy nothing."""

    def __init__(self, path: Path, *, uri: str) -> None:
        """Map the file at `path`; OSError if it can't be read."""
        self.uri = uri
        self._path = path
        with path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None
        self._view = memoryview(self._map) if self._map is not None else memoryview(b"")

    def _read(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def local_path(self) -> str:
        """Path of the file itself."""
        return str(self._path)

    def close(self) -> None:
        """Unmap the file; arrays over its bytes keep the map alive until they are gone."""
        super().close()
        self._view = memoryview(b"")
        self.size = 0
        self._map = None


class BytesSource(OpenSource):
    """Bytes in memory as a source."""

    def __init__(self, data: bytes, *, uri: str = "memory:") -> None:
        """Take `data` as the object."""
        self.uri = uri
        self.size = len(data)
        self._view = memoryview(data)
        self._copy: LocalCopy | None = None

    def _read(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def local_path(self) -> str:
        """Path of a temporary copy that lives until `close`."""
        if self._copy is None:
            self._copy = LocalCopy(self)
        return self._copy.path

    def close(self) -> None:
        """Delete the local copy if one was made."""
        super().close()
        if self._copy is not None:
            self._copy.delete()
        self._copy = None


class RemoteSource(OpenSource):
    """An object on S3: ranged reads, small ones served from a read-ahead block."""

    is_local = False

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        path: str,
        *,
        uri: str,
        read_ahead: int = READ_AHEAD_BYTES,
    ) -> None:
        """Open `path` on `filesystem`; FileNotFoundError if it is not there."""
        self.uri = uri
        self._read_ahead = read_ahead
        info = filesystem.get_file_info(path)
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(uri)
        self.size = info.size
        self._file = filesystem.open_input_file(path)
        self._block = memoryview(b"")
        self._block_start = 0
        self._copy: LocalCopy | None = None

    def _read(self, offset: int, length: int) -> memoryview:
        begin = offset - self._block_start
        if begin < 0 or begin + length > len(self._block):
            wanted = min(max(length, self._read_ahead), self.size - offset)
            block = memoryview(self._file.read_at(wanted, offset)) if wanted else memoryview(b"")
            if len(block) < length:
                what = f"storage gave {len(block)} of {length} bytes"
                raise DecodeError(what, code="TRUNCATED", uri=self.uri, offset=offset)
            self._block, self._block_start, begin = block, offset, 0
        return self._block[begin : begin + length]

    def local_path(self) -> str:
        """Path of a downloaded copy that lives until `close`."""
        if self._copy is None:
            self._copy = LocalCopy(self)
        return self._copy.path

    def close(self) -> None:
        """Close the connection and delete the local copy if one was made."""
        super().close()
        self._file.close()
        self._block = memoryview(b"")
        if self._copy is not None:
            self._copy.delete()
        self._copy = None


def open_source(
    uri: str,
    *,
    storage_options: Mapping[str, str] | None = None,
    read_ahead: int = READ_AHEAD_BYTES,
) -> OpenSource:
    """Open the object at `uri` for random access.

    Args:
        uri: Path, `file://…` or `s3://bucket/key`.
        storage_options: delta-rs style keys: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
            AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ALLOW_HTTP.
        read_ahead: Least bytes of a request to S3.

    Raises:
        FileNotFoundError: Nothing is there.
        ContractViolation: USAGE, a URI without a path or a bucket.
        UnsupportedFormatError: UNSUPPORTED_SCHEME, neither a file nor S3.
    """
    scheme, path = split_place(uri)
    if scheme == "file":
        return MappedSource(Path(path), uri=uri)
    filesystem = s3_filesystem(storage_options or {})
    return RemoteSource(filesystem, path, uri=uri, read_ahead=read_ahead)


def split_place(uri: str) -> tuple[str, str]:
    """`file` and the path, or `s3` and `bucket/key`, of a path or a URI.

    Raises:
        ContractViolation: USAGE, a URI without a path or a bucket.
        UnsupportedFormatError: UNSUPPORTED_SCHEME, neither a file nor S3.

    >>> split_place("a b.bag"), split_place("file:///a%20b.bag"), split_place("s3://b/a#1.bag")
    (('file', 'a b.bag'), ('file', '/a b.bag'), ('s3', 'b/a#1.bag'))
    """
    parts = urlsplit(uri)
    is_s3 = parts.scheme in ("s3", "s3a")
    if not is_s3 and parts.scheme != "file":
        if "://" not in uri:
            return "file", uri
        raise UnsupportedFormatError(
            f"Nothing here reads the storage scheme {parts.scheme!r}",
            code="UNSUPPORTED_SCHEME",
            uri=uri,
            remedy="Name a path, file:// or s3://",
        )
    if not (parts.netloc if is_s3 else parts.path):
        what = f"{uri} names no {'bucket' if is_s3 else 'path'}"
        raise ContractViolation(what, code="USAGE", remedy="Write s3://bucket/key or file:///path")
    # a key is taken as it stands: to S3 `#`, `?` and `%` are letters of it
    return ("s3", uri.partition("://")[2]) if is_s3 else ("file", unquote(parts.path))


def s3_filesystem(options: Mapping[str, str]) -> pafs.S3FileSystem:
    """S3 connection from delta-rs style keys; what is not given comes from the AWS defaults."""
    endpoint = options.get("AWS_ENDPOINT_URL")
    named = {
        "access_key": options.get("AWS_ACCESS_KEY_ID"),
        "secret_key": options.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": options.get("AWS_SESSION_TOKEN"),
        "region": options.get("AWS_REGION"),
    }
    if endpoint:
        target = urlsplit(endpoint)
        named |= {
            "endpoint_override": target.netloc or endpoint,
            "scheme": target.scheme or "https",
        }
    return pafs.S3FileSystem(**{key: value for key, value in named.items() if value})


def sha256_of(source: Source, *, chunk: int = _COPY_BYTES) -> str:
    """SHA-256 of the whole object as 64 hex digits, read `chunk` bytes at a time."""
    digest = hashlib.sha256()
    for offset in range(0, source.size, chunk):
        digest.update(source.read_at(offset, min(chunk, source.size - offset)))
    return digest.hexdigest()


class LocalCopy:
    """A temporary file with all bytes of a source; it goes with this object at the latest.

    Attributes:
        path: Where it is.
        delete: To be called when it is not needed any more; more than once does no harm.
    """

    def __init__(self, source: Source, *, size: int | None = None) -> None:
        """Copy the source; with zeros behind it, where the file is to have a larger `size`."""
        with tempfile.NamedTemporaryFile(prefix="drivelake-", delete=False) as file:
            self.path = file.name
            self.delete = weakref.finalize(self, Path(file.name).unlink, missing_ok=True)
            for offset in range(0, source.size, _COPY_BYTES):
                file.write(source.read_at(offset, min(_COPY_BYTES, source.size - offset)))
            if size is not None:
                file.truncate(size)
