import re

import numpy as np
import pytest

from contracts.errors import CompileError
from contracts.models import INPUT_NAME, OUTPUT_NAMES
from edge.artefact import read_artefact
from edge.export import check_onnx, export_onnx
from edge.runners import module_runner, onnx_runner

MACHINE_PATHS = re.compile(rb"/home|/root|/usr|/work|site-packages|\.py\b")


def test_onnx_says_what_torch_says(onnx_artefact, module, images):
    """Outputs agree to float32 rounding on real images, and the artefact states the difference."""
    expected, found = module_runner(module)(images), onnx_runner(onnx_artefact.path)(images)
    difference = max(np.abs(a - b).max() for a, b in zip(expected, found, strict=True))
    assert difference < 1e-4
    assert onnx_artefact.details["max_abs_difference"] == pytest.approx(difference)
    assert found[0].shape == (12, 4, 12, 20)
    assert found[1].shape == (12, 4, 12, 20)


def test_onnx_is_named_and_carries_no_path(onnx_artefact):
    """Inputs and outputs have the agreed names, and no trace of the machine is in the file."""
    import onnx

    graph = onnx.load(onnx_artefact.path).graph
    assert [value.name for value in graph.input] == [INPUT_NAME]
    assert [value.name for value in graph.output] == list(OUTPUT_NAMES)
    assert not MACHINE_PATHS.search(onnx_artefact.path.read_bytes())


def test_export_is_made_once_and_reproducible(module, images, made, onnx_artefact, tmp_path):
    """The same network gives the same artefact without another export, and elsewhere its bytes."""
    before = onnx_artefact.path.stat().st_mtime_ns
    assert export_onnx(module, images, made) == onnx_artefact
    assert onnx_artefact.path.stat().st_mtime_ns == before
    elsewhere = export_onnx(module, images, tmp_path)
    assert elsewhere.sha256 == onnx_artefact.sha256
    assert elsewhere.fingerprint == onnx_artefact.fingerprint


def test_damaged_artefact_is_made_again(module, images, tmp_path):
    """A file whose bytes changed is no artefact: it is replaced, never used."""
    first = export_onnx(module, images, tmp_path)
    first.path.write_bytes(first.path.read_bytes()[:-1] + b"?")
    assert read_artefact(first.path.parent) is None
    again = export_onnx(module, images, tmp_path)
    assert again == first
    assert read_artefact(first.path.parent) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.path.parent.name]


def test_other_weights_are_another_artefact(module, images, onnx_artefact, tmp_path):
    """One changed weight gives another fingerprint."""
    import copy

    import torch

    other = copy.deepcopy(module)
    with torch.no_grad():
        other.neck[0].weight[0, 0, 0, 0] += 0.01
    assert export_onnx(other, images, tmp_path).fingerprint != onnx_artefact.fingerprint


def test_invalid_onnx_is_refused(onnx_artefact, tmp_path):
    """A graph that names a tensor nobody makes, and a weight outside of the file, are refused."""
    import onnx

    model = onnx.load(onnx_artefact.path)
    model.graph.node[3].input[0] = "nowhere"
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(CompileError, match="no valid ONNX"):
        check_onnx(tmp_path / "broken.onnx")
    model = onnx.load(onnx_artefact.path)
    onnx.save(
        model,
        tmp_path / "outside.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    with pytest.raises(CompileError, match="another file"):
        check_onnx(tmp_path / "outside.onnx")
