from __future__ import annotations

import ast
import datetime as dt
import io
import re
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory, new_deployment, new_bucket, object_storage):
    """A platform whose landing and lake are on an S3-compatible server, with one drive there."""
    from simulation.fleet import FleetSpec, simulate_fleet
    from spark_jobs.server import start_server, stop_server
    from spark_jobs.session import connected

    base = tmp_path_factory.mktemp("cloud")
    client = new_bucket("fleet-line")
    drives = base / "drives"
    simulate_fleet(FleetSpec(drives=1, seconds=6.0, seed=11), out=drives, truth=base / "truth")
    for path in sorted(drives.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), "fleet-line", f"landing/{path.relative_to(drives)}")
    settings = new_deployment(
        base / "home",
        lake_uri="s3://fleet-line/lake",
        landing_uri="s3://fleet-line/landing",
        storage_options=object_storage,
    )
    server = start_server(settings, memory="1g")
    try:
        with connected(settings) as spark:
            yield {"settings": settings, "spark": spark, "client": client}
    finally:
        stop_server(server)


def test_recordings_on_s3_become_frames_on_s3(cloud):
    """Ingest to frames with every byte on S3: nothing local, each upload with one outcome."""
    from spark_jobs import silver_clocks, silver_frames
    from spark_jobs.ingest import ingest

    settings, spark = cloud["settings"], cloud["spark"]
    report = ingest(spark, settings, [settings.landing_uri])
    assert report.outcomes == {"ACCEPTED": 4}
    assert report.messages_bad == 0
    silver_clocks.run(spark, settings)
    frames = silver_frames.run(spark, settings)
    assert frames.rows > 40
    [row] = spark.sql(
        "SELECT count(*) AS n, count_if(lidar_state = 'ok') AS lidar FROM silver.frames"
    ).collect()
    assert row.n == frames.rows
    assert row.lidar > 0.8 * row.n
    places = spark.sql("SELECT uri FROM bronze.recordings").collect()
    assert {urlsplit(place.uri).scheme for place in places} == {"s3"}
    keys = cloud["client"].list_objects_v2(
        Bucket="fleet-line", Prefix="lake/silver/frames/_delta_log/"
    )
    assert keys["KeyCount"] >= 1
    assert not (settings.home / "lake").exists()


def test_a_second_run_on_s3_commits_nothing(cloud):
    """Running everything again leaves every table at its version."""
    from drivelake.catalogue import list_tables
    from spark_jobs import silver_clocks, silver_frames
    from spark_jobs.ingest import ingest

    settings, spark = cloud["settings"], cloud["spark"]
    before = {table.name: (table.version, table.rows) for table in list_tables(settings)}
    assert before["silver.frames"][1] > 0
    report = ingest(spark, settings, [settings.landing_uri])
    assert not report.outcomes
    assert not silver_clocks.run(spark, settings).committed
    assert not silver_frames.run(spark, settings).committed
    after = {table.name: (table.version, table.rows) for table in list_tables(settings)}
    assert after == before


def test_duckdb_reads_the_same_rows_on_s3(cloud):
    """Without Spark, DuckDB answers from the same objects with the same counts."""
    from drivelake.query import run_query

    settings = cloud["settings"]
    statement = "SELECT topic, count(*) AS n FROM silver.imu GROUP BY topic ORDER BY topic"
    by_spark = run_query(settings, statement).to_pylist()
    by_files = run_query(settings, statement, engine="duckdb").to_pylist()
    assert by_spark == by_files
    assert by_spark


def imu_recording(start, *, seconds):
    """An MCAP with an IMU message a second on /imu from some time on."""
    from mcap.writer import Writer
    from rosbags.typesys import Stores, get_typestore

    out, kind = io.BytesIO(), "sensor_msgs/msg/Imu"
    store = get_typestore(Stores.ROS2_HUMBLE)
    text, _ = store.generate_msgdef(kind, ros_version=2)
    writer = Writer(out)
    writer.start("ros2", "test writer")
    schema = writer.register_schema(kind, "ros2msg", text.encode())
    channel = writer.register_channel("/imu", "cdr", schema)
    payload = b"\0\1\0\0" + bytes(4 + 4 + 4 + 4) + bytes(37 * 8)  # empty frame_id, all zero
    for i in range(seconds):
        time_ns = (int(start.timestamp()) + i) * 1_000_000_000
        writer.add_message(channel, time_ns, payload, time_ns)
    writer.finish()
    return out.getvalue()


def run_block(text, names):
    """Run a block of a document; the values of its bare expressions."""
    values = []
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Expr):
            code = compile(ast.Expression(statement.value), "a document", "eval")
            values.append(eval(code, names))  # noqa: S307  our own documents
        else:
            code = compile(ast.Module([statement], []), "a document", "exec")
            exec(code, names)  # noqa: S102
    return values


def test_the_python_of_the_documents_runs(cloud, new_bucket, object_storage, monkeypatch):
    """Every Python block of README and docs runs as it stands, and finds what it asks for."""
    settings = cloud["settings"]
    start = dt.datetime(2026, 11, 20, 9, 59, 50, tzinfo=dt.UTC)
    data = imu_recording(start, seconds=30)
    new_bucket("fleet").put_object(Bucket="fleet", Key="drive-7/imu.mcap", Body=data)
    variables = {
        **object_storage,
        "DRIVELAKE_HOME": str(settings.home),
        "DRIVELAKE_LAKE": settings.lake_uri,
        "DRIVELAKE_LANDING": settings.landing_uri,
        "SPARK_REMOTE": settings.spark_remote,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    blocks = [block for path in DOCUMENTS for block in PYTHON.findall(path.read_text())]
    assert len(blocks) >= 3
    names = {"spark": cloud["spark"]}
    shown = [value for block in blocks for value in run_block(block, names)]
    assert all(isinstance(value, pa.Table) and value.num_rows for value in shown)
    assert len(shown) >= 2
    assert names["table"].num_rows == 20  # of thirty, those from ten o'clock on
    assert names["imu"].count() == 20
