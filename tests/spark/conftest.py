"""Small recordings made with the reference writers, and lakes of their own on the one server."""

from __future__ import annotations

import io
import json

import attrs
import pytest

NUMBERS = b"int64 number\nstring text\n"


def cdr_number(number, text="text"):
    """CDR of `int64 number, string text`."""
    data = text.encode() + b"\0"
    return (
        b"\0\1\0\0"
        + number.to_bytes(8, "little", signed=True)
        + len(data).to_bytes(4, "little")
        + data
    )


def write_mcap(*, first=0, messages=100, definition=NUMBERS, payload=cdr_number, silent=False):
    """An MCAP file with messages on /even and /odd, numbered in file order, 1 ms apart."""
    from mcap.writer import CompressionType, Writer

    out = io.BytesIO()
    writer = Writer(out, chunk_size=2048, compression=CompressionType.ZSTD)
    writer.start("ros2", "test writer")
    schema = writer.register_schema("pkg/msg/Number", "ros2msg", definition)
    channels = [writer.register_channel(topic, "cdr", schema) for topic in ("/even", "/odd")]
    if silent:
        other = writer.register_schema("pkg/msg/Silent", "ros2msg", b"int64 never\n")
        writer.register_channel("/silent", "cdr", other)
    for i in range(first, first + messages):
        log_time = 1_000_000_000 + i * 1_000_000
        writer.add_message(channels[i % 2], log_time, payload(i), log_time - 5, i)
    writer.finish()
    return out.getvalue()


@pytest.fixture(scope="session")
def mcap_bytes():
    """`mcap_bytes(first=…, messages=…)`: the bytes of a small recording."""
    return write_mcap


@pytest.fixture
def landing(tmp_path):
    """Folder of the landing area of `lake`."""
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


@pytest.fixture
def lake(settings, tmp_path, landing):
    """Settings of the shared server with a lake and a landing area of this test alone.

    Its tables are not in the catalogue: ingest is called with `register=False`.
    """
    return attrs.evolve(
        settings,
        lake_uri=(tmp_path / "lake").as_uri(),
        landing_uri=landing.as_uri(),
    )


@pytest.fixture(scope="session")
def write_manifest():
    """`write_manifest(folder, names, **changes)`: an upload manifest over files that are there."""
    import hashlib

    def write(folder, names, **changes):
        objects = [
            {
                "path": name,
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                "size_bytes": (folder / name).stat().st_size,
                "recorder": name.split(".")[0],
            }
            for name in names
        ]
        value = {"drivelake_manifest": 1, "drive_id": "drive-1", "vehicle_key": "veh-1"}
        (folder / "drive.json").write_text(json.dumps({**value, "objects": objects, **changes}))

    return write
