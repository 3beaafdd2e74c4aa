"""`silver.clocks` of simulated drives against their true clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import attrs
import pyarrow.compute as pc
import pytest

from simulation.scoring import score_clocks
from spark_jobs.shared_frames import bus_frame_tables, count_frames, read_shared_frames
from spark_jobs.tables import read_arrow
from udfs.sync.rules import SyncRules

pytestmark = pytest.mark.spark


def test_clocks_are_within_two_milliseconds_of_the_truth(fleet, clocks_report, rows_of):
    """Every recorder of every drive is tied to UTC, off by less than 2 ms, as its error says."""
    score = score_clocks(fleet.truth, rows_of("silver.clocks"))
    assert score.missing == ()
    assert len(score.error_ms) == clocks_report.rows == 9
    assert score.max_ms < 2.0
    assert score.covered >= 8 / 9


def test_each_clock_names_its_evidence(clocks_report, rows_of):
    """The ADAS computer is tied by GNSS time, the others by signals; the row says which."""
    rows = rows_of("silver.clocks").to_pylist()
    by_recorder = {row["recorder"]: row for row in rows}
    assert by_recorder["adas"]["method"] == "gnss_time"
    assert by_recorder["adas"]["reference"] == "utc"
    for recorder in ("bus", "reference"):
        assert by_recorder[recorder]["method"] == "shared_signal"
        assert "speed_m_s" in by_recorder[recorder]["evidence"]
        assert by_recorder[recorder]["correlation"] > 0.99
    assert all(row["valid_from_ns"] < row["valid_to_ns"] for row in rows)


def test_a_second_run_commits_nothing(run_job, clocks_report):
    """The same recordings and rules: no second commit, and no question to Spark."""
    again = run_job("silver_clocks", spark=None)
    assert (again.committed, again.version, again.drives) == (False, clocks_report.version, ())


def test_other_rules_replace_the_rows_of_their_drives(run_job, clocks_report, rows_of, fleet):
    """Rules that take no shared signal leave bus and reference assumed; the next run is back."""
    strict = attrs.evolve(SyncRules(), min_correlation=1.1)
    one = fleet.drive_ids[:1]
    try:
        report = run_job("silver_clocks", drive_ids=one, rules=strict)
        assert (report.rows, report.drives) == (3, one)
        rows = [row for row in rows_of("silver.clocks").to_pylist() if row["drive_id"] == one[0]]
        methods = {row["recorder"]: (row["method"], row["uncertainty_ns"]) for row in rows}
        assert methods["bus"] == methods["reference"] == ("assumed", None)
    finally:
        assert run_job("silver_clocks", drive_ids=one).rows == 3
    assert len(rows_of("silver.clocks")) == 9


def test_the_job_runs_alone(fleet, clocks_report):
    """`python -m spark_jobs.silver_clocks DRIVE` takes its places from the environment."""
    settings = fleet.settings
    environment = {
        **os.environ,
        "DRIVELAKE_HOME": str(settings.home),
        "SPARK_REMOTE": settings.spark_remote,
    }
    command = [sys.executable, "-m", "spark_jobs.silver_clocks", fleet.drive_ids[0]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["table"], report["committed"]) == ("silver.clocks", False)
    assert report["version"] >= clocks_report.version


def test_frames_are_read_where_two_recorders_of_a_drive_logged_them(fleet, rows_of):
    """Of ids that both hold every frame, of whole ids as many as are enough; of one logger none."""
    known = rows_of("bronze.recordings")
    buses = known.filter(pc.equal(known["recorder"], "bus"))["recording_id"].to_pylist()[:2]
    tables, options = bus_frame_tables(fleet.settings), fleet.settings.storage_options
    both = partial(
        read_shared_frames,
        tables,
        counts=count_frames(tables, buses, storage_options=options),
        storage_options=options,
    )
    frames = read_arrow(
        fleet.settings, "silver.can_frames", filters=[("recording_id", "in", buses)]
    )
    apart = dict(zip(buses, ("left", "right"), strict=True))
    assert len(both(apart)) == len(frames) > 0
    some = both(apart, at_most=1)
    of_id = pc.equal(frames["can_id"], some["can_id"][0])
    assert 1 < len(some) == len(frames.filter(of_id)) < len(frames)
    assert len(both(dict.fromkeys(buses, "one logger"))) == 0
