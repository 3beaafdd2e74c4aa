"""The `metadata.yaml` of a rosbag2: which files the bag was split into.

Source: rosbag2_storage, metadata versions 1 to 9.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_BLOCK = re.compile(
    r"^([ \t]*)relative_file_paths:[ \t]*\n((?:\1[ \t]*-[ \t]+\S.*\n?)+)", re.MULTILINE
)
_ITEM = re.compile(r"-[ \t]+[\"']?([^\"'\n]+?)[\"']?[ \t]*$", re.MULTILINE)


def split_files(data: bytes) -> tuple[str, ...]:
    r"""Names of the files of a bag, without folders: they lie beside the metadata.

    >>> split_files(b"x:\n  relative_file_paths:\n    - some/a_0.db3\n    - 'a_1.db3'\n  files:")
    ('a_0.db3', 'a_1.db3')
    """
    block = _BLOCK.search(data.decode("utf-8", "replace").replace("\r\n", "\n"))
    found = _ITEM.findall(block[2]) if block else []
    return tuple(PurePosixPath(name).name for name in found)
