import numpy as np
import pyarrow as pa
import pytest

from contracts.errors import ContractViolation, DecodeError
from contracts.tables import TABLES
from ml.config import CLASSES, DetectorConfig
from ml.data import (
    Boxes,
    Images,
    batch_rows,
    boxes_from_samples,
    decode_images,
    make_batch,
    network_input,
    select_split,
)

CONFIG = DetectorConfig(height_px=96, width_px=160)


def with_boxes(table, boxes):
    """The table with other boxes."""
    schema = TABLES["gold.dataset_samples"].schema
    rows = [{**row, "boxes": new} for row, new in zip(table.to_pylist(), boxes, strict=True)]
    return pa.Table.from_pylist(rows, schema=schema)


def box(name="car", corners=(10, 20, 50, 60), confidence=1.0):
    """One label."""
    keys = ("x0_px", "y0_px", "x1_px", "y1_px")
    return {
        "class_name": name,
        **dict(zip(keys, corners, strict=True)),
        "distance_m": 20.0,
        "confidence": confidence,
    }


def test_images_and_boxes_are_scaled_alike(toy_dataset):
    """Source pixels over input pixels is 2 here, and boxes shrink by it."""
    samples = with_boxes(toy_dataset.slice(0, 2), [[box()], []])
    images = decode_images(samples, CONFIG)
    boxes = boxes_from_samples(samples, images, classes=CLASSES)
    assert images.pixels.shape == (2, 96, 160, 3)
    assert images.scales.tolist() == [[2, 2], [2, 2]]
    assert boxes.xyxy.tolist() == [[5, 10, 25, 30]]
    assert boxes.image.tolist() == [0]


def test_boxes_find_their_image_when_others_have_none(toy_dataset):
    """Empty and null lists of boxes do not shift the boxes of later images."""
    samples = with_boxes(toy_dataset.slice(0, 4), [[], [box()], None, [box("truck"), box()]])
    boxes = boxes_from_samples(samples, decode_images(samples, CONFIG), classes=CLASSES)
    assert boxes.image.tolist() == [1, 3, 3]
    assert [CLASSES[kind] for kind in boxes.class_index] == ["car", "truck", "car"]


def test_weak_and_tiny_labels_are_left_out(toy_dataset):
    """Labels under the confidence or a pixel are not learned; a null confidence counts as 1."""
    labels = [box(confidence=0.2), box(confidence=None), box(corners=(5, 5, 6, 40))]
    samples = with_boxes(toy_dataset.slice(0, 1), [labels])
    images = decode_images(samples, CONFIG)
    kept = boxes_from_samples(samples, images, classes=CLASSES, minimum_confidence=0.3)
    assert kept.confidence.tolist() == [1.0]


def test_sliced_table_keeps_its_boxes(toy_dataset):
    """A slice of a table gives the boxes of that slice, not those of its start."""
    part = toy_dataset.slice(7, 3)
    expected = [len(boxes) for boxes in part["boxes"].to_pylist()]
    boxes = boxes_from_samples(part, decode_images(part, CONFIG), classes=CLASSES)
    assert np.bincount(boxes.image, minlength=3).tolist() == expected


def test_unknown_class_is_named(toy_dataset):
    """A class that the detector does not know is an error, not a background."""
    samples = with_boxes(toy_dataset.slice(0, 1), [[box("tram")]])
    with pytest.raises(ContractViolation, match="tram"):
        boxes_from_samples(samples, decode_images(samples, CONFIG), classes=CLASSES)


@pytest.mark.parametrize("data", [b"", b"no jpeg", None, b"\xff\xd8\xff\xe0cut"])
def test_bad_image_names_its_sample(toy_dataset, data):
    """Bytes that are no JPEG end in a DecodeError with the sample's id."""
    row = {**toy_dataset.slice(0, 1).to_pylist()[0], "image_jpeg": data}
    samples = pa.Table.from_pylist([row], schema=TABLES["gold.dataset_samples"].schema)
    with pytest.raises(DecodeError) as failed:
        decode_images(samples, CONFIG)
    assert failed.value.code == "BAD_IMAGE"
    assert failed.value.topic == row["sample_id"]


def test_network_input_is_rgb_planes():
    """Blue, green, red bytes become red, green and blue planes between 0 and 1."""
    pixels = np.array([[[[255, 0, 51]]]], np.uint8)
    planes = network_input(pixels)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes[0, :, 0, 0], [0.2, 0.0, 1.0])


def test_an_epoch_shows_every_sample_once():
    """Ten steps of seven over ten samples are seven whole permutations, each another one."""
    rows = np.concatenate(
        [batch_rows(step, samples=10, batch_size=7, seed=1) for step in range(10)]
    )
    epochs = rows.reshape(7, 10)
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 7


def test_a_batch_depends_on_its_step_alone():
    """The same step gives the same pixels and boxes whatever was asked before: runs can resume."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (5, 96, 160, 3), dtype=np.uint8)
    images = Images(tuple("abcde"), pixels, np.ones((5, 2), np.float32))
    boxes = Boxes(
        image=np.arange(5),
        xyxy=np.tile(np.array([20, 20, 60, 70], np.float32), (5, 1)),
        class_index=np.zeros(5, np.int64),
        confidence=np.ones(5, np.float32),
    )
    first = make_batch(images, boxes, 3, batch_size=4, seed=1)
    make_batch(images, boxes, 0, batch_size=4, seed=1)
    again = make_batch(images, boxes, 3, batch_size=4, seed=1)
    other = make_batch(images, boxes, 4, batch_size=4, seed=1)
    assert (first.pixels == again.pixels).all()
    assert (first.boxes.xyxy == again.boxes.xyxy).all()
    assert not (first.pixels == other.pixels).all()


def test_boxes_move_with_their_pixels():
    """After flip, zoom and shift the boxes still frame the bright rectangle, within a pixel."""
    pixels = np.zeros((1, 96, 160, 3), np.uint8)
    pixels[0, 30:60, 40:90] = 200
    images = Images(("a",), pixels, np.ones((1, 2), np.float32))
    boxes = Boxes(
        image=np.zeros(1, np.int64),
        xyxy=np.array([[40, 30, 90, 60]], np.float32),
        class_index=np.zeros(1, np.int64),
        confidence=np.ones(1, np.float32),
    )
    checked = 0
    for step in range(40):
        batch = make_batch(images, boxes, step, batch_size=1, seed=2)
        x0, y0, x1, y1 = batch.boxes.xyxy[0]
        if min(x0, y0) < 1 or x1 > 159 or y1 > 95:
            continue
        bright = batch.pixels[0, :, :, 0] > (int(batch.pixels.max()) + int(batch.pixels.min())) / 2
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(found, [x0, y0, x1, y1], atol=1.0)
        checked += 1
    assert checked > 10


def test_split_is_ordered_by_sample(toy_dataset):
    """The order of the table's rows never reaches the training; an empty split is an error."""
    ids = select_split(toy_dataset, "train")["sample_id"].to_pylist()
    assert ids == sorted(ids)
    assert len(ids) == 90
    with pytest.raises(ContractViolation, match="no sample"):
        select_split(toy_dataset, "holdout")
