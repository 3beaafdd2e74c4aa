"""The hand-off: binaries, what they are, where they come from and how good they are, sealed.

`edge` knows no keys: the caller passes the function that seals the finished folder, usually
`governance.sealing.seal` with its key; `governance.sealing.verify_bundle` checks it anywhere.
"""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import pyarrow as pa

from contracts.errors import ContractViolation, IntegrityError
from contracts.ids import canonical_json, sha256_hex
from contracts.models import PARITY_SCHEMA, Progress
from contracts.tables import TABLES
from edge.artefact import Artefact
from edge.tensorrt import Attempt

_SHORT = 12  # digits of the bundle's id in its folder's name


class SealLike(Protocol):
    """What a sealing function returns."""

    bundle_id: str
    signer: str
    manifest: bytes


# writes manifest and signature into the folder; told what the folder is
Sealer = Callable[[Path, Mapping[str, Any]], SealLike]


@attrs.frozen(eq=False)
class Release:
    """What is handed off.

    Attributes:
        name: Of the bundle; part of its folder's name.
        model: Registered name.
        model_version: Registered version.
        dataset_id: Dataset version that the model was trained on.
        interface: What goes in and comes out, JSON values: sizes, units, classes.
        dataset: Row of `gold.datasets`, JSON values.
        lineage: `governance.lineage.lineage_document`.
        evaluations: Rows of `gold.evaluations` of this model version.
        parity: PARITY_SCHEMA.
        verdict: The gate's verdict, JSON values with `passed`.
        artefacts: Binaries, one a target.
        attempts: Targets that were tried, built or not.
        code_commit: Commit of the code that trained the model.
    """

    name: str
    model: str
    model_version: str
    dataset_id: str
    interface: Mapping[str, Any]
    dataset: Mapping[str, Any]
    lineage: Mapping[str, Any]
    evaluations: pa.Table
    parity: pa.Table
    verdict: Mapping[str, Any]
    artefacts: Sequence[Artefact]
    attempts: Sequence[Attempt] = ()
    code_commit: str = "unknown"


@attrs.frozen
class Bundle:
    """A sealed folder.

    Attributes:
        bundle_id: SHA-256 of its manifest.
        path: The folder.
        signer: Fingerprint of the key.
        manifest: Canonical JSON.
        targets: Targets that it holds binaries for.
        reused: Whether the same bundle was there already.
    """

    bundle_id: str
    path: Path
    signer: str
    manifest: bytes
    targets: tuple[str, ...]
    reused: bool


def build_bundle(
    release: Release,
    out: Path,
    *,
    seal: Sealer,
    require_approval: bool = True,
    progress: Progress | None = None,
) -> Bundle:
    """Assemble and seal; the same release gives the same folder, and nothing is written twice.

    Args:
        release: What is handed off.
        out: Folder of all bundles.
        seal: Writes manifest and signature.
        require_approval: Whether a verdict that did not pass refuses the bundle.
        progress: Told a sentence and a share of the work.

    Raises:
        ContractViolation: The gate did not pass, there is no binary, or two for one target.
        IntegrityError: A binary changed since it was made, or the same bundle is there and its
            bytes have changed.
    """
    tell = progress or (lambda *_: None)
    binaries = _binaries(release)
    if require_approval and not release.verdict.get("passed"):
        raise ContractViolation(
            "the gate did not pass",
            code="NOT_APPROVED",
            remedy="; ".join(_failed(release.verdict)) or None,
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".making-") as place:
        made = Path(place, "bundle")
        tell("copy binaries", 0.1)
        for artefact in binaries:
            _copy(artefact, made / "targets" / artefact.target / artefact.path.name)
        for name, document in _documents(release, binaries).items():
            path = made / "about" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(canonical_json(document))
        tell("seal", 0.7)
        sealed = seal(made, _about(release, binaries))
        final = out / f"{release.name}-{sealed.bundle_id[:_SHORT]}"
        reused = final.exists()
        if reused:
            _require_equal(made, final)
        else:
            made.rename(final)
    targets = tuple(artefact.target for artefact in binaries)
    return Bundle(sealed.bundle_id, final, sealed.signer, sealed.manifest, targets, reused)


def release_row(release: Release, bundle: Bundle, *, uri: str, created_ns: int) -> pa.Table:
    """The row of `gold.releases` of a bundle that was published at a place."""
    row = {
        "bundle_id": bundle.bundle_id,
        "uri": uri,
        "model": release.model,
        "model_version": release.model_version,
        "dataset_id": release.dataset_id,
        "targets": list(bundle.targets),
        "manifest": bundle.manifest.decode(),
        "signer": bundle.signer,
        "created_ns": created_ns,
    }
    return pa.Table.from_pylist([row], schema=TABLES["gold.releases"].schema)


def _binaries(release: Release) -> list[Artefact]:
    """Every binary by target: those given, and the engines that were built."""
    engines = [attempt.artefact for attempt in release.attempts if attempt.artefact]
    binaries = sorted([*release.artefacts, *engines], key=lambda artefact: artefact.target)
    targets = [artefact.target for artefact in binaries]
    if not targets or len(set(targets)) != len(targets):
        raise ContractViolation(f"one binary a target is needed, not {targets}")
    return binaries


def _failed(verdict: Mapping[str, Any]) -> list[str]:
    return [str(check["subject"]) for check in verdict.get("checks", ()) if not check["passed"]]


def _about(release: Release, binaries: Sequence[Artefact]) -> dict[str, Any]:
    return {
        "name": release.name,
        "model": release.model,
        "model_version": release.model_version,
        "dataset_id": release.dataset_id,
        "approved": bool(release.verdict.get("passed")),
        "targets": [artefact.target for artefact in binaries],
    }


def _documents(release: Release, binaries: Sequence[Artefact]) -> dict[str, Any]:
    toolchain: dict[str, str] = {}
    for artefact in binaries:
        toolchain |= artefact.toolchain
    order = [("target", "ascending"), ("measure", "ascending")]
    rows = release.evaluations.sort_by(
        [(name, "ascending") for name in TABLES["gold.evaluations"].keys]
    )
    return {
        "targets.json": {
            "binaries": [
                {**artefact.as_dict(), "file": f"targets/{artefact.target}/{artefact.path.name}"}
                for artefact in binaries
            ],
            "attempts": [attempt.as_dict() for attempt in release.attempts],
        },
        "toolchain.json": {"versions": toolchain, "code_commit": release.code_commit},
        "interface.json": dict(release.interface),
        "dataset.json": dict(release.dataset),
        "lineage.json": dict(release.lineage),
        "evaluation.json": rows.to_pylist(),
        "parity.json": release.parity.select(PARITY_SCHEMA.names).sort_by(order).to_pylist(),
        "verdict.json": dict(release.verdict),
    }


def _copy(artefact: Artefact, path: Path) -> None:
    path.parent.mkdir(parents=True)
    shutil.copyfile(artefact.path, path)
    if sha256_hex(path.read_bytes()) != artefact.sha256:
        raise IntegrityError(
            f"the binary for {artefact.target} changed since it was made", uri=str(artefact.path)
        )


def _require_equal(made: Path, there: Path) -> None:
    """Same files, same bytes; else the bundle that was handed off is no longer what it was."""
    names = [
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for folder in (made, there)
    ]
    _, changed, unread = filecmp.cmpfiles(made, there, sorted(names[0]), shallow=False)
    wrong = sorted({*changed, *unread, *(names[0] ^ names[1])})
    if wrong:
        raise IntegrityError(
            f"{wrong[0]} of a bundle that was sealed before differs now",
            code="CHANGED_FILE",
            uri=str(there),
        )
