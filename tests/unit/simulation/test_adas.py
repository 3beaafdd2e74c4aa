from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from simulation.adas import TIME_REFERENCE_JITTER_NS
from simulation.rig import CAMERA_DELAY_NS, MOUNTS

DROPPED = {1: [3, 14, 15], 2: []}
"""Frames that the cameras of the tiny fleet lose, by its seed."""


@pytest.fixture(scope="module", params=[0, 1])
def recording(request, fleet):
    """The messages of an ADAS recording by topic, as the reference library decodes them."""
    files, plan = fleet.drives[request.param], fleet.plans[request.param]
    by_topic = defaultdict(list)
    with (files.folder / "adas.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()], validate_crcs=True)
        header, summary = reader.get_header(), reader.get_summary()
        for schema, channel, message, decoded in reader.iter_decoded_messages(log_time_order=False):
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            by_topic[channel.topic].append((message, decoded))
    return header, summary, by_topic, plan


def stamps_ns(messages) -> np.ndarray:
    return np.array(
        [m.header.stamp.sec * 1_000_000_000 + m.header.stamp.nanosec for _, m in messages]
    )


def test_container_is_complete(recording):
    """Profile, zstd chunks of about 1 MiB, statistics and indexes stand in the summary."""
    header, summary, by_topic, _ = recording
    assert header.profile == "ros2"
    assert {chunk.compression for chunk in summary.chunk_indexes} == {"zstd"}
    sizes = [chunk.uncompressed_size for chunk in summary.chunk_indexes]
    assert all(1 << 20 <= size < (1 << 20) + 400_000 for size in sizes[:-1])
    assert summary.statistics.message_count == sum(map(len, by_topic.values()))
    assert summary.statistics.metadata_count == 1


def test_every_topic_has_its_rate(recording):
    """Sensors run at their own rates; only the camera and the lidar lose messages."""
    _, _, by_topic, plan = recording
    rates = {"/imu/data": 100, "/odom": 50, "/gnss/fix": 5, "/gnss/time_reference": 1}
    rates |= {"/camera/front/camera_info": 1, "/objects": 10}
    for topic, rate in rates.items():
        assert len(by_topic[topic]) == round(rate * plan.seconds)
    assert len(by_topic["/tf_static"]) == 1
    for topic in ("/camera/front/image/compressed", "/lidar/points"):
        assert 0.8 * 10 * plan.seconds <= len(by_topic[topic]) <= 10 * plan.seconds


def test_stamps_follow_the_law_of_the_clock(recording):
    """Header stamps are the law of clocks.json within the jitter; arrival comes after them."""
    _, _, by_topic, plan = recording
    clock = plan.clocks["adas"]
    periods = {"/imu/data": 10_000_000, "/odom": 20_000_000, "/gnss/fix": 200_000_000}
    for topic, messages in by_topic.items():
        log = np.array([message.log_time for message, _ in messages])
        publish = np.array([message.publish_time for message, _ in messages])
        assert (np.diff(log) >= 0).all()
        assert (publish <= log).all()
        if topic == "/tf_static":
            continue
        sensor = stamps_ns(messages)
        assert (sensor <= publish).all()
        if topic in periods:
            t_ns = plan.t_start_ns + np.arange(len(messages)) * periods[topic]
            error = sensor - clock.exact_stamp(t_ns)
            assert np.abs(error).max() <= clock.jitter_ns
            assert np.abs(error).max() > clock.jitter_ns / 10


def test_dropped_frames_leave_gaps_in_the_sequence(recording):
    """The sequence counts dropped frames, one or two at a time; stamps say which exposure it is."""
    _, _, by_topic, plan = recording
    messages = by_topic["/camera/front/image/compressed"]
    sequence = np.array([message.sequence for message, _ in messages])
    t_ns = plan.t_start_ns + CAMERA_DELAY_NS + sequence * 100_000_000
    clock = plan.clocks["adas"]
    assert np.abs(stamps_ns(messages) - clock.exact_stamp(t_ns)).max() <= clock.jitter_ns
    assert sorted({*range(40)} - set(sequence)) == DROPPED[plan.index]
    assert len(set(sequence)) == len(sequence) == 40 - len(DROPPED[plan.index])


def test_images_open_at_the_calibrated_size(recording):
    """Each image is a JPEG of the size that the camera info states."""
    _, _, by_topic, _ = recording
    info = by_topic["/camera/front/camera_info"][0][1]
    for _, message in by_topic["/camera/front/image/compressed"][::10]:
        assert message.format == "jpeg"
        image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (info.height, info.width, 3)
        assert image.std() > 5


def test_point_clouds_hold_what_their_fields_say(recording):
    """x, y, z, intensity are float32 and t is uint32 nanoseconds below one sweep, ascending."""
    _, _, by_topic, _ = recording
    layout = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("t", "<u4")]
    for _, cloud in by_topic["/lidar/points"]:
        names = [(field.name, field.offset, field.datatype) for field in cloud.fields]
        assert names == [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 12, 7), ("t", 16, 6)]
        points = np.frombuffer(cloud.data, np.dtype(layout))
        assert len(points) == cloud.width
        assert 8_000 < len(points) < 16_000
        assert (np.diff(points["t"].astype(np.int64)) >= 0).all()
        assert points["t"].max() < 100_000_000
        distance = np.linalg.norm([points["x"], points["y"], points["z"]], axis=0)
        assert distance.max() < 100.5


def test_time_reference_gives_utc(recording):
    """Each time reference pairs a whole second of UTC with the clock, to 0.4 ms."""
    _, _, by_topic, plan = recording
    messages = by_topic["/gnss/time_reference"]
    utc = np.array([m.time_ref.sec * 1_000_000_000 + m.time_ref.nanosec for _, m in messages])
    assert (utc == plan.t_start_ns + np.arange(len(messages)) * 1_000_000_000).all()
    error = stamps_ns(messages) - plan.clocks["adas"].exact_stamp(utc)
    assert np.abs(error).max() <= TIME_REFERENCE_JITTER_NS


def test_static_transforms_are_those_of_the_rig(recording):
    """The one transform message holds every sensor's pose in base_link."""
    _, _, by_topic, _ = recording
    found = {
        one.child_frame_id: (
            (one.transform.translation.x, one.transform.translation.y, one.transform.translation.z),
            (
                one.transform.rotation.x,
                one.transform.rotation.y,
                one.transform.rotation.z,
                one.transform.rotation.w,
            ),
        )
        for one in by_topic["/tf_static"][0][1].transforms
    }
    assert found == {mount.frame_id: (mount.xyz_m, mount.xyzw) for mount in MOUNTS}


def test_odometry_speed_is_the_truth_with_noise(recording):
    """Wheel odometry reports the true speed to a few centimetres a second."""
    _, _, by_topic, plan = recording
    speed = np.array([m.twist.twist.linear.x for _, m in by_topic["/odom"]])
    t_ns = plan.t_start_ns + np.arange(len(speed)) * 20_000_000
    error = speed - plan.ego.at(t_ns).speed_m_s
    assert np.abs(error).max() < 0.3
    assert error.std() > 0.005


def test_objects_are_near_the_truth_and_some_are_missed(recording):
    """Tracked objects lie within a metre of the road user of the same id; not all are reported."""
    _, _, by_topic, plan = recording
    actors = {actor.object_id: actor for actor in plan.actors}
    seen: list[set[int]] = []
    for number, (_, message) in enumerate(by_topic["/objects"]):
        t_ns = plan.t_start_ns + number * 100_000_000 + CAMERA_DELAY_NS
        ego = plan.ego.at([t_ns])
        seen.append({int(one.id) for one in message.detections})
        for one in message.detections:
            actor = actors[int(one.id)]
            assert one.results[0].hypothesis.class_id == actor.class_name
            state = actor.trajectory.at([t_ns])
            place, yaw = one.bbox.center.position, ego.yaw_rad[0]
            x = ego.x_m[0] + np.cos(yaw) * place.x - np.sin(yaw) * place.y
            y = ego.y_m[0] + np.sin(yaw) * place.x + np.cos(yaw) * place.y
            assert np.hypot(x - state.x_m[0], y - state.y_m[0]) < 1.6
    steady = [object_id for object_id in seen[0] | seen[1] if object_id in seen[2] | seen[3]]
    assert steady
    assert any(object_id not in frame for object_id in steady for frame in seen[:8])
