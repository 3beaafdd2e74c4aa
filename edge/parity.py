"""Whether a target says what the reference says: differences on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from contracts.models import PARITY_SCHEMA, Float32Array, Progress, Runner

EQUAL_DB = 200.0  # stands for equal outputs; float32 cannot come this close otherwise
_FOREGROUND_LOGIT = -0.85  # a score of 0.3


def compare_targets(
    reference: Runner,
    targets: Mapping[str, Runner],
    images: Float32Array,
    *,
    reference_name: str = "torch",
    images_by_target: Mapping[str, int] | None = None,
    ap50: Callable[[Runner], float | None] | None = None,
    ap50_targets: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> pa.Table:
    """Compare targets with a reference.

    Measures: `snr_db` (the worse of both outputs), `snr_db_scores`, `snr_db_boxes`,
    `max_abs_difference`, `argmax_agreement` (share of the cells that either calls an object in
    which both name the same class) and, where asked for, `ap50` and `ap50_drop`.

    Args:
        reference: What is taken as right.
        targets: Runners by name.
        images: (N, 3, H, W) float32 in [0, 1].
        reference_name: For the column `reference`.
        images_by_target: Fewer images for slow targets, such as simulators.
        ap50: Average precision of a runner on images with a truth.
        ap50_targets: Targets to measure it for.
        progress: Told a sentence and a share of the work.

    Returns:
        PARITY_SCHEMA.
    """
    expected = reference(images)
    base = ap50(reference) if ap50 and ap50_targets else None
    rows = []
    for place, (name, runner) in enumerate(targets.items()):
        if progress:
            progress(f"compare {name}", place / len(targets))
        count = min(len(images), (images_by_target or {}).get(name, len(images)))
        found = runner(images[:count])
        measured = compare_outputs((expected[0][:count], expected[1][:count]), found)
        if ap50 and name in ap50_targets:
            value = ap50(runner)
            measured["ap50"] = value
            measured["ap50_drop"] = None if None in (base, value) else base - value
        rows += [
            {"target": name, "reference": reference_name, "measure": measure, "value": value,
             "images": count}
            for measure, value in measured.items()
        ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PARITY_SCHEMA)


def compare_outputs(
    expected: tuple[Float32Array, Float32Array], found: tuple[Float32Array, Float32Array]
) -> dict[str, float | None]:
    """Measures of one pair of outputs; null where there is nothing to compare."""
    scores, boxes = (signal_to_noise_db(a, b) for a, b in zip(expected, found, strict=True))
    differences = [np.abs(a - b).max() for a, b in zip(expected, found, strict=True)]
    return {
        "snr_db": _finite(min(scores, boxes)),
        "snr_db_scores": _finite(scores),
        "snr_db_boxes": _finite(boxes),
        "max_abs_difference": float(max(differences)),
        "argmax_agreement": class_agreement(expected[0], found[0]),
    }


def signal_to_noise_db(expected: Float32Array, found: Float32Array) -> float:
    """Power of the signal over the power of the difference; at most EQUAL_DB."""
    signal = float(np.square(expected, dtype=np.float64).sum())
    noise = float(np.square(expected.astype(np.float64) - found).sum())
    if noise == 0:
        return EQUAL_DB
    return min(EQUAL_DB, 10 * float(np.log10(signal / noise))) if signal else float("-inf")


def class_agreement(expected: Float32Array, found: Float32Array) -> float | None:
    """Share of foreground cells on whose class both agree; None without such a cell.

    Args:
        expected: (N, C, h, w) float32, logits.
        found: The same shape.
    """
    named = [
        np.where(scores.max(axis=1) >= _FOREGROUND_LOGIT, scores.argmax(axis=1), -1)
        for scores in (expected, found)
    ]
    foreground = (named[0] >= 0) | (named[1] >= 0)
    if not foreground.any():
        return None
    return float((named[0] == named[1])[foreground].mean())


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
