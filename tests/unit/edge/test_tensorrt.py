import sys

import pytest

from contracts.errors import CompileError
from edge.tensorrt import RTX_ARCHITECTURES, build_tensorrt, build_tensorrt_rtx


@pytest.mark.parametrize("architecture", RTX_ARCHITECTURES)
def test_rtx_engine_is_built_without_a_gpu(architecture, symmetric_artefact, made):
    """An engine for every architecture of the list comes out of this machine."""
    attempt = build_tensorrt_rtx(symmetric_artefact, made, architecture=architecture)
    assert (attempt.state, attempt.reason) == ("BUILT", "")
    assert attempt.artefact.size_bytes > 50_000
    assert attempt.artefact.details["architecture"] == architecture
    assert "tensorrt_rtx" in attempt.artefact.toolchain
    assert build_tensorrt_rtx(symmetric_artefact, made, architecture=architecture) == attempt


def test_engines_of_two_architectures_differ(symmetric_artefact, made):
    """The architecture is not only noted: the bytes are other ones."""
    digests = {
        build_tensorrt_rtx(symmetric_artefact, made, architecture=name).artefact.sha256
        for name in RTX_ARCHITECTURES
    }
    assert len(digests) == len(RTX_ARCHITECTURES)


def test_parser_refuses_the_other_scheme(int8_artefact, made):
    """A model quantised for the Hexagon processor ends FAILED with the parser's words."""
    attempt = build_tensorrt_rtx(int8_artefact, made)
    assert attempt.state == "FAILED"
    assert "parser refuses" in attempt.reason
    assert attempt.artefact is None


def test_unknown_architecture_is_refused(symmetric_artefact, made):
    """Orin's SM87 engines are built on Orin; here the name is refused with the list."""
    with pytest.raises(CompileError, match="SM86") as refused:
        build_tensorrt_rtx(symmetric_artefact, made, architecture="SM87")
    assert refused.value.code == "UNKNOWN_TARGET"


def test_tensorrt_proper_states_why_there_is_no_engine(onnx_artefact, made):
    """Without the library or without a GPU the state says which; this process lives on."""
    attempt = build_tensorrt(onnx_artefact, made)
    assert attempt.state in {"NOT_INSTALLED", "NO_GPU", "BUILT"}
    assert bool(attempt.reason) == (attempt.state != "BUILT")


def test_crash_of_the_library_is_a_state(onnx_artefact, tmp_path):
    """A child that dies by a segmentation fault ends as FAILED with its exit code."""
    fatal = tmp_path / "python"
    fatal.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import ctypes; ctypes.string_at(0)"\n')
    fatal.chmod(0o755)
    attempt = build_tensorrt_rtx(onnx_artefact, tmp_path / "made", python=str(fatal))
    assert attempt.state == "FAILED"
    assert "-11" in attempt.reason
