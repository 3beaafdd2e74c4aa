"""The binaries of the candidate, each made once for the same inputs: calls of `edge`, wired."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assets.release import Candidate
from contracts.models import Progress

if TYPE_CHECKING:
    from edge.artefact import Artefact
    from edge.tensorrt import Attempt


def float_model(candidate: Candidate, out: Path, *, progress: Progress | None = None) -> Artefact:
    """ONNX in float32."""
    from edge.export import export_onnx

    return export_onnx(candidate.network, candidate.calibration, out, progress=progress)


def int8_model(candidate: Candidate, out: Path, *, progress: Progress | None = None) -> Artefact:
    """ONNX in eight bits, quantised by AIMET for the Hexagon processor and ONNX Runtime."""
    from edge.quantise import quantise

    return quantise(candidate.network, candidate.calibration, out, progress=progress)


def qnn_binary(
    candidate: Candidate, out: Path, *, soc: str, progress: Progress | None = None
) -> Artefact:
    """QNN context binary for one SoC."""
    from edge.qnn import compile_qnn

    return compile_qnn(int8_model(candidate, out), soc, out, progress=progress)


def tensorrt_attempts(
    candidate: Candidate, out: Path, *, architecture: str, progress: Progress | None = None
) -> list[Attempt]:
    """TensorRT for the GPU of this machine, if it has one, and TensorRT for RTX ahead of time."""
    from edge.quantise import quantise
    from edge.tensorrt import build_tensorrt, build_tensorrt_rtx

    model = quantise(
        candidate.network, candidate.calibration, out, scheme="tensorrt", progress=progress
    )
    return [
        build_tensorrt(model, out, progress=progress),
        build_tensorrt_rtx(model, out, architecture=architecture, progress=progress),
    ]
