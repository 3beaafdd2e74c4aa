"""Eight bits by AIMET: fold, equalise, calibrate on real images, export as QDQ ONNX.

Two schemes: `htp` follows the Hexagon tensor processor (asymmetric activations, int32 biases) and
serves QNN and ONNX Runtime's CPU alike; `tensorrt` is symmetric with zero zero-points and float
biases, which is all that TensorRT parses.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from contracts.errors import ContractViolation
from contracts.models import INPUT_NAME, OUTPUT_NAMES, Float32Array, Progress
from edge.artefact import Artefact, images_hash, make_once, module_hash
from edge.export import check_onnx, without_traces

if TYPE_CHECKING:
    from torch import nn

Scheme = Literal["htp", "tensorrt"]
OPSET = 21
_LEAST_IMAGES = 8  # fewer leave the ranges of the activations to chance
_SYMMETRIC: Mapping[str, Any] = {
    "defaults": {
        "ops": {"is_output_quantized": "True", "is_symmetric": "True"},
        "params": {"is_quantized": "True", "is_symmetric": "True"},
        "strict_symmetric": "False",
        "unsigned_symmetric": "False",
        "per_channel_quantization": "True",
    },
    "params": {"bias": {"is_quantized": "False"}},
    "op_type": {},
    "supergroups": [
        {"op_list": ["Conv", "Relu"]},
        {"op_list": ["Add", "Relu"]},
    ],
    "model_input": {"is_input_quantized": "True"},
    "model_output": {},
}


@attrs.frozen
class _Plan:
    target: str
    config: str | None
    export: Mapping[str, Any]


_PLANS: Mapping[Scheme, _Plan] = {
    "htp": _Plan("onnx_int8", "htp_v73", {}),
    "tensorrt": _Plan(
        "onnx_int8_symmetric",
        None,
        {"export_int32_bias": False, "force_activation_as": "signed"},
    ),
}


def quantise(
    module: nn.Module,
    images: Float32Array,
    out: Path,
    *,
    scheme: Scheme = "htp",
    progress: Progress | None = None,
) -> Artefact:
    """Weights and activations in eight bits; `module` itself stays as it is.

    Args:
        module: Network in evaluation mode, maps (1, 3, H, W) to (scores, boxes).
        images: (N, 3, H, W) float32 in [0, 1]: images of the dataset, to calibrate on.
        out: Folder of all artefacts.
        scheme: Which hardware's rules hold.
        progress: Told a sentence and a share of the work.

    Raises:
        ContractViolation: Too few images to calibrate on.
        CompileError: The export is no valid ONNX.
    """
    if len(images) < _LEAST_IMAGES:
        raise ContractViolation(f"{len(images)} images are too few to calibrate on")
    plan = _PLANS[scheme]

    def make(path: Path) -> Mapping[str, Any]:
        _quantise(module, images, path, plan=plan, progress=progress or (lambda *_: None))
        check_onnx(path)
        return {
            "scheme": scheme,
            "opset": OPSET,
            "weight_bits": 8,
            "activation_bits": 8,
            "calibration_images": len(images),
        }

    return make_once(
        out,
        target=plan.target,
        file_name="model.int8.onnx",
        inputs={
            "module": module_hash(module),
            "images": images_hash(images),
            "scheme": scheme,
            "plan": attrs.asdict(plan),
        },
        tools=("aimet-torch", "torch", "onnx"),
        make=make,
    )


def _quantise(
    module: nn.Module, images: Float32Array, path: Path, *, plan: _Plan, progress: Progress
) -> None:
    with _quiet_single_thread():
        import aimet_torch.onnx
        import onnx
        import torch
        from aimet_torch import QuantizationSimModel
        from aimet_torch.cross_layer_equalization import equalize_model
        from aimet_torch.model_preparer import prepare_model

        progress("prepare and equalise", 0.1)
        example = torch.from_numpy(images[:1])
        prepared = prepare_model(copy.deepcopy(module).eval())
        equalize_model(prepared, tuple(example.shape), dummy_input=example)

        progress("calibrate", 0.3)
        config = plan.config or _written(_SYMMETRIC, path.with_name("scheme.json"))
        simulated = QuantizationSimModel(
            prepared,
            dummy_input=example,
            quant_scheme="tf",
            default_param_bw=8,
            default_output_bw=8,
            config_file=config,
        )

        def show(network: nn.Module) -> None:
            with torch.inference_mode():
                for row in range(len(images)):
                    network(torch.from_numpy(images[row : row + 1]))

        simulated.compute_encodings(show)
        progress("export", 0.8)
        aimet_torch.onnx.export(
            simulated.model,
            (example,),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            prequantize_constants=True,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            **plan.export,
        )
        onnx.save(without_traces(onnx.load(path)), path)


def _written(value: Mapping[str, Any], path: Path) -> str:
    path.write_text(json.dumps(value, indent=1, sort_keys=True))
    return str(path)


@contextmanager
def _quiet_single_thread() -> Iterator[None]:
    """One torch thread (calibration takes nine times longer on two), and no foreign chatter.

    AIMET 2.42 warns of its own deprecated calls by the hundred and logs every layer.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from aimet_common.utils import AimetLogger

            AimetLogger.set_level_for_all_areas(logging.WARNING)
            yield
    finally:
        torch.set_num_threads(threads)
