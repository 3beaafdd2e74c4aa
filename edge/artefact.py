"""A made file with its identity: made once for the same inputs, whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from contracts.ids import canonical_json, content_hash, sha256_hex
from contracts.models import Float32Array

if TYPE_CHECKING:
    from torch import nn

_SIDECAR = "artefact.json"
_SHORT = 12  # digits of a fingerprint in a folder's name


@attrs.frozen
class Artefact:
    """A binary or an exchange file.

    Attributes:
        target: What it runs on: onnx, onnx_int8, qnn_sa8255, tensorrt_rtx_sm89, …
        path: The file.
        sha256: Of the file.
        size_bytes: Of the file.
        fingerprint: Hash of everything it was made from.
        toolchain: Version by tool.
        details: What the step states of it; JSON values.
    """

    target: str
    path: Path
    sha256: str
    size_bytes: int
    fingerprint: str
    toolchain: Mapping[str, str]
    details: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the path is reduced to the file's name."""
        return {**attrs.asdict(self), "path": self.path.name}


def make_once(
    out: Path,
    *,
    target: str,
    file_name: str,
    inputs: Mapping[str, Any],
    tools: tuple[str, ...],
    make: Callable[[Path], Mapping[str, Any]],
) -> Artefact:
    """The artefact of these inputs: the one that is there if its bytes hold, else a new one.

    Args:
        out: Folder of all artefacts.
        target: What it runs on.
        file_name: Name of the file.
        inputs: JSON values that name everything it depends on but the tools.
        tools: Distributions whose versions it depends on.
        make: Writes the file at the path it is given and returns the details.
    """
    toolchain = {name: metadata.version(name) for name in tools}
    fingerprint = content_hash({"target": target, "inputs": dict(inputs), "tools": toolchain})
    folder = out / f"{target}-{fingerprint[:_SHORT]}"
    found = read_artefact(folder)
    if found:
        return found
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".making-") as place:
        made = Path(place, "artefact")
        made.mkdir()
        details = make(made / file_name)
        data = (made / file_name).read_bytes()
        described = {
            "target": target,
            "path": file_name,
            "sha256": sha256_hex(data),
            "size_bytes": len(data),
            "fingerprint": fingerprint,
            "toolchain": toolchain,
            "details": dict(details),
        }
        (made / _SIDECAR).write_bytes(canonical_json(described))
        if folder.exists():  # its bytes did not hold
            folder.rename(Path(place, "damaged"))
        made.rename(folder)
    return Artefact(**{**described, "path": folder / file_name})


def read_artefact(folder: Path) -> Artefact | None:
    """The artefact in a folder; None if there is none or its bytes have changed."""
    try:
        described = json.loads((folder / _SIDECAR).read_bytes())
        path = folder / described["path"]
        if sha256_hex(path.read_bytes()) != described["sha256"]:
            return None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        return None
    return Artefact(**{**described, "path": path})


def module_hash(module: nn.Module) -> str:
    """Identity of a network: its layers, and name, type, shape and bytes of every weight."""
    layers = sha256_hex(repr(module).encode())
    weights = {
        name: [str(value.dtype), list(value.shape), sha256_hex(value.numpy(force=True).tobytes())]
        for name, value in module.state_dict().items()
    }
    return content_hash({"layers": layers, "weights": weights})


def images_hash(images: Float32Array) -> str:
    """Identity of input images."""
    return content_hash([list(images.shape), str(images.dtype), sha256_hex(images.tobytes())])
