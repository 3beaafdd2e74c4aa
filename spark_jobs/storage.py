"""Places on disk and S3 under one interface: a filesystem and a path for a URI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs

from contracts.errors import UnsupportedFormatError
from udfs.decode.source import s3_filesystem


def filesystem_of(
    uri: str, *, storage_options: Mapping[str, str] | None = None
) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path within it of a local path, `file://` or `s3://` URI.

    Raises:
        UnsupportedFormatError: UNSUPPORTED_SCHEME, neither a file nor S3.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return pafs.LocalFileSystem(), unquote(parts.path)
    if parts.scheme in ("s3", "s3a"):
        return s3_filesystem(storage_options or {}), f"{parts.netloc}{parts.path}".rstrip("/")
    if "://" in uri:
        what = f"storage scheme {parts.scheme!r}"
        raise UnsupportedFormatError(what, code="UNSUPPORTED_SCHEME", uri=uri)
    return pafs.LocalFileSystem(), str(Path(uri).absolute())


def uri_of(place: str) -> str:
    """The URI of a place given as a path or a URI; a path becomes absolute."""
    return place.rstrip("/") if "://" in place else Path(place).absolute().as_uri()


def is_local(uri: str) -> bool:
    """Whether the place is on this machine's disk."""
    return urlsplit(uri).scheme in ("", "file")


def spark_location(uri: str) -> str:
    """The same place as Spark wants it: Hadoop takes `file:` paths unescaped."""
    parts = urlsplit(uri)
    return f"file://{unquote(parts.path)}" if parts.scheme == "file" else uri
