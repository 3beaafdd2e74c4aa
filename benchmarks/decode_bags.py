"""Decode of ROS 1 bags and rosbag2 databases side by side with rosbags.

    python benchmarks/decode_bags.py [FILE …] [--write] [--repeats 7]

From file to decoded values: drivelake gives Arrow rows by table with the ledger, rosbags a Python
object for every message. Without FILE the small topics of a drive are recorded first.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from decode_mcap import decode  # noqa: E402
from harness import Case, arguments, publish, table  # noqa: E402
from recordings import small_bag, small_db3  # noqa: E402

SMALL_SECONDS = 60


def main() -> None:
    """Measure every file."""
    parser = arguments(__doc__ or "")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or [
            small_bag(Path(folder) / "small_topics.bag", seconds=SMALL_SECONDS),
            small_db3(Path(folder) / "small_topics", seconds=SMALL_SECONDS),
        ]
        lines = table([case_of(path) for path in files], repeats=options.repeats)
        publish("decode_bags", lines, write=options.write)


def case_of(path: Path) -> Case:
    """A file against rosbags."""
    is_ros1 = path.suffix == ".bag"
    theirs = decode_ros1 if is_ros1 else decode_ros2
    return Case(
        f"{path.name}, rosbags",
        path.stat().st_size,
        lambda: decode(path),
        lambda: theirs(path),
        goal=20 if is_ros1 else 10,
    )


def decode_ros1(path: Path) -> int:
    """Decode every message of a bag to an object, from the definitions in the bag."""
    from rosbags.rosbag1 import Reader
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    count = 0
    with Reader(path) as reader:
        for connection in reader.connections:
            types = get_types_from_msg(connection.msgdef.data, connection.msgtype)
            store.register({k: v for k, v in types.items() if k not in store.fielddefs})
        for connection, _, data in reader.messages():
            store.deserialize_ros1(data, connection.msgtype)
            count += 1
    return count


def decode_ros2(path: Path) -> int:
    """Decode every message of a database to an object."""
    from rosbags.rosbag2 import Reader
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    count = 0
    with Reader(path.parent) as reader:
        for connection, _, data in reader.messages():
            store.deserialize_cdr(data, connection.msgtype)
            count += 1
    return count


if __name__ == "__main__":
    main()
