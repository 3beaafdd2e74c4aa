"""One topic or ten seconds out of a large recording: bytes read over the indexed bytes needed.

    python benchmarks/read_part.py [--gb 5] [--remote-gb 0.1] [--write]

Needed are the chunks that hold a wanted message, as the recording's own index has it; what is read
beyond is the index itself and what lies between. An MCAP and a ROS 1 bag, from disk (distinct bytes
of the mapped file that were asked for) and from an S3-compatible server (bytes of its ranged
answers). That server reads the whole object for each of them, so what lies there is smaller; the
part that is read is the same, only the index of the larger file is longer.
"""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow.fs as pafs

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import arguments, free_ports, publish  # noqa: E402

from udfs.decode.reading import Account, iter_rows  # noqa: E402
from udfs.decode.recording import quick_index  # noqa: E402
from udfs.decode.selection import Selection  # noqa: E402
from udfs.decode.source import PART_READ_AHEAD_BYTES, MappedSource, RemoteSource  # noqa: E402

MOST = 1.1
SECOND = 1_000_000_000
IMAGE_BYTES = 40_000
IMAGES_HZ = 50
HEAD = (
    "| what | from | messages | MB needed | MB read | requests | ratio | goal | |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
)


def main() -> None:
    """Write both recordings and read parts of them."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--gb", type=float, default=5.0, help="size of each recording on disk")
    parser.add_argument("--remote-gb", type=float, default=0.1, help="and on the server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder)) as s3:
        found = lines(Path(folder), s3, (options.gb, options.remote_gb))
        publish("read_part", found, write=options.write)


def lines(folder: Path, s3: pafs.S3FileSystem, sizes: tuple[float, float]) -> Iterator[str]:
    """Rows of the table; the sizes are in GB, on disk and on the server."""
    yield from HEAD
    places = (("disk", sizes[0], Disk), ("S3", sizes[1], lambda path: Remote(s3, path)))
    for (write, name), (place, size, source_of) in itertools.product(RECORDINGS, places):
        path = folder / name
        seconds = int(size * 1e9 / (IMAGE_BYTES * IMAGES_HZ))
        write(path, seconds)
        middle = seconds // 2 * SECOND
        asked = {
            "one topic, an event in five seconds": Selection(topics=("/event",)),
            "one topic, in a tenth of the drive": Selection(topics=("/parking",)),
            "ten seconds": Selection(start_ns=middle, end_ns=middle + 10 * SECOND),
        }
        for what, selection in asked.items():
            with source_of(path) as source:
                count, needed = read(source, selection)
                fetched, requests = source.fetched, source.requests
            met = "met" if fetched <= MOST * needed else "missed"
            yield (
                f"| {what} out of a {path.stat().st_size / 1e9:.1f} GB {path.suffix[1:]} |"
                f" {place} | {count} | {needed / 1e6:.1f} | {fetched / 1e6:.1f} | {requests} |"
                f" {fetched / needed:.2f} | ≤ {MOST:g} | {met} |"
            )
        path.unlink()


def read(source: Any, selection: Selection) -> tuple[int, int]:
    """Read a part; its messages, and the bytes of the chunks that hold them."""
    index = quick_index(source)
    account = Account.of_index(index)
    found = iter_rows(source, index, selection=selection, account=account, payloads=True)
    messages = sum(rows.num_rows for _, rows in found)
    ids = {channel.id for channel in selection.channels(index)}
    needed = selection.units(index, channels=ids, among=None)
    return messages, sum(unit.length for unit in needed)


class Disk(MappedSource):
    """A mapped file that remembers what is asked of it."""

    def __init__(self, path: Path) -> None:
        """Map it."""
        super().__init__(path, uri=str(path))
        self._asked: list[tuple[int, int]] = []

    def _read(self, offset: int, length: int) -> memoryview:
        self._asked.append((offset, offset + length))
        return super()._read(offset, length)

    @property
    def fetched(self) -> int:
        """Distinct bytes that were asked for: a view of the map is no copy, however often."""
        total = reached = 0
        for begin, end in sorted(self._asked):
            total += max(end - max(begin, reached), 0)
            reached = max(reached, end)
        return total

    @property
    def requests(self) -> int:
        """Number of reads."""
        return len(self._asked)


class Remote(RemoteSource):
    """An object of the S3-compatible server; counts what is fetched of it."""

    def __init__(self, s3: pafs.S3FileSystem, path: Path) -> None:
        """Upload the file if it is not there, and open it."""
        place = f"recordings/{path.name}"
        if s3.get_file_info(place).size != path.stat().st_size:
            pafs.copy_files(str(path), place, source_filesystem=pafs.LocalFileSystem(),
                            destination_filesystem=s3)  # fmt: skip
        self._counted = CountedFile(s3.open_input_file(place))
        super().__init__(s3, place, uri=f"s3://{place}", read_ahead=PART_READ_AHEAD_BYTES)
        self._file.close()
        self._file = self._counted

    @property
    def fetched(self) -> int:
        """Bytes of all answers."""
        return self._counted.fetched

    @property
    def requests(self) -> int:
        """Number of ranged requests."""
        return self._counted.requests


@attrs.define
class CountedFile:
    """An open object whose ranged reads are counted."""

    file: Any
    fetched: int = 0
    requests: int = 0

    def read_at(self, length: int, offset: int) -> bytes:
        """Some bytes; one request to the server."""
        data = self.file.read_at(length, offset)
        self.fetched += len(data)
        self.requests += 1
        return data

    def close(self) -> None:
        """Close it."""
        self.file.close()


def messages(seconds: int) -> Iterator[tuple[str, int, bytes]]:
    """(topic, time, octets) of a drive: images, rare events, and parking in its last tenth."""
    image = np.random.default_rng(7).bytes(IMAGE_BYTES)
    for i in range(seconds * IMAGES_HZ):
        time_ns = i * SECOND // IMAGES_HZ
        yield "/camera", time_ns, image
        if i % (5 * IMAGES_HZ) == 0:
            yield "/event", time_ns, image[:100]
        if i >= seconds * IMAGES_HZ * 9 // 10:
            yield "/parking", time_ns, image[:1000]


def write_mcap(path: Path, seconds: int) -> None:
    """The drive as MCAP, chunks of 1 MB; images are compressed already."""
    from mcap.writer import CompressionType, Writer

    with path.open("wb") as file:
        writer = Writer(file, chunk_size=1 << 20, compression=CompressionType.NONE)
        writer.start("ros2", "drivelake benchmark")
        schema = writer.register_schema("pkg/msg/Blob", "ros2msg", b"uint8[] data\n")
        channels: dict[str, int] = {}
        for topic, time_ns, data in messages(seconds):
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            payload = b"\0\1\0\0" + struct.pack("<I", len(data)) + data
            writer.add_message(channels[topic], time_ns, payload, time_ns)
        writer.finish()


def write_bag(path: Path, seconds: int) -> None:
    """The drive as a ROS 1 bag."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    kind = "std_msgs/msg/UInt8MultiArray"
    with Writer(path) as writer:
        links: dict[str, Any] = {}
        for topic, time_ns, data in messages(seconds):
            if topic not in links:
                links[topic] = writer.add_connection(topic, kind, typestore=store)
            layout = struct.pack("<II", 0, 0)
            writer.write(links[topic], time_ns, layout + struct.pack("<I", len(data)) + data)


RECORDINGS = ((write_mcap, "drive.mcap"), (write_bag, "drive.bag"))


@contextmanager
def s3_server(folder: Path) -> Iterator[pafs.S3FileSystem]:
    """A bucket `recordings` on an S3-compatible server of this machine."""
    port = free_ports()[0]
    program = str(Path(sys.executable).parent / "moto_server")
    with (
        (folder / "s3.log").open("wb") as log,
        subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        ) as server,
    ):
        s3 = pafs.S3FileSystem(
            access_key="bench",
            secret_key="bench",  # noqa: S106  of a server that lives for this benchmark
            endpoint_override=f"127.0.0.1:{port}",
            scheme="http",
            region="eu-central-1",
            allow_bucket_creation=True,
        )
        try:
            for _ in range(300):
                try:
                    s3.create_dir("recordings")
                    break
                except OSError:
                    time.sleep(0.2)
            yield s3
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
