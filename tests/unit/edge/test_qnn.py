import json

import numpy as np
import pytest

from contracts.errors import CompileError
from edge.qnn import SOCS, Soc, compile_for, compile_qnn, simulator_runner, soc_named
from edge.runners import onnx_runner


@pytest.mark.parametrize("name", sorted(SOCS))
def test_binary_is_for_the_soc_that_was_asked(name, int8_artefact, made):
    """The binary itself states the SoC and architecture of the table, for every entry of it."""
    artefact = compile_qnn(int8_artefact, name, made)
    assert artefact.details["soc_model"] == SOCS[name].model
    assert artefact.details["htp_arch"] == SOCS[name].htp_arch
    assert f":{SOCS[name].htp_arch}:{SOCS[name].model}:" in artefact.details["compatibility"]
    assert artefact.details["binary_bytes"] > 50_000
    json.dumps(artefact.as_dict())


def test_unknown_soc_is_refused():
    """A name outside of the table is an error that lists the table, not a default binary."""
    with pytest.raises(CompileError, match="SA8295") as refused:
        soc_named("SA9999")
    assert refused.value.code == "UNKNOWN_TARGET"


@pytest.mark.parametrize(
    "soc",
    [Soc("impossible", 52, 99), Soc("mixed", 39, 81), Soc("unnamed", 0, 73)],
    ids=lambda soc: soc.name,
)
def test_silent_default_is_caught(soc, int8_artefact, tmp_path):
    """What the compiler takes and compiles for another processor is refused by reading it back."""
    with pytest.raises(CompileError) as refused:
        compile_for(int8_artefact.path, soc, tmp_path / "context.onnx")
    assert refused.value.code == "WRONG_TARGET"


def test_a_model_is_never_split_in_silence(onnx_artefact, tmp_path):
    """Operators that a processor does not take are an error: none is left to another in silence.

    For a SoC that there is not the compiler takes no operator on floats.
    """
    with pytest.raises(CompileError, match=r"fallback to CPU .* disabled") as refused:
        compile_for(onnx_artefact.path, Soc("none", 9999, 73), tmp_path / "context.onnx")
    assert refused.value.code == "COMPILE"


def test_simulator_says_what_onnx_runtime_says(qnn_artefact, int8_artefact, images):
    """The simulated processor stays within six steps of eight bits, on average within one."""
    found = simulator_runner(qnn_artefact)(images[:2])
    expected = onnx_runner(int8_artefact.path)(images[:2])
    for a, b in zip(expected, found, strict=True):
        assert a.shape == b.shape
        step = np.diff(np.unique(a)).min()
        assert np.abs(a - b).max() <= 6.01 * step
        assert np.abs(a - b).mean() <= step


def test_compile_is_reproducible(qnn_artefact, int8_artefact, tmp_path):
    """The same model and SoC give the same bytes."""
    assert compile_qnn(int8_artefact, "SA8255", tmp_path).sha256 == qnn_artefact.sha256


def test_broken_model_is_an_error_not_a_crash(tmp_path):
    """Bytes that are no model end in a CompileError with the runtime's words."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    with pytest.raises(CompileError, match="Protobuf parsing failed"):
        compile_for(broken, SOCS["SA8255"], tmp_path / "context.onnx")
