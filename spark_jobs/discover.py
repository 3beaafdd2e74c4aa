"""What lies in landing, and whether its upload is complete. Lists; opens nothing but manifests."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import attrs
import pyarrow.fs as pafs

from contracts.errors import ContractViolation, PlatformError
from spark_jobs.storage import filesystem_of, is_local, uri_of

_MANIFEST_LEVELS = 4
"""Folders above a file that are looked into for the manifest that names it."""
MANIFEST_NAME = "drive.json"
SETTLE_NS = 30_000_000_000
"""A file without a manifest is complete when nothing has been written to it for this long."""
_MAX_MANIFEST_BYTES = 16 << 20
_UNDERWAY_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart")


@attrs.frozen
class UploadObject:
    """An object seen in landing.

    Attributes:
        uri: Where it is.
        size_bytes: Size as listed.
        modified_ns: Modification time of the storage, UTC.
        pending: Why it is not complete; empty if it is.
        drive_id: From the upload manifest; None without one.
        recorder: From the upload manifest.
        vehicle_key: From the upload manifest.
        expected_sha256: From the upload manifest.
    """

    uri: str
    size_bytes: int
    modified_ns: int
    pending: str = ""
    drive_id: str | None = None
    recorder: str | None = None
    vehicle_key: str | None = None
    expected_sha256: str | None = None


@attrs.frozen
class UploadManifest:
    """What the sender says of a folder of objects: identity, names, hashes and sizes.

    `objects` maps a path relative to the manifest's folder to (sha256, size_bytes, recorder).
    """

    drive_id: str
    vehicle_key: str | None
    objects: Mapping[str, tuple[str, int, str | None]]


def discover(
    places: Sequence[str],
    *,
    storage_options: Mapping[str, str] | None = None,
    assume_complete: bool = False,
    settle_ns: int = SETTLE_NS,
    now_ns: int | None = None,
) -> list[UploadObject]:
    """List the objects of folders, files and S3 prefixes, by URI, each once.

    An object that an upload manifest (`drive.json`) names is complete when every object of that
    manifest is there in its size. One without a manifest is complete on S3 when it is listed, on
    disk when it has settled. Names of uploads under way are never complete.

    Args:
        places: Paths or URIs.
        storage_options: delta-rs style keys for S3.
        assume_complete: Take files on disk without a manifest as complete at once.
        settle_ns: Age from which a file on disk counts as settled.
        now_ns: UTC; the clock of this machine by default.

    Raises:
        PlatformError: NOT_FOUND, a place that is not there; storage failures come as OSError.
    """
    now = time.time_ns() if now_ns is None else now_ns
    found: dict[str, UploadObject] = {}
    for place in places:
        root = uri_of(place)
        listing = _listed(root, storage_options=storage_options)
        settled = None if assume_complete or not is_local(root) else now - settle_ns
        for item in _judged(listing, settled_ns=settled):
            found.setdefault(item.uri, item)
    return [found[uri] for uri in sorted(found)]


def parse_manifest(data: bytes, *, uri: str) -> UploadManifest:
    """Read an upload manifest.

    Raises:
        ContractViolation: MANIFEST_INVALID, what is wrong with it.
    """
    try:
        value = json.loads(data)
        if value["drivelake_manifest"] != 1:
            raise _invalid(f"version {value['drivelake_manifest']!r} is not 1", uri)
        return UploadManifest(
            drive_id=_text(value["drive_id"]),
            vehicle_key=_text(value["vehicle_key"]) if value.get("vehicle_key") else None,
            objects=dict(_object_of(item) for item in value["objects"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _invalid(f"{type(error).__name__}: {error}", uri) from error


def _object_of(item: Mapping[str, Any]) -> tuple[str, tuple[str, int, str | None]]:
    path = PurePosixPath(_text(item["path"]))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"path {str(path)!r} leads out of the folder")
    digest = _text(item["sha256"]).lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"{digest!r} is no SHA-256")
    return str(path), (digest, int(item["size_bytes"]), item.get("recorder"))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} where a text belongs")
    return value


def _invalid(what: str, uri: str) -> ContractViolation:
    return ContractViolation(what, code="MANIFEST_INVALID", uri=uri)


@attrs.frozen
class _Listing:
    """The files under a folder by relative path, and the manifests by the folder they speak for.

    Attributes:
        files: Listing of the storage, neighbours included that only a manifest asks for.
        taken: Relative paths that were asked for.
        manifests: By relative folder; None where the manifest can't be read.
        scheme: What makes a URI of a storage path: `file` or `s3`.
    """

    files: Mapping[str, pafs.FileInfo]
    taken: Collection[str]
    manifests: Mapping[str, UploadManifest | None]
    scheme: str

    def uri(self, name: str) -> str:
        """URI of a file."""
        path = self.files[name].path
        return PurePosixPath(path).as_uri() if self.scheme == "file" else f"{self.scheme}://{path}"


def _listed(root: str, *, storage_options: Mapping[str, str] | None) -> _Listing:
    filesystem, path = filesystem_of(root, storage_options=storage_options)
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise PlatformError("nothing is there", code="NOT_FOUND", uri=root)
    alone = info.type == pafs.FileType.File
    if alone:
        base, found, manifests = _with_its_manifest(filesystem, info)
        files = _files_under(base, found)
        taken = {str(PurePosixPath(path).relative_to(base))}
    else:
        base = PurePosixPath(path)
        files = _files_under(
            base, filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
        )
        taken = set(files)
        manifests = {
            str(PurePosixPath(name).parent): _manifest_at(filesystem, item)
            for name, item in files.items()
            if PurePosixPath(name).name == MANIFEST_NAME
        }
    if alone:  # its neighbours count for completeness, but are not taken
        named = [name for manifest in manifests.values() if manifest for name in manifest.objects]
        if named:
            found = filesystem.get_file_info([str(base / name) for name in named])
            files = {**_files_under(base, found), **files}
    return _Listing(
        files=files, taken=taken, manifests=manifests, scheme="file" if is_local(root) else "s3"
    )


def _with_its_manifest(
    filesystem: pafs.FileSystem, file: pafs.FileInfo
) -> tuple[PurePosixPath, list[pafs.FileInfo], dict[str, UploadManifest | None]]:
    """The folder that a file is judged in, it with the manifest there, and what that one says.

    A drive's folder may have folders of its own, as a rosbag2 is: the manifest lies above them.
    """
    path = PurePosixPath(file.path)
    folders = [folder for folder in path.parents if folder.parts][:_MANIFEST_LEVELS]
    for folder, item in zip(
        folders,
        filesystem.get_file_info([str(folder / MANIFEST_NAME) for folder in folders]),
        strict=True,
    ):
        if item.type == pafs.FileType.File:
            manifest = _manifest_at(filesystem, item)
            name = str(path.relative_to(folder))
            if manifest is None or name == MANIFEST_NAME or name in manifest.objects:
                return folder, [file, item], {".": manifest}
    return path.parent, [file], {}


def _files_under(base: PurePosixPath, found: Iterable[pafs.FileInfo]) -> dict[str, pafs.FileInfo]:
    return {
        str(PurePosixPath(item.path).relative_to(base)): item
        for item in found
        if item.type == pafs.FileType.File
    }


def _manifest_at(filesystem: pafs.FileSystem, item: pafs.FileInfo) -> UploadManifest | None:
    if item.size > _MAX_MANIFEST_BYTES:
        return None
    with filesystem.open_input_stream(item.path) as stream:
        data = stream.read()
    try:
        return parse_manifest(data, uri=item.path)
    except ContractViolation:
        return None


def _judged(listing: _Listing, *, settled_ns: int | None) -> Iterator[UploadObject]:
    """Say of every file taken whether it is complete; `settled_ns` None where all of them are."""
    named: dict[str, tuple[UploadManifest, tuple[str, int, str | None], str]] = {}
    of_broken: list[str] = []
    for folder, manifest in listing.manifests.items():
        if manifest is None:
            of_broken.append(folder)
            continue
        paths = {str(PurePosixPath(folder) / name): it for name, it in manifest.objects.items()}
        missing = [
            name
            for name, (_, size, _) in paths.items()
            if name not in listing.files or listing.files[name].size < size
        ]
        pending = f"{len(missing)} of {len(paths)} objects of the manifest missing"
        paths[str(PurePosixPath(folder) / MANIFEST_NAME)] = ("", 0, None)
        named |= {name: (manifest, it, pending if missing else "") for name, it in paths.items()}
    for name in sorted(listing.taken):
        item = listing.files[name]
        modified = item.mtime_ns or 0
        plain = UploadObject(uri=listing.uri(name), size_bytes=item.size, modified_ns=modified)
        if _is_underway(name):
            yield attrs.evolve(plain, pending="its name says that it is being written")
        elif name in named:
            manifest, (sha256, _, recorder), pending = named[name]
            yield attrs.evolve(
                plain,
                pending=pending,
                drive_id=manifest.drive_id,
                vehicle_key=manifest.vehicle_key,
                recorder=recorder,
                expected_sha256=sha256 or None,
            )
        elif settled_ns is not None and modified > settled_ns:
            yield attrs.evolve(plain, pending="written to a moment ago")
        elif _is_in(name, of_broken):
            yield attrs.evolve(plain, pending="the manifest beside it can't be read")
        else:
            yield plain


def _is_underway(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "_")) for part in parts)
    return hidden or parts[-1].lower().endswith(_UNDERWAY_SUFFIXES)


def _is_in(name: str, folders: Collection[str]) -> bool:
    """Whether a file, not a manifest itself, lies under one of the folders."""
    path = PurePosixPath(name)
    return path.name != MANIFEST_NAME and any(
        folder == "." or path.is_relative_to(folder) for folder in folders
    )
