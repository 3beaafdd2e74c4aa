"""Runs of the platform on S3, with a real Dagster instance, Spark server and simulated fleet."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import pytest
import yaml

from assets.bronze import INGESTED
from assets.platform import platform_definitions
from assets.resources import resources_for
from assets.sensors import landing_sensor
from contracts.tables import TABLES
from quality.evaluate import rules_for

pytestmark = pytest.mark.spark
DRIVES = 3
# What a net of a few steps can meet: the gate judges, and lets the line go on.
CRITERIA = {
    "version": 1,
    "metrics": [{"target": "torch", "slice": "all", "metric": "ap50", "at_least": 0.0}],
    "parity": [{"target": "onnx", "measure": "max_abs_difference", "at_most": 0.01}],
    "sizes": [{"target": "onnx_int8", "at_most_bytes": 4_000_000}],
}


class Platform:
    """A deployment with its definitions and its instance."""

    def __init__(self, settings, instance, folder):
        criteria = folder / "criteria.yaml"
        criteria.write_text(yaml.safe_dump(CRITERIA))
        self.settings = settings
        self.instance = instance
        self.variables = {
            "DRIVELAKE_HOME": str(settings.home),
            "DRIVELAKE_LAKE": settings.lake_uri,
            "DRIVELAKE_LANDING": settings.landing_uri,
            "DRIVELAKE_ARTEFACTS": settings.artefacts_uri,
            "DRIVELAKE_TRUTH": settings.truth_uri,
            "MLFLOW_TRACKING_URI": settings.mlflow_uri,
            "SPARK_REMOTE": settings.spark_remote,
            "DRIVELAKE_COMMIT": "of the test",
            **settings.storage_options,
        }
        self.release = {"steps": 12, "criteria": str(criteria)}
        self.definitions = platform_definitions(self.variables, release=self.release)

    def tick(self, cursor=None):
        """One evaluation of the sensor."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=cursor, resources=resources_for(self.variables)
        )
        with context:
            return landing_sensor(context)

    def run(self, job, **more):
        """One run in this process; failures are told, not raised."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False, **more
        )


@pytest.fixture(scope="module")
def platform(tmp_path_factory, new_deployment, object_storage, new_bucket):
    """Landing, lake, models and bundles on an S3-compatible server; the truth is on disk."""
    from simulation.fleet import FleetSpec, simulate_fleet
    from spark_jobs.server import start_server, stop_server

    folder = tmp_path_factory.mktemp("platform")
    bucket = new_bucket("fleet-line")
    settings = new_deployment(
        folder / "home",
        landing_uri="s3://fleet-line/landing",
        lake_uri="s3://fleet-line/lake",
        artefacts_uri="s3://fleet-line/of-the-test",
        storage_options=object_storage,
    )
    simulate_fleet(
        FleetSpec(drives=DRIVES, seconds=5.0),
        out=folder / "drives",
        truth=Path(urlsplit(settings.truth_uri).path),
    )
    for path in sorted((folder / "drives").rglob("*")):
        if path.is_file():
            key = f"landing/{path.relative_to(folder / 'drives')}"
            bucket.upload_file(str(path), "fleet-line", key)
    server = start_server(settings, memory="1500m")
    try:
        with dg.instance_for_test() as instance, pytest.MonkeyPatch.context() as environment:
            for name, value in object_storage.items():  # as a service has it, for MLflow
                environment.setenv(name, value)
            yield Platform(settings, instance, folder)
    finally:
        stop_server(server)


@pytest.fixture(scope="module")
def first_tick(platform):
    return platform.tick()


@pytest.fixture(scope="module")
def ingested(platform, first_tick):
    """The first drive by the sensor's request, the others as the rest of the day's partition."""
    request = first_tick.run_requests[0]
    by_sensor = platform.run(
        "ingest_job", run_config=request.run_config, partition_key=request.partition_key
    )
    by_day = platform.run("ingest_job", partition_key=request.partition_key)
    return by_sensor, by_day


@pytest.fixture(scope="module")
def released(platform, ingested):
    return platform.run("release_job")


def _metadata(result, *path):
    (event,) = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(path)
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def _failed(result, *, severity=None):
    return [
        (check.asset_key.to_user_string(), check.check_name)
        for check in result.get_asset_check_evaluations()
        if not check.passed and severity in (None, check.severity)
    ]


def _errors(result):
    return [e.step_failure_data.error.message for e in result.all_events if e.is_step_failure]


def _rows(platform, name, **more):
    from spark_jobs.tables import read_arrow

    return read_arrow(platform.settings, name, **more).to_pylist()


def _count(platform, name):
    from assets.table_state import table_state

    return table_state(platform.settings, name).rows


def test_sensor_asks_for_each_drive(first_tick):
    """Three complete drives in landing are three run requests, with a key of their own."""
    assert len(first_tick.run_requests) == DRIVES
    assert len({request.run_key for request in first_tick.run_requests}) == DRIVES


def test_the_sensors_run_brings_a_drive_to_frames(platform, ingested):
    """The run of a request takes the drive it names, and no other, to synchronised frames."""
    by_sensor, _ = ingested
    assert by_sensor.success, _errors(by_sensor)
    assert _metadata(by_sensor, "bronze", "recordings")["dagster/row_count"] == 3
    assert _metadata(by_sensor, "bronze", "uploads")["outcomes/accepted"] == 4
    assert _metadata(by_sensor, "silver", "frames")["dagster/partition_row_count"] >= 40


def test_the_day_takes_the_rest(platform, ingested):
    """A run of the partition takes what is left of the day's uploads, and nothing twice."""
    _, by_day = ingested
    assert by_day.success, _errors(by_day)
    recordings = _rows(platform, "bronze.recordings", columns=["drive_id", "recording_id"])
    assert len(recordings) == 3 * DRIVES
    assert len({row["recording_id"] for row in recordings}) == 3 * DRIVES
    drives = {f"drive-{number:04}" for number in range(1, DRIVES + 1)}
    assert {row["drive_id"] for row in recordings} == drives
    frames = _rows(platform, "silver.frames", columns=["drive_id", "lidar_state"])
    assert {row["drive_id"] for row in frames} == drives
    assert sum(row["lidar_state"] == "ok" for row in frames) > 0.8 * len(frames)


def test_every_byte_is_on_s3(platform, ingested):
    """Recordings are named by their place in the bucket, and no lake is made on the disk."""
    recordings = _rows(platform, "bronze.recordings", columns=["uri"])
    assert {urlsplit(row["uri"]).scheme for row in recordings} == {"s3"}
    assert not (platform.settings.home / "lake").exists()
    assert not (platform.settings.home / "landing").exists()


def test_duckdb_reads_the_same_rows_on_s3(platform, ingested):
    """Without Spark, DuckDB answers from the same objects with the same counts."""
    from drivelake.query import run_query

    settings = platform.settings
    statement = "SELECT topic, count(*) AS n FROM silver.imu GROUP BY topic ORDER BY topic"
    by_spark = run_query(settings, statement).to_pylist()
    by_files = run_query(settings, statement, engine="duckdb").to_pylist()
    assert by_spark == by_files
    assert by_spark


def test_nothing_is_left_to_do(platform, ingested):
    """After the runs the sensor has nothing to ask for; then not even a reason to look."""
    second = platform.tick()
    assert second.run_requests == []
    assert isinstance(platform.tick(cursor=second.cursor), dg.SkipReason)


def test_every_rule_has_reported(ingested):
    """Each rule on each table of the job has a result, the empty tables' too; no ERROR is left."""
    _, by_day = ingested
    names = [*INGESTED, "silver.clocks", "silver.frames"]
    wanted = {
        (name.replace(".", "/"), rule.check_name)
        for name in names
        for rule, _ in rules_for(TABLES[name])
    }
    found = {
        (check.asset_key.to_user_string(), check.check_name)
        for check in by_day.get_asset_check_evaluations()
    }
    assert wanted <= found
    assert _failed(by_day, severity=dg.AssetCheckSeverity.ERROR) == []


def test_assets_say_what_they_hold(platform, ingested):
    """A materialisation names the Delta version, rows in all and of the day, and shows pictures."""
    _, by_day = ingested
    frames = _metadata(by_day, "silver", "frames")
    assert frames["dagster/row_count"] == _count(platform, "silver.frames")
    assert frames["delta/version"] >= 1
    assert frames["frames/sync_errors"].startswith("![Sync error")
    assert "data:image/png;base64," in frames["frames/sync_errors"]
    clocks = _metadata(by_day, "silver", "clocks")
    assert "data:image/png;base64," in clocks["clocks/offsets"]
    uploads = _metadata(by_day, "bronze", "uploads")
    assert uploads["outcomes/unchanged"] == 4
    assert "silver.imu" in uploads["ingest/rows"]


def test_a_second_run_commits_nothing(platform, ingested):
    """The same partition again succeeds and leaves every table at its version."""
    from spark_jobs.tables import table_versions

    names = [*INGESTED, "silver.clocks", "silver.frames"]
    before = table_versions(platform.settings, names)
    _, by_day = ingested
    again = platform.run("ingest_job", partition_key=by_day.dagster_run.tags["dagster/partition"])
    assert again.success, _errors(again)
    assert table_versions(platform.settings, names) == before


def test_a_blocking_rule_stops_the_line(platform, ingested):
    """A table that breaks an ERROR rule fails the run, and nothing is computed from it."""
    from deltalake import DeltaTable

    from contracts.tables import table_uri

    _, by_day = ingested
    table = DeltaTable(
        table_uri(platform.settings.lake_uri, "bronze.recordings"),
        storage_options=platform.settings.storage_options,
    )
    version = table.version()
    table.update(updates={"messages_lost": "messages_lost + 1"})
    try:
        result = platform.run(
            "ingest_job", partition_key=by_day.dagster_run.tags["dagster/partition"]
        )
        assert not result.success
        assert ("bronze/recordings", "DEC001_messages_conserved") in _failed(result)
        made = {event.asset_key for event in result.get_asset_materialization_events()}
        assert dg.AssetKey(["silver", "clocks"]) not in made
    finally:
        table.restore(version)


def test_release_ends_in_a_verified_bundle(platform, released):
    """One run takes frames to a sealed bundle: dataset, detector, binaries, verdict, signature."""
    from governance.sealing import verify_bundle
    from spark_jobs.storage import local_copy

    assert released.success, _errors(released)
    bundle = _metadata(released, "edge", "bundle")
    assert bundle["bundle/uri"].startswith("s3://fleet-line/of-the-test/bundles/")
    with local_copy(
        bundle["bundle/uri"], storage_options=platform.settings.storage_options
    ) as folder:
        assert verify_bundle(folder).ok
        lineage = json.loads((folder / "about" / "lineage.json").read_bytes())
    assert {"onnx", "onnx_int8", "qnn_sa8255"} <= set(bundle["bundle/targets"])
    (row,) = _rows(platform, "gold.releases")
    assert row["bundle_id"] == bundle["bundle/id"]
    recordings = {r["recording_id"] for r in _rows(platform, "bronze.recordings")}
    assert set(lineage["recordings"]) <= recordings


def test_release_shows_pictures(released):
    """A labelled camera frame, the loss and the precision-recall curve are shown."""
    places = {
        ("gold", "labels"): "labels/frame",
        ("model", "detector"): "model/losses",
        ("model", "evaluation"): "evaluation/precision_recall",
    }
    for path, name in places.items():
        assert "data:image/png;base64," in _metadata(released, *path)[name]
    assert _metadata(released, "model", "evaluation")["evaluation/truth"] == ["truth"]
    assert "onnx_int8" in _metadata(released, "edge", "parity")["parity/measures"]


def test_a_second_release_finds_everything(platform, released):
    """The same inputs give the same dataset, model and bundle; nothing is made again."""
    again = platform.run("release_job")
    assert again.success, _errors(again)
    assert _metadata(again, "model", "detector")["model/found_again"]
    assert _metadata(again, "edge", "bundle")["bundle/found_again"]
    assert len(_rows(platform, "gold.releases")) == 1
    assert len(_rows(platform, "gold.datasets")) == 1


def test_a_model_that_fails_the_gate_gets_no_bundle(platform, released, tmp_path):
    """With criteria that can't be met the run fails at the gate and no release is registered."""
    criteria = tmp_path / "criteria.yaml"
    strict = {**CRITERIA, "metrics": [{**CRITERIA["metrics"][0], "at_least": 1.0}]}
    criteria.write_text(yaml.safe_dump(strict))
    definitions = platform_definitions(
        platform.variables, release={**platform.release, "criteria": str(criteria)}
    )
    result = definitions.resolve_job_def("release_job").execute_in_process(
        instance=platform.instance, raise_on_error=False
    )
    assert not result.success
    assert ("model/gate", "criteria_met") in _failed(result)
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    assert dg.AssetKey(["edge", "bundle"]) not in made
    assert len(_rows(platform, "gold.releases")) == 1
