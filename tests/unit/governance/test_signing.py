import base64
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import IntegrityError
from governance.signing import open_envelope, public_key_from, sign_envelope, signing_key

KIND = "application/vnd.in-toto+json"


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """A key of its own."""
    return signing_key(tmp_path_factory.mktemp("keys"))


def test_key_is_made_once_and_for_its_owner_alone(tmp_path):
    """The second call reads the first one's key; nobody else may read the file."""
    folder = tmp_path / "keys"
    first = signing_key(folder)
    assert (folder / "signing_key.pem").stat().st_mode & 0o777 == 0o600
    assert signing_key(folder).public == first.public
    assert public_key_from((folder / "signing_key.pub.pem").read_bytes()) == first.public
    assert "PRIVATE" not in repr(first)


def test_exposed_key_is_refused(tmp_path):
    """A key that others can read signs nothing any more."""
    signing_key(tmp_path)
    (tmp_path / "signing_key.pem").chmod(0o644)
    with pytest.raises(IntegrityError) as refused:
        signing_key(tmp_path)
    assert refused.value.code == "KEY_EXPOSED"


def test_first_use_by_many_gives_one_key(tmp_path):
    """Eight threads that start at once end with the same key, and no draft stays behind."""
    found, barrier = [], threading.Barrier(8)

    def use():
        barrier.wait()
        found.append(signing_key(tmp_path).public)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"signing_key.pem", "signing_key.pub.pem"}


@given(payload=st.binary(max_size=200), kind=st.text(min_size=1, max_size=20))
def test_envelope_round_trip(key, payload, kind):
    """Any payload of any type comes back, and the same payload gives the same envelope."""
    envelope = sign_envelope(payload, payload_type=kind, key=key)
    assert open_envelope(envelope, payload_type=kind, key=key.public) == payload
    assert sign_envelope(payload, payload_type=kind, key=key) == envelope


def test_envelope_is_what_dsse_says(key):
    """The signature covers the pre-authentication encoding, checked without this module."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    document = json.loads(sign_envelope(b"hello world", payload_type="http://example", key=key))
    signature = base64.b64decode(document["signatures"][0]["sig"])
    message = b"DSSEv1 14 http://example 11 hello world"
    load_pem_public_key(key.public.pem).verify(signature, message)


@pytest.mark.parametrize("field", ["payload", "payloadType", "signatures"])
def test_any_change_of_an_envelope_is_refused(key, field, tmp_path):
    """Payload, type and signature are all covered; another key's signature does not pass."""
    document = json.loads(sign_envelope(b"payload", payload_type=KIND, key=key))
    if field == "payload":
        document["payload"] = base64.b64encode(b"Payload").decode()
    elif field == "payloadType":
        document["payloadType"] = "text/plain"
    else:
        other = json.loads(sign_envelope(b"payload", payload_type=KIND, key=signing_key(tmp_path)))
        document["signatures"] = other["signatures"]
    with pytest.raises(IntegrityError) as refused:
        open_envelope(json.dumps(document).encode(), payload_type=KIND, key=key.public)
    assert refused.value.code == "BAD_SIGNATURE"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"payload": 3}', b"\xff\xfe", b"null"])
def test_bytes_that_are_no_envelope_are_refused(key, data):
    """Anything else than an envelope is an IntegrityError, never another exception."""
    with pytest.raises(IntegrityError):
        open_envelope(data, payload_type=KIND, key=key.public)


def test_key_of_another_kind_is_refused():
    """An RSA key is no key here."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(IntegrityError, match="not Ed25519"):
        public_key_from(pem)
