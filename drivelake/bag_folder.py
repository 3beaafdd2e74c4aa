"""A folder as one recording: the files that a bag was split into, in their order."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs
import pyarrow.fs as pafs

from contracts.errors import ContractViolation, DecodeError, UnsupportedFormatError
from drivelake.environment import load_settings
from spark_jobs.storage import filesystem_of
from udfs.decode.packed import unpacked
from udfs.decode.rosbag2_metadata import split_files
from udfs.decode.sniff import sniff
from udfs.decode.source import open_source

_METADATA = "metadata.yaml"
_NUMBER = re.compile(r"(\d+)")


@attrs.frozen
class Files:
    """What a place holds.

    Attributes:
        uris: The recording itself, or those of a folder in their order.
        missing: Files of a bag that its metadata names and that are not there.
    """

    uris: tuple[str, ...]
    missing: tuple[str, ...] = ()


def files_of(uri: str) -> Files:
    """The files of a folder, which on S3 ends with a slash; of a file that file alone.

    Raises:
        ContractViolation: USAGE, a folder without a recording.
    """
    options = load_settings().storage_options
    if uri.startswith("s3") and not uri.endswith("/"):
        return Files((uri,))
    filesystem, path = filesystem_of(uri, storage_options=options)
    if not uri or filesystem.get_file_info(path).type != pafs.FileType.Directory:
        return Files((uri,))
    infos = filesystem.get_file_info(pafs.FileSelector(path))
    names = {info.base_name: info for info in infos if info.is_file and info.size}
    stem = uri.rstrip("/")
    if _METADATA in names:
        with filesystem.open_input_file(names[_METADATA].path) as file:
            named = split_files(file.read())
        there = [name for name in named if name in names]
        if there:
            missing = tuple(name for name in named if name not in names)
            return Files(tuple(f"{stem}/{name}" for name in there), missing)
    in_order = [f"{stem}/{name}" for name in sorted(names, key=_natural)]
    found = tuple(one for one in in_order if _is_recording(one, options))
    if not found:
        what = f"There is no recording in the folder {uri}"
        raise ContractViolation(what, code="USAGE", remedy="Name a file, or the folder of a bag")
    return Files(found)


def _natural(name: str) -> list[tuple[int, str]]:
    """Order in which bag_2 comes before bag_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(name)]


def _is_recording(uri: str, options: Mapping[str, str]) -> bool:
    with open_source(uri, storage_options=options) as source:
        try:
            return sniff(unpacked(source)).kind == "recording"
        except (DecodeError, UnsupportedFormatError):
            return False
