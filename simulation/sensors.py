"""What the motion sensors measure: the truth with their own errors, at their own instants."""

from __future__ import annotations

import attrs
import numpy as np

from contracts.recording import Int64Array
from simulation.geodesy import geodetic_from_local
from simulation.motion import Trajectory
from simulation.rig import GNSS_MOUNT
from simulation.road import FloatArray

GRAVITY_M_S2 = 9.806_65


@attrs.frozen
class ImuGrade:
    """Errors of an inertial sensor: standard deviations of the noise, bounds of the biases."""

    gyro_noise_rad_s: float
    gyro_bias_rad_s: float
    accel_noise_m_s2: float
    accel_bias_m_s2: float
    yaw_noise_rad: float


AUTOMOTIVE_IMU = ImuGrade(0.0025, 0.0015, 0.06, 0.04, 0.01)
REFERENCE_IMU = ImuGrade(0.0003, 0.0001, 0.01, 0.003, 0.0008)


@attrs.frozen(eq=False)
class ImuSamples:
    """Inertial measurements at the rear axle; every array is (N,)."""

    yaw_rad: FloatArray
    rates_rad_s: FloatArray
    accels_m_s2: FloatArray


@attrs.frozen(eq=False)
class OdometrySamples:
    """Poses and speeds; every array is (N,)."""

    x_m: FloatArray
    y_m: FloatArray
    yaw_rad: FloatArray
    speed_m_s: FloatArray
    yaw_rate_rad_s: FloatArray


@attrs.frozen(eq=False)
class GnssSamples:
    """Positions on the Earth; every array is (N,)."""

    latitude_deg: FloatArray
    longitude_deg: FloatArray
    altitude_m: FloatArray


def every(period_ns: int, *, t_start_ns: int, t_end_ns: int, phase_ns: int = 0) -> Int64Array:
    """Instants of a periodic sensor within [t_start_ns, t_end_ns), UTC."""
    return np.arange(t_start_ns + phase_ns, t_end_ns, period_ns, dtype=np.int64)


def measure_imu(ego: Trajectory, *, grade: ImuGrade, rng: np.random.Generator) -> ImuSamples:
    """Measure turn rates and specific forces.

    Args:
        ego: The ego's states at the sensor's instants.
        grade: The sensor's errors.
        rng: Source of the errors.

    Returns:
        Heading (N,), rates (N, 3) and accelerations (N, 3), axes of base_link.
    """
    count = len(ego.t_ns)
    rates = rng.normal(0, grade.gyro_noise_rad_s, (count, 3))
    rates += rng.uniform(-grade.gyro_bias_rad_s, grade.gyro_bias_rad_s, 3)
    rates[:, 2] += ego.yaw_rate_rad_s
    accels = rng.normal(0, grade.accel_noise_m_s2, (count, 3))
    accels += rng.uniform(-grade.accel_bias_m_s2, grade.accel_bias_m_s2, 3)
    accels[:, 0] += ego.accel_m_s2
    accels[:, 1] += ego.speed_m_s * ego.yaw_rate_rad_s
    accels[:, 2] += GRAVITY_M_S2
    yaw = ego.yaw_rad + rng.normal(0, grade.yaw_noise_rad) + np.zeros(count)
    return ImuSamples(yaw, rates, accels)


def dead_reckon(ego: Trajectory, *, period_ns: int, rng: np.random.Generator) -> OdometrySamples:
    """Integrate noisy wheel speed and turn rate from the start of the drive.

    Args:
        ego: The ego's states at the sensor's instants.
        period_ns: Time between them.
        rng: Source of the errors.

    Returns:
        Poses in a frame that begins at the first pose and drifts away from the world.
    """
    count = len(ego.t_ns)
    dt_s = period_ns / 1e9
    scale = 1.0 + rng.normal(0, 0.003)
    noise = rng.normal(0, 0.03, count) * (ego.speed_m_s > 0)
    speed = np.maximum(ego.speed_m_s * scale + noise, 0.0)
    yaw_rate = ego.yaw_rate_rad_s + rng.normal(0, 0.003, count)
    yaw = np.concatenate([[0.0], np.cumsum(yaw_rate[1:] * dt_s)])
    steps = speed[1:] * dt_s
    return OdometrySamples(
        x_m=np.concatenate([[0.0], np.cumsum(steps * np.cos(yaw[1:]))]),
        y_m=np.concatenate([[0.0], np.cumsum(steps * np.sin(yaw[1:]))]),
        yaw_rad=yaw,
        speed_m_s=speed,
        yaw_rate_rad_s=yaw_rate,
    )


def measure_reference_pose(ego: Trajectory, *, rng: np.random.Generator) -> OdometrySamples:
    """Measure pose and speed in the world frame with a survey-grade system.

    Args:
        ego: The ego's states at the sensor's instants.
        rng: Source of the errors.

    Returns:
        Poses to about a centimetre, speeds to about a centimetre a second.
    """
    count = len(ego.t_ns)
    return OdometrySamples(
        x_m=ego.x_m + rng.normal(0, 0.008, count),
        y_m=ego.y_m + rng.normal(0, 0.008, count),
        yaw_rad=ego.yaw_rad + rng.normal(0, 0.0005, count),
        speed_m_s=ego.speed_m_s + rng.normal(0, 0.005, count),
        yaw_rate_rad_s=ego.yaw_rate_rad_s + rng.normal(0, 0.0004, count),
    )


def measure_gnss(ego: Trajectory, *, sigma_m: float, rng: np.random.Generator) -> GnssSamples:
    """Measure the antenna's position, with an error that wanders slowly.

    Args:
        ego: The ego's states at the sensor's instants.
        sigma_m: Standard deviation of the horizontal error; vertical is twice that.
        rng: Source of the errors.

    Returns:
        Positions on WGS 84.
    """
    count = len(ego.t_ns)
    error = np.empty((count, 3))
    error[0] = rng.normal(0, sigma_m, 3)
    memory = 0.97
    for row in range(1, count):
        fresh = rng.normal(0, sigma_m * np.sqrt(1 - memory**2), 3)
        error[row] = memory * error[row - 1] + fresh
    ahead, _, up = GNSS_MOUNT.xyz_m
    latitude, longitude, altitude = geodetic_from_local(
        ego.x_m + ahead * np.cos(ego.yaw_rad) + error[:, 0],
        y_m=ego.y_m + ahead * np.sin(ego.yaw_rad) + error[:, 1],
        z_m=up + 2 * error[:, 2],
    )
    return GnssSamples(latitude, longitude, altitude)
