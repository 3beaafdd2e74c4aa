import attrs
import pyarrow as pa
import pytest

from contracts.errors import ContractViolation, IntegrityError
from contracts.models import PARITY_SCHEMA
from contracts.tables import TABLES
from edge.bundle import Release, build_bundle, release_row
from edge.tensorrt import Attempt
from governance.sealing import seal, verify_bundle
from governance.signing import signing_key

PASSED = {"passed": True, "checks": [{"subject": "torch ap50 of all", "passed": True}]}


@pytest.fixture(scope="module")
def sealer(tmp_path_factory):
    """Seals with a key of its own."""
    key = signing_key(tmp_path_factory.mktemp("keys"))
    return lambda folder, about: seal(folder, about=about, key=key)


@pytest.fixture
def release(onnx_artefact, int8_artefact, qnn_artefact):
    """A release of three targets, and one that was not built."""
    row = {
        "model": "detector", "model_version": "3", "dataset_id": "toy-0", "target": "torch",
        "slice": "all", "metric": "ap50", "value": 0.5, "lower": 0.4, "upper": 0.6, "samples": 9,
        "objects": 30,
    }  # fmt: skip
    parity = {"target": "onnx", "reference": "torch", "measure": "snr_db", "value": 99.0,
              "images": 12}  # fmt: skip
    return Release(
        name="front-camera",
        model="detector",
        model_version="3",
        dataset_id="toy-0",
        interface={"classes": ["car"]},
        dataset={"dataset_id": "toy-0", "content_hash": "00"},
        lineage={"recordings": ["abc"]},
        evaluations=pa.Table.from_pylist([row], schema=TABLES["gold.evaluations"].schema),
        parity=pa.Table.from_pylist([parity], schema=PARITY_SCHEMA),
        verdict=PASSED,
        artefacts=(onnx_artefact, int8_artefact, qnn_artefact),
        attempts=(Attempt("tensorrt", "NOT_INSTALLED", "tensorrt does not import"),),
        code_commit="0123",
    )


def test_bundle_holds_binaries_and_their_story(release, sealer, tmp_path):
    """Binaries by target with everything known of them, and the whole verifies."""
    bundle = build_bundle(release, tmp_path, seal=sealer)
    assert verify_bundle(bundle.path).ok
    names = {
        path.relative_to(bundle.path).as_posix()
        for path in bundle.path.rglob("*")
        if path.is_file()
    }
    assert names == {
        "manifest.json", "manifest.dsse.json", "public_key.pem",
        "targets/onnx/model.onnx", "targets/onnx_int8/model.int8.onnx",
        "targets/qnn_sa8255/context.onnx",
        "about/targets.json", "about/toolchain.json", "about/interface.json", "about/dataset.json",
        "about/lineage.json", "about/evaluation.json", "about/parity.json", "about/verdict.json",
    }  # fmt: skip
    assert bundle.path.name == f"front-camera-{bundle.bundle_id[:12]}"
    assert bundle.targets == ("onnx", "onnx_int8", "qnn_sa8255")


def test_same_release_is_the_same_bundle(release, sealer, tmp_path):
    """A repeat returns the folder that is there and touches no file of it."""
    first = build_bundle(release, tmp_path, seal=sealer)
    stamps = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    again = build_bundle(release, tmp_path, seal=sealer)
    assert again.reused
    assert again.bundle_id == first.bundle_id
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == stamps
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]


def test_bundle_that_changed_is_not_taken_for_the_same(release, sealer, tmp_path):
    """A repeat over a damaged bundle names the file instead of reporting success."""
    first = build_bundle(release, tmp_path, seal=sealer)
    path = first.path / "about" / "lineage.json"
    path.write_bytes(path.read_bytes().replace(b"abc", b"abd"))
    with pytest.raises(IntegrityError, match=r"about/lineage\.json"):
        build_bundle(release, tmp_path, seal=sealer)


def test_failed_gate_makes_no_bundle(release, sealer, tmp_path):
    """Without the gate's approval nothing is handed off, and the reason is named."""
    failed = {"passed": False, "checks": [{"subject": "torch recall of all", "passed": False}]}
    refused = attrs.evolve(release, verdict=failed)
    with pytest.raises(ContractViolation, match="torch recall of all") as error:
        build_bundle(refused, tmp_path, seal=sealer)
    assert error.value.code == "NOT_APPROVED"
    assert not list(tmp_path.iterdir())
    unapproved = build_bundle(refused, tmp_path, seal=sealer, require_approval=False)
    assert b'"approved":false' in unapproved.manifest


def test_changed_binary_is_not_bundled(release, sealer, tmp_path):
    """A binary whose bytes are not those that were compiled never gets under a signature."""
    copy = tmp_path / "model.onnx"
    copy.write_bytes(release.artefacts[0].path.read_bytes()[:-1] + b"!")
    swapped = (attrs.evolve(release.artefacts[0], path=copy), *release.artefacts[1:])
    with pytest.raises(IntegrityError, match="changed since"):
        build_bundle(attrs.evolve(release, artefacts=swapped), tmp_path / "out", seal=sealer)


def test_two_binaries_for_a_target_are_refused(release, sealer, tmp_path):
    """Which of two would be flashed is not left to chance."""
    double = attrs.evolve(release, artefacts=(release.artefacts[0], release.artefacts[0]))
    with pytest.raises(ContractViolation, match="one binary a target"):
        build_bundle(double, tmp_path, seal=sealer)


def test_row_of_releases(release, sealer, tmp_path):
    """The table's row names the bundle by its manifest."""
    bundle = build_bundle(release, tmp_path, seal=sealer)
    table = release_row(release, bundle, uri="s3://models/b", created_ns=7)
    assert table.schema.equals(TABLES["gold.releases"].schema)
    row = table.to_pylist()[0]
    assert row["bundle_id"] == bundle.bundle_id
    assert row["uri"] == "s3://models/b"
    assert row["signer"] == bundle.signer
    assert row["manifest"].encode() == (bundle.path / "manifest.json").read_bytes()
