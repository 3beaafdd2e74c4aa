"""Starts and ends the services of the embedded platform, and says which of them run.

Each service leads a process group of its own, so that ending it ends its children, and carries a
mark in its environment, by which children are found whose parent was killed. What runs is kept in
`<home>/run/<service>.json`: process id, start time (a recycled id is not ours) and address.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import attrs
import psutil

from contracts.errors import PlatformError
from contracts.settings import Settings
from drivelake.environment import PROJECT
from spark_jobs.server import (
    answers,
    is_started_on_demand,
    local_port,
    service_mark,
    start_server,
    started_on_demand,
    stop_group,
)
from spark_jobs.service_log import last_error
from spark_jobs.storage import uri_of

SERVICES = ("spark", "mlflow", "dagster", "dagster-daemon")
START_SECONDS = 120.0


@attrs.frozen
class Service:
    """A service that runs: `pid` leads its group; `started` tells a recycled id."""

    name: str
    pid: int
    started: float
    address: str
    log: str


def running(settings: Settings) -> dict[str, Service]:
    """The services of this home that are alive."""
    found = {}
    for name in SERVICES:
        record = settings.home / "run" / f"{name}.json"
        if not record.exists():
            continue
        try:
            service = Service(**json.loads(record.read_text()))
        except (ValueError, TypeError):
            continue  # damaged: its processes are found by their mark
        if _is_alive(service):
            found[name] = service
    return found


def start_spark(settings: Settings) -> Service:
    """Start the Spark server, or find the one that runs; it stays until `stop_platform`."""
    with _alone(settings):
        _lent(settings).unlink(missing_ok=True)
        return running(settings).get("spark") or _start_spark(settings)


def _start_spark(settings: Settings, *, brief: bool = False) -> Service:
    server = start_server(settings, brief=brief)
    return _keep(
        settings,
        Service(
            "spark", server.pid, _start_time(server.pid),
            f"{server.remote}  {server.jdbc_url}", str(server.log),
        ),
    )  # fmt: skip


def start_platform(
    settings: Settings, *, say: Callable[[Service, bool], None] = lambda _service, _new: None
) -> list[Service]:
    """Start every service that is not running; `say` hears of each, and whether it is new."""
    alive = running(settings)
    if "dagster" not in alive:
        make_storage(settings)

    def start(name: str) -> Service:
        service = alive.get(name) or _start(name, settings)
        say(service, name not in alive)
        return service

    with ThreadPoolExecutor() as pool:  # each waits for its own port
        return list(pool.map(start, SERVICES))


def stop_platform(settings: Settings) -> list[str]:
    """End every service of this home with all its children; returns the names of the services.

    A service whose leader was killed may have left children; they are known by their environment.
    """
    alive = running(settings)
    ended = []
    for name in reversed(SERVICES):
        if name in alive:
            stop_group(alive[name].pid)
        left = _processes_of(settings, name)
        _end(left)
        if name in alive or left:
            ended.append(name)
        (settings.home / "run" / f"{name}.json").unlink(missing_ok=True)
    _lent(settings).unlink(missing_ok=True)
    return ended


@contextmanager
def spark_at_hand(settings: Settings, *, brief: bool = False) -> Iterator[None]:
    """A Spark server for the block: the one that runs, or one that ends with the last such block.

    It is started when somebody first connects: where nothing is to be done there is none. Commands
    that run at once share it, whichever of them has started it; one that is killed counts no more.

    Args:
        settings: Of the home.
        brief: Whether one that is started will have little data to do with (`start_server`).
    """
    port = local_port(settings.spark_remote)
    if port is None or is_started_on_demand(settings.spark_remote):
        yield  # it is on another machine, or a block around this one has it
        return
    folder = settings.home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "spark.users").open("w") as users:

        def start() -> None:
            with _alone(settings):
                if "spark" not in running(settings) and not answers(port):
                    _start_spark(settings, brief=brief)
                    _lent(settings).touch()
                fcntl.flock(users, fcntl.LOCK_SH)

        try:
            with started_on_demand(settings.spark_remote, start):
                yield
        finally:
            with _alone(settings):
                if _lent(settings).exists() and _is_last(users):
                    _stop_spark(settings)


def _stop_spark(settings: Settings) -> None:
    if (service := running(settings).get("spark")) is not None:
        stop_group(service.pid)
    (settings.home / "run" / "spark.json").unlink(missing_ok=True)
    _lent(settings).unlink(missing_ok=True)


def _lent(settings: Settings) -> Path:
    """The mark of a server that ends with its last user."""
    return settings.home / "run" / "spark.lent"


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One process of this home at a time starts or ends the Spark server."""
    folder = settings.home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "spark.lock"):
        yield


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One process at a time; the lock is given back when the file is closed, by a kill too."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_last(users: TextIO) -> bool:
    """Whether no other process has a share of the lock."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def dagster_home(settings: Settings) -> Path:
    """Folder of the Dagster instance, with the deployment's configuration in it."""
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    text = (PROJECT / "deploy" / "dagster" / "dagster.yaml").read_text()
    target = home / "dagster.yaml"
    if not target.exists() or target.read_text() != text:
        with tempfile.NamedTemporaryFile("w", dir=home, delete=False) as part:
            part.write(text)
        Path(part.name).replace(target)  # whole at any moment: services read it while they start
    return home


def make_storage(settings: Settings) -> None:
    """Make Dagster's databases, if they are not there; one process at a time.

    Two that find none both make them, and may leave one that Dagster refuses to open.
    """
    from dagster import DagsterInstance

    home = dagster_home(settings)
    with _locked(home / "opening.lock"), DagsterInstance.from_config(str(home)):
        pass


def service_environment(settings: Settings) -> dict[str, str]:
    """Environment of services and runs: this shell's, with the deployment made explicit."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(settings)),
        "DRIVELAKE_HOME": str(settings.home),
        "DRIVELAKE_LAKE": settings.lake_uri,
        "DRIVELAKE_LANDING": settings.landing_uri,
        "DRIVELAKE_ARTEFACTS": settings.artefacts_uri,
        "DRIVELAKE_TRUTH": settings.truth_uri,
        "DRIVELAKE_JARS": str(settings.jars),
        "SPARK_REMOTE": settings.spark_remote,
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",  # threads that wait would keep cores from others
        **({"DRIVELAKE_SYNC": uri_of(settings.sync_uri)} if settings.sync_uri else {}),
        **settings.storage_options,
    }


def _start(name: str, settings: Settings) -> Service:
    if name == "spark":
        return start_spark(settings)
    scripts = Path(sys.executable).parent
    workspace = str(PROJECT / "workspace.yaml")
    mlflow_port, dagster_port = settings.mlflow_port, settings.dagster_port
    if name == "mlflow":
        artefacts = settings.artefacts_uri.rstrip("/") + "/mlflow"
        command = [
            str(scripts / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(mlflow_port),
            "--workers", "1", "--backend-store-uri", settings.mlflow_uri,
            "--default-artifact-root", artefacts,
        ]  # fmt: skip
        return _launch(settings, name, command, port=mlflow_port)
    if name == "dagster":
        command = [
            str(scripts / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(dagster_port),
            "-w", workspace,
        ]  # fmt: skip
        return _launch(settings, name, command, port=dagster_port)
    return _launch(settings, name, [str(scripts / "dagster-daemon"), "run", "-w", workspace])


def _launch(
    settings: Settings, name: str, command: list[str], *, port: int | None = None
) -> Service:
    if port is not None and answers(port):
        raise PlatformError(
            f"Port {port} of {name} is taken",
            code="SETUP",
            remedy=f"Stop what listens there, or set DRIVELAKE_{name.upper()}_PORT",
        )
    log = settings.home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        since = sink.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            env={**service_environment(settings), **service_mark(settings, name)},
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}" if port else "(no page)"
    service = _keep(
        settings, Service(name, process.pid, _start_time(process.pid), address, str(log))
    )
    deadline = time.monotonic() + START_SECONDS
    while port is not None and not answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            stop_group(process.pid)
            reason = last_error(log, since=since)
            raise PlatformError(
                f"{name} did not start: {reason}", uri=str(log), remedy="The log says more"
            )
        time.sleep(0.2)
    process.returncode = 0  # the service outlives this object; `stop_group` collects its status
    return service


def _processes_of(settings: Settings, name: str) -> list[psutil.Process]:
    """Every process of a service, known by the mark in its environment."""
    [(variable, mark)] = service_mark(settings, name).items()
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or another person's
            if process.environ().get(variable) == mark:
                found.append(process)
    return found


def _end(processes: Sequence[psutil.Process], *, seconds: float = 20.0) -> None:
    """Ask processes to end, then make them; returns when they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5.0)


def _keep(settings: Settings, service: Service) -> Service:
    folder = settings.home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{service.name}.json"
    temporary.write_text(json.dumps(attrs.asdict(service)))
    temporary.replace(folder / f"{service.name}.json")
    return service


def _start_time(pid: int) -> float:
    return psutil.Process(pid).create_time()


def _is_alive(service: Service) -> bool:
    try:
        process = psutil.Process(service.pid)
        same = abs(process.create_time() - service.started) < 2.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
