"""The ADAS computer's recording: camera, lidar and motion sensors as an MCAP file of ROS 2 CDR."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
from mcap.writer import CompressionType, IndexType, Writer

from simulation import ros_messages
from simulation.motion import GRID_NS
from simulation.observation import Observations
from simulation.plan import DrivePlan
from simulation.rig import CAMERA_DELAY_NS, MOUNTS
from simulation.ros_messages import RosMessages
from simulation.sensors import AUTOMOTIVE_IMU, dead_reckon, every, measure_gnss, measure_imu
from simulation.stamping import stamp_messages
from simulation.tracker import track

RECORDER = "adas"
CHUNK_BYTES = 1 << 20
LIBRARY = "drivelake simulation 1"
GNSS_SIGMA_M = 0.8
TIME_REFERENCE_JITTER_NS = 400_000

_SECOND_NS = 1_000_000_000
_MS = 1_000_000
_GNSS_NS = 200 * _MS
_ODOMETRY_NS = 20 * _MS


@attrs.frozen
class Message:
    """A message ready to be written; times on the recorder's clock."""

    topic: str
    log_ns: int
    publish_ns: int
    sequence: int
    payload: bytes


TYPES = {
    "/camera/front/image/compressed": ros_messages.COMPRESSED_IMAGE,
    "/camera/front/camera_info": ros_messages.CAMERA_INFO,
    "/lidar/points": ros_messages.POINT_CLOUD,
    "/gnss/fix": ros_messages.NAV_SAT_FIX,
    "/gnss/time_reference": ros_messages.TIME_REFERENCE,
    "/imu/data": ros_messages.IMU,
    "/odom": ros_messages.ODOMETRY,
    "/tf_static": ros_messages.TF,
    "/objects": ros_messages.DETECTIONS,
}


def write_adas(plan: DrivePlan, *, seen: Observations, path: Path) -> None:
    """Write the recording of the ADAS computer.

    Args:
        plan: The drive.
        seen: What camera and lidar saw.
        path: The file to write.
    """
    ros = RosMessages(2)
    order = {topic: number for number, topic in enumerate(TYPES)}
    messages = sorted(
        _messages(plan, seen=seen, ros=ros), key=lambda m: (m.log_ns, order[m.topic], m.sequence)
    )
    with path.open("wb") as stream:
        writer = Writer(
            stream,
            chunk_size=CHUNK_BYTES,
            compression=CompressionType.ZSTD,
            index_types=IndexType.ALL,
            enable_crcs=True,
            enable_data_crcs=True,
        )
        writer.start(profile="ros2", library=LIBRARY)
        writer.add_metadata(
            "recorder",
            {
                "drive_id": plan.drive_id,
                "recorder": RECORDER,
                "vehicle_key": plan.vehicle_key,
                "software_version": "adas-3.2.0",
                "calibration_version": "cal-2026-02",
            },
        )
        schemas: dict[str, int] = {}
        channels: dict[str, int] = {}
        for topic, type_name in TYPES.items():
            if type_name not in schemas:
                text = ros.definition(type_name).encode()
                schemas[type_name] = writer.register_schema(type_name, "ros2msg", text)
            channels[topic] = writer.register_channel(topic, "cdr", schemas[type_name])
        for message in messages:
            writer.add_message(
                channels[message.topic],
                log_time=message.log_ns,
                data=message.payload,
                publish_time=message.publish_ns,
                sequence=message.sequence,
            )
        writer.finish()


def _messages(plan: DrivePlan, *, seen: Observations, ros: RosMessages) -> Iterator[Message]:
    """All messages of the recording, topic by topic."""
    yield from _images(plan, seen=seen, ros=ros)
    yield from _sweeps(plan, seen=seen, ros=ros)
    yield from _calibration(plan, seen=seen, ros=ros)
    yield from _gnss(plan, ros=ros)
    yield from _motion(plan, ros=ros)


def _images(plan: DrivePlan, *, seen: Observations, ros: RosMessages) -> Iterator[Message]:
    """Camera frames that were not dropped; the sequence counts the dropped ones too."""
    topic = "/camera/front/image/compressed"
    t_ns = np.array([shot.t_ns for shot in seen.shots], dtype=np.int64)
    stamps = stamp_messages(
        plan, recorder=RECORDER, topic=topic, t_ns=t_ns, latency_ns=(12 * _MS, 30 * _MS)
    )
    for row, shot in enumerate(seen.shots):
        if shot.recorded:
            payload = ros.compressed_image(shot.jpeg, stamp_ns=stamps.sensor_ns[row])
            yield Message(topic, int(stamps.log_ns[row]), int(stamps.publish_ns[row]), row, payload)


def _sweeps(plan: DrivePlan, *, seen: Observations, ros: RosMessages) -> Iterator[Message]:
    """Lidar sweeps that were not dropped, stamped at their start, and the object lists."""
    t_ns = np.array([sweep.t_ns for sweep in seen.sweeps], dtype=np.int64)
    clouds = stamp_messages(
        plan,
        recorder=RECORDER,
        topic="/lidar/points",
        t_ns=t_ns,
        latency_ns=(103 * _MS, 108 * _MS),
    )
    lists = stamp_messages(
        plan,
        recorder=RECORDER,
        topic="/objects",
        t_ns=t_ns + CAMERA_DELAY_NS,
        latency_ns=(120 * _MS, 160 * _MS),
    )
    for row, sweep in enumerate(seen.sweeps):
        log_ns, publish_ns = int(clouds.log_ns[row]), int(clouds.publish_ns[row])
        if seen.sweep_recorded[row]:
            payload = ros.point_cloud(sweep.points, stamp_ns=clouds.sensor_ns[row])
            yield Message("/lidar/points", log_ns, publish_ns, row, payload)
        found = track(plan, sweep, number=row)
        payload = ros.detections(found, stamp_ns=lists.sensor_ns[row])
        yield Message("/objects", int(lists.log_ns[row]), int(lists.publish_ns[row]), row, payload)


def _calibration(plan: DrivePlan, *, seen: Observations, ros: RosMessages) -> Iterator[Message]:
    """Camera calibration every second, sensor poses once."""
    for topic, period_ns in (("/camera/front/camera_info", _SECOND_NS), ("/tf_static", 1 << 60)):
        t_ns = every(period_ns, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
        stamps = stamp_messages(
            plan, recorder=RECORDER, topic=topic, t_ns=t_ns, latency_ns=(3 * _MS, 5 * _MS)
        )
        for row, stamp_ns in enumerate(stamps.sensor_ns):
            if topic == "/tf_static":
                payload = ros.static_transforms(MOUNTS, stamp_ns=stamp_ns)
            else:
                payload = ros.camera_info(seen.camera, stamp_ns=stamp_ns)
            yield Message(topic, int(stamps.log_ns[row]), int(stamps.publish_ns[row]), row, payload)


def _gnss(plan: DrivePlan, *, ros: RosMessages) -> Iterator[Message]:
    """Positions, and the recorder's clock at each whole second of UTC."""
    t_ns = every(_GNSS_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
    samples = measure_gnss(plan.ego.at(t_ns), sigma_m=GNSS_SIGMA_M, rng=plan.stream("adas", "gnss"))
    stamps = stamp_messages(
        plan, recorder=RECORDER, topic="/gnss/fix", t_ns=t_ns, latency_ns=(40 * _MS, 80 * _MS)
    )
    for row in range(len(t_ns)):
        payload = ros.nav_sat_fix(
            samples, row, stamp_ns=stamps.sensor_ns[row], sigma_m=GNSS_SIGMA_M
        )
        yield Message(
            "/gnss/fix", int(stamps.log_ns[row]), int(stamps.publish_ns[row]), row, payload
        )
    yield from _time_references(plan, ros=ros)


def _time_references(plan: DrivePlan, *, ros: RosMessages) -> Iterator[Message]:
    """What the GNSS says of UTC; their stamps have a jitter of their own, at most 0.4 ms."""
    topic = "/gnss/time_reference"
    t_ns = every(_SECOND_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
    stamps = stamp_messages(
        plan, recorder=RECORDER, topic=topic, t_ns=t_ns, latency_ns=(3 * _MS, 6 * _MS)
    )
    bound = TIME_REFERENCE_JITTER_NS
    jitter = plan.stream("adas", "pps").normal(0, bound / 3, len(t_ns)).clip(-bound, bound)
    pulses = plan.clocks[RECORDER].exact_stamp(t_ns) + np.rint(jitter).astype(np.int64)
    for row, utc_ns in enumerate(t_ns):
        payload = ros.time_reference(stamp_ns=pulses[row], utc_ns=utc_ns, row=row)
        yield Message(topic, int(stamps.log_ns[row]), int(stamps.publish_ns[row]), row, payload)


def _motion(plan: DrivePlan, *, ros: RosMessages) -> Iterator[Message]:
    """Inertial measurements and wheel odometry."""
    t_ns = every(GRID_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
    inertial = measure_imu(plan.ego.at(t_ns), grade=AUTOMOTIVE_IMU, rng=plan.stream("adas", "imu"))
    stamps = stamp_messages(
        plan, recorder=RECORDER, topic="/imu/data", t_ns=t_ns, latency_ns=(3 * _MS, 4 * _MS)
    )
    for row in range(len(t_ns)):
        payload = ros.imu(inertial, row, stamp_ns=stamps.sensor_ns[row], frame_id="imu")
        yield Message(
            "/imu/data", int(stamps.log_ns[row]), int(stamps.publish_ns[row]), row, payload
        )
    t_ns = every(_ODOMETRY_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
    poses = dead_reckon(
        plan.ego.at(t_ns), period_ns=_ODOMETRY_NS, rng=plan.stream("adas", "odometry")
    )
    stamps = stamp_messages(
        plan, recorder=RECORDER, topic="/odom", t_ns=t_ns, latency_ns=(3 * _MS, 5 * _MS)
    )
    for row in range(len(t_ns)):
        payload = ros.odometry(poses, row, stamp_ns=stamps.sensor_ns[row], frame_id="odom")
        yield Message("/odom", int(stamps.log_ns[row]), int(stamps.publish_ns[row]), row, payload)
