"""Decode of MCAP files side by side with mcap + mcap-ros2-support, and with decompression alone.

    python benchmarks/decode_mcap.py [FILE …] [--write] [--repeats 7]

From file to decoded values: drivelake gives Arrow rows by table with the ledger, the reference a
Python object for every message. A file of small topics is always measured, also against the Rust
crate `mcap`, which checks the same CRCs and decodes nothing, where cargo can build it; beside it a
simulated drive with camera and lidar, or each FILE.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import Case, Elsewhere, arguments, publish, table  # noqa: E402
from peers.raw_reader import RawReader, build_raw_reader  # noqa: E402
from recordings import EPOCH_DATE, simulated_adas, small_mcap  # noqa: E402

SMALL_SECONDS = 120


def main() -> None:
    """Measure every file."""
    parser = arguments(__doc__ or "")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = small_mcap(Path(folder) / "small_topics.mcap", seconds=SMALL_SECONDS)
        mixed = options.files or [simulated_adas(Path(folder))]
        cases = [*small_cases(small), *(case for path in mixed for case in mixed_cases(path))]
        lines = list(table(cases, repeats=options.repeats))
        program = build_raw_reader()
        if isinstance(program, str):
            lines += ["", f"Not compared with the Rust crate: {program}."]
        else:
            with RawReader(program, small) as reader:
                lines.append(raw_case(small, reader).line(options.repeats))
        publish("decode_mcap", lines, write=options.write)


def small_cases(path: Path) -> Iterator[Case]:
    """Small topics against the reference; index alone against full decode."""
    size = path.stat().st_size
    what = f"{path.name}, mcap + mcap-ros2-support"
    yield Case(what, size, lambda: decode(path), lambda: decode_reference(path), goal=40)
    what = f"{path.name}, decompression alone"
    yield Case(what, size, lambda: decode(path), lambda: decompress(path), is_same=False)
    what = f"{path.name}, its index alone"
    yield Case(what, size, lambda: decode(path), lambda: index(path), is_same=False)


def raw_case(path: Path, reader: RawReader) -> Case:
    """Small topics decoded against the Rust crate that hands out their bytes."""

    def read() -> Elsewhere:
        return Elsewhere(*reader.read())

    what = f"{path.name}, Rust mcap crate, raw"
    return Case(what, path.stat().st_size, lambda: decode(path), read, goal=1)


def mixed_cases(path: Path) -> Iterator[Case]:
    """A file with large payloads against the reference, and against decompression."""
    size = path.stat().st_size
    what = f"{path.name}, mcap + mcap-ros2-support"
    yield Case(what, size, lambda: decode(path), lambda: decode_reference(path))
    what = f"{path.name}, decompression alone"
    yield Case(
        what, size, lambda: decode(path), lambda: decompress(path), within=2.5, is_same=False
    )


def decode(path: Path) -> int:
    """Index and decode a recording to rows; the number of messages written."""
    from udfs.decode.context import DecodeContext
    from udfs.decode.recording import index_recording, iter_table_groups
    from udfs.decode.source import open_source

    context = DecodeContext("0" * 64, EPOCH_DATE)
    with open_source(str(path)) as source:
        found = index_recording(source)
        groups = iter_table_groups(source, found, context=context)
        return sum(entry.messages_written for group in groups for entry in group.ledger)


def index(path: Path) -> int:
    """Index the file; the number of its units."""
    from udfs.decode.recording import index_recording
    from udfs.decode.source import open_source

    with open_source(str(path)) as source:
        return len(index_recording(source).units)


def decompress(path: Path) -> int:
    """Decompress every chunk into one buffer, with nothing checked; the bytes they give."""
    import numpy as np

    from udfs.decode.compression import decompress_into
    from udfs.decode.mcap_records import chunk_head_at
    from udfs.decode.source import open_source

    with open_source(str(path)) as source:
        chunks = [chunk_head_at(source, offset) for offset in chunk_offsets(path)]
        out = np.empty(max(chunk.uncompressed_size for chunk in chunks), np.uint8)
        for chunk in chunks:
            data = source.read_at(chunk.data_offset, chunk.data_length)
            decompress_into(
                out[: chunk.uncompressed_size], data=data, compression=chunk.compression
            )
        return sum(chunk.uncompressed_size for chunk in chunks)


def chunk_offsets(path: Path) -> list[int]:
    """Where the chunks are, as the summary says."""
    from mcap.reader import make_reader

    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    return [one.chunk_start_offset for one in summary.chunk_indexes]


def decode_reference(path: Path) -> int:
    """Decode every message to an object with the mcap libraries."""
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory as Protobuf
    from mcap_ros1.decoder import DecoderFactory as Ros1
    from mcap_ros2.decoder import DecoderFactory as Ros2

    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[Ros2(), Ros1(), Protobuf()])
        return sum(1 for _ in reader.iter_decoded_messages(log_time_order=False))


if __name__ == "__main__":
    main()
