from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from rosbags.highlevel import AnyReader


@pytest.fixture(scope="module", params=[0, 1], ids=["ros1bag", "rosbag2"])
def recording(request, fleet):
    """A reference recording as rosbags reads it: log times and messages by topic."""
    files, plan = fleet.drives[request.param], fleet.plans[request.param]
    path = files.folder / ("reference.bag" if plan.index % 2 else "reference")
    by_topic = defaultdict(list)
    with AnyReader([path]) as reader:
        for connection, log_ns, raw in reader.messages():
            by_topic[connection.topic].append((log_ns, reader.deserialize(raw, connection.msgtype)))
    return by_topic, plan


def test_rates_and_clock(recording):
    """Three topics at their rates, stamped by the law of the reference system's own clock."""
    by_topic, plan = recording
    clock = plan.clocks["reference"]
    for topic, period_ns in (
        ("/reference/imu", 10_000_000),
        ("/reference/odom", 10_000_000),
        ("/reference/gnss", 100_000_000),
    ):
        messages = by_topic[topic]
        assert len(messages) == round(plan.seconds * 1e9 / period_ns)
        stamps = np.array(
            [m.header.stamp.sec * 1_000_000_000 + m.header.stamp.nanosec for _, m in messages]
        )
        t_ns = plan.t_start_ns + np.arange(len(messages)) * period_ns
        assert np.abs(stamps - clock.exact_stamp(t_ns)).max() <= clock.jitter_ns
        log = np.array([log_ns for log_ns, _ in messages])
        assert (log > stamps).all()
        assert (log - stamps).max() < 6_000_000


def test_pose_and_twist_are_accurate(recording):
    """Pose within 5 cm and 0.3 degrees, speed within 3 cm/s of the truth."""
    by_topic, plan = recording
    odometry = [m for _, m in by_topic["/reference/odom"]]
    ego = plan.ego.at(plan.t_start_ns + np.arange(len(odometry)) * 10_000_000)
    x = np.array([m.pose.pose.position.x for m in odometry])
    y = np.array([m.pose.pose.position.y for m in odometry])
    assert np.hypot(x - ego.x_m, y - ego.y_m).max() < 0.05
    turn = np.array([(m.pose.pose.orientation.z, m.pose.pose.orientation.w) for m in odometry])
    yaw = 2 * np.arctan2(turn[:, 0], turn[:, 1])
    assert np.abs((yaw - ego.yaw_rad + np.pi) % (2 * np.pi) - np.pi).max() < 0.005
    speed = np.array([m.twist.twist.linear.x for m in odometry])
    assert np.abs(speed - ego.speed_m_s).max() < 0.03


def test_imu_feels_gravity_and_braking(recording):
    """Accelerations are the truth's within a few centimetres a second squared."""
    by_topic, plan = recording
    imu = [m for _, m in by_topic["/reference/imu"]]
    ego = plan.ego.at(plan.t_start_ns + np.arange(len(imu)) * 10_000_000)
    ahead = np.array([m.linear_acceleration.x for m in imu])
    up = np.array([m.linear_acceleration.z for m in imu])
    rate = np.array([m.angular_velocity.z for m in imu])
    assert np.abs(ahead - ego.accel_m_s2).max() < 0.06
    assert np.abs(up - 9.80665).max() < 0.06
    assert np.abs(rate - ego.yaw_rate_rad_s).max() < 0.002


def test_positions_on_earth_agree_with_the_odometry(recording):
    """GNSS positions converted by an independent formula lie where the truth has the antenna."""
    by_topic, plan = recording
    fixes = [m for _, m in by_topic["/reference/gnss"]]
    ego = plan.ego.at(plan.t_start_ns + np.arange(len(fixes)) * 100_000_000)
    xyz = np.array([_ecef(m.latitude, m.longitude, m.altitude) for m in fixes])
    origin = np.array(_ecef(48.7, 9.1, 410.0))
    lat, lon = np.radians(48.7), np.radians(9.1)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    x = (xyz - origin) @ east - 0.4 * np.cos(ego.yaw_rad)
    y = (xyz - origin) @ north - 0.4 * np.sin(ego.yaw_rad)
    assert np.hypot(x - ego.x_m, y - ego.y_m).max() < 0.25


def _ecef(latitude_deg: float, longitude_deg: float, altitude_m: float) -> tuple[float, ...]:
    """Earth-centred coordinates on WGS 84."""
    lat, lon = np.radians(latitude_deg), np.radians(longitude_deg)
    flattening = 1 / 298.257223563
    e2 = flattening * (2 - flattening)
    normal = 6378137.0 / np.sqrt(1 - e2 * np.sin(lat) ** 2)
    flat = (normal + altitude_m) * np.cos(lat)
    return flat * np.cos(lon), flat * np.sin(lon), (normal * (1 - e2) + altitude_m) * np.sin(lat)
