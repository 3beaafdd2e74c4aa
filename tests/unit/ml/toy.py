"""A learning problem with a known answer: shapes on noise, as a table of dataset samples."""

import cv2
import numpy as np
import pyarrow as pa

from contracts.ids import sha256_hex
from contracts.tables import TABLES
from ml.config import CLASSES

SHAPES = {"car": (60, 40), "truck": (90, 80), "pedestrian": (20, 56), "cyclist": (40, 56)}
COLOURS = {
    "car": (40, 40, 220),
    "truck": (220, 160, 30),
    "pedestrian": (40, 220, 60),
    "cyclist": (220, 60, 220),
}


def toy_samples(count, *, seed, size=(640, 384), dataset_id="toy-000000000000", dark_every=3):
    """`count` samples of three drives, one split each; every `dark_every`-th image is dark."""
    random = np.random.default_rng(seed)
    rows = [
        _sample(random, number, size=size, dataset_id=dataset_id, dark=number % dark_every == 0)
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=TABLES["gold.dataset_samples"].schema)


def _sample(random, number, *, size, dataset_id, dark):
    width, height = size
    image = random.normal(120, 25, (height, width, 3))
    boxes = []
    for _ in range(int(random.integers(1, 5))):
        name = CLASSES[int(random.integers(len(CLASSES)))]
        box_width, box_height = np.array(SHAPES[name]) * random.uniform(0.7, 1.5) * width / 640
        x0 = random.uniform(0, width - box_width)
        y0 = random.uniform(0, height - box_height)
        box = [x0, y0, x0 + box_width, y0 + box_height]
        if any(_overlap(box, [b[k] for k in ("x0_px", "y0_px", "x1_px", "y1_px")]) for b in boxes):
            continue
        corners = [round(value) for value in box]
        cv2.rectangle(image, corners[:2], corners[2:], COLOURS[name], -1)
        boxes.append(
            {
                "class_name": name,
                **dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), box, strict=True)),
                "distance_m": 1000.0 / box_height,
                "confidence": 1.0,
            }
        )
    pixels = np.clip(image * (0.35 if dark else 1.0), 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    split = ("train", "train", "train", "validation", "test")[number % 5]
    return {
        "dataset_id": dataset_id,
        "sample_id": sha256_hex(data),
        "split": split,
        "drive_id": f"drive-{split}-{'night' if dark else 'day'}",
        "t_ns": 1_700_000_000_000_000_000 + number * 100_000_000,
        "recording_id": sha256_hex(split.encode()),
        "image_jpeg": data,
        "image_width_px": width,
        "image_height_px": height,
        "boxes": boxes,
    }


def _overlap(first, second):
    return (
        min(first[2], second[2]) > max(first[0], second[0]) - 4
        and min(first[3], second[3]) > max(first[1], second[1]) - 4
    )
