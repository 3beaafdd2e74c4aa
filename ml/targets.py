"""Boxes to the grids that the detector learns, and its outputs back to boxes. NumPy only.

A box is learned around its centre: the class score follows a Gaussian as wide as the box
(Source: Zhou et al., Objects as Points, 2019; Liu et al., TTFNet, 2020), and the cells under it
learn centre and size. Sizes are logarithms, so that eight bits resolve all of them equally well.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from contracts.models import INPUT_NAME, Float32Array
from ml.config import STRIDE_PX, DetectorConfig
from ml.data import Boxes

SIZE_UNIT_PX = 32.0  # a box of this size has the logarithm 0
_SPREAD = 0.54 / 6  # TTFNet's alpha over six standard deviations
_REACH_CELLS = 1.5  # farthest centre that a cell learns to point at
_LOG_SIZE_LIMIT = 3.0  # 1.6 px to 643 px


@attrs.frozen(eq=False)
class Targets:
    """What a batch should yield.

    Attributes:
        scores: (B, C, h, w) float32, 1 at a centre, falling off as a Gaussian.
        boxes: (B, 4, h, w) float32, dx, dy in cells, log width, log height over SIZE_UNIT_PX.
        weights: (B, h, w) float32, how much the cell's box counts; a box sums to 1.
    """

    scores: Float32Array
    boxes: Float32Array
    weights: Float32Array


@attrs.frozen(eq=False)
class Detections:
    """Boxes found in many images, best first within an image.

    Attributes:
        image: (K,) int64, ordinal of the image, ascending.
        xyxy: (K, 4) float32, in pixels of the source image.
        class_index: (K,) int64.
        score: (K,) float32 in [0, 1].
    """

    image: npt.NDArray[np.int64]
    xyxy: Float32Array
    class_index: npt.NDArray[np.int64]
    score: Float32Array


def make_targets(boxes: Boxes, *, batch_size: int, classes: int, grid: tuple[int, int]) -> Targets:
    """Grids of a batch. Where boxes overlap, the smaller one takes the cell."""
    rows, columns = grid
    scores = np.zeros((batch_size, classes, rows, columns), np.float32)
    values = np.zeros((batch_size, 4, rows, columns), np.float32)
    weights = np.zeros((batch_size, rows, columns), np.float32)
    width, height = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).T
    centre_x, centre_y = ((boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / 2).T / STRIDE_PX
    for box in np.argsort(-width * height, kind="stable"):
        image, kind = boxes.image[box], boxes.class_index[box]
        across, down = (
            np.arange(count, dtype=np.float32) + 0.5 - centre
            for count, centre in ((columns, centre_x[box]), (rows, centre_y[box]))
        )
        bump = np.outer(_bump(down, height[box] / STRIDE_PX), _bump(across, width[box] / STRIDE_PX))
        near = np.abs(down)[:, None] <= _REACH_CELLS
        near = near & (np.abs(across)[None] <= _REACH_CELLS) & (bump > 0.05)
        scores[image, kind] = np.maximum(scores[image, kind], bump)
        cell_rows, cell_columns = np.nonzero(near)
        share = bump[near] / bump[near].sum()
        weights[image, cell_rows, cell_columns] = share
        values[image, :, cell_rows, cell_columns] = np.stack(
            [
                -across[cell_columns],
                -down[cell_rows],
                np.full(share.size, np.log(width[box] / SIZE_UNIT_PX), np.float32),
                np.full(share.size, np.log(height[box] / SIZE_UNIT_PX), np.float32),
            ],
            axis=1,
        )
    return Targets(scores=scores, boxes=values, weights=weights)


def _bump(distance: Float32Array, size: float) -> Float32Array:
    """Gaussian over cell centres; its nearest cell is made 1, so that every box has a peak."""
    spread = max(size * _SPREAD, 0.35)
    values = np.exp(-0.5 * (distance / spread) ** 2)
    return (values / values.max()).astype(np.float32)


def decode_outputs(
    scores: Float32Array,
    boxes: Float32Array,
    scales: Float32Array,
    *,
    threshold: float = 0.05,
    overlap: float = 0.5,
    limit: int = 100,
) -> Detections:
    """Outputs of any target to boxes in source pixels.

    Args:
        scores: (N, C, h, w) float32, logits.
        boxes: (N, 4, h, w) float32, as in Targets.
        scales: (N, 2) float32, source pixels per input pixel.
        threshold: Least score of a detection.
        overlap: Intersection over union above which the weaker box of a class is dropped.
        limit: Most detections of an image.
    """
    chance = 1.0 / (1.0 + np.exp(-scores.astype(np.float32)))
    peak = chance >= _maximum_3x3(chance)
    image, kind, row, column = np.nonzero(peak & (chance >= threshold))
    values = boxes[image, :, row, column].astype(np.float32)
    centre = np.stack([column, row], axis=1) + 0.5 + values[:, :2]
    size = np.exp(np.clip(values[:, 2:], -_LOG_SIZE_LIMIT, _LOG_SIZE_LIMIT)) * SIZE_UNIT_PX
    corners = np.concatenate([centre * STRIDE_PX - size / 2, centre * STRIDE_PX + size / 2], axis=1)
    edge = np.tile([scores.shape[3] * STRIDE_PX, scores.shape[2] * STRIDE_PX], 2)
    xyxy = np.clip(corners, 0, edge) * np.tile(scales[image], 2)
    score = chance[image, kind, row, column]
    order = np.lexsort((-score, image))
    kept = _suppress(image[order], kind[order], xyxy[order], overlap=overlap, limit=limit)
    chosen = order[kept]
    return Detections(
        image=image[chosen],
        xyxy=xyxy[chosen].astype(np.float32),
        class_index=kind[chosen],
        score=score[chosen].astype(np.float32),
    )


def interface(config: DetectorConfig) -> dict[str, Any]:
    """What goes into the network and how its outputs are read, as JSON values for a hand-off."""
    rows, columns = config.grid
    return {
        "input": {
            "name": INPUT_NAME,
            "shape": [1, 3, config.height_px, config.width_px],
            "type": "float32",
            "content": "RGB planes in [0, 1]; the camera image scaled by area averaging",
        },
        "outputs": {
            "scores": {
                "shape": [1, len(config.classes), rows, columns],
                "content": "logit of each class in each cell; local maxima of 3 by 3 are objects",
                "classes": list(config.classes),
            },
            "boxes": {
                "shape": [1, 4, rows, columns],
                "content": "dx, dy, log_width, log_height",
                "centre_px": f"({STRIDE_PX} * (column + 0.5 + dx), {STRIDE_PX} * (row + 0.5 + dy))",
                "size_px": f"{SIZE_UNIT_PX:g} * exp(log_width), {SIZE_UNIT_PX:g} * exp(log_height)",
            },
        },
    }


def _maximum_3x3(values: Float32Array) -> Float32Array:
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.max(axis=(4, 5))


def _suppress(
    image: npt.NDArray[np.int64],
    kind: npt.NDArray[np.int64],
    xyxy: Float32Array,
    *,
    overlap: float,
    limit: int,
) -> npt.NDArray[np.int64]:
    """Greedy suppression within each image and class; inputs stand best first by image."""
    kept: list[int] = []
    edges = np.flatnonzero(np.diff(image)) + 1
    for rows in np.split(np.arange(image.size), edges):
        alive = np.ones(rows.size, bool)
        chosen: list[int] = []
        for place, row in enumerate(rows):
            if not alive[place] or len(chosen) == limit:
                continue
            chosen.append(int(row))
            rest = rows[place + 1 :]
            same = kind[rest] == kind[row]
            clash = same & (box_iou(xyxy[row : row + 1], xyxy[rest])[0] > overlap)
            alive[place + 1 :] &= ~clash
        kept.extend(chosen)
    return np.array(kept, np.int64)


def box_iou(first: Float32Array, second: Float32Array) -> Float32Array:
    """Intersection over union, (N, 4) and (M, 4) to (N, M); boxes without area have none."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(box[:, 2:] - box[:, :2], 0), axis=1) for box in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return (shared / np.maximum(union, 1e-9)).astype(np.float32)
