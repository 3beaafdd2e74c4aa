"""Identity of the program that turns bytes into rows."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

import contracts
import udfs
from contracts.ids import content_hash, sha256_hex

_LIBRARIES = ("asammdf", "cantools", "lz4", "numpy", "polars", "protobuf", "pyarrow", "zstandard")


@functools.cache
def pipeline_version() -> str:
    """Hash of the decode code, the contracts and the libraries that decide what rows come out."""
    sources = {}
    for package in (contracts, udfs):
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            sources[f"{root.name}/{file.relative_to(root)}"] = sha256_hex(file.read_bytes())
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return content_hash({"sources": sources, "libraries": versions})
