"""What every test may ask for: the samples, settings of its own, and one real Spark server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from contracts.settings import Settings, settings_from
from spark_jobs.server import BRIEF_JAVA

ROOT = Path(__file__).resolve().parent.parent
# Every Spark server of a test lives for minutes (`spark_jobs.server.start_server`, `brief`).
os.environ.setdefault("JDK_JAVA_OPTIONS", BRIEF_JAVA)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the platform's processes have it


def _place_of(nodeid: str) -> str:
    """The tests on the one Spark server together, others by their file."""
    file = nodeid.split("::", 1)[0]
    on_the_server = file.startswith("tests/spark/") or file == "tests/e2e/test_kill.py"
    return "tests/spark" if on_the_server else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among several workers the longest begin first: short ones fill what is left of the time."""
    first = ("tests/e2e/", "tests/spark", "tests/assets/")

    def rank(item: pytest.Item) -> int:
        place = _place_of(item.nodeid)
        return next((at for at, start in enumerate(first) if place.startswith(start)), len(first))

    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """What shares fixtures that take long stays on one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _place_of(nodeid)

    return ByPlace(config, log)


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of the real recordings; tests that need it say so when it is absent."""
    place = os.environ.get("DRIVELAKE_SAMPLES") or str(ROOT.parent / "shared" / "data")
    folder = Path(place.removeprefix("file://"))
    if not folder.is_dir():
        pytest.skip(f"notyet: no real recordings at DRIVELAKE_SAMPLES={place}")
    return folder


def make_settings(home: Path, **changes: object) -> Settings:
    """Settings of a deployment of its own, on free ports, away from the user's environment."""
    settings = settings_from({"DRIVELAKE_HOME": str(home)}, working_folder=ROOT)
    spark = free_port()
    return attrs.evolve(
        settings,
        spark_port=spark,
        jdbc_port=free_port(),
        dagster_port=free_port(),
        mlflow_port=free_port(),
        spark_remote=f"sc://127.0.0.1:{spark}",
        **changes,
    )


@pytest.fixture(scope="session")
def new_deployment():
    """`new_deployment(home, **changes)`: settings of one more deployment, on free ports."""
    return make_settings


@pytest.fixture(scope="session")
def object_storage() -> Iterator[dict[str, str]]:
    """Storage options of an S3-compatible server in a process of its own.

    In this process it would starve: delta-rs waits for its answers without letting go of Python.
    """
    port = free_port()
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 60
        while not _answers(port):
            assert server.poll() is None, "the S3-compatible server ended"
            assert time.monotonic() < deadline, "the S3-compatible server did not answer in 60 s"
            time.sleep(0.1)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ALLOW_HTTP": "true",
        }
        server.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def new_bucket(object_storage):
    """`new_bucket(name)`: a client of the S3-compatible server, on which the bucket now is."""
    import boto3

    def make(name: str):
        client = boto3.client(
            "s3",
            endpoint_url=object_storage["AWS_ENDPOINT_URL"],
            region_name=object_storage["AWS_REGION"],
            aws_access_key_id=object_storage["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=object_storage["AWS_SECRET_ACCESS_KEY"],
        )
        place = {"LocationConstraint": object_storage["AWS_REGION"]}
        client.create_bucket(Bucket=name, CreateBucketConfiguration=place)
        return client

    return make


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The deployment that the tests of this session share."""
    return make_settings(tmp_path_factory.mktemp("drivelake"))


@pytest.fixture(scope="session")
def spark_server(settings: Settings) -> Iterator[object]:
    """A real Spark server with Connect and JDBC, ended with all its children."""
    from spark_jobs.server import start_server, stop_server

    server = start_server(settings, memory="2g")
    try:
        yield server
    finally:
        stop_server(server)


@pytest.fixture(scope="session")
def spark(spark_server, settings):
    """A Connect client of the server of this session."""
    from spark_jobs.session import connect

    session = connect(settings)
    yield session
    session.stop()
