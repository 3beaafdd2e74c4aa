from __future__ import annotations

import cantools
import numpy as np
import pytest
from asammdf import MDF

from simulation.can_bus import TRACK_M, dbc_text, send_frames

QUANTUM_KM_H = 0.01


@pytest.fixture(scope="module", params=[0, 1])
def logged(request, fleet, tmp_path_factory):
    """A bus recording as asammdf reads it: the file, its decoded frames, and the plan."""
    files, plan = fleet.drives[request.param], fleet.plans[request.param]
    with MDF(files.folder / "bus.mf4") as mdf:
        content, name, _ = mdf.extract_attachment(0)
        dbc = tmp_path_factory.mktemp("dbc") / name.name
        dbc.write_bytes(bytes(content))
        with mdf.extract_bus_logging({"CAN": [(dbc, 0)]}) as decoded:
            yield mdf, decoded, plan


def utc_of(mdf: MDF, seconds: np.ndarray, plan) -> np.ndarray:
    """UTC of timestamps in the file, by the true law of the bus logger's clock."""
    stamp_ns = mdf.header.abs_time + np.rint(seconds * 1e9).astype(np.int64)
    return plan.clocks["bus"].utc_from_stamp(stamp_ns)


def test_attached_dbc_is_the_resource(logged):
    """The DBC in the file is the package's own, byte for byte, under the name vehicle.dbc."""
    mdf, _, _ = logged
    assert len(mdf.attachments) == 1
    content, name, _ = mdf.extract_attachment(0)
    assert name.name == "vehicle.dbc"
    assert bytes(content).decode() == dbc_text()


def test_dbc_passes_the_strict_checks():
    """No signals overlap and every one fits its message."""
    database = cantools.database.load_string(dbc_text(), "dbc", strict=True)
    assert {message.name: message.frame_id for message in database.messages} == {
        "Steering": 197,
        "WheelSpeeds": 416,
        "VehicleDynamics": 417,
        "Body": 992,
    }


def test_frames_stand_in_a_bus_event_group(logged):
    """The first group is CAN bus logging as the ASAM standard names it, frames in order of time."""
    mdf, _, plan = logged
    group = mdf.groups[0]
    assert group.channel_group.flags & 0x6 == 0x6
    assert group.channel_group.acq_source.bus_type == 2
    frames = mdf.get("CAN_DataFrame", group=0)
    expected = send_frames(plan)
    assert len(frames.samples) == len(expected.t_ns)
    assert (np.diff(frames.timestamps) >= 0).all()
    assert (frames.timestamps >= 0).all()
    data = frames.samples["CAN_DataFrame.DataBytes"]
    key = np.lexsort((*data.T, frames.samples["CAN_DataFrame.ID"]))
    wanted = np.lexsort((*expected.data.T, expected.can_id))
    assert (data[key] == expected.data[wanted]).all()


def test_stamps_follow_the_law_of_the_clock(logged):
    """Frame stamps mapped back by the true law are the sending times within the jitter."""
    mdf, _, plan = logged
    times = np.sort(utc_of(mdf, mdf.get("CAN_DataFrame", group=0).timestamps, plan))
    error = times - np.sort(send_frames(plan).t_ns)
    # Mapping back stretches the jitter by the drift too: 1 ms by 20 ppm is 20 ns.
    assert np.abs(error).max() <= plan.clocks["bus"].jitter_ns + 25


def test_decoded_speed_is_the_truth_to_its_resolution(logged):
    """VehicleSpeed decoded by asammdf with the attached DBC equals the true speed."""
    mdf, decoded, plan = logged
    signal = decoded.get("VehicleSpeed")
    assert signal.unit == "km/h"
    ego = plan.ego.at(utc_of(mdf, signal.timestamps, plan))
    # The stamp is off by the jitter, so the truth moves by acceleration times jitter.
    slack = 3.6 * np.abs(ego.accel_m_s2) * plan.clocks["bus"].jitter_ns * 1e-9
    assert (np.abs(signal.samples - 3.6 * ego.speed_m_s) <= 0.51 * QUANTUM_KM_H + slack).all()
    assert len(signal.samples) == round(50 * plan.seconds)


def test_wheels_turn_as_the_car_does(logged):
    """Rear wheels average to the speed, and their difference is the yaw rate times the track."""
    mdf, decoded, plan = logged
    left, right = decoded.get("WheelSpeedRL"), decoded.get("WheelSpeedRR")
    ego = plan.ego.at(utc_of(mdf, left.timestamps, plan))
    slack = 0.02 + 3.6 * np.abs(ego.accel_m_s2) * 1e-3
    assert (np.abs((left.samples + right.samples) / 2 - 3.6 * ego.speed_m_s) <= slack).all()
    yaw_rate = (right.samples - left.samples) / 3.6 / TRACK_M
    moving = ego.speed_m_s > 1.0
    assert np.abs(yaw_rate - ego.yaw_rate_rad_s)[moving].max() < 0.006


def test_big_endian_signals_decode(logged):
    """Yaw rate and accelerations, packed in Motorola order, are the truth with little noise."""
    mdf, decoded, plan = logged
    signal = decoded.get("YawRate")
    ego = plan.ego.at(utc_of(mdf, signal.timestamps, plan))
    error = signal.samples - np.degrees(ego.yaw_rate_rad_s)
    assert np.abs(error).max() < 0.7
    assert 0.02 < error.std() < 0.3
    accel = decoded.get("LongitudinalAcceleration").samples - ego.accel_m_s2
    assert np.abs(accel).max() < 0.4


def test_body_signals_tell_the_conditions(logged):
    """Low beam, wipers and ambient light agree with light and weather."""
    _, decoded, plan = logged
    light, weather = plan.conditions.light, plan.conditions.weather
    expected = b"on" if light != "day" or weather != "clear" else b"off"
    assert set(decoded.get("LowBeam").samples) == {expected}
    lux = decoded.get("AmbientLight").samples
    assert (lux.max() < 100) == (light == "night")


def test_measured_groups_have_units_texts_and_rates(logged):
    """The logger's own signals: engine speed, gear as text, voltage by a linear rule."""
    mdf, _, plan = logged
    engine = mdf.get("EngineSpeed")
    assert engine.unit == "1/min"
    assert len(engine.samples) == round(100 * plan.seconds)
    assert 700 < engine.samples.min() < engine.samples.max() < 4000
    gears = set(mdf.get("GearText").samples)
    assert gears
    assert gears <= {b"1", b"2", b"3", b"4", b"5", b"6"}
    volts = mdf.get("BatteryVoltage")
    assert volts.unit == "V"
    assert (np.abs(volts.samples - 13.9) < 0.5).all()
    assert len(mdf.get("AmbientTemperature").samples) == round(plan.seconds)


def test_no_stamp_of_the_machine_is_in_the_file(drive):
    """The file's start and its history carry the simulated time, not the time of writing."""
    files, plan = drive
    with MDF(files.folder / "bus.mf4") as mdf:
        assert len(mdf.file_history) == 1
        for t_ns in (mdf.header.abs_time, mdf.file_history[0].abs_time):
            assert abs(t_ns - plan.t_start_ns) < 6_000_000_000
