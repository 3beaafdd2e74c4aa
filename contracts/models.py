"""What a model is to those who train, compile and judge it: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Float32Array = npt.NDArray[np.float32]
# (N, 3, H, W) float32 RGB in [0, 1] to scores (N, C, h, w), logits, and boxes (N, 4, h, w)
Runner = Callable[[Float32Array], tuple[Float32Array, Float32Array]]
# told what is being done, and which share of it is done
Progress = Callable[[str, float], None]

INPUT_NAME = "image"
OUTPUT_NAMES = ("scores", "boxes")

# one row: a target compared with its reference on the same images
PARITY_SCHEMA = pa.schema(
    [
        pa.field("target", pa.string(), metadata={"comment": "onnx, onnx_int8, qnn_…"}),
        pa.field("reference", pa.string(), metadata={"comment": "What it is compared with"}),
        pa.field("measure", pa.string(), metadata={"comment": "snr_db, max_abs_difference, …"}),
        pa.field("value", pa.float64(), metadata={"comment": "Value, null if it has none"}),
        pa.field("images", pa.int64(), metadata={"comment": "Images compared"}),
    ]
)
