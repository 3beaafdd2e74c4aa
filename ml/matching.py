"""Detections against truth: pycocotools matches, this module keeps what slices are made from."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.targets import Detections

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
RECALLS = np.linspace(0.0, 1.0, 101)
OVERLAP = 0.5
_FARTHEST_M = 1e5


@attrs.frozen(eq=False)
class Matches:
    """Detections of one class within one distance band, best first, and the objects to find.

    Attributes:
        image: (K,) int64, ordinal of the image of each detection that counts.
        score: (K,) float64, descending.
        is_hit: (K,) bool, whether it met an object.
        objects: (N,) int64, objects to find in each image.
    """

    image: Int64Array
    score: Float64Array
    is_hit: npt.NDArray[np.bool_]
    objects: Int64Array


def match(
    detections: Detections,
    truth: pa.Table,
    *,
    sample_ids: Sequence[str],
    classes: Sequence[str],
    bands_m: Sequence[tuple[float, float]],
) -> Mapping[tuple[str, int], Matches]:
    """Matches by (class, ordinal of the band); band -1 holds every distance.

    pycocotools ignores objects outside of an area range, and detections outside of it that met
    nothing. Here that range is a range of distances: an object has its own, a detection the one
    that its height implies for its class (distance × height is about constant in a pinhole
    camera). So a band counts its own objects and the false alarms that look as far.

    Args:
        detections: `image` counts in `sample_ids`.
        truth: TRUTH_SCHEMA.
        sample_ids: Images that are judged.
        classes: Names by class index.
        bands_m: Half-open distance bands.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    objects = _truth_arrays(truth, sample_ids, classes)
    implied = _implied_distance(detections, objects, len(classes))
    ranges = [(-1.0, _FARTHEST_M), *((low, np.nextafter(high, low)) for low, high in bands_m)]
    with contextlib.redirect_stdout(io.StringIO()):
        wanted, found = COCO(), COCO()
        wanted.dataset = _coco(sample_ids, classes, _annotations(objects))
        found.dataset = _coco(sample_ids, classes, _results(detections, implied))
        wanted.createIndex()
        found.createIndex()
        judge = COCOeval(wanted, found, "bbox")
        judge.params.iouThrs = np.array([OVERLAP])
        judge.params.maxDets = [100]
        judge.params.areaRng = [list(span) for span in ranges]
        judge.params.areaRngLbl = [str(place) for place in range(len(ranges))]
        judge.evaluate()
    images = len(sample_ids)
    by_image = np.array(judge.evalImgs, dtype=object).reshape(len(classes), len(ranges), images)
    return {
        (name, band - 1): _matches(by_image[kind, band])
        for kind, name in enumerate(classes)
        for band in range(len(ranges))
    }


def _matches(results: npt.NDArray[np.object_]) -> Matches:
    images, scores, hits = [], [], []
    objects = np.zeros(len(results), np.int64)
    for image, result in enumerate(results):
        if result is None:  # neither an object nor a detection
            continue
        objects[image] = int(np.count_nonzero(np.asarray(result["gtIgnore"]) == 0))
        counts = ~np.asarray(result["dtIgnore"][0], bool)
        images.append(np.full(int(counts.sum()), image, np.int64))
        scores.append(np.asarray(result["dtScores"], np.float64)[counts])
        hits.append(np.asarray(result["dtMatches"][0])[counts] > 0)
    if not images:
        none = np.empty(0)
        return Matches(none.astype(np.int64), none, none.astype(bool), objects)
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="mergesort")
    return Matches(
        image=np.concatenate(images)[order],
        score=score[order],
        is_hit=np.concatenate(hits)[order],
        objects=objects,
    )


def average_precision(matches: Matches, weights: Float64Array) -> Float64Array:
    """Average precision at 101 recalls for each weighting of the images.

    Args:
        matches: One class, one band.
        weights: (B, N), how often each image counts.

    Returns:
        (B,) float64, NaN where no object is to be found.
    """
    wanted = weights @ matches.objects.astype(np.float64)
    recall, precision = _curve(matches, weights, wanted)
    value = np.full(len(weights), np.nan)
    for row in np.flatnonzero(wanted > 0):
        value[row] = _interpolated(recall[row], precision[row]).mean()
    return value


def precision_at_recalls(matches: Matches, weights: Float64Array) -> Float64Array:
    """Interpolated precision at RECALLS for one weighting (N,) of the images; NaN if no object."""
    wanted = np.array([weights @ matches.objects.astype(np.float64)])
    if wanted[0] <= 0:
        return np.full(RECALLS.size, np.nan)
    recall, precision = _curve(matches, weights[None], wanted)
    return _interpolated(recall[0], precision[0])


def _curve(
    matches: Matches, weights: Float64Array, wanted: Float64Array
) -> tuple[Float64Array, Float64Array]:
    share = weights[:, matches.image]
    hits = np.cumsum(share * matches.is_hit, axis=1)
    found = np.cumsum(share, axis=1)
    recall = hits / np.maximum(wanted[:, None], 1e-12)
    precision = hits / np.maximum(found, np.spacing(1))
    return recall, np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def _interpolated(recall: Float64Array, precision: Float64Array) -> Float64Array:
    place = np.searchsorted(recall, RECALLS, side="left")
    return np.append(precision, 0.0)[np.minimum(place, recall.size)]


def counts_at(
    matches: Matches, weights: Float64Array, *, threshold: float
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Hits, detections and objects (each (B,)) among scores of at least the threshold."""
    strong = matches.score >= threshold
    share = weights[:, matches.image[strong]]
    hits = share @ matches.is_hit[strong].astype(np.float64)
    return hits, share.sum(axis=1), weights @ matches.objects.astype(np.float64)


@attrs.frozen(eq=False)
class _Objects:
    image: Int64Array
    class_index: Int64Array
    xyxy: Float64Array
    distance_m: Float64Array
    is_ignored: npt.NDArray[np.bool_]


def _truth_arrays(truth: pa.Table, sample_ids: Sequence[str], classes: Sequence[str]) -> _Objects:
    place = {name: number for number, name in enumerate(sample_ids)}
    image = np.array([place.get(name, -1) for name in truth["sample_id"].to_pylist()], np.int64)
    kind = np.array(
        [classes.index(n) if n in classes else -1 for n in truth["class_name"].to_pylist()],
        np.int64,
    )
    keep = (image >= 0) & (kind >= 0)
    corners = [truth[name].to_numpy() for name in ("x0_px", "y0_px", "x1_px", "y1_px")]
    return _Objects(
        image=image[keep],
        class_index=kind[keep],
        xyxy=np.stack(corners, axis=1).astype(np.float64)[keep],
        distance_m=np.nan_to_num(truth["distance_m"].to_numpy().astype(np.float64), nan=0.0)[keep],
        is_ignored=truth["is_ignored"].to_numpy().astype(bool)[keep],
    )


def _implied_distance(detections: Detections, objects: _Objects, classes: int) -> Float64Array:
    """Distance by height: the median of distance × height of the class, over the height."""
    height = np.maximum(objects.xyxy[:, 3] - objects.xyxy[:, 1], 1.0)
    product = objects.distance_m * height
    everything = float(np.median(product)) if product.size else 0.0
    constant = np.full(classes, everything)
    for kind in range(classes):
        of_class = product[objects.class_index == kind]
        if of_class.size:
            constant[kind] = np.median(of_class)
    heights = np.maximum(detections.xyxy[:, 3] - detections.xyxy[:, 1], 1.0).astype(np.float64)
    return constant[detections.class_index] / heights


def _coco(
    sample_ids: Sequence[str], classes: Sequence[str], annotations: list[dict[str, object]]
) -> dict[str, object]:
    return {
        "info": {},
        "images": [{"id": number} for number in range(len(sample_ids))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes)],
        "annotations": annotations,
    }


def _annotations(objects: _Objects) -> list[dict[str, object]]:
    return [
        {
            "id": number + 1,
            "image_id": int(objects.image[number]),
            "category_id": int(objects.class_index[number]),
            "bbox": _xywh(objects.xyxy[number]),
            "area": float(objects.distance_m[number]),
            "iscrowd": int(objects.is_ignored[number]),
        }
        for number in range(objects.image.size)
    ]


def _results(detections: Detections, implied_m: Float64Array) -> list[dict[str, object]]:
    return [
        {
            "id": number + 1,
            "image_id": int(detections.image[number]),
            "category_id": int(detections.class_index[number]),
            "bbox": _xywh(detections.xyxy[number].astype(np.float64)),
            "area": float(implied_m[number]),
            "score": float(detections.score[number]),
            "iscrowd": 0,
        }
        for number in range(detections.image.size)
    ]


def _xywh(xyxy: Float64Array) -> list[float]:
    x0, y0, x1, y1 = (float(value) for value in xyxy)
    return [x0, y0, x1 - x0, y1 - y0]
