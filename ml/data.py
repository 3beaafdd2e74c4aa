"""Dataset samples to arrays, and the seeded order and augmentation in which they are learned."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import ContractViolation, DecodeError
from contracts.models import Float32Array
from ml.config import DetectorConfig

_SMALLEST_BOX_PX = 1.0  # of the input; below, a box holds no pixel to learn from
_LEAST_INSIDE = 0.3  # share of a box that must stay in the image for it to be learned


@attrs.frozen(eq=False)
class Images:
    """Decoded samples.

    Attributes:
        sample_ids: (N,) identity of each sample.
        pixels: (N, H, W, 3) uint8, BGR as OpenCV reads them, at the detector's size.
        scales: (N, 2) float32, source pixels per input pixel, x then y.
    """

    sample_ids: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    scales: Float32Array

    def __len__(self) -> int:
        return len(self.sample_ids)


@attrs.frozen(eq=False)
class Boxes:
    """Boxes of many images, as one struct of arrays.

    Attributes:
        image: (M,) int64, ordinal of the image, ascending.
        xyxy: (M, 4) float32, x0, y0, x1, y1 in pixels of the detector's input.
        class_index: (M,) int64.
        confidence: (M,) float32.
    """

    image: npt.NDArray[np.int64]
    xyxy: Float32Array
    class_index: npt.NDArray[np.int64]
    confidence: Float32Array


@attrs.frozen(eq=False)
class Batch:
    """What one step learns from.

    Attributes:
        pixels: (B, H, W, 3) uint8 BGR.
        boxes: Boxes whose `image` counts within the batch.
    """

    pixels: npt.NDArray[np.uint8]
    boxes: Boxes


def select_split(samples: pa.Table, split: str) -> pa.Table:
    """Samples of one split in the order of their ids: the first ones are a sample of all.

    Raises:
        ContractViolation: The split is empty.
    """
    chosen = samples.filter(pc.equal(samples["split"], split))
    if not chosen.num_rows:
        raise ContractViolation(f"the dataset has no sample in split {split}", code="EMPTY_SPLIT")
    return chosen.sort_by("sample_id")


def decode_images(samples: pa.Table, config: DetectorConfig) -> Images:
    """Decode and scale the JPEG of every sample.

    Raises:
        DecodeError: An image that is no JPEG; the sample's id stands in `topic`.
    """
    import cv2

    count = samples.num_rows
    pixels = np.empty((count, config.height_px, config.width_px, 3), np.uint8)
    scales = np.empty((count, 2), np.float32)
    ids = tuple(samples["sample_id"].to_pylist())
    for row, data in enumerate(samples["image_jpeg"]):
        encoded = np.frombuffer(data.as_py() or b"", np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
        if image is None:
            raise DecodeError("the image of a sample is no JPEG", code="BAD_IMAGE", topic=ids[row])
        height, width = image.shape[:2]
        scales[row] = width / config.width_px, height / config.height_px
        size = (config.width_px, config.height_px)
        pixels[row] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return Images(sample_ids=ids, pixels=pixels, scales=scales)


def boxes_from_samples(
    samples: pa.Table, images: Images, *, classes: tuple[str, ...], minimum_confidence: float = 0.0
) -> Boxes:
    """Labels of every sample in pixels of the detector's input.

    Boxes under a pixel wide or high, and those under the confidence, are left out.

    Raises:
        ContractViolation: A class that the detector does not know.
    """
    column = samples["boxes"].combine_chunks()
    parents = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    flat = column.flatten()
    names = pc.struct_field(flat, "class_name")
    index = pc.index_in(names, value_set=pa.array(classes, pa.string()))
    if index.null_count:
        unknown = sorted({str(name) for name in names.filter(index.is_null()).to_pylist()})
        raise ContractViolation(f"classes {unknown} are not among {classes}", code="UNKNOWN_CLASS")
    corners = [_floats(flat, name) for name in ("x0_px", "y0_px", "x1_px", "y1_px")]
    xyxy = np.stack(corners, axis=1) if len(flat) else np.empty((0, 4), np.float32)
    xyxy = xyxy / np.tile(images.scales[parents], 2)
    confidence = np.nan_to_num(_floats(flat, "confidence"), nan=1.0)
    size = np.minimum(xyxy[:, 2] - xyxy[:, 0], xyxy[:, 3] - xyxy[:, 1])
    keep = (size >= _SMALLEST_BOX_PX) & (confidence >= minimum_confidence)
    return Boxes(
        image=parents[keep],
        xyxy=xyxy[keep].astype(np.float32),
        class_index=index.to_numpy(zero_copy_only=False).astype(np.int64)[keep],
        confidence=confidence[keep],
    )


def _floats(flat: pa.StructArray, name: str) -> Float32Array:
    return pc.struct_field(flat, name).to_numpy(zero_copy_only=False).astype(np.float32)


def network_input(pixels: npt.NDArray[np.uint8]) -> Float32Array:
    """(N, H, W, 3) uint8 BGR to (N, 3, H, W) float32 RGB in [0, 1], as every target takes it."""
    planes = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2))
    return planes.astype(np.float32) / np.float32(255.0)


def batch_rows(step: int, *, samples: int, batch_size: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows that step `step` learns from: a function of the step alone, so a run can resume.

    Every epoch is a fresh permutation; a batch may span two of them.
    """
    first = step * batch_size
    places = np.arange(first, first + batch_size)
    rows = np.empty(batch_size, np.int64)
    for epoch in np.unique(places // samples):
        order = np.random.default_rng([seed, 1, int(epoch)]).permutation(samples)
        inside = places // samples == epoch
        rows[inside] = order[places[inside] % samples]
    return rows


def make_batch(images: Images, boxes: Boxes, step: int, *, batch_size: int, seed: int) -> Batch:
    """The augmented batch of a step: flipped, zoomed, moved, lit otherwise, by its own seed."""
    import cv2

    rows = batch_rows(step, samples=len(images), batch_size=batch_size, seed=seed)
    random = np.random.default_rng([seed, 2, step])
    height, width = images.pixels.shape[1:3]
    pixels = np.empty((batch_size, height, width, 3), np.uint8)
    starts, ends = (np.searchsorted(boxes.image, rows, side) for side in ("left", "right"))
    parts = []
    for place, row in enumerate(rows):
        scale, shift = _random_affine(random, width, height)
        # warpAffine counts from the middle of a pixel, boxes from its edge
        middle = np.column_stack([np.diag(scale), 0.5 * scale + shift - 0.5])
        warped = cv2.warpAffine(
            images.pixels[row], middle, (width, height), borderMode=cv2.BORDER_REFLECT_101
        )
        pixels[place] = _random_light(random, warped)
        chosen = slice(starts[place], ends[place])
        moved = boxes.xyxy[chosen] * np.tile(scale, 2) + np.tile(shift, 2)
        keep, inside = _clipped(moved, width=width, height=height)
        parts.append(
            Boxes(
                image=np.full(int(keep.sum()), place, np.int64),
                xyxy=inside[keep].astype(np.float32),
                class_index=boxes.class_index[chosen][keep],
                confidence=boxes.confidence[chosen][keep],
            )
        )
    return Batch(pixels=pixels, boxes=_joined(parts))


def _random_affine(
    random: np.random.Generator, width: int, height: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scale (negative where flipped) and shift, both (x, y), of pixel edges."""
    zoom = np.exp(random.uniform(np.log(0.8), np.log(1.4)))
    scale = np.array([zoom * random.choice([-1.0, 1.0]), zoom])
    centre = np.array([width / 2, height / 2])
    shift = random.uniform(-0.12, 0.12, 2) * (width, height)
    return scale, centre + shift - scale * centre


def _random_light(
    random: np.random.Generator, image: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Brighter or darker, and each colour by itself: few drives show few colours of coats."""
    gains = random.uniform(0.6, 1.4) * random.uniform(0.7, 1.3, 3)
    levels = np.arange(256)[:, None] * gains + random.uniform(-20, 20)
    table = np.clip(levels, 0, 255).astype(np.uint8)
    return np.stack([table[image[..., colour], colour] for colour in range(3)], axis=-1)


def _clipped(
    xyxy: npt.NDArray[np.float64], *, width: int, height: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which boxes keep 30 % of their area in the image, and all of them clipped to it."""
    x, y = np.sort(xyxy[:, 0::2], axis=1), xyxy[:, 1::2]
    inside_x, inside_y = np.clip(x, 0, width), np.clip(y, 0, height)
    area = np.ptp(inside_x, axis=1) * np.ptp(inside_y, axis=1)
    keep = area >= _LEAST_INSIDE * np.maximum(np.ptp(x, axis=1) * np.ptp(y, axis=1), 1e-6)
    corners = (inside_x[:, 0], inside_y[:, 0], inside_x[:, 1], inside_y[:, 1])
    return keep, np.stack(corners, axis=1)


def _joined(parts: list[Boxes]) -> Boxes:
    return Boxes(
        image=np.concatenate([part.image for part in parts]),
        xyxy=np.concatenate([part.xyxy for part in parts]),
        class_index=np.concatenate([part.class_index for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
    )
