"""The reference system's recording: accurate motion as a ROS 1 bag or a rosbag2 folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from rosbags import rosbag1, rosbag2

from simulation import ros_messages
from simulation.motion import GRID_NS
from simulation.plan import DrivePlan
from simulation.ros_messages import RosMessages
from simulation.sensors import (
    REFERENCE_IMU,
    every,
    measure_gnss,
    measure_imu,
    measure_reference_pose,
)
from simulation.stamping import MIN_LATENCY_NS, stamp_messages

RECORDER = "reference"
GNSS_SIGMA_M = 0.02
_GNSS_NS = 100_000_000
_LATENCY_NS = (MIN_LATENCY_NS, MIN_LATENCY_NS + 1_000_000)
_STORAGE_VERSION = 8

TYPES = {
    "/reference/imu": ros_messages.IMU,
    "/reference/odom": ros_messages.ODOMETRY,
    "/reference/gnss": ros_messages.NAV_SAT_FIX,
}

Row = tuple[int, str, bytes]


def write_ros1_bag(plan: DrivePlan, *, path: Path) -> None:
    """Write the recording as a ROS 1 bag with LZ4 chunks.

    Args:
        plan: The drive.
        path: The file to write; must not exist.
    """
    ros = RosMessages(1)
    writer = rosbag1.Writer(path)
    writer.set_compression(rosbag1.Writer.CompressionFormat.LZ4)
    with writer:
        connections = {
            topic: writer.add_connection(topic, name, typestore=ros.typestore)
            for topic, name in TYPES.items()
        }
        for log_ns, topic, payload in _rows(plan, ros=ros):
            writer.write(connections[topic], log_ns, payload)


def write_rosbag2(plan: DrivePlan, *, folder: Path) -> None:
    """Write the recording as a rosbag2 folder: `reference_0.db3` and `metadata.yaml`.

    Args:
        plan: The drive.
        folder: The folder to write; must not exist, its parent must.
    """
    ros = RosMessages(2)
    # The library names the database after the folder; rosbag2 itself appends a number.
    building = folder.with_name("reference_0")
    shutil.rmtree(building, ignore_errors=True)
    with rosbag2.Writer(building, version=_STORAGE_VERSION) as writer:
        connections = {
            topic: writer.add_connection(topic, name, typestore=ros.typestore)
            for topic, name in TYPES.items()
        }
        for log_ns, topic, payload in _rows(plan, ros=ros):
            writer.write(connections[topic], log_ns, payload)
    building.rename(folder)


def _rows(plan: DrivePlan, *, ros: RosMessages) -> list[Row]:
    """All messages in order of their log times."""
    order = {topic: number for number, topic in enumerate(TYPES)}
    rows = [*_motion(plan, ros=ros), *_gnss(plan, ros=ros)]
    return sorted(rows, key=lambda row: (row[0], order[row[1]]))


def _motion(plan: DrivePlan, *, ros: RosMessages) -> Iterator[Row]:
    """Inertial measurements and poses at 100 Hz."""
    t_ns = every(GRID_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
    ego = plan.ego.at(t_ns)
    inertial = measure_imu(ego, grade=REFERENCE_IMU, rng=plan.stream(RECORDER, "imu"))
    poses = measure_reference_pose(ego, rng=plan.stream(RECORDER, "odometry"))
    for topic in ("/reference/imu", "/reference/odom"):
        stamps = stamp_messages(
            plan, recorder=RECORDER, topic=topic, t_ns=t_ns, latency_ns=_LATENCY_NS
        )
        for row, stamp_ns in enumerate(stamps.sensor_ns):
            if topic == "/reference/imu":
                payload = ros.imu(inertial, row, stamp_ns=stamp_ns, frame_id="reference_imu")
            else:
                payload = ros.odometry(poses, row, stamp_ns=stamp_ns, frame_id="map")
            yield int(stamps.log_ns[row]), topic, payload


def _gnss(plan: DrivePlan, *, ros: RosMessages) -> Iterator[Row]:
    """Corrected positions at 10 Hz."""
    topic = "/reference/gnss"
    t_ns = every(_GNSS_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
    samples = measure_gnss(
        plan.ego.at(t_ns), sigma_m=GNSS_SIGMA_M, rng=plan.stream(RECORDER, "gnss")
    )
    stamps = stamp_messages(plan, recorder=RECORDER, topic=topic, t_ns=t_ns, latency_ns=_LATENCY_NS)
    for row, stamp_ns in enumerate(stamps.sensor_ns):
        payload = ros.nav_sat_fix(samples, row, stamp_ns=stamp_ns, sigma_m=GNSS_SIGMA_M)
        yield int(stamps.log_ns[row]), topic, payload
