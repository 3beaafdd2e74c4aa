"""A detector's quality by slice, with intervals: rows of `gold.evaluations` and curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.errors import ContractViolation
from contracts.models import Progress, Runner
from contracts.tables import TABLES
from ml.config import DetectorConfig
from ml.data import decode_images, network_input
from ml.matching import (
    RECALLS,
    Matches,
    average_precision,
    counts_at,
    match,
    precision_at_recalls,
)
from ml.targets import Detections, decode_outputs

Float64Array = npt.NDArray[np.float64]
_BATCH = 32


@attrs.frozen
class EvaluationSpec:
    """What is judged, and how.

    Attributes:
        model: Registered name.
        model_version: Registered version.
        dataset_id: Dataset version judged on.
        target: torch, onnx, onnx_int8, qnn_…
        classes: Names by class index.
        threshold: Least score for precision and recall.
        distance_edges_m: Edges of the distance bands.
        resamples: Bootstrap draws of the interval.
        block_ns: Images of a drive within a block are drawn together, since neighbours in time
            show nearly the same scene; 0 draws single images.
        seed: Of the bootstrap.
    """

    model: str
    model_version: str
    dataset_id: str
    target: str
    classes: tuple[str, ...]
    threshold: float = 0.3
    distance_edges_m: tuple[float, ...] = (0.0, 20.0, 35.0, 50.0)
    resamples: int = 200
    block_ns: int = 1_000_000_000
    seed: int = 7

    @property
    def bands_m(self) -> tuple[tuple[float, float], ...]:
        """Half-open distance bands."""
        return tuple(zip(self.distance_edges_m, self.distance_edges_m[1:], strict=False))


@attrs.frozen(eq=False)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        rows: Schema of `gold.evaluations`.
        curves: Precision (101,) at `ml.matching.RECALLS` by class; NaN where there is no object.
        detections: What the detector found, image ordinals in `sample_ids`.
        sample_ids: Images that were judged.
    """

    rows: pa.Table
    curves: Mapping[str, Float64Array]
    detections: Detections
    sample_ids: tuple[str, ...]

    def value(self, metric: str, slice_name: str = "all") -> float | None:
        """One value; None where the slice holds no object."""
        for row in self.rows.to_pylist():
            if row["metric"] == metric and row["slice"] == slice_name:
                return row["value"]
        raise KeyError(f"{metric} of {slice_name}")


def evaluate(
    runner: Runner,
    samples: pa.Table,
    truth: pa.Table,
    *,
    detector: DetectorConfig,
    spec: EvaluationSpec,
    light_by_drive: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a target over samples and judge what it finds.

    Args:
        runner: The target.
        samples: Rows of `gold.dataset_samples`, usually the split `test`.
        truth: `ml.truth.TRUTH_SCHEMA`; rows of other samples are left out.
        detector: Shape of the input.
        spec: What is judged, and how.
        light_by_drive: day, dusk or night by drive; a slice for each.
        progress: Told a sentence and a share of the work.

    Raises:
        ContractViolation: There is no sample.
        DecodeError: A sample whose image is no JPEG.
    """
    if not samples.num_rows:
        raise ContractViolation("there is no sample to judge by", code="EMPTY_SPLIT")
    detections = detect(runner, samples, detector=detector, progress=progress)
    return evaluate_detections(detections, samples, truth, spec=spec, light_by_drive=light_by_drive)


def detect(
    runner: Runner,
    samples: pa.Table,
    *,
    detector: DetectorConfig,
    progress: Progress | None = None,
) -> Detections:
    """Boxes that a target finds in samples, in pixels of the source images."""
    images = decode_images(samples, detector)
    parts = []
    for first in range(0, len(images), _BATCH):
        chosen = slice(first, first + _BATCH)
        scores, boxes = runner(network_input(images.pixels[chosen]))
        part = decode_outputs(scores, boxes, images.scales[chosen])
        parts.append(attrs.evolve(part, image=part.image + first))
        if progress:
            progress("detect", min(first + _BATCH, len(images)) / len(images))
    names = ("image", "xyxy", "class_index", "score")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Detections(**joined)


def evaluate_detections(
    detections: Detections,
    samples: pa.Table,
    truth: pa.Table,
    *,
    spec: EvaluationSpec,
    light_by_drive: Mapping[str, str] | None = None,
) -> Evaluation:
    """Judge detections whose image ordinals count in `samples`."""
    sample_ids = tuple(samples["sample_id"].to_pylist())
    matches = match(
        detections, truth, sample_ids=sample_ids, classes=spec.classes, bands_m=spec.bands_m
    )
    draws = _bootstrap_weights(samples, spec)
    rows = []
    for name, kinds, band, included in _slices(samples, spec, light_by_drive or {}):
        chosen = [matches[kind, band] for kind in kinds]
        rows += _slice_rows(name, chosen, draws * included, spec, images=int(included.sum()))
    whole = np.ones(len(sample_ids))
    curves = {kind: precision_at_recalls(matches[kind, -1], whole) for kind in spec.classes}
    return Evaluation(
        rows=pa.Table.from_pylist(rows, schema=TABLES["gold.evaluations"].schema),
        curves=curves,
        detections=detections,
        sample_ids=sample_ids,
    )


def _slices(
    samples: pa.Table, spec: EvaluationSpec, light_by_drive: Mapping[str, str]
) -> Iterable[tuple[str, Sequence[str], int, Float64Array]]:
    """Name, classes, band and (N,) images of every slice."""
    everything = np.ones(samples.num_rows)
    yield "all", spec.classes, -1, everything
    for kind in spec.classes:
        yield f"class={kind}", (kind,), -1, everything
    for band, (low, high) in enumerate(spec.bands_m):
        yield f"distance={low:g}-{high:g}", spec.classes, band, everything
    light = np.array([light_by_drive.get(drive, "") for drive in samples["drive_id"].to_pylist()])
    for value in sorted(set(light.tolist()) - {""}):
        yield f"light={value}", spec.classes, -1, (light == value).astype(np.float64)


def _bootstrap_weights(samples: pa.Table, spec: EvaluationSpec) -> Float64Array:
    """(1 + B, N): the plain weighting, then how often each draw of blocks takes each image."""
    stamps = samples["t_ns"].to_numpy()
    seconds = stamps // spec.block_ns if spec.block_ns else np.arange(stamps.size)
    drives = np.unique(samples["drive_id"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    blocks = np.unique(np.stack([drives, seconds], axis=1), axis=0, return_inverse=True)[1]
    count = int(blocks.max()) + 1
    random = np.random.default_rng(spec.seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=spec.resamples)
    return np.concatenate([np.ones((1, stamps.size)), drawn[:, blocks.ravel()]])


def _slice_rows(
    name: str,
    matches: Sequence[Matches],
    weights: Float64Array,
    spec: EvaluationSpec,
    *,
    images: int,
) -> list[dict[str, object]]:
    by_class = np.stack([average_precision(part, weights) for part in matches])
    hits, found, wanted = (
        np.sum(values, axis=0)
        for values in zip(
            *(counts_at(part, weights, threshold=spec.threshold) for part in matches), strict=True
        )
    )
    metrics = {
        "ap50": _mean_of_known(by_class),
        "precision": _ratio(hits, found),
        "recall": _ratio(hits, wanted),
    }
    return [
        {
            "model": spec.model,
            "model_version": spec.model_version,
            "dataset_id": spec.dataset_id,
            "target": spec.target,
            "slice": name,
            "metric": metric,
            **_with_interval(values),
            "samples": images,
            "objects": int(wanted[0]),
        }
        for metric, values in metrics.items()
    ]


def _mean_of_known(by_class: Float64Array) -> Float64Array:
    """Mean over the classes that have objects; NaN where none has."""
    known = np.isfinite(by_class)
    total = np.where(known, by_class, 0.0).sum(axis=0)
    return np.divide(
        total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0)
    )


def _ratio(part: Float64Array, whole: Float64Array) -> Float64Array:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _with_interval(values: Float64Array) -> dict[str, float | None]:
    """The plain value first, the 2.5th and 97.5th percentile of the draws that have one."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]):
        return {"value": None, "lower": None, "upper": None}
    lower, upper = np.percentile(drawn, [2.5, 97.5]) if drawn.size else (None, None)
    return {
        "value": float(values[0]),
        "lower": None if lower is None else float(lower),
        "upper": None if upper is None else float(upper),
    }


def curve_table(evaluation: Evaluation) -> pa.Table:
    """Curves in long form: class_name, recall, precision."""
    names, recalls, precisions = [], [], []
    for name, precision in evaluation.curves.items():
        names += [name] * RECALLS.size
        recalls.append(RECALLS)
        precisions.append(precision)
    return pa.table(
        {
            "class_name": pa.array(names, pa.string()),
            "recall": np.concatenate(recalls),
            "precision": np.concatenate(precisions),
        }
    )
