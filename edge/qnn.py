"""QNN context binaries for Hexagon processors, compiled and simulated on this machine.

The compiler takes an unknown processor or an impossible pair of processor and architecture
without a word and compiles for a default one. So a target is named from a fixed table, and the
binary itself is read back: what it says it was compiled for must be what was asked.

The native libraries run in a child process: a crash of theirs is an error here, not an end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from contracts.errors import CompileError
from contracts.models import INPUT_NAME, OUTPUT_NAMES, Float32Array, Progress, Runner
from edge.artefact import Artefact, make_once

_WORKER = Path(__file__).with_name("qnn_worker.py")
_TIMEOUT_S = 600
_EMPTY_BINARY_BYTES = 4096  # a context without a graph is smaller


@attrs.frozen
class Soc:
    """A system on chip.

    Attributes:
        name: As Qualcomm names it.
        model: QNN's number of it.
        htp_arch: Generation of its tensor processor.
        note: What is assumed of it.
    """

    name: str
    model: int
    htp_arch: int
    note: str = ""


SOCS: Mapping[str, Soc] = {
    soc.name: soc
    for soc in (
        Soc("SA8295", 39, 68),
        Soc("SA8255", 52, 73),
        Soc("QCS9100", 77, 73),
        Soc("SA8797", 72, 81),
    )
}


def soc_named(name: str) -> Soc:
    """The entry of the table.

    Raises:
        CompileError: It is not in the table; the compiler would take it and compile for another.
    """
    if name not in SOCS:
        raise CompileError(
            f"unknown SoC {name}", code="UNKNOWN_TARGET", remedy=f"Known: {', '.join(SOCS)}"
        )
    return SOCS[name]


def compile_qnn(
    model: Artefact, soc_name: str, out: Path, *, progress: Progress | None = None
) -> Artefact:
    """Compile a quantised model (scheme `htp`) for one SoC.

    Args:
        model: QDQ ONNX as `edge.quantise.quantise` writes it.
        soc_name: A name of SOCS.
        out: Folder of all artefacts.
        progress: Told a sentence and a share of the work.

    Raises:
        CompileError: The SoC is unknown, an operator does not compile, or the binary says that it
            is for another processor.
    """
    soc = soc_named(soc_name)

    def make(path: Path) -> Mapping[str, Any]:
        if progress:
            progress(f"compile for {soc.name}", 0.0)
        return compile_for(model.path, soc, path)

    return make_once(
        out,
        target=f"qnn_{soc.name.lower()}",
        file_name="context.onnx",
        inputs={"model": model.sha256, "soc": attrs.asdict(soc)},
        tools=("onnxruntime-qnn", "onnxruntime"),
        make=make,
    )


def compile_for(model: Path, soc: Soc, path: Path) -> Mapping[str, Any]:
    """Compile to `path` and check what came out; returns what the binary says of itself.

    Raises:
        CompileError: See `compile_qnn`.
    """
    found = _ask_worker(
        {"action": "compile", "model": str(model), "out": str(path), **_request(soc)}
    )
    expected = {"soc_model": soc.model, "htp_arch": soc.htp_arch}
    stated = {name: found[name] for name in expected}
    if stated != expected:
        raise CompileError(
            f"the binary is for {stated}, not for {soc.name} {expected}", code="WRONG_TARGET"
        )
    fields = found["compatibility"].split(":")
    requested = f"{soc.htp_arch}:{soc.model}"
    if requested not in ":".join(fields[4:6]):
        raise CompileError(
            f"compatibility {found['compatibility']} is not {requested}", code="WRONG_TARGET"
        )
    if found["binary_bytes"] <= _EMPTY_BINARY_BYTES:
        raise CompileError(f"the binary of {found['binary_bytes']} bytes holds no graph")
    return {**found, "soc": soc.name, "note": soc.note}


def simulator_runner(binary: Artefact) -> Runner:
    """The binary on the simulator of the Hexagon processor: about a second an image.

    Its results are the device's; its speed says nothing of the device.
    """
    soc = soc_named(binary.details["soc"])

    def run(images: Float32Array) -> tuple[Float32Array, Float32Array]:
        with tempfile.TemporaryDirectory() as folder:
            inputs, outputs = Path(folder, "images.npy"), Path(folder, "outputs.npz")
            np.save(inputs, images, allow_pickle=False)
            request = {"action": "run", "model": str(binary.path), "images": str(inputs)}
            _ask_worker({**request, "out": str(outputs), **_request(soc)})
            with np.load(outputs, allow_pickle=False) as arrays:
                return arrays[OUTPUT_NAMES[0]], arrays[OUTPUT_NAMES[1]]

    return run


def _request(soc: Soc) -> dict[str, Any]:
    return {
        "soc_model": soc.model,
        "htp_arch": soc.htp_arch,
        "input_name": INPUT_NAME,
        "output_names": list(OUTPUT_NAMES),
    }


def _ask_worker(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the child; its answer comes in a file, for the libraries print to stdout."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        # -P: the worker's folder must not hide a library of the same name
        command = [sys.executable, "-P", str(_WORKER), json.dumps(request), str(answer)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CompileError(f"QNN took over {_TIMEOUT_S} s", code="TIMEOUT") from error
        if done.returncode or not answer.exists():
            last = (done.stderr.strip().splitlines() or [""])[-1]
            raise CompileError(f"QNN ended with code {done.returncode}: {last}")
        result = json.loads(answer.read_bytes())
    if "error" in result:
        raise CompileError(result["error"], uri=Path(request["model"]).name)
    return result
