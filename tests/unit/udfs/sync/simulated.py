"""A simulated drive of which one recording is there in every format; its images show nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import pyarrow as pa
from asammdf import MDF, Signal
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import Reader

import drivelake
from contracts.recording import Int64Array
from simulation.adas import write_adas
from simulation.observation import Observations, Shot
from simulation.plan import DrivePlan, plan_drive
from simulation.reference import TYPES, write_ros1_bag, write_rosbag2
from simulation.rig import camera_of_size
from simulation.ros_messages import RosMessages
from simulation.sensors import every
from udfs.sync.drive_clocks import estimate_drive_clocks
from udfs.sync.observations import observations_of
from udfs.sync.rules import SyncRules

RULES = SyncRules()
ADAS, REFERENCE = "adas", "reference"
ROS_FORMS = ("mcap", "ros1bag", "rosbag2")
FORMS = (*ROS_FORMS, "mdf4")
CAMERA_NS = 50_000_000
_UNITS = {
    "YawRate": "rad/s",
    "LongitudinalAcceleration": "m/s2",
    "LateralAcceleration": "m/s2",
    "VehicleSpeed": "m/s",
}

Silver = dict[str, pa.Table]


@attrs.frozen
class SimulatedDrive:
    """Silver rows of a drive of 40 s in which the reference recorder is set 48 ms on after 25 s.

    Attributes:
        plan: With all its truth.
        adas: Rows of the ADAS computer's recording.
        reference: Rows of the reference recorder's, by format.
    """

    plan: DrivePlan
    adas: Silver
    reference: dict[str, Silver]

    def clocks(self, form: str) -> pa.Table:
        """Clocks of the drive with the reference recording in a format."""
        parts = [observations_of(one, rules=RULES) for one in (self.adas, self.reference[form])]
        return estimate_drive_clocks(
            pa.concat_tables(parts), recordings=self._recordings(), rules=RULES
        )

    def frames(self, form: str) -> pa.Table:
        """What the reference recording said at each image of the other one."""
        streams = {"images": self.adas["images"], **self.reference[form]}
        return drivelake.frames(streams, self.clocks(form), rules=RULES)

    def without(self, *tables: str) -> SimulatedDrive:
        """The drive as if the reference recordings had no such rows."""
        kept = {
            form: {name: rows for name, rows in silver.items() if name not in tables}
            for form, silver in self.reference.items()
        }
        return attrs.evolve(self, reference=kept)

    def _recordings(self) -> pa.Table:
        """Rows of bronze.recordings."""
        ends = np.array([self.plan.t_start_ns, self.plan.t_end_ns])
        spans = [self.plan.clocks[name].exact_stamp(ends).tolist() for name in (ADAS, REFERENCE)]
        return pa.table(
            {
                "drive_id": [self.plan.drive_id] * 2,
                "recording_id": [ADAS, REFERENCE],
                "recorder": [ADAS, REFERENCE],
                "start_ns": [start for start, _ in spans],
                "end_ns": [end for _, end in spans],
                "ingest_date": [dt.date(2026, 11, 20)] * 2,
            }
        )


def simulate(folder: Path) -> SimulatedDrive:
    """Write the recordings with the writers of their formats, and read them."""
    plan = plan_drive(seed=11, index=36, seconds=40.0, jump_share=1.0)
    blank = np.frombuffer(b"\xff\xd8\xff\xd9", np.uint8)
    shots = tuple(Shot(i, int(at), True, blank, {}) for i, at in enumerate(image_times(plan)))
    nothing = Observations(camera_of_size((64, 64)), shots, (), np.zeros(0, np.bool_))
    write_adas(plan, seen=nothing, path=folder / "adas.mcap")
    write_ros1_bag(plan, path=folder / "reference.bag")
    write_rosbag2(plan, folder=folder / "reference")
    database = folder / "reference" / "reference_0.db3"
    ros = RosMessages(2)
    messages = list(_messages(folder / "reference"))
    _write_mcap(messages, ros=ros, path=folder / "reference.mcap")
    _write_mdf4(messages, ros=ros, path=folder / "reference.mf4")
    paths = (folder / "reference.mcap", folder / "reference.bag", database)
    paths = (*paths, folder / "reference.mf4")
    return SimulatedDrive(
        plan,
        silver_of(folder / "adas.mcap", recording=ADAS),
        {
            form: silver_of(path, recording=REFERENCE)
            for form, path in zip(FORMS, paths, strict=True)
        },
    )


def image_times(plan: DrivePlan) -> Int64Array:
    """(N,) int64 UTC of the exposures; one lies a millisecond behind the jump."""
    (jump,) = plan.clocks[REFERENCE].jumps
    phase_ns = (jump.t_ns + 1_000_000 - plan.t_start_ns) % CAMERA_NS
    return every(CAMERA_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns, phase_ns=phase_ns)


def silver_of(path: Path, *, recording: str) -> Silver:
    """All rows of a recording by silver table, named as those of a recording."""
    found: dict[str, list[pa.RecordBatch]] = {}
    for batch in drivelake.read(str(path)):
        found.setdefault(batch.schema.metadata[b"table"].decode(), []).append(batch)
    tables = {
        name: pa.concat_tables([pa.Table.from_batches([one]) for one in batches])
        for name, batches in found.items()
    }
    return {
        name: rows.append_column("recording_id", pa.repeat(recording, len(rows)))
        for name, rows in tables.items()
    }


Message = tuple[str, int, bytes]


def _messages(folder: Path) -> Iterator[Message]:
    with Reader(folder) as reader:
        for connection, log_ns, payload in reader.messages():
            yield connection.topic, log_ns, bytes(payload)


def _write_mcap(messages: list[Message], *, ros: RosMessages, path: Path) -> None:
    """The same messages as they are."""
    with path.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start("ros2", "test")
        channels = {}
        for topic, name in TYPES.items():
            schema = writer.register_schema(name, "ros2msg", ros.definition(name).encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for topic, log_ns, payload in messages:
            writer.add_message(channels[topic], log_ns, payload, log_ns)
        writer.finish()


def _write_mdf4(messages: list[Message], *, ros: RosMessages, path: Path) -> None:
    """What of the messages is a signal, one group a topic; a sample has one time: the stamp."""
    samples: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for topic, _, payload in messages:
        message = ros.typestore.deserialize_cdr(payload, TYPES[topic])
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if topic == "/reference/imu":
            turn, push = message.angular_velocity, message.linear_acceleration
            values = {
                "YawRate": turn.z,
                "LongitudinalAcceleration": push.x,
                "LateralAcceleration": push.y,
            }
        elif topic == "/reference/odom":
            twist = message.twist.twist
            values = {"VehicleSpeed": twist.linear.x, "YawRate": twist.angular.z}
        else:
            continue
        samples.setdefault(topic, []).append((stamp_ns, values))
    start_ns = min(stamp_ns for rows in samples.values() for stamp_ns, _ in rows)
    with MDF(version="4.10") as mdf:
        mdf.header.abs_time = start_ns
        mdf.header.tz_offset = mdf.header.daylight_save_time = 0
        mdf.header.time_flags = 2  # the offsets above are valid: it is UTC
        for topic, rows in samples.items():
            seconds = np.array([stamp_ns - start_ns for stamp_ns, _ in rows]) / 1e9
            group = [
                Signal(np.array([row[name] for _, row in rows]), seconds, name=name, unit=unit)
                for name, unit in _UNITS.items()
                if name in rows[0][1]
            ]
            mdf.append(group, acq_name=topic, common_timebase=True)
        mdf.save(path, overwrite=True)
