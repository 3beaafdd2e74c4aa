"""`gold.scenarios` of simulated drives against the true ones."""

from __future__ import annotations

import json

import pytest

from simulation.scoring import score_scenarios
from spark_jobs.scenario_rules import RULES

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def report(run_job, frames_report):
    """Report of the run that found the fleet's scenarios."""
    assert frames_report.committed
    return run_job("gold_scenarios")


def test_the_true_scenarios_are_found(fleet, report, rows_of):
    """Every true scenario of the drives is found at its time, and nothing else."""
    found = rows_of("gold.scenarios")
    score = score_scenarios(fleet.truth, found)
    assert (score.recall, score.precision) == (1.0, 1.0)
    assert set(score.recall_by_kind) == {"hard_braking", "cut_in", "standstill"}
    assert report.rows == len(found) == score.true_scenarios


def test_a_scenario_says_what_was_measured(report, rows_of):
    """Rows carry the rule, its version, what was measured, and a clip that is not empty."""
    versions = {rule.scenario: rule.version for rule in RULES}
    for row in rows_of("gold.scenarios").to_pylist():
        assert row["start_ns"] < row["end_ns"]
        assert row["rule_version"] == versions[row["scenario"]]
        measured = json.loads(row["parameters"])
        assert all(isinstance(value, float) for value in measured.values())
        assert (row["actor"] is not None) == (row["scenario"] == "cut_in")
        if row["scenario"] == "hard_braking":
            assert measured["min_acceleration_m_s2"] < -3.5


def test_a_second_run_commits_nothing(run_job, report, rows_of, fleet):
    """The same frames and rules: no second commit, no question to Spark; each drive is known."""
    again = run_job("gold_scenarios", spark=None)
    assert (again.committed, again.version, again.drives) == (False, report.version, ())
    found = {row["drive_id"]: row["rows"] for row in rows_of("gold.scenario_versions").to_pylist()}
    assert set(found) == set(fleet.drive_ids)
    assert sum(found.values()) == len(rows_of("gold.scenarios"))


def test_a_rule_that_is_dropped_takes_its_rows_along(run_job, report, rows_of, fleet):
    """With fewer rules the rows of the others go from these drives; with all they are back."""
    drive = fleet.drive_ids[:1]

    def kinds():
        rows = rows_of("gold.scenarios").to_pylist()
        return {row["scenario"] for row in rows if row["drive_id"] == drive[0]}

    before = kinds()
    assert before - {"standstill"}
    changed = run_job("gold_scenarios", drive_ids=drive, rules=RULES[1:2])
    assert (changed.committed, changed.drives) == (True, drive)
    assert kinds() == before & {"standstill"}
    assert run_job("gold_scenarios", drive_ids=drive).committed
    assert kinds() == before
    assert len(rows_of("gold.scenarios")) == report.rows
