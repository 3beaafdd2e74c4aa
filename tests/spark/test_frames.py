"""`silver.frames` of simulated drives against their truth."""

from __future__ import annotations

import attrs
import numpy as np
import pyarrow.compute as pc
import pytest

from tests.spark.recorded_drive import add_recording, frames_by_slices, rows_by_time
from udfs.sync.rules import SyncRules

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def frames(frames_report, rows_of):
    """Frames of the fleet."""
    table = rows_of("silver.frames")
    assert len(table) == frames_report.rows
    return table


def test_one_frame_for_every_recorded_image(fleet, frames):
    """Every image gives one frame; dropped images give none, and none is there twice."""
    for drive_id, truth in fleet.truth.items():
        recorded = truth.objects.filter(truth.objects["frame_recorded"])
        exposures = np.sort(pc.unique(recorded["t_ns"]).to_numpy())
        mine = np.sort(frames.filter(pc.equal(frames["drive_id"], drive_id))["t_ns"].to_numpy())
        assert len(mine) == len(exposures)
        assert np.abs(mine - exposures).max() < 5_000_000


def test_values_are_those_of_the_instant(fleet, frames):
    """Speed, yaw rate and steering at each frame are the true ones at its exposure."""
    for drive_id, truth in fleet.truth.items():
        mine = frames.filter(pc.equal(frames["drive_id"], drive_id))
        t_ns = mine["t_ns"].to_numpy()
        knots = truth.ego["t_ns"].to_numpy()
        for name, tolerance in (
            ("speed_m_s", 0.15),
            ("yaw_rate_rad_s", 0.02),
            ("steering_angle_rad", 0.03),
        ):
            true = np.interp(t_ns - knots[0], knots - knots[0], truth.ego[name].to_numpy())
            found = mine[name].to_numpy(zero_copy_only=False)
            assert np.sqrt(np.nanmean((found - true) ** 2)) < tolerance, name
            assert np.isfinite(found).mean() > 0.95


def test_each_value_states_its_own_error(frames):
    """A value is there exactly if its state is ok, and the row's error is the largest of them."""
    rows = frames.to_pylist()
    streams = {
        "lidar": "lidar_recording_id",
        "gnss": "latitude_deg",
        "pose": "yaw_rad",
        "speed": "speed_m_s",
        "yaw_rate": "yaw_rate_rad_s",
        "acceleration": "acceleration_m_s2",
        "steering_angle": "steering_angle_rad",
    }
    for row in rows:
        states = {stream: row[f"{stream}_state"] for stream in streams}
        for stream, value in streams.items():
            assert (row[value] is not None) == (states[stream] == "ok")
            if states[stream] == "ok":
                assert row[f"{stream}_t_ns"] - row["t_ns"] == row[f"{stream}_sync_error_ns"]
        used = [abs(row[f"{stream}_sync_error_ns"]) for stream in streams if states[stream] == "ok"]
        assert row["sync_error_ns"] == max(used)
        assert row["is_complete"] == (set(states.values()) == {"ok"})
        assert row["clock"] == "utc"
        assert 0 < row["clock_uncertainty_ns"] < 3_000_000


def test_no_sweep_serves_two_frames(frames):
    """Sweeps are lost, and still no frame silently gets its neighbour's."""
    pointers = [
        (row["lidar_recording_id"], row["lidar_unit_offset"], row["lidar_data_offset"])
        for row in frames.to_pylist()
        if row["lidar_state"] == "ok"
    ]
    assert len(pointers) == len(set(pointers)) > 0.95 * len(frames)
    assert "stale" in pc.unique(frames["lidar_state"]).to_pylist()


def test_pointers_lead_to_the_image(spark, fleet, frames):
    """The bytes at a frame's pointer are a JPEG of the camera's size."""
    from spark_jobs.payloads import places_of, read_payloads
    from spark_jobs.tables import read_arrow
    from udfs.geometry.images import jpeg_size

    part = frames.sort_by("t_ns").slice(0, 5)
    images = read_payloads(
        part["camera_recording_id"].to_pylist(),
        pointers=tuple(
            part[f"camera_{name}"] for name in ("unit_offset", "data_offset", "data_length")
        ),
        places=places_of(read_arrow(fleet.settings, "bronze.recordings")),
        storage_options={},
    )
    assert [jpeg_size(image) for image in images] == [(320, 192)] * 5


def test_a_second_run_commits_nothing(fleet, frames_report):
    """The same clocks and rules: no second commit, and no question to Spark."""
    from spark_jobs import silver_frames

    again = silver_frames.run(None, fleet.settings, drive_ids=fleet.drive_ids)
    assert (again.committed, again.version) == (False, frames_report.version)
    assert again.drives == ()


def test_slices_of_seconds_show_no_seam(spark, fleet, frames):
    """Drives cut into tasks of 3 s, of which the channels are looked at first, give the same."""
    mine = fleet.drive_ids[0]
    found = frames_by_slices(spark, fleet.settings, mine, slice_ns=3_000_000_000)
    whole = frames.filter(pc.equal(frames["drive_id"], mine))
    assert rows_by_time(found) == rows_by_time(whole)


def test_late_data_and_new_rules(spark, settings):
    """Late data remakes the frames that it may change, new rules all; old ones stay readable."""
    from spark_jobs import silver_frames
    from spark_jobs.tables import read_arrow

    def stored(version=None):
        filters = [("drive_id", "=", "late")]
        return rows_by_time(read_arrow(settings, "silver.frames", filters=filters, version=version))

    def synchronise(**options):
        report = silver_frames.run(spark, settings, drive_ids=["late"], **options)
        assert report.drives == ("late",)
        return stored(report.version), report

    camera, pose = np.arange(0.005, 20, 0.1), np.arange(0.0, 20, 0.02)
    add_recording(settings, "first", images=camera, odometry=pose[:-100])
    first, _ = synchronise()
    assert [row["pose_state"] for row in first].count("ok") == 181
    add_recording(settings, "late", odometry=pose[-100:])
    second, report = synchronise()
    assert {row["pose_state"] for row in second} == {"ok"}
    kept = [row for row in second if row["sync_version"] == first[0]["sync_version"]]
    assert 0 < len(kept) < len(first) == len(second)
    assert kept == first[: len(kept)]
    assert report.rows == len(second) - len(kept)
    align = SyncRules().align
    narrow = {**align, "pose": attrs.evolve(align["pose"], max_gap_ns=1_000, max_error_ns=1_000)}
    third, _ = synchronise(rules=attrs.evolve(SyncRules(), align=narrow))
    assert "gap" in {row["pose_state"] for row in third}
    assert {row["sync_version"] for row in third}.isdisjoint(row["sync_version"] for row in second)
    versions = read_arrow(
        settings, "silver.frame_versions", filters=[("drive_id", "=", "late")]
    ).to_pylist()
    history = sorted(versions, key=lambda row: row["created_ns"])
    assert [stored(row["frames_version"]) for row in history] == [first, second, third]
    assert [row["from_ns"] is None for row in history] == [True, False, True]
    rules = [row["rules_version"] for row in history]
    assert rules[0] == rules[1] != rules[2]
