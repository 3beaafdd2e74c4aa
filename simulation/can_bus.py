"""The vehicle bus: CAN frames packed from the ego's true motion by the vehicle's own DBC."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

import attrs
import cantools
import numpy as np

from contracts.recording import Int64Array
from simulation.motion import WHEELBASE_M, Trajectory
from simulation.plan import DrivePlan
from simulation.road import FloatArray
from simulation.sensors import every
from simulation.story import Conditions

DBC_NAME = "vehicle.dbc"
TRACK_M = 1.6
KM_H = 3.6

_MS = 1_000_000
_PERIODS_NS = {
    "Steering": 10 * _MS,
    "WheelSpeeds": 20 * _MS,
    "VehicleDynamics": 20 * _MS,
    "Body": 100 * _MS,
}
_PHASES_NS = {"Steering": 0, "WheelSpeeds": 250_000, "VehicleDynamics": 500_000, "Body": 750_000}
_LUX = {"day": 12_000.0, "dusk": 400.0, "night": 12.0}
_WIPERS = {"clear": 0, "rain": 2, "fog": 1}
_TEMPERATURE_DEG_C = {"clear": 9.0, "rain": 7.5, "fog": 4.0}


@attrs.frozen(eq=False)
class CanFrames:
    """Frames of one bus in order of time; every array has N rows.

    Attributes:
        t_ns: int64 UTC at which each frame was sent; its signals hold at this instant.
        can_id: uint32.
        length: uint8, bytes used.
        data: (N, 8) uint8, 0 beyond the length.
    """

    t_ns: Int64Array
    can_id: np.ndarray
    length: np.ndarray
    data: np.ndarray


def dbc_text() -> str:
    """The text of the vehicle's DBC."""
    return resources.files("simulation").joinpath(DBC_NAME).read_text(encoding="utf-8")


def send_frames(plan: DrivePlan) -> CanFrames:
    """Pack what the control units send during a drive.

    Signals carry the truth to within half their resolution; only the accelerations and the yaw rate
    have sensor noise.

    Args:
        plan: The drive.

    Returns:
        The frames in order of time.
    """
    database = cantools.database.load_string(dbc_text(), "dbc")
    times, ids, lengths, payloads = [], [], [], []
    for name, period_ns in _PERIODS_NS.items():
        definition = database.get_message_by_name(name)
        t_ns = every(
            period_ns,
            t_start_ns=plan.t_start_ns,
            t_end_ns=plan.t_end_ns,
            phase_ns=_PHASES_NS[name],
        )
        columns = _signals(name, plan.ego.at(t_ns), plan=plan)
        limits = {signal.name: (signal.minimum, signal.maximum) for signal in definition.signals}
        columns = {key: np.clip(column, *limits[key]) for key, column in columns.items()}
        for row in range(len(t_ns)):
            values = {key: float(column[row]) for key, column in columns.items()}
            payloads.append(definition.encode(values).ljust(8, b"\0"))
        times.append(t_ns)
        ids.append(np.full(len(t_ns), definition.frame_id, np.uint32))
        lengths.append(np.full(len(t_ns), definition.length, np.uint8))
    t_ns = np.concatenate(times)
    order = np.argsort(t_ns, kind="stable")
    data = np.frombuffer(b"".join(payloads), np.uint8).reshape(-1, 8)
    return CanFrames(
        t_ns[order], np.concatenate(ids)[order], np.concatenate(lengths)[order], data[order]
    )


def _signals(name: str, ego: Trajectory, *, plan: DrivePlan) -> Mapping[str, FloatArray]:
    """Physical values of the signals of a message."""
    if name == "Steering":
        return _steering(ego)
    if name == "WheelSpeeds":
        return _wheel_speeds(ego)
    if name == "VehicleDynamics":
        rng = plan.stream("bus", name)
        count = len(ego.t_ns)
        lateral = ego.speed_m_s * ego.yaw_rate_rad_s
        return {
            "YawRate": np.degrees(ego.yaw_rate_rad_s + rng.normal(0, 0.002, count)),
            "LongitudinalAcceleration": ego.accel_m_s2 + rng.normal(0, 0.05, count),
            "LateralAcceleration": lateral + rng.normal(0, 0.05, count),
            "VehicleSpeed": KM_H * ego.speed_m_s,
        }
    return _body(ego, conditions=plan.conditions)


def _steering(ego: Trajectory) -> Mapping[str, FloatArray]:
    """Steering wheel angle, its rate, and the counter that shows lost frames."""
    angle = np.degrees(ego.steering_angle_rad)
    rate = np.gradient(angle, _PERIODS_NS["Steering"] / 1e9)
    counter = np.arange(len(angle), dtype=np.float64) % 16
    return {
        "SteeringWheelAngle": angle,
        "SteeringWheelRate": rate,
        "SteeringAliveCounter": counter,
    }


def _wheel_speeds(ego: Trajectory) -> Mapping[str, FloatArray]:
    """Speeds of the four wheels of a car that turns without slip."""
    speeds = {}
    for wheel, ahead, side in (
        ("FL", WHEELBASE_M, 1.0),
        ("FR", WHEELBASE_M, -1.0),
        ("RL", 0.0, 1.0),
        ("RR", 0.0, -1.0),
    ):
        along = ego.speed_m_s - ego.yaw_rate_rad_s * side * TRACK_M / 2
        across = ego.yaw_rate_rad_s * ahead
        speeds[f"WheelSpeed{wheel}"] = KM_H * np.hypot(along, across)
    return speeds


def _body(ego: Trajectory, *, conditions: Conditions) -> Mapping[str, FloatArray]:
    """Brakes, lights and weather as the body computer knows them."""
    count = len(ego.t_ns)
    # Engine drag slows the car by 0.3 m/s2; beyond it the brakes must, and they hold it at a stop.
    pressure = np.maximum(-ego.accel_m_s2 - 0.3, 0.0) * 10.0
    pressure = np.where(ego.speed_m_s < 0.05, np.maximum(pressure, 15.0), pressure)
    lights = float(conditions.light != "day" or conditions.weather != "clear")
    cover = 1.0 if conditions.weather == "clear" else 0.4
    return {
        "BrakePressure": pressure,
        "LowBeam": np.full(count, lights),
        "WiperState": np.full(count, float(_WIPERS[conditions.weather])),
        "AmbientLight": np.full(count, _LUX[conditions.light] * cover),
        "OutsideTemperature": np.full(count, _TEMPERATURE_DEG_C[conditions.weather]),
    }
