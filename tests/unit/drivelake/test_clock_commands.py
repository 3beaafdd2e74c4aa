"""`drivelake clocks`: what the tables say of the clocks of a drive."""

from __future__ import annotations

import json
import sys

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from contracts.tables import TABLES
from drivelake.cli import main

CLOCKS, FRAMES = TABLES["silver.clocks"].schema, TABLES["silver.frames"].schema
S, MS = 10**9, 10**6


def segment(recording, start, end, offset, **more):
    given = {
        "drive_id": "drive-1",
        "recording_id": recording,
        "recorder": recording.removeprefix("rec-"),
        "reference": "utc",
        "valid_from_ns": start,
        "valid_to_ns": end,
        "anchor_ns": start,
        "offset_ns": offset,
        "drift_ppb": 10_000.0,
        "uncertainty_ns": MS,
        "drift_uncertainty_ppb": 500.0,
        "method": "gnss_time",
        "evidence": "/gnss/time",
        "samples": 9,
    }
    return given | more


@pytest.fixture
def lake(tmp_path):
    """A clock that jumps by 250 ms, one that nothing ties, and frames, the last without lidar."""
    sensor = {
        "topic": "/imu", "valid_from_ns": 0, "valid_to_ns": 20 * S, "anchor_ns": 10 * S,
        "offset_ns": -7 * S, "drift_ppb": 3_000.0, "uncertainty_ns": MS,
        "drift_uncertainty_ppb": 100.0, "samples": 2_000,
    }  # fmt: skip
    ties = [{"clock_ns": 6 * S + i * S, "residual_ns": (-1) ** i * (i + 1) * MS} for i in range(3)]
    rows = [
        segment("rec-adas", 0, 10 * S, 5 * S, sensors=[sensor], residuals=ties),
        segment(
            "rec-adas", 11 * S, 20 * S, 5 * S + 250 * MS + 110_000, alert="signals differ by 3 ms",
            sensors=[sensor],
        ),
        segment(
            "rec-bus", 0, 20 * S, 0,
            method="assumed", reference="none", uncertainty_ns=None, drift_uncertainty_ppb=None,
        ),
    ]  # fmt: skip
    frames = [
        {
            "drive_id": "drive-1",
            "clock": "utc",
            "t_ns": i * S,
            "camera_topic": "/camera",
            "lidar_state": "gap" if i == 3 else "ok",
            "lidar_sync_error_ns": None if i == 3 else -4 * MS,
            "clock_uncertainty_ns": MS,
            "is_complete": i != 3,
        }
        for i in range(4)
    ]
    folder = tmp_path / "home" / "lake" / "silver"
    write_deltalake(str(folder / "clocks"), pa.Table.from_pylist(rows, CLOCKS))
    write_deltalake(str(folder / "frames"), pa.Table.from_pylist(frames, FRAMES))
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DRIVELAKE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["drivelake", "clocks", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.mark.usefixtures("lake")
def test_a_drive_is_told_by_segment_and_stream(call):
    """A jump is what the clock gained between two segments; states are counted, and placed."""
    code, said, _ = call("drive-1", "--json")
    assert code == 0
    report = json.loads(said)
    adas = [row for row in report["segments"] if row["recorder"] == "adas"]
    assert [row["jump_ns"] for row in adas] == [None, 250 * MS + 10_000]
    (course,) = report["courses"]
    assert (course["recorder"], report["seconds"]) == ("adas", pytest.approx(19.75, abs=0.01))
    assert course["offset_ms"][0] == 0.0
    assert course["offset_ms"][-1] == pytest.approx(250.2, abs=0.05)
    assert set(map(type, course["offset_ms"])) == {float, type(None)}
    assert max(filter(None, course["half_width_ms"])) == pytest.approx(1.96, abs=0.01)
    assert (course["ties"], course["usual_residual_ms"], course["largest_residual_ms"]) == (3, 2, 3)
    assert [value for value in course["residual_ms"] if value is not None] == [1.0, -2.0, 3.0]
    (sensor,) = report["sensors"]
    assert (sensor["recorder"], sensor["topic"], sensor["offset_ns"]) == ("adas", "/imu", -7 * S)
    (camera,) = report["cameras"]
    assert (camera["frames"], camera["complete"], camera["uncertainty_ms"]) == (4, 3, 1.0)
    (lidar,) = (each for each in camera["streams"] if each["name"] == "lidar")
    assert lidar["frames"] == {"gap": 1, "ok": 3}
    assert (lidar["median_ms"], lidar["p99_ms"], lidar["largest_ms"]) == (4.0, 4.0, 4.0)
    assert lidar["histogram"] == [0] * 15 + [3]
    assert [share for share in lidar["timeline"] if share is not None] == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.usefixtures("lake")
def test_people_see_it(call):
    """The tables name offsets with their 95 %, the jump, what is unknown, and a timeline."""
    code, said, _ = call("drive-1")
    assert code == 0
    for words in (
        "5,000.000",
        "1.960",
        "250.010",
        "unknown",
        "3 of 4 complete",
        "█",
        "1 gap",
        "▁▁",
        "/imu",
        "-7.000000",
        "How far ties were off the line",
        "adas: signals differ by 3 ms",
    ):
        assert words in said, words


@pytest.mark.usefixtures("lake")
def test_all_drives_are_listed(call):
    """Without a drive: one row each, with how its recorders are tied and how often they jumped."""
    code, said, _ = call("--json")
    assert code == 0
    assert json.loads(said) == [
        {
            "drive_id": "drive-1",
            "recorders": {"assumed": ["bus"], "gnss_time": ["adas"]},
            "jumps": 1,
            "uncertainty_ns": MS,
        }
    ]
    assert "gnss_time: adas" in call()[1]


def test_a_recorder_without_a_name_is_a_short_hash(call, lake):
    """Twelve characters of the recording say which it is, in the list as for one drive."""
    rows = [segment("a1b2" * 16, 0, 10 * S, 0, recorder=None)]
    write_deltalake(str(lake / "clocks"), pa.Table.from_pylist(rows, CLOCKS), mode="overwrite")
    for said in (call()[1], call("drive-1")[1]):
        assert "a1b2a1b2a1b2" in said
        assert "a1b2a1b2a1b2a" not in said


def test_what_is_not_there_is_one_sentence(call, lake):
    """An unknown drive or no table: exit code 2; a table of an earlier version: 1, and why."""
    code, _, says = call("drive-9")
    assert (code, says.count("\n")) == (2, 1)
    assert "no clocks of a drive drive-9" in says
    (lake / "clocks").rename(lake / "put-aside")
    code, _, says = call()
    assert code == 2
    assert "There is no table silver.clocks" in says
    old = pa.Table.from_pylist([segment("rec-adas", 0, S, 0)], CLOCKS).drop_columns("anchor_ns")
    write_deltalake(str(lake / "clocks"), old)
    code, _, says = call("drive-1")
    assert code == 1
    assert "it has no anchor_ns" in says
