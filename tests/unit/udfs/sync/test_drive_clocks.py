"""Clocks of a drive and frames on them, from silver rows without Spark."""

from __future__ import annotations

import datetime as dt

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.ndimage import gaussian_filter1d

from contracts.tables import TABLES
from udfs.sync.drive_clocks import clock_version, estimate_drive_clocks
from udfs.sync.frames import build_frames, sync_version
from udfs.sync.observations import OBSERVATIONS, columns_needed, observations_of
from udfs.sync.recorder_clocks import clocks_of as recorder_clocks_of
from udfs.sync.rules import SyncRules, si_factor, signal_key
from udfs.sync.time_scales import WEEK_NS, gps_from_utc_ns

START_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
DAY = dt.date(2026, 11, 20)
RULES = SyncRules()
LATENCY_NS = 4_000_000


def motion(seed=1, seconds=24.0):
    """True speed and yaw rate at 100 Hz as (seconds, speed, yaw rate)."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(-2.0, seconds + 2.0, 0.01)
    yaw_rate = 2.0 * gaussian_filter1d(rng.normal(size=len(t_s)), 70)
    speed = 12.0 + np.cumsum(15 * gaussian_filter1d(rng.normal(size=len(t_s)), 60)) * 0.01
    return t_s, speed, yaw_rate


def rows(table, t_s, *, offset_ns, recording, stamped=True, **columns):
    """Rows of a silver table: stamps on a clock that is `offset_ns` ahead of UTC."""
    sensor = START_NS + np.rint(np.asarray(t_s) * 1e9).astype(np.int64) + offset_ns
    schema = TABLES[table].schema if table in TABLES else None
    given = {
        "recording_id": [recording] * len(sensor),
        "topic": [f"/{table}"] * len(sensor),
        "log_time_ns": sensor + LATENCY_NS if stamped else sensor,
        "sensor_time_ns": sensor if stamped else pa.nulls(len(sensor), pa.int64()),
        "frame_id": ["sensor"] * len(sensor),
        **columns,
    }
    if schema is None:
        return pa.table(given)
    arrays = [
        pa.array(given[field.name], field.type)
        if field.name in given
        else pa.nulls(len(sensor), field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def signal(name, unit, t_s, value, **options):
    """Rows of silver.signals of one signal."""
    count = len(t_s)
    return rows(
        "silver.signals",
        t_s,
        stamped=False,
        signal=[name] * count,
        unit=[unit] * count,
        source=["Vehicle"] * count,
        value=value,
        **options,
    )


def drive(*, adas_ns=80_000_000, bus_ns=-3_200_000_000, gnss_time=True, moving=True):
    """Silver tables of a drive with an ADAS computer and a bus logger."""
    t_s, speed, yaw_rate = motion()
    if not moving:
        speed, yaw_rate = np.zeros(len(t_s)), np.zeros(len(t_s))
    rng = np.random.default_rng(2)

    def at(values, times, noise):
        return np.interp(times, t_s, values) + rng.normal(0, noise, len(times))

    camera_s, sweep_s, imu_s = (
        np.arange(0, 24, 0.1) + 0.017,
        np.arange(0, 24, 0.1),
        np.arange(0, 24, 0.01),
    )
    bus_s, odometry_s, second_s = np.arange(0, 24, 0.02), np.arange(0, 24, 0.02), np.arange(0, 24.0)
    adas = {"offset_ns": adas_ns, "recording": "adas-1"}
    bus = {"offset_ns": bus_ns, "recording": "bus-1"}
    zeros = np.zeros(len(odometry_s))
    tables = {
        "images": rows(
            "silver.images", camera_s, unit_offset=[-1] * 240, data_offset=range(240),
            data_length=[10] * 240, **adas,
        ),
        "point_clouds": rows(
            "silver.point_clouds", np.delete(sweep_s, [50, 51]), unit_offset=[-1] * 238,
            data_offset=range(238), data_length=[100] * 238, point_step_bytes=[20] * 238,
            is_bigendian=[False] * 238, **adas,
        ),
        "gnss": rows(
            "silver.gnss", np.arange(0, 24, 0.2), latitude_deg=np.full(120, 48.0),
            longitude_deg=np.full(120, 11.0), altitude_m=np.full(120, 500.0),
            fix_status=[0] * 120, **adas,
        ),
        "imu": rows(
            "silver.imu", imu_s, angular_velocity_z_rad_s=at(yaw_rate, imu_s, 0.004),
            linear_acceleration_x_m_s2=np.full(len(imu_s), np.nan), **adas,
        ),
        "odometry": rows(
            "silver.odometry", odometry_s, position_x_m=12 * odometry_s, position_y_m=zeros,
            orientation_x=zeros, orientation_y=zeros, orientation_z=zeros, orientation_w=zeros + 1,
            linear_velocity_x_m_s=at(speed, odometry_s, 0.03),
            angular_velocity_z_rad_s=at(yaw_rate, odometry_s, 0.01), **adas,
        ),
        "signals": pa.concat_tables(
            [
                signal("Vehicle_Speed", "km/h", bus_s, 3.6 * at(speed, bus_s, 0.01), **bus),
                signal("YawRate", "deg/s", bus_s, np.degrees(at(yaw_rate, bus_s, 0.002)), **bus),
                signal("SteeringAngle", "deg", bus_s, np.full(len(bus_s), 90.0), **bus),
                signal("LongAccel", "", bus_s, np.full(len(bus_s), 1.0), **bus),
            ]
        ),
    }  # fmt: skip
    if gnss_time:
        utc = START_NS + np.rint(second_s * 1e9).astype(np.int64)
        tables["sensor_msgs_timereference"] = rows(
            "silver.sensor_msgs_timereference", second_s,
            time_ref_ns=utc + rng.integers(-200_000, 200_000, len(utc)), **adas,
        )  # fmt: skip
    return tables


def recordings(*names):
    """Rows of bronze.recordings; the recorder is the name before the dash, if there is one."""
    return pa.table(
        {
            "drive_id": ["drive-1"] * len(names),
            "recording_id": list(names),
            "recorder": pa.array(
                [n.split("-")[0] if "-" in n else None for n in names], pa.string()
            ),
            "start_ns": [START_NS] * len(names),
            "end_ns": [START_NS + 24 * SECOND] * len(names),
            "ingest_date": [DAY] * len(names),
        }
    )


def clocks_of(tables, *names, rules=RULES):
    """Clock rows by recording."""
    found = estimate_drive_clocks(
        observations_of(tables, rules=rules), recordings=recordings(*names), rules=rules
    )
    assert found.schema.equals(TABLES["silver.clocks"].schema)
    return found, {row["recording_id"]: row for row in found.to_pylist()}


def test_gnss_time_and_shared_signals_tie_a_drive_to_utc():
    """One recorder by GNSS time, the other by what both saw: both offsets within 2 ms."""
    _, clocks = clocks_of(drive(), "adas-1", "bus-1")
    adas, bus = clocks["adas-1"], clocks["bus-1"]
    assert (adas["method"], adas["reference"]) == ("gnss_time", "utc")
    assert abs(adas["offset_ns"] - 80_000_000) < 3 * adas["uncertainty_ns"] < 1_000_000
    assert (bus["method"], bus["reference"]) == ("shared_signal", "adas")
    assert bus["evidence"] == "speed_m_s, yaw_rate_rad_s"
    assert abs(bus["offset_ns"] + 3_200_000_000) < min(3 * bus["uncertainty_ns"], 2_000_000)
    for clock in (adas, bus):
        assert abs(clock["drift_ppb"]) < 3 * clock["drift_uncertainty_ppb"]
        assert (clock["valid_from_ns"], clock["valid_to_ns"]) == (START_NS, START_NS + 24 * SECOND)


def test_without_utc_the_camera_is_the_reference():
    """No time reference: the camera's clock stands for the drive, the bus is tied to it."""
    tables = drive(gnss_time=False)
    table, clocks = clocks_of(tables, "adas-1", "bus-1")
    assert clocks["adas-1"]["method"] == "reference"
    assert (clocks["adas-1"]["offset_ns"], clocks["adas-1"]["uncertainty_ns"]) == (0, None)
    assert abs(clocks["bus-1"]["offset_ns"] + 3_280_000_000) < 2_000_000
    frames = build_frames(tables, table, rules=RULES)
    assert set(frames["clock"].to_pylist()) == {"reference"}
    assert frames["speed_state"].to_pylist().count("ok") > 230


def test_a_recorder_without_evidence_is_assumed_and_gives_no_values():
    """Standing still ties nothing: the bus is assumed, its values are no_clock, not wrong ones."""
    tables = drive(moving=False)
    table, clocks = clocks_of(tables, "adas-1", "bus-1")
    assert (clocks["bus-1"]["method"], clocks["bus-1"]["uncertainty_ns"]) == ("assumed", None)
    frames = build_frames(tables, table, rules=RULES)
    assert set(frames["steering_angle_state"].to_pylist()) == {"no_clock"}
    assert frames["steering_angle_rad"].null_count == len(frames) == 240
    assert frames["steering_angle_t_ns"].null_count == 240
    # The speed of the ADAS computer's own odometry stands in for that of the bus.
    assert set(frames["speed_state"].to_pylist()) == {"ok"}
    assert not any(frames["is_complete"].to_pylist())


def test_a_recorder_with_a_receivers_speed_alone_is_tied():
    """A logger that holds nothing but GNSS speed, once a second, has an offset within its error."""
    tables = drive()
    t_s, speed, _ = motion()
    second_s = np.arange(0.3, 24.0, 1.0)
    only = signal(
        "Speed", "m/s", second_s, np.interp(second_s, t_s, speed), offset_ns=1_500_000_000,
        recording="gps-1",
    )  # fmt: skip
    tables["signals"] = pa.concat_tables([tables["signals"], only])
    _, clocks = clocks_of(tables, "adas-1", "bus-1", "gps-1")
    gps = clocks["gps-1"]
    assert (gps["method"], gps["evidence"]) == ("shared_signal", "speed_m_s")
    assert abs(gps["offset_ns"] - 1_500_000_000) < 4 * gps["uncertainty_ns"] < 40_000_000


def test_a_recording_with_nothing_to_compare_is_assumed():
    """A recording without a single observation still has its row."""
    _, clocks = clocks_of(drive(), "adas-1", "bus-1", "mute")
    assert clocks["mute"]["method"] == "assumed"
    assert clocks["mute"]["recorder"] is None


def test_segments_of_one_recorder_share_its_clock():
    """Two files of one recorder are pooled, so each has the clock that both give."""
    tables = drive()
    half = START_NS + 12 * SECOND
    split = pa.array(
        ["bus-1" if t < half else "bus-2" for t in tables["signals"]["log_time_ns"].to_pylist()]
    )
    tables["signals"] = tables["signals"].set_column(0, "recording_id", split)
    _, clocks = clocks_of(tables, "adas-1", "bus-1", "bus-2")
    assert clocks["bus-1"]["offset_ns"] == clocks["bus-2"]["offset_ns"]
    assert abs(clocks["bus-1"]["offset_ns"] + 3_200_000_000) < 2_000_000


def test_frames_hold_every_sensor_at_the_exposure():
    """Values are in SI at the exposure in UTC, lost sweeps show, units unknown are not guessed."""
    tables = drive()
    table, _ = clocks_of(tables, "adas-1", "bus-1")
    frames = build_frames(tables, table, rules=RULES)
    assert frames.schema.equals(TABLES["silver.frames"].schema)
    t_s, speed, yaw_rate = motion()
    exposure_s = np.arange(0, 24, 0.1) + 0.017
    rows_ = frames.to_pylist()
    found = np.array([row["t_ns"] - START_NS for row in rows_]) / 1e9
    assert np.abs(found - exposure_s).max() < 0.001
    inside = exposure_s < 23.9
    for name, true, tolerance in (("speed_m_s", speed, 0.05), ("yaw_rate_rad_s", yaw_rate, 0.02)):
        values = np.array([row[name] for row in rows_], dtype=float)[inside]
        assert np.abs(values - np.interp(exposure_s[inside], t_s, true)).max() < tolerance
    steering = [row["steering_angle_rad"] for row in rows_ if row["steering_angle_rad"] is not None]
    assert steering == pytest.approx([np.pi / 2] * len(steering))
    assert {row["acceleration_state"] for row in rows_} == {"missing"}
    states = [row["lidar_state"] for row in rows_]
    assert [i for i, state in enumerate(states) if state != "ok"] == [50, 51]
    assert [row["camera_data_offset"] for row in rows_] == list(range(240))
    assert rows_[0]["lidar_sync_error_ns"] == pytest.approx(-17_000_000, abs=1_000)
    assert all(row["clock"] == "utc" and row["ingest_date"] == DAY for row in rows_)


@pytest.mark.parametrize("is_clock", [True, False])
def test_stamps_of_another_clock_are_placed_on_the_recorders(is_clock):
    """A sensor that counts from its start is placed by that clock, though its messages dawdle.

    Stamps that are no clock's give way to log times, as late as these are.
    """
    tables = drive()
    imu = tables["imu"]
    rng = np.random.default_rng(8)
    since = imu["sensor_time_ns"].to_numpy() - START_NS + 90 * SECOND
    late = np.rint(12e6 * np.exp(0.5 * rng.normal(size=len(since)))).astype(np.int64)
    booted = np.rint(since * (1 + 40e-6)).astype(np.int64)
    given = {
        "sensor_time_ns": booted if is_clock else rng.integers(0, SECOND, len(since)),
        "log_time_ns": np.maximum.accumulate(imu["sensor_time_ns"].to_numpy() + late),
    }
    for name, values in given.items():
        where = imu.schema.get_field_index(name)
        imu = imu.set_column(where, imu.schema.field(where), pa.array(values))
    tables["imu"] = imu
    table, clocks = clocks_of(tables, "adas-1", "bus-1")
    assert clocks["bus-1"]["sensors"] == []
    assert [each["topic"] for each in clocks["adas-1"]["sensors"]] == ["/silver.imu"] * is_clock
    frames = build_frames(tables, table, rules=RULES)
    assert set(frames["yaw_rate_state"].to_pylist()) == {"ok"}
    # Which sample is nearest follows from when it was sensed: 10 ms apart, from the first on.
    grid = (frames["yaw_rate_t_ns"].to_numpy() - START_NS) % 10_000_000
    away = np.angle(np.exp(2j * np.pi * grid / 10_000_000)) * 10_000_000 / (2 * np.pi)
    spread = np.quantile(away, 0.9) - np.quantile(away, 0.1)
    assert (spread < 600_000) == is_clock
    if is_clock:
        (sensor,) = clocks["adas-1"]["sensors"]
        assert abs(sensor["drift_ppb"] - 40_000) < 4 * sensor["drift_uncertainty_ppb"]
        assert sensor["uncertainty_ns"] < 400_000


def test_fixes_without_a_position_are_no_fixes():
    """Rows whose receiver had no fix are not interpolated with."""
    tables = drive()
    gnss = tables["gnss"]
    where = gnss.schema.get_field_index("fix_status")
    status = pa.array([-1 if 50 <= i < 60 else 0 for i in range(120)], pa.int32())
    tables["gnss"] = gnss.set_column(where, gnss.schema.field(where), status)
    table, _ = clocks_of(tables, "adas-1", "bus-1")
    states = build_frames(tables, table, rules=RULES)["gnss_state"].to_pylist()
    assert set(states[101:118]) == {"gap"}
    assert set(states[:98]) == {"ok"}


def test_versions_follow_what_they_are_made_of():
    """Other recordings, rules or offsets are another version; the order of rows is not."""
    table, _ = clocks_of(drive(), "adas-1", "bus-1")
    other = attrs.evolve(RULES, max_drift_ppm=5.0)
    assert clock_version(["a", "b"], rules=RULES) == clock_version(["b", "a"], rules=RULES)
    assert clock_version(["a"], rules=RULES) != clock_version(["a", "b"], rules=RULES)
    assert clock_version(["a"], rules=RULES) != clock_version(["a"], rules=other)
    clocks = table.to_pylist()
    version = sync_version(clocks, rules=RULES)
    assert sync_version(clocks[::-1], rules=RULES) == version
    moved = [{**clocks[0], "offset_ns": clocks[0]["offset_ns"] + 1}, clocks[1]]
    assert sync_version(moved, rules=RULES) != version


def test_observations_need_no_more_than_the_columns_they_name():
    """Pruned to `columns_needed`, every table gives the same observations."""
    tables = drive()
    pruned = {
        name: table.select(list(columns_needed(name, rules=RULES)))
        for name, table in tables.items()
    }
    whole = observations_of(tables, rules=RULES)
    assert whole.equals(observations_of(pruned, rules=RULES))
    assert whole.schema.equals(OBSERVATIONS)
    assert "LongAccel" not in " ".join(whole["source"].unique().to_pylist())


def test_no_tables_and_no_drives_are_empty_results():
    """Nothing in, tables with the right columns and no rows out."""
    nothing = observations_of({}, rules=RULES)
    clocks = estimate_drive_clocks(nothing, recordings=recordings(), rules=RULES)
    assert len(clocks) == len(build_frames({}, clocks, rules=RULES)) == 0


def test_units_are_converted_or_refused():
    """A unit that is known has a factor; an unknown or missing one has none."""
    assert si_factor(" Km/h ", si_unit="m_s") == pytest.approx(1 / 3.6)
    assert si_factor("°", si_unit="rad") == pytest.approx(np.pi / 180)
    assert [si_factor(unit, si_unit="m_s") for unit in ("", None, "furlong")] == [None] * 3
    assert signal_key("Steering-Wheel Angle") == "steeringwheelangle"


def stepped(tables, recording, *, at_s, size_ns, offset_ns):
    """The tables as if a recorder's clock had been set while the drive went on."""
    changed = {}
    for name, table in tables.items():
        sensed = pc.fill_null(table["sensor_time_ns"], table["log_time_ns"]).to_numpy()
        true_s = (sensed - offset_ns - START_NS) / 1e9
        mine = np.array(table["recording_id"].to_pylist()) == recording
        shift = np.where(mine & (true_s >= at_s), size_ns, 0)
        changed[name] = table
        for column in ("log_time_ns", "sensor_time_ns"):
            if table[column].null_count == len(table):
                continue
            where = table.schema.get_field_index(column)
            moved = pa.array(table[column].to_numpy() + shift)
            changed[name] = changed[name].set_column(where, table.schema.field(where), moved)
    return changed


@pytest.mark.parametrize("size_ns", [7_000_000, 733_000_000, -733_000_000])
def test_a_jump_of_a_clock_with_gnss_time_makes_two_segments(size_ns):
    """Either side has its offset, the jump is placed within 50 ms, and no frame pairs across it."""
    tables = stepped(drive(), "adas-1", at_s=11.3, size_ns=size_ns, offset_ns=80_000_000)
    observations = observations_of(tables, rules=RULES)
    table = estimate_drive_clocks(
        observations, recordings=recordings("adas-1", "bus-1"), rules=RULES
    )
    rows_ = [row for row in table.to_pylist() if row["recorder"] == "adas"]
    assert len(rows_) == 2
    before, after = sorted(rows_, key=lambda row: abs(row["offset_ns"] - 80_000_000))
    for row, offset_ns in ((before, 80_000_000), (after, 80_000_000 + size_ns)):
        assert abs(row["offset_ns"] - offset_ns) < 4 * row["uncertainty_ns"] < 2_000_000
        ties = [(each["clock_ns"], each["residual_ns"]) for each in row["residuals"]]
        assert all(row["valid_from_ns"] <= at <= row["valid_to_ns"] for at, _ in ties)
        assert np.max(np.abs([away for _, away in ties])) < 5_000_000
    if size_ns > 0:
        last = before["valid_to_ns"] - before["offset_ns"] - START_NS
        first = after["valid_from_ns"] - after["offset_ns"] - START_NS
        assert first - last < 60_000_000
        assert abs((first + last) / 2 - 11_300_000_000) < 50_000_000
    bus = next(row for row in table.to_pylist() if row["recorder"] == "bus")
    assert abs(bus["offset_ns"] + 3_200_000_000) < 3_000_000
    assert bus["residuals"]

    frames = build_frames(tables, table, rules=RULES)
    assert len(frames) == 240
    t_s = (frames["t_ns"].to_numpy() - START_NS) / 1e9
    exposure_s = np.arange(0, 24, 0.1) + 0.017
    # The bus was not set: what it says lacks a value only where an image has no time.
    placed = np.array([state != "jump" for state in frames["steering_angle_state"].to_pylist()])
    true_s = exposure_s[np.argmin(np.abs(t_s[:, None] - exposure_s), axis=1)]
    assert np.abs(t_s - true_s)[placed].max() < 0.002
    assert np.count_nonzero(~placed) <= 2 * abs(size_ns) / 1e8 * (size_ns < 0) + 2
    uncertainty = frames["clock_uncertainty_ns"].to_numpy()
    assert np.all(uncertainty[~placed] >= abs(size_ns) * 0.9)
    assert uncertainty[placed].max() < 2_000_000
    position = frames["position_x_m"].to_numpy(zero_copy_only=False)
    ok = np.array(frames["pose_state"].to_pylist()) == "ok"
    inside = ok & (true_s < 23.9)
    assert np.abs(position - 12 * true_s)[inside].max() < 12 * 0.002
    assert np.count_nonzero(ok) > 200 if size_ns > 0 else np.count_nonzero(ok) > 180


@pytest.mark.parametrize("size_ns", [7_000_000, 733_000_000, -733_000_000])
def test_a_jump_of_a_clock_without_gnss_time_is_found_by_its_stamps(size_ns):
    """A bus logger that was set while driving has the offset of either side, and a jump between."""
    tables = stepped(drive(), "bus-1", at_s=11.31, size_ns=size_ns, offset_ns=-3_200_000_000)
    of_bus = pa.array([START_NS, START_NS - 3 * SECOND])
    spans = recordings("adas-1", "bus-1").drop(["start_ns"]).append_column("start_ns", of_bus)
    table = estimate_drive_clocks(
        observations_of(tables, rules=RULES), recordings=spans, rules=RULES
    )
    rows_ = [row for row in table.to_pylist() if row["recorder"] == "bus"]
    assert [row["method"] for row in rows_] == ["shared_signal"] * 2
    rows_.sort(key=lambda row: abs(row["offset_ns"] + 3_200_000_000))
    for row, offset_ns in zip(rows_, (-3_200_000_000, -3_200_000_000 + size_ns), strict=True):
        assert abs(row["offset_ns"] - offset_ns) < max(4 * row["uncertainty_ns"], 2_000_000)
        assert row["uncertainty_ns"] < 3_000_000
    frames = build_frames(tables, table, rules=RULES)
    states = frames["steering_angle_state"].to_pylist()
    assert "jump" in states
    assert states.count("ok") > (235 if size_ns > 0 else 205)


def test_a_step_that_no_grid_shows_is_no_average_of_both_sides():
    """Stamps too loose for a grid: the motion tells both sides apart, each with its own offset."""
    rng = np.random.default_rng(3)
    tables = drive()
    signals = tables["signals"]
    where = signals.schema.get_field_index("log_time_ns")
    jitter = rng.integers(-9_000_000, 9_000_000, len(signals))
    loose = pa.array(signals["log_time_ns"].to_numpy() + jitter)
    tables["signals"] = signals.set_column(where, signals.schema.field(where), loose)
    tables = stepped(tables, "bus-1", at_s=12.0, size_ns=300_000_000, offset_ns=-3_200_000_000)
    table, _ = clocks_of(tables, "adas-1", "bus-1")
    of_bus = [row for row in table.to_pylist() if row["recorder"] == "bus"]
    assert len(of_bus) == 2
    for row, offset_ns in zip(of_bus, (-3_200_000_000, -2_900_000_000), strict=True):
        assert abs(row["offset_ns"] - offset_ns) < 4 * row["uncertainty_ns"] < 20_000_000
    jump_ns = START_NS + 12 * SECOND - 3_200_000_000
    assert of_bus[0]["valid_to_ns"] <= jump_ns + 20_000_000
    assert of_bus[1]["valid_from_ns"] >= jump_ns + 280_000_000


def test_a_receiver_that_tells_the_time_of_the_week_ties_to_utc():
    """GPS time of week, with no week beside it, ties a recorder as a time reference does."""
    tables = drive(gnss_time=False)
    second_s = np.arange(0, 24.0)
    utc = START_NS + np.rint(second_s * 1e9).astype(np.int64)
    tables["sbg_driver_sbgutctime"] = rows(
        "silver.sbg_driver_sbgutctime", second_s, offset_ns=80_000_000, recording="adas-1",
        gps_tow=gps_from_utc_ns(utc) % WEEK_NS // 1_000_000,
    )  # fmt: skip
    _, clocks = clocks_of(tables, "adas-1", "bus-1")
    assert (clocks["adas-1"]["method"], clocks["adas-1"]["reference"]) == ("gnss_time", "utc")
    assert abs(clocks["adas-1"]["offset_ns"] - 80_000_000) <= 1_000_000


def test_a_receiver_that_contradicts_what_two_recorders_saw_is_an_alert():
    """Two recorders tell UTC, one of them by GPS time: its row says so, and is no average."""
    tables = drive()
    gps_ahead_ns = 18 * SECOND
    second_s = np.arange(0, 24.0)
    utc = START_NS + np.rint(second_s * 1e9).astype(np.int64)
    noise = np.random.default_rng(4).integers(-400_000, 400_000, len(utc))
    of_bus = {
        name: rows(
            "silver.sensor_msgs_timereference", second_s, time_ref_ns=utc + noise + ahead_ns,
            offset_ns=-3_200_000_000, recording="bus-1",
        )
        for name, ahead_ns in (("right", 0), ("wrong", gps_ahead_ns))
    }  # fmt: skip
    name = "sensor_msgs_timereference"
    both = {**tables, name: pa.concat_tables([tables[name], of_bus["right"]])}
    _, clocks = clocks_of(both, "adas-1", "bus-1")
    assert (clocks["bus-1"]["method"], clocks["bus-1"]["alert"]) == ("gnss_time", None)
    assert "shared_signal adas" in clocks["bus-1"]["evidence"]
    assert abs(clocks["bus-1"]["offset_ns"] + 3_200_000_000) < 4 * clocks["bus-1"]["uncertainty_ns"]

    both = {**tables, name: pa.concat_tables([tables[name], of_bus["wrong"]])}
    _, clocks = clocks_of(both, "adas-1", "bus-1")
    assert "shared_signal adas" in clocks["bus-1"]["alert"]
    assert "+18000." in clocks["bus-1"]["alert"]
    assert abs(clocks["bus-1"]["offset_ns"] + 21_200_000_000) < 1_000_000
    assert clocks["adas-1"]["alert"] is None


def test_frames_that_two_loggers_share_tie_a_recorder_that_shares_nothing_else():
    """A second logger of the bus, with no signal of its own, is tied to a fraction of a ms."""
    rng = np.random.default_rng(6)
    sent_s = np.sort(rng.uniform(0, 24, 4_000))

    def logged(recording, offset_ns):
        kept = rng.random(len(sent_s)) >= 0.05
        stamps = START_NS + np.rint(sent_s * 1e9).astype(np.int64) + offset_ns
        stamps += rng.normal(0, 50_000, len(stamps)).astype(np.int64)
        payload = (np.arange(len(stamps)) * 7919 % 65_521).astype(">u4")
        return pa.table(
            {
                "recording_id": [recording] * len(stamps),
                "log_time_ns": stamps,
                "can_id": np.arange(len(stamps)) % 5,
                "is_extended": pa.nulls(len(stamps), pa.bool_()),
                "data": [each.tobytes() for each in payload],
            }
        ).filter(pa.array(kept))

    frames = pa.concat_tables([logged("bus-1", -3_200_000_000), logged("second-1", 5 * SECOND)])
    table = estimate_drive_clocks(
        observations_of(drive(), rules=RULES),
        recordings=recordings("adas-1", "bus-1", "second-1"),
        rules=RULES,
        can_frames=frames.take(rng.permutation(len(frames))),
    )
    clocks = {row["recorder"]: row for row in table.to_pylist()}
    second, bus = clocks["second"], clocks["bus"]
    assert (second["method"], second["reference"]) == ("bus_frames", "bus")
    assert "changed frames" in second["evidence"]
    assert bus["uncertainty_ns"] <= second["uncertainty_ns"] < 2_000_000
    assert abs(second["offset_ns"] - 5 * SECOND) < 4 * second["uncertainty_ns"]
    away = (second["offset_ns"] - 5 * SECOND) - (bus["offset_ns"] + 3_200_000_000)
    assert abs(away) < 300_000
    known = recorder_clocks_of(table.to_pylist(), rules=RULES)
    assert {name: clock.root for name, clock in known.items()} == dict.fromkeys(clocks, "utc")


@pytest.mark.parametrize("periods", [3, 40, -40])
def test_a_jump_by_whole_periods_is_found_by_the_motion(periods):
    """No grid shows it and no receiver: both sides have their offset, and nothing is in between."""
    size_ns = periods * 20_000_000
    tables = stepped(drive(), "bus-1", at_s=11.31, size_ns=size_ns, offset_ns=-3_200_000_000)
    table = estimate_drive_clocks(
        observations_of(tables, rules=RULES), recordings=recordings("adas-1", "bus-1"), rules=RULES
    )
    of_bus = [row for row in table.to_pylist() if row["recorder"] == "bus"]
    assert [row["method"] for row in of_bus] == ["shared_signal"] * 2
    for row, offset_ns in zip(of_bus, (-3_200_000_000, -3_200_000_000 + size_ns), strict=True):
        assert abs(row["offset_ns"] - offset_ns) < 4 * row["uncertainty_ns"] < 20_000_000
    jump_ns = START_NS + 11_310_000_000 - 3_200_000_000
    assert of_bus[0]["valid_to_ns"] <= jump_ns + 20_000_000
    assert of_bus[1]["valid_from_ns"] >= jump_ns + size_ns - 20_000_000
    # Each side holds up to what the clock showed twice, or skipped, within a few samples.
    low, high = sorted((jump_ns, jump_ns + size_ns))
    assert of_bus[0]["valid_to_ns"] >= low - 120_000_000
    assert of_bus[1]["valid_from_ns"] <= high + 120_000_000
