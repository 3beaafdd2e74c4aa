"""The whole way through Spark and Delta side by side with the same decode in plain processes.

    python benchmarks/ingest_spark.py [--recordings 8] [--times 2] [--repeats 3] [--write]

Ours: an ingest on a warm Spark server with two cores, from objects in landing to committed rows:
listed, hashed, sniffed, indexed, claimed, decoded in guarded children, written as Parquet,
balanced, committed table by table, states written. Theirs: two warm processes that take one
recording after the other, index it, decode it and write the same rows through the same Parquet
writer; nothing is hashed, guarded, counted or committed. Wall time, and CPU time of all processes
together.

Below it one large recording, decoded by the tasks of the second stage one after the other and
two at a time: what splitting one file brings.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Self

import attrs
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import arguments, free_ports, publish  # noqa: E402
from recordings import repeated_mcap, small_mcap  # noqa: E402

SECONDS = 120
CORES = 2
WITHIN = 1.6
AT_LEAST = 1.8
LARGE_TIMES = 10
DAY = dt.date(2026, 1, 1)
HEAD = (
    "| what | messages | MB | ours s | theirs s | ratio | goal | |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
)


@attrs.frozen
class Took:
    """What a run took: seconds of the clock, of all processors, and the messages it wrote."""

    wall_s: float
    cpu_s: float
    messages: int


def main() -> None:
    """Measure both tables."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--recordings", type=int, default=8)
    parser.add_argument("--times", type=int, default=2, help="25 MB of small topics in each")
    parser.set_defaults(repeats=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = measured(Path(folder), options)
        publish("ingest_spark", lines, write=options.write)


def measured(folder: Path, options: Any) -> Iterator[str]:
    """Rows of the table."""
    small = small_mcap(folder / "small.mcap", seconds=SECONDS)
    landing = folder / "landing"
    landing.mkdir()
    for number in range(options.recordings):
        name = f"{number}.mcap"
        repeated_mcap(small, landing / name, times=options.times, name=f"recording {number}")
    large = folder / "large.mcap"
    repeated_mcap(small, large, times=LARGE_TIMES, name="large")
    yield from HEAD
    with Lakes(folder) as lakes, Plain(folder) as plain:
        yield from through_spark(lakes, plain, landing, options.repeats)
        yield two_tasks(plain, large, options.repeats)


def through_spark(lakes: Lakes, plain: Plain, landing: Path, repeats: int) -> Iterator[str]:
    """Wall and CPU time of the ingest against the plain processes."""
    paths = sorted(landing.iterdir())
    size = sum(path.stat().st_size for path in paths)
    lakes.ingest(landing)  # the workers have imported all, the JVM has compiled some
    plain.decode(paths)
    ours, theirs = alternated([lambda: lakes.ingest(landing), lambda: plain.decode(paths)], repeats)
    if ours[0].messages != theirs[0].messages:
        raise SystemExit(f"{ours[0].messages} messages against {theirs[0].messages}")
    what = f"landing to committed rows, {len(paths)} recordings"
    head = f"{ours[0].messages} | {size / 1e6:.0f}"
    for name, of in (("wall time", wall_of), ("CPU time", cpu_of)):
        mine, other = min(map(of, ours)), min(map(of, theirs))
        ratio = mine / other
        goal = f"≤ {WITHIN:g} | {'met' if ratio <= WITHIN else 'missed'}"
        yield f"| {what}, {name} | {head} | {mine:.2f} | {other:.2f} | {ratio:.2f} | {goal} |"


def two_tasks(plain: Plain, large: Path, repeats: int) -> str:
    """One recording on two tasks at a time over one at a time; a row of the table."""
    plain.decode_tasks(large, at_once=CORES)
    runs = [lambda n=n: plain.decode_tasks(large, at_once=n) for n in (CORES, 1)]
    both, single = alternated(runs, repeats)
    mine, other = min(map(wall_of, both)), min(map(wall_of, single))
    ratio, size = other / mine, large.stat().st_size
    goal = f"≥ {AT_LEAST:g} | {'met' if ratio >= AT_LEAST else 'missed'}"
    return (
        f"| one recording on two tasks against one, wall time | {both[0].messages} |"
        f" {size / 1e6:.0f} | {mine:.2f} | {other:.2f} | {ratio:.2f} | {goal} |"
    )


def alternated(runs: list[Callable[[], Took]], repeats: int) -> list[list[Took]]:
    """Several runs of each, in turn."""
    turns = [[run() for run in runs] for _ in range(repeats)]
    return [list(of_one) for of_one in zip(*turns, strict=True)]


def wall_of(took: Took) -> float:
    """Seconds of the clock."""
    return took.wall_s


def cpu_of(took: Took) -> float:
    """Seconds of all processors."""
    return took.cpu_s


class Lakes:
    """A Spark server with two cores, and a new lake for each ingest."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        self._folder = folder

    def __enter__(self) -> Self:
        """Start the server."""
        from contracts.settings import settings_from
        from spark_jobs.server import start_server
        from spark_jobs.session import connect

        ports = free_ports()
        variables = {
            "DRIVELAKE_HOME": str(self._folder / "home"),
            "DRIVELAKE_SPARK_PORT": str(ports[0]),
            "DRIVELAKE_JDBC_PORT": str(ports[1]),
        }
        self._settings = settings_from(variables, working_folder=ROOT)
        cores = {"spark.master": f"local[{CORES}]"}
        self._server = start_server(self._settings, memory="2g", configuration=cores)
        self._spark = connect(self._settings)
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        from spark_jobs.server import stop_server

        self._spark.stop()
        stop_server(self._server)

    def ingest(self, landing: Path) -> Took:
        """Take all recordings into a new lake."""
        from spark_jobs.ingest import ingest

        with tempfile.TemporaryDirectory(dir=self._folder) as lake:
            settings = attrs.evolve(self._settings, lake_uri=Path(lake).as_uri())
            cpu_s, started = self._cpu_s(), time.monotonic()
            report = ingest(
                self._spark, settings, [landing.as_uri()], assume_complete=True, register=False
            )
            return Took(time.monotonic() - started, self._cpu_s() - cpu_s, report.messages_written)

    def _cpu_s(self) -> float:
        """CPU seconds of this process, the server and all that it ever started."""
        server = psutil.Process(self._server.pid)
        alive = [server, *server.children(recursive=True)]
        return time.process_time() + sum(sum(one.cpu_times()[:4]) for one in alive)


class Plain:
    """Two processes that have imported everything."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        self._folder = folder

    def __enter__(self) -> Self:
        """Make the pool; its processes start with the first work."""
        import multiprocessing

        self._pool = ProcessPoolExecutor(CORES, mp_context=multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self._pool.shutdown()

    def decode(self, paths: list[Path]) -> Took:
        """Decode recordings to Parquet, each by the process that is free."""
        with tempfile.TemporaryDirectory(dir=self._folder) as lake:
            started = time.monotonic()
            done = list(self._pool.map(decode_to_parquet, [(str(p), lake) for p in paths]))
            wall_s = time.monotonic() - started
        return Took(wall_s, sum(cpu_s for cpu_s, _ in done), sum(count for _, count in done))

    def decode_tasks(self, path: Path, *, at_once: int) -> Took:
        """Decode one recording by the tasks that Spark gets, so many at a time."""
        with tempfile.TemporaryDirectory(dir=self._folder) as lake:
            payloads = task_payloads(path, lake)
            started = time.monotonic()
            if at_once == 1:
                done = [self._pool.submit(run_task, payload).result() for payload in payloads]
            else:
                done = list(self._pool.map(run_task, payloads))
            return Took(time.monotonic() - started, 0.0, sum(done))


def decode_to_parquet(job: tuple[str, str]) -> tuple[float, int]:
    """Index a recording, decode it and write its tables; CPU seconds and messages."""
    from spark_jobs.parts import PartWriter
    from udfs.decode.context import DecodeContext
    from udfs.decode.recording import index_recording, iter_table_groups
    from udfs.decode.source import open_source

    path, lake = job
    started = time.process_time()
    context = DecodeContext("0" * 64, DAY)
    writers: dict[str, PartWriter] = {}
    messages = 0
    with open_source(path) as source:
        index = index_recording(source)
        for group in iter_table_groups(source, index, context=context):
            messages += sum(entry.messages_written for entry in group.ledger)
            for table, rows in group.tables:
                if table not in writers:
                    writers[table] = PartWriter(
                        f"silver.{table}",
                        lake_uri=Path(lake).as_uri(),
                        schema=rows.schema,
                        ingest_date=DAY,
                        batch_id="0" * 32,
                    )
                writers[table].write(rows)
        for writer in writers.values():
            writer.close()
    return time.process_time() - started, messages


def task_payloads(path: Path, lake: str) -> list[bytes]:
    """What Spark would hand to the tasks that decode one large recording."""
    from contracts.tables import SILVER_KINDS
    from spark_jobs.index_codec import pack_index
    from spark_jobs.ingest_decode import Claimed, DecodePlan, payload_of, split_tasks
    from udfs.decode.recording import index_recording, table_of_channel
    from udfs.decode.source import open_source

    with open_source(str(path)) as source:
        index = index_recording(source)
    tables = [table_of_channel(index, channel)[:2] for channel in index.channels]
    claimed = Claimed(
        recording_id="0" * 64,
        uri=path.as_uri(),
        size_bytes=path.stat().st_size,
        index=pack_index(index),
        units=tuple((unit.index, unit.length) for unit in index.units),
    )
    plan = DecodePlan(
        batch_id="0" * 32,
        ingest_date=DAY,
        lake_uri=Path(lake).as_uri(),
        schemas={name: [schema] for name, schema in tables if name not in SILVER_KINDS and schema},
        table_names={},
        definitions={},
    )
    return [payload_of(task, plan) for task in split_tasks([claimed])]


def run_task(payload: bytes) -> int:
    """Decode the units of one task in a guarded child; messages written."""
    from spark_jobs.ingest_decode import decode_task

    found = json.loads(decode_task(payload, storage_options={}))
    if found["failed"]:
        raise SystemExit(f"a task failed: {found['failed']}")
    return sum(counts["written"] for counts in found["counts"].values())


if __name__ == "__main__":
    main()
