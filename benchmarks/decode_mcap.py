"""Decode of an MCAP file side by side with mcap + mcap-ros2-support, in one process.

    python benchmarks/decode_mcap.py [FILE …] [--write] [--repeats 5]

Compares CPU time from file to decoded values: drivelake gives Arrow rows by table with the ledger,
the reference a Python object for every message. The least of several runs counts; the spread is
how far the median is above it. A file of small topics is always measured too; without FILE a
simulated drive of 20 s is recorded first.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
sys.path.insert(0, str(ROOT))

SMALL_SECONDS = 120


def main() -> None:
    """Measure every file and print, or add, a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small_topics.mcap"
        write_small_topics(small)
        files = [*(options.files or [simulated(Path(folder))]), small]
        lines = [line for path in files for line in report(path, options.repeats)]
    text = "\n".join([*heading(options), *lines, ""])
    print(text)
    if options.write:
        if not RESULTS.exists():
            RESULTS.write_text("# Measured\n", encoding="utf-8")
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n" + text)


def heading(options: argparse.Namespace) -> Iterator[str]:
    """Title, command and machine."""
    names = " ".join(path.name for path in options.files)
    yield f"## decode_mcap, {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"
    yield ""
    yield f"`python benchmarks/decode_mcap.py {names} --repeats {options.repeats}`".replace(
        "  ", " "
    )
    yield f"({platform.machine()}, Python {platform.python_version()}, one thread, CPU time)"
    yield ""
    yield "| file | what | messages | MB | ours s | spread | theirs s | spread | ratio | msg/s |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"


def report(path: Path, repeats: int) -> Iterator[str]:
    """Lines of one file: full decode, index alone, and decompression alone, which is the floor."""
    messages = decode_ours(path)
    wanted = decode_reference(path)
    if messages != wanted:
        raise SystemExit(f"{path.name}: {messages} messages against {wanted}")
    ours, noise = least(lambda: decode_ours(path), repeats)
    theirs, their_noise = least(lambda: decode_reference(path), max(repeats // 2, 2))
    size = path.stat().st_size / 1e6
    yield (
        f"| {path.name} | decode | {messages} | {size:.1f} | {ours:.3f} | {noise:.0%} |"
        f" {theirs:.3f} | {their_noise:.0%} | {theirs / ours:.1f} | {messages / ours:,.0f} |"
    )
    alone, noise = least(lambda: index_ours(path), repeats)
    yield f"| {path.name} | index | {messages} | {size:.1f} | {alone:.3f} | {noise:.0%} | | | | |"
    alone, noise = least(lambda: decompress(path), repeats)
    yield f"| {path.name} | zstd alone | | {size:.1f} | {alone:.3f} | {noise:.0%} | | | | |"


def least(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Least CPU seconds of several runs, and how far the median is above it."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times), float(np.median(times)) / min(times) - 1


def index_ours(path: Path) -> None:
    """Index the file."""
    from udfs.decode.recording import index_recording
    from udfs.decode.source import open_source

    with open_source(str(path)) as source:
        index_recording(source)


def decode_ours(path: Path) -> int:
    """Index and decode the file to rows; the number of messages written."""
    from udfs.decode.recording import DecodeContext, index_recording, iter_table_groups
    from udfs.decode.source import open_source

    context = DecodeContext("0" * 64, dt.date(2026, 1, 1))
    with open_source(str(path)) as source:
        index = index_recording(source)
        groups = iter_table_groups(source, index, context=context)
        return sum(entry.messages_written for group in groups for entry in group.ledger)


def decompress(path: Path) -> None:
    """Read and decompress every chunk."""
    from udfs.decode.mcap import index_recording, read_units
    from udfs.decode.source import open_source

    with open_source(str(path)) as source:
        offsets = [unit.offset for unit in index_recording(source).units]
        for _ in read_units(source, offsets):
            pass


def simulated(folder: Path) -> Path:
    """The ADAS computer's recording of one simulated drive."""
    from simulation.fleet import FleetSpec, simulate_drive

    simulate_drive(FleetSpec(drives=1), index=0, out=folder / "out", truth=folder / "truth")
    return next((folder / "out").rglob("adas.mcap"))


def decode_reference(path: Path) -> int:
    """Decode every message to an object with the mcap libraries."""
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory as Protobuf
    from mcap_ros1.decoder import DecoderFactory as Ros1
    from mcap_ros2.decoder import DecoderFactory as Ros2

    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[Ros2(), Ros1(), Protobuf()])
        return sum(1 for _ in reader.iter_decoded_messages(log_time_order=False))


def write_small_topics(path: Path) -> None:
    """A drive's small topics: IMU 400 Hz, wheel speeds 100 Hz, GNSS 10 Hz, poses 50 Hz, text."""
    from mcap.writer import CompressionType, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    rates = {
        ("/imu/data", "sensor_msgs/msg/Imu"): 400,
        ("/gnss/fix", "sensor_msgs/msg/NavSatFix"): 10,
        ("/odom", "nav_msgs/msg/Odometry"): 50,
        ("/wheels", "sensor_msgs/msg/JointState"): 100,
        ("/tf", "tf2_msgs/msg/TFMessage"): 100,
        ("/temperature", "sensor_msgs/msg/Temperature"): 20,
        ("/rosout", "rcl_interfaces/msg/Log"): 5,
        ("/twist", "geometry_msgs/msg/TwistStamped"): 100,
    }
    events = sorted(
        (int(i * 1e9 / rate), topic)
        for topic, rate in rates.items()
        for i in range(SMALL_SECONDS * rate)
    )
    random = np.random.default_rng(7)
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=1 << 20, compression=CompressionType.ZSTD)
        writer.start("ros2", "drivelake benchmark")
        channels = {}
        for topic, kind in rates:
            text, _ = store.generate_msgdef(kind, ros_version=2)
            schema = writer.register_schema(kind, "ros2msg", text.encode())
            channels[topic, kind] = writer.register_channel(topic, "cdr", schema)
        for number, (time_ns, (topic, kind)) in enumerate(events):
            message = random_message(store, kind, random, time_ns)
            payload = bytes(store.serialize_cdr(message, kind))
            writer.add_message(channels[topic, kind], time_ns, payload, time_ns, number)
        writer.finish()


def random_message(store, kind: str, random: np.random.Generator, time_ns: int):  # noqa: ANN001, ANN201
    """A message with random numbers and the frames and names a drive has."""
    from rosbags.interfaces import Nodetype

    values = {}
    for name, (node, desc) in store.get_msgdef(kind).fields:
        if node == Nodetype.NAME and desc == "builtin_interfaces/msg/Time":
            sec, nanosec = divmod(time_ns, 1_000_000_000)
            values[name] = store.types[desc](sec, nanosec)
        elif node == Nodetype.NAME:
            values[name] = random_message(store, desc, random, time_ns)
        elif node == Nodetype.BASE and desc[0] == "string":
            choices = {"frame_id": ["base_link"], "child_frame_id": ["wheel_left", "wheel_right"]}
            values[name] = str(random.choice(choices.get(name, ["a", "some text", "x" * 40])))
        elif node == Nodetype.BASE:
            values[name] = (
                float(random.normal()) if "float" in desc[0] else int(random.integers(100))
            )
        else:
            (inner, inner_desc), size = desc
            count = size if node == Nodetype.ARRAY else 4
            if inner == Nodetype.NAME:
                values[name] = [
                    random_message(store, inner_desc, random, time_ns) for _ in range(count)
                ]
            elif inner_desc[0] == "string":
                values[name] = [f"joint_{i}" for i in range(count)]
            else:
                values[name] = random.normal(size=count).astype(inner_desc[0])
    return store.types[kind](**values)


if __name__ == "__main__":
    main()
