"""`silver.frames` of simulated drives against their truth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

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
    from spark_jobs.frame_plan import DriveWork, plan_frames
    from spark_jobs.silver_files import silver_tables
    from spark_jobs.silver_frames import frames_from
    from spark_jobs.tables import read_arrow
    from udfs.sync.rules import SyncRules

    settings, rules = fleet.settings, SyncRules()
    mine = fleet.drive_ids[0]
    clocks = read_arrow(settings, "silver.clocks", filters=[("drive_id", "=", mine)]).to_pylist()
    drives = [DriveWork(mine, clocks)]
    tables = silver_tables(settings, {row["recording_id"] for row in clocks}, rules=rules)
    plan = plan_frames(spark, settings, drives, tables, rules=rules, slice_ns=3_000_000_000)
    assert len(plan.tasks) > 4
    found = frames_from(spark, settings, plan, drives, tables, rules=rules).toArrow()
    whole = frames.filter(pc.equal(frames["drive_id"], mine))
    assert rows_by_time(found.cast(whole.schema)) == rows_by_time(whole)


@pytest.fixture(scope="module")
def late(fleet, frames):
    """`late("silver.odometry", …)`: add rows of a drive that is one of the fleet's but for its ids.

    Gives the drive's id; its last second of poses comes in a recording of its own, and late.
    """
    from deltalake import write_deltalake

    from spark_jobs.delta import open_table
    from spark_jobs.tables import read_arrow, table_exists
    from udfs.sync.rules import SyncRules

    settings, original = fleet.settings, fleet.drive_ids[0]
    [*bronze] = read_arrow(
        settings, "bronze.recordings", filters=[("drive_id", "=", original)]
    ).to_pylist()
    ids = {row["recording_id"]: f"f0{row['recording_id'][2:]}" for row in bronze}
    poses = read_arrow(settings, "silver.odometry", filters=[("recording_id", "in", list(ids))])
    [recording] = pc.unique(poses["recording_id"]).to_pylist()
    cut_ns = pc.max(poses["log_time_ns"]).as_py() - 1_000_000_000

    def add(name, rows):
        where = open_table(settings, name)
        schema = pa.schema(where.schema().to_arrow())
        write_deltalake(where, pa.table(rows.select(schema.names)).cast(schema), mode="append")

    def rows_with(rows, recording_id, **changes):
        for column, value in {"recording_id": recording_id, **changes}.items():
            at = rows.schema.get_field_index(column)
            rows = rows.set_column(
                at, rows.schema.field(at), pa.array([value] * len(rows), rows.schema.field(at).type)
            )
        return rows

    def copy(name, old, new, condition=None, **changes):
        rows = read_arrow(settings, name, filters=[("recording_id", "=", old)])
        rows = rows if condition is None else rows.filter(condition)
        add(name, rows_with(rows, new, **changes))

    drive = f"late-{original}"
    before, after = pc.field("log_time_ns") <= cut_ns, pc.field("log_time_ns") > cut_ns
    for old, new in ids.items():
        for table in sorted(SyncRules().tables):
            if table_exists(settings, f"silver.{table}"):
                copy(f"silver.{table}", old, new, before if table == "odometry" else None)
        for name in ("bronze.recordings", "silver.clocks"):
            copy(name, old, new, drive_id=drive)

    def arrive():
        new = f"f1{recording[2:]}"
        copy("silver.odometry", recording, new, after)
        copy(
            "bronze.recordings",
            recording,
            new,
            drive_id=drive,
            start_ns=cut_ns,
            end_ns=cut_ns + 1_000_000_000,
        )
        copy("silver.clocks", recording, new, drive_id=drive)

    return drive, arrive


def test_late_data_and_new_rules(spark, fleet, late):
    """Late data remakes the frames that it may change, new rules all; old ones stay readable."""
    import attrs

    from spark_jobs import silver_frames
    from spark_jobs.tables import read_arrow
    from udfs.sync.rules import SyncRules

    settings, (drive, arrive) = fleet.settings, late

    def synchronise(rules=None):
        report = silver_frames.run(spark, settings, drive_ids=[drive], rules=rules)
        assert report.drives == (drive,)
        return stored(report.version), report

    def stored(version=None):
        filters = [("drive_id", "=", drive)]
        return rows_by_time(read_arrow(settings, "silver.frames", filters=filters, version=version))

    first, _ = synchronise()
    assert first[-1]["pose_state"] != "ok"
    arrive()
    second, report = synchronise()
    assert second[-1]["pose_state"] == "ok"
    kept = [row for row in second if row["sync_version"] == first[0]["sync_version"]]
    assert 0 < len(kept) < len(first) == len(second)
    assert kept == first[: len(kept)]
    assert report.rows == len(second) - len(kept)
    rules = SyncRules()
    narrow = attrs.evolve(
        rules, quantity_align=attrs.evolve(rules.quantity_align, max_gap_ns=1_000)
    )
    third, _ = synchronise(narrow)
    assert {row["sync_version"] for row in third}.isdisjoint(row["sync_version"] for row in second)
    assert {row["speed_state"] for row in second} != {row["speed_state"] for row in third}
    versions = read_arrow(settings, "silver.frame_versions", filters=[("drive_id", "=", drive)])
    history = sorted(versions.to_pylist(), key=lambda row: row["created_ns"])
    assert [stored(row["frames_version"]) for row in history] == [first, second, third]
    assert [row["from_ns"] is None for row in history] == [True, False, True]
    assert history[0]["rules_version"] == history[1]["rules_version"] != history[2]["rules_version"]


def rows_by_time(frames):
    """Rows of frames in the order of camera and time."""
    return sorted(frames.to_pylist(), key=lambda row: (row["camera_topic"], row["t_ns"]))
