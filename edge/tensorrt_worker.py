"""Child process of `edge.tensorrt`: `tensorrt_worker.py ANSWER probe|build MODULE …`.

Imports nothing of drivelake. The answer is JSON in the file ANSWER; no file means that a library
ended the process.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer one request."""
    answer, action, *rest = sys.argv[1:]
    result = probe(rest[0]) if action == "probe" else build(rest)
    Path(answer).write_text(json.dumps(result))


def probe(module: str) -> dict[str, Any]:
    """Whether the library imports and, for TensorRT proper, whether a GPU is there."""
    try:
        library = importlib.import_module(module)
    except (ImportError, OSError) as error:
        return {"state": "NOT_INSTALLED", "reason": f"{module} does not import: {error}"}
    version = str(library.__version__)
    if module == "tensorrt_rtx":
        return {"state": "READY", "reason": "", "version": version}
    architecture = gpu_architecture()
    if architecture is None:
        reason = "the driver lists no GPU, and TensorRT needs one to build"
        return {"state": "NO_GPU", "reason": reason, "version": version}
    return {"state": "READY", "reason": "", "version": version, "architecture": architecture}


def gpu_architecture() -> str | None:
    """Architecture of the first GPU as the driver states it; None without driver or GPU.

    Source: CUDA driver API, cuInit, cuDeviceGetCount, cuDeviceGetAttribute 75 and 76.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)
    return f"SM{major.value}{minor.value}"


def build(request: Sequence[str]) -> dict[str, Any]:
    """Parse the ONNX strictly typed, build for the architecture, write the engine."""
    module, model, out, architecture = request
    trt = importlib.import_module(module)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    strict = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strict)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse_from_file(model):
        errors = [str(parser.get_error(place)) for place in range(parser.num_errors)]
        return {"state": "FAILED", "reason": f"the parser refuses the model: {'; '.join(errors)}"}
    config = builder.create_builder_config()
    if module == "tensorrt_rtx":
        config.num_compute_capabilities = 1
        capability = getattr(trt.ComputeCapability, architecture)
        if not config.set_compute_capability(capability, 0):
            return {"state": "FAILED", "reason": f"the compiler does not take {architecture}"}
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return {"state": "FAILED", "reason": "the compiler built no engine"}
    Path(out).write_bytes(engine)
    return {"state": "BUILT", "reason": ""}


if __name__ == "__main__":
    main()
