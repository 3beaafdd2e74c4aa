"""Places on disk and S3 under one interface: a filesystem and a path for a URI."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs

from udfs.decode.source import s3_filesystem, split_place


def filesystem_of(
    uri: str, *, storage_options: Mapping[str, str] | None = None
) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path within it of a local path, `file://` or `s3://` URI.

    Raises:
        ContractViolation: USAGE, a URI without a path or a bucket.
        UnsupportedFormatError: UNSUPPORTED_SCHEME, neither a file nor S3.
    """
    scheme, path = split_place(uri)
    if scheme == "s3":
        return s3_filesystem(storage_options or {}), path.rstrip("/")
    return pafs.LocalFileSystem(), str(Path(path).absolute())


def uri_of(place: str) -> str:
    """The URI of a place given as a path or a URI; a path becomes absolute."""
    return place.rstrip("/") if "://" in place else Path(place).absolute().as_uri()


def is_local(uri: str) -> bool:
    """Whether the place is on this machine's disk."""
    return urlsplit(uri).scheme in ("", "file")


def publish_folder(
    folder: Path, uri: str, *, last: str, storage_options: Mapping[str, str] | None = None
) -> None:
    """Copy a finished folder to its place; nothing where it stands there already.

    Args:
        folder: Of files that no longer change.
        uri: Its place.
        last: The file without which a copy is not whole; it is copied after all others.
        storage_options: For S3.
    """
    filesystem, root = filesystem_of(uri, storage_options=storage_options)
    if is_local(uri) and Path(root) == folder.absolute():
        return
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: (name == last, name)):
        target = f"{root}/{name}"
        if is_local(uri):
            filesystem.create_dir(str(Path(target).parent), recursive=True)
        pafs.copy_files(
            str(folder / name),
            target,
            source_filesystem=pafs.LocalFileSystem(),
            destination_filesystem=filesystem,
        )


@contextmanager
def local_copy(
    uri: str, *, storage_options: Mapping[str, str] | None = None
) -> Iterator[Path | None]:
    """A folder on this machine's disk: itself, or a copy for the block; None if it is not there."""
    filesystem, root = filesystem_of(uri, storage_options=storage_options)
    if is_local(uri):
        yield Path(root) if Path(root).is_dir() else None
        return
    if filesystem.get_file_info(root).type != pafs.FileType.Directory:
        yield None
        return
    with tempfile.TemporaryDirectory() as place:
        pafs.copy_files(
            root, place, source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem()
        )
        yield Path(place)


def spark_location(uri: str) -> str:
    """The same place as Spark wants it: Hadoop takes `file:` paths unescaped."""
    parts = urlsplit(uri)
    return f"file://{unquote(parts.path)}" if parts.scheme == "file" else uri
