"""The training loop: the same samples, configuration and seed give the same weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from contracts.models import Progress
from ml.config import STRIDE_PX, TrainConfig
from ml.data import Boxes, Images, make_batch, network_input
from ml.detector import build_detector
from ml.targets import SIZE_UNIT_PX, Targets, make_targets

if TYPE_CHECKING:
    from torch import Tensor, nn

_BOX_SHARE = 2.0  # weight of the box loss against the score loss
_FAR_SHARE = 0.25  # weight of the distance of a box against its overlap


@attrs.frozen(eq=False)
class Fit:
    """A trained detector, in evaluation mode, and its loss at every step."""

    model: nn.Module
    losses: tuple[float, ...]


@contextmanager
def reproducible(*, seed: int, threads: int) -> Iterator[None]:
    """Seeded, deterministic torch on a fixed number of threads; what was set before comes back."""
    import torch

    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory that it has not written; to fill it took a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = before[2]


def fit(
    images: Images, boxes: Boxes, config: TrainConfig, *, progress: Progress | None = None
) -> Fit:
    """Train for `config.steps` steps.

    Raises:
        FloatingPointError: The loss is no longer finite.
    """
    import torch

    with reproducible(seed=config.seed, threads=config.threads):
        model = build_detector(config.detector).to(memory_format=torch.channels_last).train()
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        losses = []
        for step in range(config.steps):
            pixels, targets = _learning_material(images, boxes, step, config)
            loss = detection_loss(*model(pixels), targets)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, config)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()
            losses.append(loss.item())
            if progress and (step + 1) % 20 == 0:
                progress(f"train: loss {losses[-1]:.2f}", (step + 1) / config.steps)
    return Fit(model=model.to(memory_format=torch.contiguous_format).eval(), losses=tuple(losses))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Up in a line over a fifth of the steps, down as a cosine: a function of the step alone."""
    peak = config.steps / 5
    if step < peak:
        return config.learning_rate * (step + 1) / (peak + 1)
    return (
        config.learning_rate * (1 + math.cos(math.pi * (step - peak) / (config.steps - peak))) / 2
    )


def _learning_material(
    images: Images, boxes: Boxes, step: int, config: TrainConfig
) -> tuple[Tensor, Targets]:
    import torch

    batch = make_batch(images, boxes, step, batch_size=config.batch_size, seed=config.seed)
    targets = make_targets(
        batch.boxes,
        batch_size=config.batch_size,
        classes=len(config.detector.classes),
        grid=config.detector.grid,
    )
    pixels = torch.from_numpy(network_input(batch.pixels))
    return pixels.contiguous(memory_format=torch.channels_last), targets


def detection_loss(scores: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """Focal loss of the scores and weighted GIoU and L1 losses of the boxes, by object.

    Source: Zhou et al., Objects as Points, 2019, eq. 1; Rezatofighi et al., GIoU, 2019.
    """
    import torch
    from torch.nn.functional import logsigmoid

    wanted, weights = torch.from_numpy(targets.scores), torch.from_numpy(targets.weights)
    wanted_boxes = torch.from_numpy(targets.boxes)
    chance = scores.sigmoid()
    hit = (1 - chance).pow(2) * logsigmoid(scores) * (wanted == 1)
    miss = (1 - wanted).pow(4) * chance.pow(2) * logsigmoid(-scores) * (wanted < 1)
    objects = weights.sum().clamp(min=1.0)
    score_loss = -(hit.sum() + miss.sum()) / objects
    far = (boxes - wanted_boxes).abs().sum(dim=1)
    unlike = 1 - _generalised_iou(boxes, wanted_boxes)
    box_loss = ((unlike + _FAR_SHARE * far) * weights).sum() / objects
    return score_loss + _BOX_SHARE * box_loss


def _generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU of the boxes (B, 4, h, w) that two grids state for the same cells, in cells."""
    import torch

    half_unit = SIZE_UNIT_PX / STRIDE_PX / 2
    edges = []
    for boxes in (first, second):
        half = boxes[:, 2:].clamp(-4.0, 4.0).exp() * half_unit
        edges.append((boxes[:, :2] - half, boxes[:, :2] + half))
    (low_a, high_a), (low_b, high_b) = edges
    shared = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(dim=1)
    union = (high_a - low_a).prod(dim=1) + (high_b - low_b).prod(dim=1) - shared
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(dim=1)
    return shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
