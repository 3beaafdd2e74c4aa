"""Scores against the truth, on results made by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from contracts.tables import TABLES
from simulation.scoring import (
    DriveTruth,
    score_clocks,
    score_frames,
    score_labels,
    score_scenarios,
)
from simulation.truth import OBJECTS_SCHEMA

START_NS = 1_772_409_600_000_000_000
FRAME_NS = 100_000_000


def objects(*rows):
    """True objects from (frame, x, y, changes)."""
    full = []
    for number, x, y, changes in rows:
        row = {field.name: 0.0 for field in OBJECTS_SCHEMA}
        row |= {
            "t_ns": START_NS + number * FRAME_NS,
            "frame_number": number,
            "frame_recorded": True,
            "object_id": 1,
            "class_name": "car",
            "base_x_m": x,
            "base_y_m": y,
            "distance_m": float(np.hypot(x, y)),
            "lidar_points": 20,
            "visible_fraction": 1.0,
            "box2d_x0_px": 10.0,
            "box2d_y0_px": 10.0,
            "box2d_x1_px": 20.0,
            "box2d_y1_px": 20.0,
        }
        full.append({**row, **changes})
    return pa.Table.from_pylist(full, OBJECTS_SCHEMA)


def labels(*rows):
    """Labels from (frame, x, y, changes); their times are off by a clock's error."""
    full = [
        {
            "drive_id": "d",
            "t_ns": START_NS + number * FRAME_NS + 300_000,
            "class_name": "car",
            "position_x_m": x,
            "position_y_m": y,
            "distance_m": float(np.hypot(x, y)),
            "box_x0_px": 10.0,
            "box_y0_px": 10.0,
            "box_x1_px": 20.0,
            "box_y1_px": 15.0,
            **changes,
        }
        for number, x, y, changes in rows
    ]
    return pa.Table.from_pylist(full, TABLES["gold.labels"].schema)


def truth(**changes):
    """The truth of drive d."""
    clock = {"offset_ns": 1_000_000, "drift_ppm": 10.0, "jitter_ns": 0, "t_start_ns": START_NS}
    given = {
        "clocks": {"adas": clock, "bus": clock},
        "ego": pa.table({}),
        "objects": objects((0, 10, 0, {}), (200, 10, 0, {})),
        "scenarios": [],
        "conditions": {},
    }
    return {"d": DriveTruth("d", **{**given, **changes})}


def test_labels_by_hand():
    """Two of three objects found, two of three labels right; what does not count is left out."""
    true = objects(
        (0, 10, 0, {}),
        (0, 20, 0, {"class_name": "truck"}),
        (0, 30, 0, {}),
        (0, 40, 0, {"lidar_points": 4}),
        (0, 10, 20, {"box2d_x0_px": None}),
        (0, 60, 0, {}),
        (5, 10, 0, {}),
    )
    found = labels(
        (0, 10.5, 0, {}),
        (0, 20, 1.0, {}),
        (0, 33, 0, {}),
        (0, 10, 20, {"box_x0_px": None}),
        (0, 55, 0, {}),
    )
    score = score_labels(truth(objects=true), found)
    assert (score.true_objects, score.labels) == (3, 3)
    assert score.recall == score.precision == pytest.approx(2 / 3)
    assert score.class_accuracy == 0.5
    assert score.median_distance_m == pytest.approx(0.75)
    assert score.mean_iou_2d == pytest.approx(0.5)
    assert score.recall_by_class == {"car": 0.5, "truck": 1.0}


def test_a_label_matches_one_object_only():
    """Two labels on one object: one is right, the other is not."""
    score = score_labels(truth(), labels((0, 10.2, 0, {}), (0, 10.4, 0, {})))
    assert (score.recall, score.precision) == (1.0, 0.5)


def test_clocks_by_hand():
    """Errors count at mid-drive; an assumed clock is missing, not perfect."""
    rows = [
        {
            "recorder": "adas",
            "offset_ns": 1_100_000,
            "uncertainty_ns": 300_000,
            "method": "gnss_time",
        },
        {"recorder": "bus", "offset_ns": 1_100_000, "uncertainty_ns": None, "method": "assumed"},
    ]
    clocks = pa.Table.from_pylist(
        [{"drive_id": "d", **row} for row in rows], TABLES["silver.clocks"].schema
    )
    score = score_clocks(truth(), clocks)
    assert score.error_ms == {("d", "adas"): pytest.approx(0.0)}
    assert score.missing == (("d", "bus"),)
    assert (score.max_ms, score.covered) == (pytest.approx(0.0), 1.0)


def test_frames_by_hand():
    """What counts is the other clock's error at the frame less that of the image's own time."""
    rows = [
        {"recorder": "adas", "offset_ns": 1_000_000, "method": "gnss_time"},
        {"recorder": "bus", "offset_ns": 1_500_000, "method": "shared_signal"},
    ]
    clocks = pa.Table.from_pylist(
        [{"drive_id": "d", **row} for row in rows], TABLES["silver.clocks"].schema
    )
    times = (START_NS + 100_000, START_NS + 200 * FRAME_NS, START_NS + 100 * FRAME_NS)
    frames = pa.Table.from_pylist(
        [{"drive_id": "d", "clock": "utc", "t_ns": t_ns} for t_ns in times],
        TABLES["silver.frames"].schema,
    )
    score = score_frames(truth(), frames, clocks=clocks)
    assert score.frames == 2  # the third is no exposure of the truth
    assert score.image_rms_ms == pytest.approx((0.1**2 / 2) ** 0.5)
    assert score.rms_by_recorder_ms == {
        "adas": pytest.approx(((0.1**2 + 0.2**2) / 2) ** 0.5),
        "bus": pytest.approx(((0.6**2 + 0.3**2) / 2) ** 0.5),
    }
    assert score.max_ms == pytest.approx(0.6)


def test_scenarios_by_hand():
    """A scenario is found by one of its kind that covers it; half of what was found is true."""
    scenarios = [
        {"kind": "cut_in", "start_ns": 0, "end_ns": 100, "actor": 1},
        {"kind": "standstill", "start_ns": 0, "end_ns": 100, "actor": None},
    ]
    found = pa.Table.from_pylist(
        [
            {"drive_id": "d", "scenario": "cut_in", "start_ns": 20, "end_ns": 110},
            {"drive_id": "d", "scenario": "cut_in", "start_ns": 90, "end_ns": 300},
        ],
        TABLES["gold.scenarios"].schema,
    )
    score = score_scenarios(truth(scenarios=scenarios), found)
    assert (score.recall, score.precision) == (0.5, 0.5)
    assert score.recall_by_kind == {"cut_in": 1.0, "standstill": 0.0}
    assert (score.true_scenarios, score.found) == (2, 2)
