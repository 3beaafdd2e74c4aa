"""A small anchor-free detector: convolutions, batch norms, ReLUs, additions, nearest upsampling.

Nothing else, so that every compiler takes it whole; peaks and boxes are found outside of the
graph (`ml.targets.decode_outputs`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from contracts.errors import IntegrityError
from contracts.models import Float32Array, Runner
from ml.config import DetectorConfig, detector_config_from

if TYPE_CHECKING:
    from torch import Tensor, nn

_PRIOR = 0.02  # chance of an object that the untrained detector states


def build_detector(config: DetectorConfig) -> nn.Module:
    """An untrained detector: images to class scores and boxes on a grid of stride 8.

    It maps (N, 3, H, W) float32 RGB in [0, 1] to scores (N, C, H/8, W/8), logits, and boxes
    (N, 4, H/8, W/8) as in `ml.targets.Targets`. The class stands inside of the function because
    its base is torch's, which takes seconds to import.
    """
    from torch import nn

    def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
        layers = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        return nn.Sequential(*layers, nn.ReLU())

    class Residual(nn.Module):
        """Two convolutions beside a shortcut."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.first = convolution(channels, channels)
            self.second = convolution(channels, channels)[:2]
            self.activation = nn.ReLU()

        def forward(self, features: Tensor) -> Tensor:
            return self.activation(self.second(self.first(features)) + features)

    class Detector(nn.Module):
        """A backbone to stride 32, a pyramid back to stride 8, two heads."""

        def __init__(self) -> None:
            super().__init__()
            at_2, at_4, at_8, at_16, at_32 = config.widths
            self.stem = nn.Sequential(convolution(3, at_2, 2), convolution(at_2, at_4, 2))
            self.stage_8 = nn.Sequential(convolution(at_4, at_8, 2), Residual(at_8))
            self.stage_16 = nn.Sequential(convolution(at_8, at_16, 2), Residual(at_16))
            self.stage_32 = nn.Sequential(convolution(at_16, at_32, 2), Residual(at_32))
            self.lateral_32 = nn.Conv2d(at_32, at_16, 1)
            self.lateral_16 = nn.Conv2d(at_16, at_8, 1)
            self.up_32 = nn.Upsample(scale_factor=2, mode="nearest")
            self.up_16 = nn.Upsample(scale_factor=2, mode="nearest")
            self.neck = convolution(at_8, at_8)
            self.score_head = nn.Sequential(
                convolution(at_8, at_8), nn.Conv2d(at_8, len(config.classes), 1)
            )
            self.box_head = nn.Sequential(convolution(at_8, at_8), nn.Conv2d(at_8, 4, 1))
            nn.init.constant_(self.score_head[-1].bias, -math.log((1 - _PRIOR) / _PRIOR))

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            at_8 = self.stage_8(self.stem(image))
            at_16 = self.stage_16(at_8)
            at_32 = self.stage_32(at_16)
            at_16 = at_16 + self.up_32(self.lateral_32(at_32))
            at_8 = self.neck(at_8 + self.up_16(self.lateral_16(at_16)))
            return self.score_head(at_8), self.box_head(at_8)

    return Detector()


def save_detector(model: nn.Module, path: Path, *, config: DetectorConfig) -> None:
    """Write weights and configuration to a safetensors file, byte-identical for equal weights."""
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path, metadata={"detector": json.dumps(attrs.asdict(config))})


def load_detector(path: Path) -> tuple[nn.Module, DetectorConfig]:
    """Read a detector, in evaluation mode, and its shape from what `save_detector` wrote.

    Raises:
        IntegrityError: The file holds no detector.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        config = detector_config_from(json.loads(metadata["detector"]))
        model = build_detector(config)
        model.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise IntegrityError(f"no detector: {error}", uri=str(path)) from error
    return model.eval(), config


def torch_runner(model: nn.Module) -> Runner:
    """The detector in float32 on the CPU."""
    import torch

    def run(images: Float32Array) -> tuple[Float32Array, Float32Array]:
        with torch.inference_mode():
            scores, boxes = model(torch.from_numpy(np.ascontiguousarray(images)))
        return scores.numpy(), boxes.numpy()

    return run
