"""A folder under a signature: every byte of every file, nothing missing, nothing added.

A sealed folder holds `manifest.json` (every file with its hash and size, canonical JSON),
`manifest.dsse.json` (an in-toto statement over it, signed) and `public_key.pem`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from contracts.errors import ContractViolation, IntegrityError
from contracts.ids import canonical_json, sha256_hex
from governance.signing import (
    PublicKey,
    SigningKey,
    open_envelope,
    public_key_from,
    sign_envelope,
)

MANIFEST = "manifest.json"
ENVELOPE = "manifest.dsse.json"
PUBLIC_KEY = "public_key.pem"
_SEAL_FILES = frozenset({MANIFEST, ENVELOPE, PUBLIC_KEY})
_MANIFEST_VERSION = 1
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "urn:drivelake:bundle:1"


@attrs.frozen
class Seal:
    """What a folder was sealed with.

    Attributes:
        bundle_id: SHA-256 of the manifest.
        signer: Fingerprint of the key.
        manifest: Canonical JSON.
    """

    bundle_id: str
    signer: str
    manifest: bytes


@attrs.frozen
class Problem:
    """What is wrong with a sealed folder.

    Attributes:
        code: BAD_SIGNATURE, UNTRUSTED_KEY, BAD_KEY, BAD_MANIFEST, CHANGED_FILE, MISSING_FILE,
            EXTRA_FILE or NOT_A_FILE.
        path: File concerned, relative to the folder.
        detail: One sentence.
    """

    code: str
    path: str
    detail: str


@attrs.frozen
class Verification:
    """Result of a check.

    Attributes:
        ok: Whether nothing is wrong.
        summary: One sentence; names the first file that is wrong.
        bundle_id: SHA-256 of the manifest as it stands in the folder; empty without one.
        signer: Fingerprint of the key that it was checked with; empty without one.
        key_is_trusted: Whether that key was given to the check, not taken from the folder.
        files: Files that the manifest names.
        size_bytes: Their size as the manifest states it.
        problems: Everything that is wrong; the signature first, then files by path.
    """

    ok: bool
    summary: str
    bundle_id: str
    signer: str
    key_is_trusted: bool
    files: int
    size_bytes: int
    problems: tuple[Problem, ...]

    def require(self) -> None:
        """Pass only when nothing is wrong.

        Raises:
            IntegrityError: With the first problem's code and file.
        """
        if self.problems:
            first = self.problems[0]
            raise IntegrityError(first.detail, code=first.code, uri=first.path)


def seal(folder: Path, *, about: Mapping[str, Any], key: SigningKey) -> Seal:
    """Write manifest, signature and public key into a folder of finished files.

    The same files, `about` and key give the same bytes.

    Args:
        folder: Files to seal; links are refused.
        about: What the folder is, JSON values; part of the manifest.
        key: Signs.

    Raises:
        ContractViolation: The folder is sealed already, empty, or holds something not a file.
    """
    entries = []
    for name, path in _members(folder):
        if name in _SEAL_FILES:
            raise ContractViolation(f"{name} is there: sealed folders are never sealed again")
        if path.is_symlink() or not path.is_file():
            raise ContractViolation(f"{name} is no plain file", code="NOT_A_FILE")
        entries.append({"path": name, "sha256": _digest(path), "size_bytes": path.stat().st_size})
    if not entries:
        raise ContractViolation("there is nothing to seal", uri=str(folder))
    manifest = canonical_json(
        {"drivelake_bundle": _MANIFEST_VERSION, "about": dict(about), "files": entries}
    )
    statement = canonical_json(
        {
            "_type": _STATEMENT_TYPE,
            "subject": [{"name": MANIFEST, "digest": {"sha256": sha256_hex(manifest)}}],
            "predicateType": _PREDICATE_TYPE,
            "predicate": {"about": dict(about)},
        }
    )
    envelope = sign_envelope(statement, payload_type=_PAYLOAD_TYPE, key=key)
    (folder / MANIFEST).write_bytes(manifest)
    (folder / PUBLIC_KEY).write_bytes(key.public.pem)
    (folder / ENVELOPE).write_bytes(envelope)
    return Seal(sha256_hex(manifest), key.public.fingerprint, manifest)


def is_sealed(path: Path) -> bool:
    """Whether a folder claims to be a bundle: it has one of the files of a seal, if not all."""
    return any((path / name).exists() for name in _SEAL_FILES)


def verify_bundle(path: Path, *, trusted_key: Path | PublicKey | None = None) -> Verification:
    """Check a sealed folder, offline.

    Without a trusted key the folder's own is taken: that finds damage, not forgery, and the
    result says so.

    Args:
        path: The folder.
        trusted_key: Key that must have signed it, or its PEM file.

    Raises:
        IntegrityError: The file given as the trusted key holds none.
    """
    if isinstance(trusted_key, Path):
        trusted_key = public_key_from(trusted_key.read_bytes(), uri=str(trusted_key))
    problems: list[Problem] = []
    key = _key_to_use(path, trusted_key, problems)
    manifest = _read(path / MANIFEST)
    if key is not None:
        _check_signature(path, key, manifest, problems)
    entries: list[dict[str, Any]] = []
    if manifest is None:
        problems.append(Problem("MISSING_FILE", MANIFEST, f"{MANIFEST} is missing"))
    else:
        entries = _entries(manifest, problems)
        problems += _file_problems(path, entries)
    return _verification(manifest, entries, key, trusted_key, tuple(problems))


def _key_to_use(
    folder: Path, trusted: PublicKey | None, problems: list[Problem]
) -> PublicKey | None:
    """The trusted key, else the folder's; the folder's must be the trusted one."""
    pem = _read(folder / PUBLIC_KEY)
    if pem is None:
        problems.append(Problem("MISSING_FILE", PUBLIC_KEY, f"{PUBLIC_KEY} is missing"))
        return trusted
    try:
        own = public_key_from(pem)
    except IntegrityError as error:
        problems.append(Problem("BAD_KEY", PUBLIC_KEY, f"{PUBLIC_KEY}: {error.what}"))
        return trusted
    if own.pem != pem:
        problems.append(Problem("BAD_KEY", PUBLIC_KEY, f"{PUBLIC_KEY} is not in canonical form"))
    if trusted and own != trusted:
        detail = f"{PUBLIC_KEY} holds {own.fingerprint[:16]}, not the trusted key"
        problems.append(Problem("UNTRUSTED_KEY", PUBLIC_KEY, detail))
    return trusted or own


def _check_signature(
    folder: Path, key: PublicKey, manifest: bytes | None, problems: list[Problem]
) -> None:
    envelope = _read(folder / ENVELOPE)
    if envelope is None:
        problems.append(Problem("MISSING_FILE", ENVELOPE, f"{ENVELOPE} is missing"))
        return
    try:
        statement = json.loads(open_envelope(envelope, payload_type=_PAYLOAD_TYPE, key=key))
        kinds = statement["_type"], statement["predicateType"]
        subject = statement["subject"][0]
        name, signed = subject["name"], subject["digest"]["sha256"]
    except IntegrityError as error:
        problems.append(Problem("BAD_SIGNATURE", ENVELOPE, f"{ENVELOPE}: {error.what}"))
        return
    except (ValueError, KeyError, IndexError, TypeError):
        problems.append(Problem("BAD_SIGNATURE", ENVELOPE, f"{ENVELOPE} holds no statement"))
        return
    if kinds != (_STATEMENT_TYPE, _PREDICATE_TYPE) or name != MANIFEST:
        problems.append(Problem("BAD_SIGNATURE", ENVELOPE, f"{ENVELOPE} signs something else"))
    elif manifest is not None and sha256_hex(manifest) != signed:
        detail = f"{MANIFEST} differs from what was signed"
        problems.append(Problem("CHANGED_FILE", MANIFEST, detail))


def _entries(manifest: bytes, problems: list[Problem]) -> list[dict[str, Any]]:
    """The manifest's files; none where it is no manifest or names a path outside."""
    try:
        document = json.loads(manifest)
        entries = [
            {"path": str(e["path"]), "sha256": str(e["sha256"]), "size_bytes": int(e["size_bytes"])}
            for e in document["files"]
        ]
        version = document["drivelake_bundle"]
    except (ValueError, KeyError, TypeError):
        problems.append(Problem("BAD_MANIFEST", MANIFEST, f"{MANIFEST} is no manifest"))
        return []
    unsafe = [entry["path"] for entry in entries if not _is_inside(entry["path"])]
    if version != _MANIFEST_VERSION or unsafe:
        what = f"names {unsafe[0]!r}" if unsafe else f"is of version {version}"
        problems.append(Problem("BAD_MANIFEST", MANIFEST, f"{MANIFEST} {what}"))
        return []
    return entries


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _file_problems(folder: Path, entries: list[dict[str, Any]]) -> list[Problem]:
    expected = {entry["path"]: entry for entry in entries}
    present = dict(_members(folder))
    found = []
    for name in sorted(expected.keys() | present.keys() - _SEAL_FILES):
        path = present.get(name)
        if path is None:
            found.append(Problem("MISSING_FILE", name, f"{name} is missing"))
        elif path.is_symlink() or not path.is_file():
            found.append(Problem("NOT_A_FILE", name, f"{name} is no plain file"))
        elif name not in expected:
            found.append(Problem("EXTRA_FILE", name, f"{name} was not signed"))
        elif path.stat().st_size != expected[name]["size_bytes"] or (
            _digest(path) != expected[name]["sha256"]
        ):
            found.append(Problem("CHANGED_FILE", name, f"{name} differs from what was signed"))
    return found


def _verification(
    manifest: bytes | None,
    entries: list[dict[str, Any]],
    key: PublicKey | None,
    trusted: PublicKey | None,
    problems: tuple[Problem, ...],
) -> Verification:
    size = sum(entry["size_bytes"] for entry in entries)
    signer = key.fingerprint if key else ""
    if problems:
        others = len(problems) - 1
        summary = problems[0].detail + (f", and {others} more" if others else "")
    else:
        pinned = "the trusted key" if trusted else "its own key (none was given to compare with)"
        summary = f"{len(entries)} files, {size:,} bytes, signed by {pinned} {signer[:16]}"
    return Verification(
        ok=not problems,
        summary=summary,
        bundle_id=sha256_hex(manifest) if manifest is not None else "",
        signer=signer,
        key_is_trusted=trusted is not None,
        files=len(entries),
        size_bytes=size,
        problems=problems,
    )


def _members(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything under a folder that is no folder, by path; links are not followed."""
    places = (place for place in folder.rglob("*") if place.is_symlink() or not place.is_dir())
    yield from sorted((place.relative_to(folder).as_posix(), place) for place in places)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None
