"""`gold.labels` of simulated drives against the true objects."""

from __future__ import annotations

import attrs
import pyarrow.compute as pc
import pytest

from simulation.scoring import score_labels
from udfs.perception.rules import LabelRules

pytestmark = pytest.mark.spark


def test_labels_agree_with_the_true_objects(fleet, labels_report, rows_of):
    """Of visible objects with five lidar points within 50 m most are found, few are invented."""
    labels = rows_of("gold.labels")
    assert labels_report.rows == len(labels)
    score = score_labels(fleet.truth, labels)
    assert score.true_objects > 500
    assert score.recall > 0.85
    assert score.precision > 0.85
    assert score.class_accuracy > 0.95
    assert score.median_distance_m < 0.3
    assert score.mean_iou_2d > 0.75


def test_labels_are_well_formed(fleet, labels_report, rows_of):
    """Identities are unique, rectangles lie in the image, confidences are probabilities."""
    labels = rows_of("gold.labels")
    assert pc.count_distinct(labels["label_id"]).as_py() == len(labels)
    inside = labels.filter(labels["box_x0_px"].is_valid())
    assert 0 < len(inside) < len(labels)
    for low, high, size in (("x0", "x1", 320), ("y0", "y1", 192)):
        assert pc.all(pc.greater_equal(inside[f"box_{low}_px"], 0)).as_py()
        assert pc.all(pc.less_equal(inside[f"box_{high}_px"], size)).as_py()
        assert pc.all(pc.less(inside[f"box_{low}_px"], inside[f"box_{high}_px"])).as_py()
    bounds = pc.min_max(labels["confidence"]).as_py()
    assert 0 <= bounds["min"] <= bounds["max"] <= 1
    assert pc.min(labels["lidar_points"]).as_py() >= LabelRules().min_points


def test_a_second_run_commits_nothing(run_job, labels_report):
    """The same frames and rules: no second commit, and no question to Spark."""
    before = run_job("gold_labels")
    again = run_job("gold_labels", spark=None)
    assert (again.committed, again.version, again.drives) == (False, before.version, ())
    assert before.version >= labels_report.version


def test_other_rules_label_anew(run_job, labels_report, rows_of, fleet):
    """Rules that ask for more points give fewer labels with another version, and only those."""
    one = fleet.drive_ids[:1]
    before = len(rows_of("gold.labels"))
    rules = attrs.evolve(LabelRules(), min_points=40)
    try:
        report = run_job("gold_labels", drive_ids=one, rules=rules)
        mine = rows_of("gold.labels").filter(pc.field("drive_id") == one[0])
        assert report.rows == len(mine) > 0
        assert pc.unique(mine["labeller_version"]).to_pylist() == [rules.version]
        assert pc.min(mine["lidar_points"]).as_py() >= 40
    finally:
        run_job("gold_labels", drive_ids=one)
    assert len(rows_of("gold.labels")) == before
