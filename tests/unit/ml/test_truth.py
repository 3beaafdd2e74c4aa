import pyarrow as pa
import pytest

from contracts.errors import SchemaMismatchError
from ml.truth import TRUTH_SCHEMA, truth_from_labels, truth_from_objects

T0 = 1_700_000_000_000_000_000


def object_row(**changes):
    """A visible car at T0."""
    return {
        "drive_id": "a",
        "t_ns": T0,
        "class_name": "car",
        "box2d_x0_px": 10.0,
        "box2d_y0_px": 20.0,
        "box2d_x1_px": 60.0,
        "box2d_y1_px": 50.0,
        "distance_m": 25.0,
        "visible_fraction": 1.0,
        **changes,
    }


def samples(*rows):
    """Samples from (sample, drive, time)."""
    return pa.table(
        {
            "sample_id": pa.array([row[0] for row in rows], pa.string()),
            "drive_id": pa.array([row[1] for row in rows], pa.string()),
            "t_ns": pa.array([row[2] for row in rows], pa.int64()),
        }
    )


def test_labels_as_truth(toy_dataset):
    """Every label of every sample becomes one row with the same corners."""
    part = toy_dataset.slice(3, 5)
    truth = truth_from_labels(part)
    assert truth.schema.equals(TRUTH_SCHEMA)
    expected = [
        (row["sample_id"], box["class_name"], box["x0_px"], box["distance_m"])
        for row in part.to_pylist()
        for box in row["boxes"]
    ]
    found = [
        (row["sample_id"], row["class_name"], row["x0_px"], row["distance_m"])
        for row in truth.to_pylist()
    ]
    assert found == expected
    assert not any(truth["is_ignored"].to_pylist())


def test_sample_takes_the_nearest_instant_of_its_drive():
    """A clock error of milliseconds finds the right frame; another drive's objects stay away."""
    objects = pa.Table.from_pylist(
        [
            object_row(),
            object_row(t_ns=T0 + 100_000_000, class_name="truck"),
            object_row(drive_id="b", class_name="cyclist"),
        ]
    )
    table = samples(("s0", "a", T0 + 2_000_000), ("s1", "a", T0 + 98_000_000), ("s2", "b", T0))
    found = truth_from_objects(table, objects)
    assert [(row["sample_id"], row["class_name"]) for row in found.to_pylist()] == [
        ("s0", "car"),
        ("s1", "truck"),
        ("s2", "cyclist"),
    ]


def test_farther_than_the_tolerance_has_no_truth():
    """A sample between two instants is not given the objects of either."""
    objects = pa.Table.from_pylist([object_row(), object_row(t_ns=T0 + 100_000_000)])
    assert not truth_from_objects(samples(("s", "a", T0 + 50_000_000)), objects).num_rows


def test_hidden_low_far_and_absent_objects():
    """Mostly hidden, very low and far objects are ignored, those out of the image are no rows."""
    objects = pa.Table.from_pylist(
        [
            object_row(),
            object_row(visible_fraction=0.1),
            object_row(box2d_y1_px=25.0),
            object_row(distance_m=51.0),
            object_row(box2d_x0_px=None),
        ]
    )
    found = truth_from_objects(samples(("s", "a", T0)), objects)
    assert sorted(found["is_ignored"].to_pylist()) == [False, True, True, True]


def test_missing_column_is_named():
    """A truth of another shape is refused with the column's name."""
    objects = pa.Table.from_pylist([object_row()]).drop_columns(["distance_m"])
    with pytest.raises(SchemaMismatchError, match="distance_m"):
        truth_from_objects(samples(("s", "a", T0)), objects)
