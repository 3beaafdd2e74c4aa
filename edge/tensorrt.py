"""TensorRT in honest states: an engine, or why there is none.

TensorRT proper needs a GPU even to describe a network, and ends the process where there is none.
TensorRT for RTX builds for a stated architecture without one. Both run in a child process only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from contracts.errors import CompileError
from contracts.models import Progress
from edge.artefact import Artefact, make_once

State = Literal["BUILT", "NO_GPU", "NOT_INSTALLED", "FAILED"]
# architectures that the RTX compiler takes without a GPU
RTX_ARCHITECTURES = ("SM86", "SM89", "SM120")
_WORKER = Path(__file__).with_name("tensorrt_worker.py")
_TIMEOUT_S = 600


@attrs.frozen
class Attempt:
    """What became of a target.

    Attributes:
        target: tensorrt or tensorrt_rtx_sm….
        state: BUILT; NO_GPU: the library is there and no GPU; NOT_INSTALLED; FAILED.
        reason: One sentence; empty when BUILT.
        artefact: The engine, when BUILT.
    """

    target: str
    state: State
    reason: str = ""
    artefact: Artefact | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        made = self.artefact.as_dict() if self.artefact else None
        return {"target": self.target, "state": self.state, "reason": self.reason, "engine": made}


def build_tensorrt(
    model: Artefact, out: Path, *, python: str = sys.executable, progress: Progress | None = None
) -> Attempt:
    """An engine for the GPU of this machine with TensorRT proper.

    Args:
        model: ONNX, float or quantised with the scheme `tensorrt`.
        out: Folder of all artefacts.
        python: Interpreter whose TensorRT is asked.
        progress: Told a sentence and a share of the work.
    """
    probe = _ask_worker(["probe", "tensorrt"], python=python)
    if probe["state"] != "READY":
        return Attempt("tensorrt", probe["state"], probe["reason"])
    return _build(
        model, out, target="tensorrt", module="tensorrt", architecture=probe["architecture"],
        version=probe["version"], python=python, progress=progress,
    )  # fmt: skip


def build_tensorrt_rtx(
    model: Artefact,
    out: Path,
    *,
    architecture: str = "SM89",
    python: str = sys.executable,
    progress: Progress | None = None,
) -> Attempt:
    """An engine for a stated architecture with TensorRT for RTX, no GPU needed.

    Args:
        model: ONNX, float or quantised with the scheme `tensorrt`.
        out: Folder of all artefacts.
        architecture: One of RTX_ARCHITECTURES.
        python: Interpreter whose TensorRT is asked.
        progress: Told a sentence and a share of the work.

    Raises:
        CompileError: The architecture is none of RTX_ARCHITECTURES.
    """
    if architecture not in RTX_ARCHITECTURES:
        raise CompileError(
            f"unknown architecture {architecture}",
            code="UNKNOWN_TARGET",
            remedy=f"Known: {', '.join(RTX_ARCHITECTURES)}",
        )
    target = f"tensorrt_rtx_{architecture.lower()}"
    probe = _ask_worker(["probe", "tensorrt_rtx"], python=python)
    if probe["state"] != "READY":
        return Attempt(target, probe["state"], probe["reason"])
    return _build(
        model, out, target=target, module="tensorrt_rtx", architecture=architecture,
        version=probe["version"], python=python, progress=progress,
    )  # fmt: skip


def _build(
    model: Artefact,
    out: Path,
    *,
    target: str,
    module: str,
    architecture: str,
    version: str,
    python: str,
    progress: Progress | None,
) -> Attempt:
    def make(path: Path) -> Mapping[str, Any]:
        if progress:
            progress(f"build {target}", 0.0)
        request = ["build", module, str(model.path), str(path), architecture]
        answer = _ask_worker(request, python=python)
        if answer["state"] != "BUILT":
            raise CompileError(answer["reason"])
        return {"architecture": architecture, "version": version, "source": model.target}

    inputs = {
        "model": model.sha256,
        "architecture": architecture,
        "module": module,
        "version": version,
    }
    try:
        artefact = make_once(
            out, target=target, file_name="model.engine", inputs=inputs, tools=(), make=make
        )
    except CompileError as error:
        return Attempt(target, "FAILED", error.what)
    named = attrs.evolve(artefact, toolchain={**artefact.toolchain, module: version})
    return Attempt(target, "BUILT", artefact=named)


def _ask_worker(request: Sequence[str], *, python: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        # -P: the worker's folder must not hide a library of the same name
        command = [python, "-P", str(_WORKER), str(answer), *request]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return {"state": "FAILED", "reason": f"no answer after {_TIMEOUT_S} s"}
        if answer.exists():
            return json.loads(answer.read_bytes())
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"state": "FAILED", "reason": f"the child ended with code {done.returncode}: {last}"}
