import contextlib
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ContractViolation
from contracts.tables import TABLES
from ml.config import CLASSES
from ml.evaluate import EvaluationSpec, curve_table, evaluate, evaluate_detections
from ml.matching import average_precision, match
from ml.targets import Detections
from ml.truth import TRUTH_SCHEMA, truth_from_labels

SPEC = EvaluationSpec(
    model="m", model_version="1", dataset_id="d", target="torch", classes=CLASSES, resamples=50
)


def detections(rows):
    """Detections from (image, class, x0, y0, x1, y1, score)."""
    values = np.array(rows, np.float64).reshape(-1, 7)
    return Detections(
        image=values[:, 0].astype(np.int64),
        class_index=values[:, 1].astype(np.int64),
        xyxy=values[:, 2:6].astype(np.float32),
        score=values[:, 6].astype(np.float32),
    )


def truth(rows):
    """Truth from (sample, class, x0, y0, x1, y1, distance, ignored)."""
    return pa.Table.from_pylist(
        [dict(zip(TRUTH_SCHEMA.names, row, strict=True)) for row in rows], schema=TRUTH_SCHEMA
    )


def samples(count, *, drives=1):
    """Samples named by their number, a second apart."""
    return pa.table(
        {
            "sample_id": [str(number) for number in range(count)],
            "drive_id": [f"drive-{number % drives}" for number in range(count)],
            "t_ns": np.arange(count, dtype=np.int64) * 1_000_000_000,
        }
    )


def coco_ap50(found, rows, *, images, kind):
    """AP at IoU 0.5 as pycocotools itself accumulates it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    base = {"images": [{"id": n} for n in range(images)], "categories": [{"id": kind}], "info": {}}
    with contextlib.redirect_stdout(io.StringIO()):
        wanted, stated = COCO(), COCO()
        wanted.dataset = {
            **base,
            "annotations": [
                {"id": n + 1, "image_id": int(r[0]), "category_id": kind, "area": 1.0,
                 "bbox": [r[2], r[3], r[4] - r[2], r[5] - r[3]], "iscrowd": int(r[7])}
                for n, r in enumerate(rows) if CLASSES.index(r[1]) == kind
            ],
        }  # fmt: skip
        stated.dataset = {
            **base,
            "annotations": [
                {"id": n + 1, "image_id": int(found.image[n]), "category_id": kind, "area": 1.0,
                 "bbox": [float(v) for v in (*found.xyxy[n, :2],
                                             *(found.xyxy[n, 2:] - found.xyxy[n, :2]))],
                 "score": float(found.score[n]), "iscrowd": 0}
                for n in range(len(found.image)) if found.class_index[n] == kind
            ],
        }  # fmt: skip
        wanted.createIndex()
        stated.createIndex()
        judge = COCOeval(wanted, stated, "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.maxDets = [100]
        judge.evaluate()
        judge.accumulate()
    values = judge.eval["precision"][0, :, 0, 0, 0]
    return float(values.mean()) if (values > -1).all() else None


corner = st.integers(0, 80)
side = st.integers(4, 60)
one_box = st.tuples(st.integers(0, 3), st.integers(0, 1), corner, corner, side, side)


@settings(max_examples=40, deadline=None)
@given(
    wanted=st.lists(st.tuples(one_box, st.booleans()), max_size=10),
    found=st.lists(st.tuples(one_box, st.integers(1, 99)), max_size=15),
)
def test_average_precision_is_that_of_pycocotools(wanted, found):
    """For any boxes, ignored ones included, the accumulated value equals COCOeval's own."""
    rows = [
        (str(b[0]), CLASSES[b[1]], b[2], b[3], b[2] + b[4], b[3] + b[5], 10.0, ignored)
        for b, ignored in wanted
    ]
    stated = detections(
        [(b[0], b[1], b[2], b[3], b[2] + b[4], b[3] + b[5], s / 100) for b, s in found]
    )
    matches = match(
        stated, truth(rows), sample_ids=["0", "1", "2", "3"], classes=CLASSES, bands_m=()
    )
    for kind in (0, 1):
        value = average_precision(matches[CLASSES[kind], -1], np.ones((1, 4)))[0]
        expected = coco_ap50(stated, rows, images=4, kind=kind)
        assert np.isnan(value) if expected is None else value == pytest.approx(expected)


def test_values_by_hand():
    """Two cars, one found, one false alarm: precision a half, recall a half, AP a half."""
    wanted = truth(
        [("0", "car", 0, 0, 20, 20, 10.0, False), ("1", "car", 0, 0, 20, 20, 30.0, False)]
    )
    found = detections([(0, 0, 0, 0, 20, 20, 0.9), (0, 0, 60, 60, 80, 80, 0.8)])
    result = evaluate_detections(found, samples(2), wanted, spec=SPEC)
    assert result.value("precision") == 0.5
    assert result.value("recall") == 0.5
    assert result.value("ap50") == pytest.approx(51 / 101)
    assert result.value("ap50", "class=car") == result.value("ap50")
    assert result.value("ap50", "class=truck") is None


def test_distance_bands_split_objects_and_false_alarms():
    """A band counts its own objects, and false alarms whose height implies its distance."""
    wanted = truth(
        [
            ("0", "car", 0, 0, 80, 80, 10.0, False),
            ("0", "car", 100, 0, 120, 20, 40.0, False),
        ]
    )
    found = detections(
        [
            (0, 0, 0, 0, 80, 80, 0.9),  # the near car
            (0, 0, 200, 0, 278, 78, 0.8),  # as high as a near car: a near false alarm
        ]
    )
    result = evaluate_detections(found, samples(1), wanted, spec=SPEC)
    assert result.value("recall", "distance=0-20") == 1.0
    assert result.value("precision", "distance=0-20") == 0.5
    assert result.value("recall", "distance=35-50") == 0.0
    assert result.value("precision", "distance=35-50") is None
    counts = {r["slice"]: r["objects"] for r in result.rows.to_pylist()}
    assert counts["distance=0-20"] == 1
    assert counts["distance=20-35"] == 0
    assert counts["distance=35-50"] == 1


def test_ignored_object_is_neither_miss_nor_alarm():
    """A hidden object may be found or not: no value changes."""
    rows = [("0", "car", 0, 0, 20, 20, 10.0, False)]
    hit = (0, 0, 0, 0, 20, 20, 0.9)
    plain = evaluate_detections(detections([hit]), samples(1), truth(rows), spec=SPEC)
    hidden = truth([*rows, ("0", "car", 50, 50, 70, 70, 10.0, True)])
    for found in ([hit], [hit, (0, 0, 50, 50, 70, 70, 0.95)]):
        result = evaluate_detections(detections(found), samples(1), hidden, spec=SPEC)
        assert result.rows.equals(plain.rows)


def test_light_slices_hold_their_images():
    """Day and night are judged apart by the drive's light; drives without one are in neither."""
    wanted = truth([(str(n), "car", 0, 0, 20, 20, 10.0, False) for n in range(3)])
    found = detections([(0, 0, 0, 0, 20, 20, 0.9), (2, 0, 0, 0, 20, 20, 0.9)])
    light = {"drive-0": "day", "drive-1": "night"}
    result = evaluate_detections(
        found, samples(3, drives=3), wanted, spec=SPEC, light_by_drive=light
    )
    assert result.value("recall", "light=day") == 1.0
    assert result.value("recall", "light=night") == 0.0
    images = {row["slice"]: row["samples"] for row in result.rows.to_pylist()}
    assert (images["all"], images["light=day"], images["light=night"]) == (3, 1, 1)
    assert "light=" not in images


def test_interval_covers_the_value_and_narrows_with_data():
    """The interval holds the value; ten times the images make it under half as wide."""
    widths = []
    for count in (20, 200):
        wanted = truth([(str(n), "car", 0, 0, 20, 20, 10.0, False) for n in range(count)])
        found = detections([(n, 0, 0, 0, 20, 20, 0.9) for n in range(0, count, 2)])
        rows = evaluate_detections(found, samples(count), wanted, spec=SPEC).rows.to_pylist()
        row = next(r for r in rows if (r["slice"], r["metric"]) == ("all", "recall"))
        assert row["lower"] <= row["value"] <= row["upper"]
        widths.append(row["upper"] - row["lower"])
    assert widths[1] < widths[0] / 2


def test_neighbouring_images_are_drawn_together():
    """Images of one second of one drive are one observation: ten copies are no more evidence."""
    count = 100
    table = samples(count).set_column(2, "t_ns", pa.array(np.arange(count) * 100_000_000))
    wanted = truth([(str(n), "car", 0, 0, 20, 20, 10.0, False) for n in range(count)])
    found = detections([(n, 0, 0, 0, 20, 20, 0.9) for n in range(count) if (n // 10) % 2])
    widths = []
    for block in (0, 1_000_000_000):
        import attrs

        spec = attrs.evolve(SPEC, block_ns=block)
        rows = evaluate_detections(found, table, wanted, spec=spec).rows.to_pylist()
        row = next(r for r in rows if (r["slice"], r["metric"]) == ("all", "recall"))
        widths.append(row["upper"] - row["lower"])
    assert widths[1] > 2 * widths[0]


def test_rows_hold_to_the_contract(toy_dataset):
    """A whole evaluation gives rows of gold.evaluations with unique keys, and is repeatable."""
    from ml.config import DetectorConfig

    part = toy_dataset.slice(0, 20)

    def runner(images):
        random = np.random.default_rng(int(images.sum()))
        return (
            random.normal(-2, 1.5, (len(images), 4, 12, 20)).astype(np.float32),
            random.normal(0, 0.3, (len(images), 4, 12, 20)).astype(np.float32),
        )

    results = [
        evaluate(
            runner,
            part,
            truth_from_labels(part),
            detector=DetectorConfig(height_px=96, width_px=160),
            spec=SPEC,
        )
        for _ in range(2)
    ]
    rows = results[0].rows
    contract = TABLES["gold.evaluations"]
    assert rows.schema.equals(contract.schema)
    keys = [tuple(row[key] for key in contract.keys) for row in rows.to_pylist()]
    assert len(set(keys)) == len(keys) == 3 * (1 + 4 + 3)
    assert rows.equals(results[1].rows)
    assert curve_table(results[0]).num_rows == 4 * 101


def test_nothing_to_judge_is_an_error(toy_dataset):
    """An evaluation without an image is refused; without a detection it is a zero."""
    from ml.config import DetectorConfig

    with pytest.raises(ContractViolation, match="no sample"):
        evaluate(
            lambda images: (images, images),
            toy_dataset.slice(0, 0),
            truth([]),
            detector=DetectorConfig(),
            spec=SPEC,
        )
    wanted = truth([("0", "car", 0, 0, 20, 20, 10.0, False)])
    nothing = evaluate_detections(detections([]), samples(1), wanted, spec=SPEC)
    assert nothing.value("ap50") == 0.0
    assert nothing.value("recall") == 0.0
    assert nothing.value("precision") is None
