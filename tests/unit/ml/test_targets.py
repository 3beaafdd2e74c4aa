import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.config import STRIDE_PX
from ml.data import Boxes
from ml.targets import box_iou, decode_outputs, make_targets

GRID = (24, 40)


def boxes_of(xyxy, kinds):
    """Boxes of one image."""
    return Boxes(
        image=np.zeros(len(xyxy), np.int64),
        xyxy=np.array(xyxy, np.float32).reshape(-1, 4),
        class_index=np.array(kinds, np.int64),
        confidence=np.ones(len(xyxy), np.float32),
    )


def logits(targets):
    """Outputs of a detector that learned its targets by heart."""
    chance = np.clip(targets.scores, 1e-4, 0.999)
    return np.log(chance / (1 - chance))


@settings(max_examples=60, deadline=None)
@given(
    left=st.floats(0, 280),
    top=st.floats(0, 160),
    width=st.floats(3, 200),
    height=st.floats(3, 150),
    kind=st.integers(0, 3),
)
def test_perfect_outputs_give_the_box_back(left, top, width, height, kind):
    """A detector that states the targets finds the box at its place, size and class."""
    box = [left, top, min(left + width, 320), min(top + height, 192)]
    targets = make_targets(boxes_of([box], [kind]), batch_size=1, classes=4, grid=GRID)
    found = decode_outputs(logits(targets), targets.boxes, np.ones((1, 2), np.float32))
    assert found.class_index[0] == kind
    assert found.score[0] > 0.99
    assert box_iou(found.xyxy[:1], np.array([box], np.float32))[0, 0] > 0.99


def test_scales_lead_back_to_source_pixels():
    """Boxes come out in pixels of the source image, x and y scaled apart."""
    targets = make_targets(boxes_of([[80, 40, 160, 120]], [0]), batch_size=1, classes=4, grid=GRID)
    scales = np.array([[2.0, 3.0]], np.float32)
    found = decode_outputs(logits(targets), targets.boxes, scales)
    np.testing.assert_allclose(found.xyxy[0], [160, 120, 320, 360], atol=0.5)


def test_every_box_has_a_peak_and_a_weight():
    """However small, a box has one cell of score 1, and its weights sum to 1."""
    xyxy = [[3, 3, 5, 5], [100, 50, 300, 180], [60, 100, 64, 130]]
    targets = make_targets(boxes_of(xyxy, [0, 1, 2]), batch_size=1, classes=4, grid=GRID)
    assert (targets.scores[0].max(axis=(1, 2))[:3] == 1).all()
    assert targets.scores[0, 3].max() == 0
    np.testing.assert_allclose(targets.weights.sum(), 3, atol=1e-5)


def test_smaller_box_takes_the_shared_cell():
    """A pedestrian before a truck keeps its own cells."""
    xyxy = [[152, 92, 160, 100], [60, 20, 252, 172]]
    targets = make_targets(boxes_of(xyxy, [2, 1]), batch_size=1, classes=4, grid=GRID)
    row, column = 96 // STRIDE_PX, 156 // STRIDE_PX
    assert np.exp(targets.boxes[0, 2, row, column]) * 32 == np.float32(8)


def test_empty_batch_has_no_targets():
    """No box: no score, no weight."""
    targets = make_targets(boxes_of([], []), batch_size=2, classes=4, grid=GRID)
    assert targets.scores.shape == (2, 4, 24, 40)
    assert not targets.scores.any()
    assert not targets.weights.any()


def test_weaker_box_of_the_same_class_is_dropped():
    """Two peaks on one object give one box; another class at the same place stays."""
    scores = np.full((1, 2, 8, 8), -9.0, np.float32)
    boxes = np.zeros((1, 4, 8, 8), np.float32)
    boxes[:, 2:] = np.log(64 / 32)
    scores[0, 0, 3, 2], scores[0, 0, 3, 4] = 3.0, 2.0
    scores[0, 1, 3, 2] = 1.0
    boxes[0, 0, 3, 4] = -1.5
    found = decode_outputs(scores, boxes, np.ones((1, 2), np.float32))
    assert found.class_index.tolist() == [0, 1]
    np.testing.assert_allclose(found.score, [0.953, 0.731], atol=1e-3)
    kept = decode_outputs(scores, boxes, np.ones((1, 2), np.float32), overlap=0.99)
    assert len(kept.score) == 3


def test_limit_and_threshold_hold():
    """Never more boxes than the limit, best first; none under the threshold."""
    random = np.random.default_rng(0)
    scores = random.normal(0, 2, (3, 4, 24, 40)).astype(np.float32)
    boxes = np.full((3, 4, 24, 40), -2.0, np.float32)
    found = decode_outputs(scores, boxes, np.ones((3, 2), np.float32), limit=5, threshold=0.6)
    assert np.bincount(found.image).tolist() == [5, 5, 5]
    assert (found.score >= 0.6).all()
    for image in range(3):
        assert (np.diff(found.score[found.image == image]) <= 0).all()


def test_wild_outputs_stay_boxes():
    """Extreme values of a broken target give finite boxes inside of the image."""
    scores = np.full((1, 4, 24, 40), 50.0, np.float32)
    boxes = np.full((1, 4, 24, 40), 1e6, np.float32)
    found = decode_outputs(scores, boxes, np.ones((1, 2), np.float32))
    assert np.isfinite(found.xyxy).all()
    assert (found.xyxy >= 0).all()
    assert (found.xyxy[:, [0, 2]] <= 320).all()


def test_interface_says_what_the_network_does():
    """The stated shapes are those of the network, and the stated formula gives the box back."""
    import torch

    from ml.config import DetectorConfig
    from ml.detector import build_detector
    from ml.targets import interface

    config = DetectorConfig(height_px=96, width_px=160, widths=(8, 8, 8, 8, 8))
    stated = json.loads(json.dumps(interface(config)))
    outputs = build_detector(config).eval()(torch.zeros(stated["input"]["shape"]))
    shapes = [list(output.shape) for output in outputs]
    assert shapes == [stated["outputs"][name]["shape"] for name in ("scores", "boxes")]
    targets = make_targets(boxes_of([[80, 40, 160, 120]], [0]), batch_size=1, classes=4, grid=GRID)
    row, column = np.unravel_index(targets.scores[0, 0].argmax(), GRID)
    dx, dy, log_width, log_height = targets.boxes[0, :, row, column].astype(float)
    names = {"row": row, "column": column, "dx": dx, "dy": dy, "exp": np.exp,
             "log_width": log_width, "log_height": log_height}  # fmt: skip
    boxes = stated["outputs"]["boxes"]
    np.testing.assert_allclose(eval(boxes["centre_px"], names), (120, 80), atol=1e-3)  # noqa: S307
    np.testing.assert_allclose(eval(boxes["size_px"], names), (80, 80), atol=1e-3)  # noqa: S307


def test_overlap_by_hand():
    """Half of each shared: a third; apart or without area: none."""
    first = np.array([[0, 0, 2, 2]], np.float32)
    second = np.array([[1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 2]], np.float32)
    np.testing.assert_allclose(box_iou(first, second), [[1 / 3, 0, 0]], atol=1e-6)
