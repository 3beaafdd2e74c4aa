"""The Spark server of the platform: Connect and JDBC in one JVM that owns the catalogue.

On one machine the platform starts it; on a cluster the same server runs elsewhere and only
`SPARK_REMOTE` changes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pyspark

from contracts.errors import PlatformError, SetupError
from contracts.settings import DEFAULT_SPARK_PORT, Settings
from spark_jobs.service_log import last_error

START_SECONDS = 180.0
_REACH_SECONDS = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
BRIEF_JAVA = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
"""JVM options of a server that lives for minutes: half of its processor time went into compiling
Java that was then hardly run. A query that scans millions of rows takes four times as long."""
_HIVE_SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"


@attrs.frozen
class ServerProcess:
    """A server that runs on this machine; `pid` leads its process group."""

    pid: int
    remote: str
    jdbc_url: str
    log: Path


def server_configuration(
    settings: Settings, *, memory: str = "3g", brief: bool = False
) -> dict[str, str]:
    """Spark properties of the server; the values are measured (docs/adr/0001)."""
    spark_home = settings.home / "spark"
    class_path = [
        settings.jars / "drivelake" / "*",
        settings.jars / "delta" / "*",
        settings.jars / "s3a" / "*",
    ]
    scratch = spark_home / "tmp"
    archive = settings.jars / "archive" / "classes.jsa"
    java = [
        f"-Dderby.system.home={spark_home}",
        f"-Dderby.stream.error.file={spark_home}/derby.log",
        f"-Djava.io.tmpdir={scratch}",
        "-XX:+UseG1GC",
        *([BRIEF_JAVA] if brief else []),
        *([f"-XX:SharedArchiveFile={archive}"] if archive.is_file() else []),
    ]
    return {
        "spark.master": "local[*]",
        "spark.app.name": "drivelake",
        "spark.driver.memory": memory,
        "spark.driver.extraClassPath": ":".join(str(entry) for entry in class_path),
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(settings.spark_port),
        "spark.connect.grpc.maxInboundMessageSize": str(256 * 2**20),
        "spark.hadoop.hive.server2.thrift.bind.host": "127.0.0.1",
        "spark.hadoop.hive.server2.thrift.port": str(settings.jdbc_port),
        "spark.hadoop.javax.jdo.option.ConnectionURL": (
            f"jdbc:derby:;databaseName={spark_home}/metastore;create=true"
        ),
        "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
        "spark.hadoop.hive.metastore.schema.verification": "false",
        "spark.sql.warehouse.dir": str(spark_home / "warehouse"),
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.local.dir": str(scratch),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **_storage_configuration(settings.storage_options),
    }


def _storage_configuration(options: Mapping[str, str]) -> dict[str, str]:
    """S3A under the scheme `s3://` too, and commits by conditional put on both."""
    log_store = "drivelake.ConditionalPutLogStore"
    filesystem = "org.apache.hadoop.fs.s3a.S3AFileSystem"
    found = {
        "spark.hadoop.fs.s3.impl": filesystem,
        "spark.delta.logStore.s3.impl": log_store,
        "spark.delta.logStore.s3a.impl": log_store,
    }
    names = {
        "AWS_ENDPOINT_URL": "endpoint",
        "AWS_REGION": "endpoint.region",
        "AWS_ACCESS_KEY_ID": "access.key",
        "AWS_SECRET_ACCESS_KEY": "secret.key",
        "AWS_SESSION_TOKEN": "session.token",
    }
    for key, name in names.items():
        if key in options:
            found[f"spark.hadoop.fs.s3a.{name}"] = options[key]
    if "AWS_ENDPOINT_URL" in options:
        found["spark.hadoop.fs.s3a.path.style.access"] = "true"
    if options.get("AWS_ALLOW_HTTP", "").lower() == "true":
        found["spark.hadoop.fs.s3a.connection.ssl.enabled"] = "false"
    return found


def start_server(
    settings: Settings,
    *,
    memory: str = "3g",
    brief: bool = False,
    configuration: Mapping[str, str] | None = None,
) -> ServerProcess:
    """Start the server and wait until both of its ports answer.

    Args:
        settings: Ports, home and storage.
        memory: Heap of the JVM.
        brief: Whether it lives for minutes only, on little data: it then starts quicker.
        configuration: Properties that replace or add to `server_configuration`.

    Raises:
        SetupError: No Java, no jars, or a port that is taken.
        PlatformError: The JVM ended or did not answer in time; names its log.
    """
    if not (settings.jars / "delta").is_dir():
        raise SetupError("The Delta jars are not there", remedy="Run `make setup`")
    for port in (settings.spark_port, settings.jdbc_port):
        if answers(port):
            raise SetupError(
                f"Port {port} is taken",
                remedy="Stop what listens there, or set DRIVELAKE_SPARK_PORT / DRIVELAKE_JDBC_PORT",
            )
    spark_home = settings.home / "spark"
    (spark_home / "tmp").mkdir(parents=True, exist_ok=True)
    properties = spark_home / "server.properties"
    standard = server_configuration(settings, memory=memory, brief=brief)
    _write_properties(properties, {**standard, **(configuration or {})})
    log = spark_home / "server.log"
    home_of_spark = Path(pyspark.__file__).parent
    environment = {
        **os.environ,
        "SPARK_HOME": str(home_of_spark),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
        # On the class path, where a folder that holds files would void the archive of classes.
        "SPARK_CONF_DIR": str(settings.jars / "conf"),
        **service_mark(settings, "spark"),
        **settings.storage_options,
    }
    for inherited in ("SPARK_REMOTE", "PYSPARK_DRIVER_PYTHON", "PYTHONWARNINGS"):
        environment.pop(inherited, None)
    command = [
        str(home_of_spark / "bin" / "spark-submit"),
        *("--properties-file", str(properties)),
        *("--class", _HIVE_SERVER),
        "spark-internal",
    ]
    with log.open("ab") as sink:
        since = sink.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=spark_home,
            start_new_session=True,
        )
    server = ServerProcess(
        pid=process.pid,
        remote=f"sc://127.0.0.1:{settings.spark_port}",
        jdbc_url=f"jdbc:hive2://127.0.0.1:{settings.jdbc_port}/default",
        log=log,
    )
    try:
        _wait(process, server, (settings.spark_port, settings.jdbc_port), since=since)
    except BaseException:  # an interrupt too: nobody else knows of this process yet
        stop_server(server)
        raise
    process.returncode = 0  # the server outlives this object; `stop_group` collects its status
    return server


_starters: dict[str, Callable[[], None]] = {}


@contextmanager
def started_on_demand(remote: str, start: Callable[[], None]) -> Iterator[None]:
    """Within the block `start` is called before a session at an address is opened."""
    _starters[remote] = start
    try:
        yield
    finally:
        del _starters[remote]


def is_started_on_demand(remote: str) -> bool:
    """Whether this process is within a block of `started_on_demand` for an address."""
    return remote in _starters


def start_if_asked(remote: str) -> None:
    """Call what `started_on_demand` has for an address; a server of somebody else's is there."""
    if start := _starters.get(remote):
        start()


def service_mark(settings: Settings, name: str) -> dict[str, str]:
    """Environment by which the processes of a service are known, whoever their parent is."""
    return {"DRIVELAKE_SERVICE": f"{name}@{settings.home.resolve()}"}


def stop_server(server: ServerProcess, *, seconds: float = 20.0) -> None:
    """End the server and every process that it started, by its process group."""
    stop_group(server.pid, seconds=seconds)


def stop_group(pid: int, *, seconds: float = 20.0) -> None:
    """Ask a process group to end, once, for a second request would stop its clean-up; then make it.

    Returns when it is gone, or 5 s after the kill: what is left then waits for its parent only.
    """
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while _group_lives(pid):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return


def _group_lives(pid: int) -> bool:
    _reap(pid)
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _reap(pid: int) -> None:
    """Collect the exit status where the process is a child of this one."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Written for the owner alone: it holds the storage keys."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{key} {value}\n" for key, value in sorted(properties.items())))


def local_port(remote: str) -> int | None:
    """Port of a Connect address on this machine; None if it is on another one.

    >>> local_port("sc://127.0.0.1:15002"), local_port("sc://localhost"), local_port("sc://spark:1")
    (15002, 15002, None)
    """
    place = urlsplit(remote)
    try:
        port = place.port or DEFAULT_SPARK_PORT
    except ValueError:  # no address at all
        return None
    return port if place.hostname in _LOOPBACK else None


def answers(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def reachable(remote: str) -> bool:
    """Whether something listens at a Connect address, here or elsewhere."""
    try:
        place = urlsplit(remote)
        address = place.hostname or "", place.port or DEFAULT_SPARK_PORT
        socket.create_connection(address, timeout=_REACH_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _wait(
    process: subprocess.Popen[bytes], server: ServerProcess, ports: tuple[int, ...], *, since: int
) -> None:
    """Return when every port answers; `since` is the size of the log before the start."""
    deadline = time.monotonic() + START_SECONDS
    waiting = list(ports)
    while waiting:
        if process.poll() is not None:
            reason = last_error(server.log, since=since)
            raise PlatformError(
                f"The Spark server ended with code {process.returncode}: {reason}",
                uri=str(server.log),
                remedy="The log says more",
            )
        if time.monotonic() > deadline:
            raise PlatformError(
                f"The Spark server did not answer within {START_SECONDS:.0f} s",
                uri=str(server.log),
            )
        waiting = [port for port in waiting if not answers(port)]
        time.sleep(0.2)
