"""What every test may ask for: the samples, settings of its own, and one real Spark server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from contracts.settings import Settings, settings_from

ROOT = Path(__file__).resolve().parent.parent


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
