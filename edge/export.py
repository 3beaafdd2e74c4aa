"""torch to ONNX, checked twice: by the ONNX checker and against torch on real images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contracts.errors import CompileError
from contracts.models import INPUT_NAME, OUTPUT_NAMES, Float32Array, Progress
from edge.artefact import Artefact, images_hash, make_once, module_hash
from edge.runners import module_runner, onnx_runner

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

OPSET = 18
# Float32 sums in another order differ by far less; a wrong operator differs by far more.
TOLERANCE = 1e-2


def export_onnx(
    module: nn.Module, images: Float32Array, out: Path, *, progress: Progress | None = None
) -> Artefact:
    """Export a network in evaluation mode for one image at a time.

    Args:
        module: Maps (1, 3, H, W) to (scores, boxes).
        images: (N, 3, H, W) float32 in [0, 1], real ones, to compare with.
        out: Folder of all artefacts.
        progress: Told a sentence and a share of the work.

    Raises:
        CompileError: The file is no valid ONNX, or its outputs are not those of the network.
    """

    def make(path: Path) -> Mapping[str, Any]:
        if progress:
            progress("export to ONNX", 0.0)
        _export(module, images[:1], path)
        check_onnx(path)
        expected, found = module_runner(module)(images), onnx_runner(path)(images)
        difference = max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))
        if not difference <= TOLERANCE:
            raise CompileError(
                f"ONNX differs from torch by {difference:.3g}", code="PARITY", uri=path.name
            )
        return {"opset": OPSET, "max_abs_difference": difference, "images": len(images)}

    return make_once(
        out,
        target="onnx",
        file_name="model.onnx",
        inputs={"module": module_hash(module), "images": images_hash(images), "opset": OPSET},
        tools=("torch", "onnx", "onnxscript", "onnxruntime"),
        make=make,
    )


def _export(module: nn.Module, image: Float32Array, path: Path) -> None:
    import onnx
    import torch

    program = torch.onnx.export(
        module,
        (torch.from_numpy(image),),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=list(OUTPUT_NAMES),
        verbose=False,
    )
    onnx.save(without_traces(program.model_proto), path)


def without_traces(model: ModelProto) -> ModelProto:
    """The model without the stack traces of its export, which name paths of the machine."""
    model.doc_string = model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    parts = (model.graph.node, model.graph.input, model.graph.output, model.graph.value_info)
    for element in (part for group in (*parts, model.graph.initializer) for part in group):
        element.doc_string = ""
        del element.metadata_props[:]
    return model


def check_onnx(path: Path) -> None:
    """Check structure, types and shapes, and that no byte of the model lies in another file.

    Raises:
        CompileError: The check fails, or a weight points outside of the file.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    for weight in model.graph.initializer:
        if weight.data_location == onnx.TensorProto.EXTERNAL:
            raise CompileError(f"weight {weight.name} lies in another file", uri=path.name)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CompileError(f"no valid ONNX: {error}", uri=path.name) from error
