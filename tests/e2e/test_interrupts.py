"""Signals to the command, and services whose leader was killed: nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from drivelake.platform import SERVICES, running, stop_platform
from drivelake.platform import _processes_of as processes_of
from drivelake.platform import _start as start_service

pytestmark = pytest.mark.e2e
SCRIPT = str(Path(sys.executable).parent / "drivelake")


@pytest.fixture
def settings(tmp_path, new_deployment):
    settings = new_deployment(tmp_path / "home")
    yield settings
    stop_platform(settings)


@pytest.fixture
def start(settings, tmp_path):
    """`start(*arguments)`: the command in the background, its words in `said`."""
    (tmp_path / "no-samples").mkdir()
    environment = {
        **{key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"},
        "DRIVELAKE_HOME": str(settings.home),
        "DRIVELAKE_SAMPLES": str(tmp_path / "no-samples"),
        "DRIVELAKE_SPARK_PORT": str(settings.spark_port),
        "DRIVELAKE_JDBC_PORT": str(settings.jdbc_port),
    }
    # A suite in the background ignores SIGINT, and its children would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (tmp_path / "said").open("wb") as said:

        @contextmanager
        def run(*arguments):
            command = [SCRIPT, *arguments]
            with subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
                try:
                    yield process
                except BaseException:
                    process.kill()  # a test that has failed does not wait for its end
                    raise

        yield run
    signal.signal(signal.SIGINT, before)


def wait_for(what, condition, *, seconds=600.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)
    return found


def left_of(settings):
    return [process for name in SERVICES for process in processes_of(settings, name)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_stopped_while_its_server_starts_ends_it(settings, start, tmp_path, number, code):
    """A signal before the Spark server answers: the shell's exit code, and no JVM is left."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    (recordings / "noise").write_bytes(b"noise")
    with start("ingest", str(recordings)) as ingest:
        wait_for("the JVM", lambda: processes_of(settings, "spark"))
        ingest.send_signal(number)
        assert ingest.wait(timeout=180) == code
    assert not left_of(settings)


def test_a_command_whose_server_is_gone_can_be_stopped(settings, start, tmp_path):
    """Kill -9 the Spark server in the middle, then SIGTERM: the command ends, and at once."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    (recordings / "noise").write_bytes(b"noise")
    with start("ingest", str(recordings)) as ingest:
        server = wait_for("the server", lambda: running(settings).get("spark"))
        os.killpg(server.pid, signal.SIGKILL)
        ingest.terminate()
        assert ingest.wait(timeout=60) == 143
    assert not left_of(settings)


def test_commands_at_once_share_a_server_and_the_last_ends_it(settings, start, tmp_path):
    """Two commands on a fresh home start one server; it ends with the last, a killed one aside."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "noise").write_bytes(name.encode())
    with (
        start("ingest", str(tmp_path / "one")) as one,
        start("ingest", str(tmp_path / "two")) as two,
    ):
        wait_for("the server", lambda: "spark" in running(settings))
        one.kill()
        assert two.wait(timeout=300) == 3, (tmp_path / "said").read_text()  # noise is a loss
    assert (settings.home / "spark" / "server.log").read_text().count("start GRPC service") == 1
    assert not left_of(settings)


def test_down_ends_what_a_killed_leader_left(settings):
    """Kill -9 the leader of a service: `down` finds its children, and ends them."""
    service = start_service("dagster", settings)
    leader = psutil.Process(service.pid)
    children = wait_for("the code server", lambda: leader.children(recursive=True))
    leader.kill()
    leader.wait()
    assert not running(settings)
    assert any(child.is_running() for child in children)
    assert stop_platform(settings) == ["dagster"]
    assert not [child for child in children if child.is_running()]
    assert stop_platform(settings) == []


def test_down_leaves_other_homes_alone(settings, new_deployment, tmp_path):
    """Processes of a home beside, with the same services, go on."""
    beside = new_deployment(tmp_path / "home beside")
    neighbour = start_service("mlflow", beside)
    try:
        assert stop_platform(settings) == []
        assert running(beside) == {"mlflow": neighbour}
    finally:
        assert stop_platform(beside) == ["mlflow"]
    assert not left_of(beside)
