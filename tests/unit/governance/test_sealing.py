import json
import shutil

import attrs
import pytest

from contracts.errors import ContractViolation, IntegrityError
from governance.sealing import seal, verify_bundle
from governance.signing import signing_key

ABOUT = {"name": "front-camera", "model_version": "3"}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """A key of its own."""
    return signing_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def sealed(tmp_path, key):
    """A sealed folder of three files."""
    folder = tmp_path / "bundle"
    (folder / "targets" / "onnx").mkdir(parents=True)
    (folder / "targets" / "onnx" / "model.onnx").write_bytes(bytes(range(256)))
    (folder / "about.json").write_bytes(b"{}")
    (folder / "empty").write_bytes(b"")
    seal(folder, about=ABOUT, key=key)
    return folder


def test_sealed_folder_verifies(sealed, key):
    """Nothing is wrong with a fresh one, with and without the trusted key; it says which it was."""
    own, pinned = verify_bundle(sealed), verify_bundle(sealed, trusted_key=key.public)
    assert own.ok
    assert pinned.ok
    assert not own.key_is_trusted
    assert pinned.key_is_trusted
    assert (own.files, own.size_bytes) == (3, 258)
    assert own.signer == key.public.fingerprint
    own.require()
    json.dumps(attrs.asdict(own))


def test_seal_is_reproducible(sealed, tmp_path, key):
    """The same files, description and key give the same manifest and signature."""
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    for name in ("manifest.json", "manifest.dsse.json", "public_key.pem"):
        (copy / name).unlink()
    seal(copy, about=ABOUT, key=key)
    for name in ("manifest.json", "manifest.dsse.json", "public_key.pem"):
        assert (copy / name).read_bytes() == (sealed / name).read_bytes()


def test_every_byte_of_every_file_counts(sealed, key):
    """One changed byte anywhere is found, and the file is named."""
    for path in sorted(p for p in sealed.rglob("*") if p.is_file() and p.stat().st_size):
        data = path.read_bytes()
        name = path.relative_to(sealed).as_posix()
        for place in {0, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            found = verify_bundle(sealed, trusted_key=key.public)
            assert not found.ok, (name, place)
            assert name in {problem.path for problem in found.problems}, (name, place)
            assert name in found.summary, (name, place)
        path.write_bytes(data)
    assert verify_bundle(sealed, trusted_key=key.public).ok


def test_first_of_several_changes_is_named_first(sealed):
    """Files are reported by path, all of them, and the error carries the first."""
    (sealed / "empty").write_bytes(b"x")
    (sealed / "about.json").write_bytes(b"[]")
    found = verify_bundle(sealed)
    assert [problem.path for problem in found.problems] == ["about.json", "empty"]
    assert found.summary == "about.json differs from what was signed, and 1 more"
    with pytest.raises(IntegrityError) as refused:
        found.require()
    assert (refused.value.code, refused.value.uri) == ("CHANGED_FILE", "about.json")


@pytest.mark.parametrize(
    "name", ["about.json", "manifest.json", "manifest.dsse.json", "public_key.pem"]
)
def test_missing_file_is_named(sealed, key, name):
    """A file that is gone is named, whichever it is."""
    (sealed / name).unlink()
    found = verify_bundle(sealed, trusted_key=key.public)
    assert ("MISSING_FILE", name) in {(item.code, item.path) for item in found.problems}


def test_added_file_is_named(sealed):
    """A file that was not signed does not slip in beside the others."""
    (sealed / "targets" / "onnx" / "weights.bin").write_bytes(b"more")
    problems = verify_bundle(sealed).problems
    assert [(item.code, item.path) for item in problems] == [
        ("EXTRA_FILE", "targets/onnx/weights.bin")
    ]


def test_link_is_no_file(sealed, tmp_path):
    """A link to the same bytes is refused: what it leads to can change after the check."""
    twin = tmp_path / "twin"
    twin.write_bytes((sealed / "about.json").read_bytes())
    (sealed / "about.json").unlink()
    (sealed / "about.json").symlink_to(twin)
    assert [item.code for item in verify_bundle(sealed).problems] == ["NOT_A_FILE"]


def test_forgery_needs_the_trusted_key(sealed, tmp_path, key):
    """A bundle sealed again by another key is whole by itself, and refused by who knows the key."""
    for name in ("manifest.json", "manifest.dsse.json", "public_key.pem"):
        (sealed / name).unlink()
    (sealed / "about.json").write_bytes(b'{"approved":true}')
    seal(sealed, about=ABOUT, key=signing_key(tmp_path / "mallory"))
    assert verify_bundle(sealed).ok
    found = verify_bundle(sealed, trusted_key=key.public)
    assert {item.code for item in found.problems} == {"UNTRUSTED_KEY", "BAD_SIGNATURE"}


def test_trusted_key_may_be_a_file(sealed, tmp_path, key):
    """The key comes as a PEM file too, and a file that holds none says so."""
    pinned = tmp_path / "pinned.pem"
    pinned.write_bytes(key.public.pem)
    assert verify_bundle(sealed, trusted_key=pinned).ok
    pinned.write_bytes(b"no key")
    with pytest.raises(IntegrityError, match="no public key"):
        verify_bundle(sealed, trusted_key=pinned)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "", "a\\b"])
def test_manifest_never_leads_outside(sealed, name):
    """Paths that leave the folder are refused before a byte of them is read."""
    document = json.loads((sealed / "manifest.json").read_bytes())
    document["files"][0]["path"] = name
    (sealed / "manifest.json").write_text(json.dumps(document))
    found = verify_bundle(sealed)
    assert "BAD_MANIFEST" in {item.code for item in found.problems}
    assert not found.ok


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'{"files":3}', b'{"files":[1]}', b"\xff"])
def test_manifest_of_nonsense_is_a_problem_not_a_crash(sealed, data):
    """Whatever stands in the manifest, the check ends with a result."""
    (sealed / "manifest.json").write_bytes(data)
    assert not verify_bundle(sealed).ok


def test_empty_folder_is_no_bundle(tmp_path):
    """Nothing is not valid."""
    assert not verify_bundle(tmp_path).ok


def test_sealing_twice_and_sealing_nothing_are_refused(sealed, tmp_path, key):
    """A seal is never put over a seal, nor on an empty folder."""
    with pytest.raises(ContractViolation, match="never sealed again"):
        seal(sealed, about=ABOUT, key=key)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ContractViolation, match="nothing to seal"):
        seal(tmp_path / "nothing", about=ABOUT, key=key)
