"""Code versions: the hash of what computes an asset, so that a change of it shows as stale."""

from __future__ import annotations

import hashlib
from pathlib import Path

import dagster as dg

PROJECT = Path(__file__).resolve().parent.parent
_CODE = {".py", ".c", ".h", ".yaml"}
_BUILT = "build"
_SPARK = ("contracts", "udfs", "spark_jobs")
_FOLDERS = {
    "gold.evaluations": ("contracts", "ml", "edge"),
    "gold.releases": ("contracts", "ml", "edge", "governance"),
    "bronze": _SPARK,
    "silver": _SPARK,
    "gold": _SPARK,
    "model": ("contracts", "ml", "edge"),
    "edge": ("contracts", "ml", "edge", "governance"),
}


def folders_version(*folders: str) -> str:
    """Twelve hex digits over the names and bytes of all code of some folders: Python, C, rules."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.suffix not in _CODE or _BUILT in path.parts:
                continue
            data = path.read_bytes()
            digest.update(f"{path.relative_to(PROJECT)}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()[:12]


def versioned(assets: list[dg.AssetsDefinition | dg.AssetSpec]) -> list[dg.AssetsDefinition]:
    """The assets with the version of the code that computes them, or else their layer."""
    versions = {name: folders_version(*folders) for name, folders in _FOLDERS.items()}

    def with_version(spec: dg.AssetSpec) -> dg.AssetSpec:
        version = versions.get(".".join(spec.key.path)) or versions.get(spec.key.path[0])
        return spec.replace_attributes(code_version=version) if version else spec

    return list(dg.map_asset_specs(with_version, assets))
