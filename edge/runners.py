"""Targets that run on this machine, each as the same function from images to outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contracts.models import INPUT_NAME, OUTPUT_NAMES, Float32Array, Runner

if TYPE_CHECKING:
    from torch import nn

_ERROR_ONLY = 3


def module_runner(module: nn.Module) -> Runner:
    """A torch network."""
    import torch

    def run_one(image: Float32Array) -> list[Float32Array]:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(image))]

    return one_by_one(run_one)


def onnx_runner(path: Path, *, threads: int = 1) -> Runner:
    """An ONNX file on ONNX Runtime's CPU provider, as an embedded CPU runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERROR_ONLY
    # Without VNNI, products of unsigned and signed bytes saturate on x86: 7 dB worse, by machine.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        path, sess_options=options, providers=["CPUExecutionProvider"]
    )
    return one_by_one(lambda image: session.run(list(OUTPUT_NAMES), {INPUT_NAME: image}))


def one_by_one(run_one: Callable[[Float32Array], list[Float32Array]]) -> Runner:
    """A runner of many images from one that takes a single image."""

    def run(images: Float32Array) -> tuple[Float32Array, Float32Array]:
        single = [
            run_one(np.ascontiguousarray(images[row : row + 1])) for row in range(len(images))
        ]
        scores, boxes = (np.concatenate(outputs) for outputs in zip(*single, strict=True))
        return scores, boxes

    return run
