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


@attrs.frozen
class Fleet:
    """Simulated drives in the session's lake, and their truth by drive."""

    settings: object
    drive_ids: tuple
    truth: dict


@pytest.fixture(scope="session")
def fleet(spark, settings, tmp_path_factory):
    """Three simulated drives of 14 s, ingested under names of their own, since others use the lake.

    Their kinds of scenario, light and weather are all there are.
    """
    from simulation.fleet import FleetSpec, simulate_fleet
    from simulation.scoring import read_truth
    from spark_jobs.ingest import ingest

    base = tmp_path_factory.mktemp("fleet")
    landing, truth = base / "landing", base / "truth"
    spec = FleetSpec(drives=3, seconds=14.0, seed=7, camera_size=(320, 192))
    for drive in simulate_fleet(spec, out=landing, truth=truth):
        name = f"sync-{drive.drive_id}"
        manifest = json.loads((drive.folder / "drive.json").read_text())
        (drive.folder / "drive.json").write_text(json.dumps({**manifest, "drive_id": name}))
        drive.truth.rename(truth / name)
    report = ingest(spark, settings, [str(landing)])
    assert set(report.outcomes) == {"ACCEPTED"}
    found = read_truth(truth)
    return Fleet(settings, tuple(sorted(found)), found)


@pytest.fixture(scope="session")
def run_job(spark, fleet):
    """`run_job("silver_clocks", …)`: run a job over the fleet's drives; gives its report."""
    import importlib

    def run(name, *, spark=spark, **options):
        job = importlib.import_module(f"spark_jobs.{name}")
        options = {"drive_ids": fleet.drive_ids, **options}
        return job.run(spark, fleet.settings, **options)

    return run


@pytest.fixture(scope="session")
def rows_of(fleet):
    """`rows_of("silver.frames")`: the fleet's rows of a table."""
    from spark_jobs.tables import read_arrow

    def rows(table):
        where = [("drive_id", "in", list(fleet.drive_ids))]
        return read_arrow(fleet.settings, table, filters=where)

    return rows


@pytest.fixture(scope="session")
def clocks_report(run_job):
    """Report of the run that estimated the fleet's clocks."""
    return run_job("silver_clocks")


@pytest.fixture(scope="session")
def frames_report(run_job, clocks_report):
    """Report of the run that made the fleet's frames."""
    assert clocks_report.committed
    return run_job("silver_frames")


@pytest.fixture(scope="session")
def labels_report(run_job, frames_report):
    """Report of the run that labelled the fleet's frames."""
    assert frames_report.committed
    return run_job("gold_labels")
