"""Ed25519 keys and DSSE envelopes: what was signed, by which key, checked before it is read.

Source: DSSE protocol 1.0.2 (secure-systems-lab/dsse), RFC 8032.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from contracts.errors import IntegrityError
from contracts.ids import canonical_json, sha256_hex

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KEY_FILE = "signing_key.pem"
_PUBLIC_FILE = "signing_key.pub.pem"


@attrs.frozen
class PublicKey:
    """An Ed25519 public key.

    Attributes:
        pem: SubjectPublicKeyInfo in PEM, the one form that it is compared and stored in.
    """

    pem: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key's DER form, 64 hex digits."""
        return sha256_hex(base64.b64decode(b"".join(self.pem.splitlines()[1:-1])))

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made that signature of that message."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        key = load_pem_public_key(self.pem)
        if not isinstance(key, Ed25519PublicKey):
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@attrs.frozen(eq=False, repr=False)
class SigningKey:
    """A private key and its public half; its representation shows neither."""

    private: Ed25519PrivateKey
    public: PublicKey

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same for the same message."""
        return self.private.sign(message)


def signing_key(folder: Path) -> SigningKey:
    """The key in a folder, made at first use, readable by its owner alone.

    Raises:
        IntegrityError: Others may read the key, or the file holds none.
    """
    path = folder / _KEY_FILE
    if not path.exists():
        _create_key(folder, path)
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise IntegrityError(
            "the signing key is open to others",
            code="KEY_EXPOSED",
            remedy="Make a new one: whoever read it can sign as you",
            uri=str(path),
        )
    return _read_key(path)


def _create_key(folder: Path, path: Path) -> None:
    """Write a new key; of two processes that do so at once, both end with the same key."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = Ed25519PrivateKey.generate().private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    handle, draft = tempfile.mkstemp(dir=folder)  # for its owner alone
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    with contextlib.suppress(FileExistsError):  # another process was first
        os.link(draft, path)  # never shows half a key
    Path(draft).unlink()
    (folder / _PUBLIC_FILE).write_bytes(_read_key(path).public.pem)


def _read_key(path: Path) -> SigningKey:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        private = form.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise IntegrityError("the file holds no private key", uri=str(path)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise IntegrityError("the key is not Ed25519", uri=str(path))
    pem = private.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    return SigningKey(private=private, public=PublicKey(pem))


def public_key_file(folder: Path) -> Path | None:
    """The public half of the key in a folder; None where there is no key yet."""
    path = folder / _PUBLIC_FILE
    return path if path.exists() else None


def public_key_from(pem: bytes, *, uri: str | None = None) -> PublicKey:
    """A public key in its canonical form.

    Raises:
        IntegrityError: The bytes are no Ed25519 public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = form.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IntegrityError("no public key", code="BAD_KEY", uri=uri) from error
    if not isinstance(key, Ed25519PublicKey):
        raise IntegrityError("the public key is not Ed25519", code="BAD_KEY", uri=uri)
    return PublicKey(key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))


def sign_envelope(payload: bytes, *, payload_type: str, key: SigningKey) -> bytes:
    """A DSSE envelope as canonical JSON; the same for the same payload and key."""
    signature = key.sign(_authenticated(payload, payload_type))
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": key.public.fingerprint, "sig": base64.b64encode(signature).decode()}
            ],
        }
    )


def open_envelope(envelope: bytes, *, payload_type: str, key: PublicKey) -> bytes:
    """The payload of an envelope that the key signed.

    Raises:
        IntegrityError: It is no envelope of that type, or the key did not sign it.
    """
    try:
        document = json.loads(envelope)
        payload = base64.b64decode(document["payload"], validate=True)
        stated_type = document["payloadType"]
        signatures = [
            base64.b64decode(entry["sig"], validate=True) for entry in document["signatures"]
        ]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise IntegrityError("no DSSE envelope", code="BAD_SIGNATURE") from error
    if stated_type != payload_type:
        raise IntegrityError(f"the envelope holds {stated_type}", code="BAD_SIGNATURE")
    message = _authenticated(payload, payload_type)
    if not any(key.verifies(signature, message) for signature in signatures):
        raise IntegrityError("the key did not sign this", code="BAD_SIGNATURE")
    return payload


def _authenticated(payload: bytes, payload_type: str) -> bytes:
    """Pre-authentication encoding. Source: DSSE protocol 1.0.2, signature definition."""
    kind = payload_type.encode()
    return b" ".join(
        [b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload]
    )
