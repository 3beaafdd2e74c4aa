"""The Spark job of the frames side by side with as-of joins written in Spark SQL and in pandas.

    python benchmarks/sync_spark.py [--drives 100] [--seconds 60] [--hours 10] [--write]

All three run on one warm Spark server with two cores, over the same Delta tables of drives with two
recorders and eight streams, and give for each camera image the nearest sweep and the values of the
others on a line between the two samples around it. Ours is the job up to its rows; that of Spark
SQL is written as databrickslabs' tempo does an as-of join: the images and a stream in one relation,
`last(value, true)` over a window by drive and time, and `first` for the sample behind; that of
pandas has one group a drive, `applyInPandas` and two `merge_asof` a stream. Rows go nowhere; they
are compared once before. Wall time, and CPU time of all processes together.

Below them one long drive: the memory that a worker takes above what it has when it has imported
everything, over all the tasks of the drive one after the other.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import arguments, free_ports, publish  # noqa: E402

from contracts.settings import Settings, settings_from  # noqa: E402
from contracts.tables import TABLES  # noqa: E402

CORES = 2
GOALS = {"Spark SQL": 10.0, "applyInPandas": 3.0}
MEMORY_GOAL_MB = 300
START_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
OFFSETS_NS = {"adas": 80_000_000, "bus": -3_200_000_000}
LATENCY_NS = 4_000_000
HEAD = (
    "| what | rows | frames | ours s | theirs s | ratio | goal | |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
)
RATES_HZ = {
    "images": 10, "point_clouds": 10, "gnss": 5, "odometry": 50, "imu": 100, "signals": 50,
}  # fmt: skip
LINEAR = {
    "gnss": (("latitude_deg", "longitude_deg", "altitude_m"), 1_500_000_000, 100_000_000),
    "pose": (("position_x_m", "position_y_m"), 200_000_000, 50_000_000),
    "speed": (("speed_m_s",), 200_000_000, 50_000_000),
    "yaw_rate": (("yaw_rate_rad_s",), 200_000_000, 50_000_000),
    "acceleration": (("acceleration_m_s2",), 200_000_000, 50_000_000),
    "steering_angle": (("steering_angle_rad",), 200_000_000, 50_000_000),
}
"""Stream: (columns, widest hole, farthest sample at an end), as in the rules of the release."""
COLUMNS = [name for names, _, _ in LINEAR.values() for name in names]
SWEEP_NS = 60_000_000


@attrs.frozen
class Took:
    """Seconds of the clock and of all processors."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Measure both tables."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--drives", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--memory-of", help=argument_help())
    parser.set_defaults(repeats=3)
    options = parser.parse_args()
    if options.memory_of:
        print(worker_memory_mb(options.memory_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        publish("sync_spark", measured(Path(folder), options), write=options.write)


def argument_help() -> str:
    """Of an option for this program alone."""
    return "a lake: print the MB that a worker takes above its base, and end"


def measured(folder: Path, options: Any) -> Iterator[str]:
    """Rows of both tables."""
    yield from HEAD
    if options.drives:
        yield from beside_others(folder, options)
    if options.hours:
        yield from ("", *memory_table(folder / "long", options.hours))


def memory_table(lake: Path, hours: float) -> Iterator[str]:
    """What a worker takes for a tenth of a drive, and for all of it."""
    yield "| one drive | MB of a worker above its base | goal | |"
    yield "| --- | ---: | ---: | --- |"
    for part in (hours / 10, hours):
        place = lake / f"{part:g}"
        make_lake(place, drives=1, seconds=3600 * part)
        found = subprocess.run(
            [sys.executable, __file__, "--memory-of", place.as_uri()],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        used = float(found.stdout)
        verdict = "met" if used <= MEMORY_GOAL_MB else "missed"
        yield f"| {part:g} hours | {used:.0f} | ≤ {MEMORY_GOAL_MB} | {verdict} |"


def beside_others(folder: Path, options: Any) -> Iterator[str]:
    """Wall and CPU time of the job against the two others."""
    from contracts.settings import settings_from
    from spark_jobs.server import start_server, stop_server
    from spark_jobs.session import connect

    lake = folder / "lake"
    rows = make_lake(lake, drives=options.drives, seconds=options.seconds)
    one, other = free_ports()
    settings = settings_from(
        {
            "DRIVELAKE_HOME": str(folder / "home"),
            "DRIVELAKE_SPARK_PORT": str(one),
            "DRIVELAKE_JDBC_PORT": str(other),
        },
        working_folder=ROOT,
    )
    settings = attrs.evolve(settings, lake_uri=lake.as_uri())
    server = start_server(settings, memory="2g", configuration={"spark.master": f"local[{CORES}]"})
    try:
        # A session has workers of its own: none inherits what another's functions did to them.
        mine, sql, pandas = (connect(settings) for _ in range(3))
        meter = Meter(server.pid)
        sides: dict[str, Callable[[], Any]] = {
            "ours": lambda: ours(mine, settings),
            "Spark SQL": lambda: by_windows(sql, lake),
            "applyInPandas": lambda: by_pandas(pandas, lake),
        }
        found = {name: side().toArrow() for name, side in sides.items()}
        frames = len(found["ours"])
        for name in GOALS:
            compare(found["ours"], found[name], name)
        took: dict[str, list[Took]] = {name: [] for name in sides}
        for _ in range(options.repeats):
            for name, side in sides.items():
                took[name].append(timed(side, meter))
        meter.close()
        for spark in (mine, sql, pandas):
            spark.stop()
    finally:
        stop_server(server)
    for name, goal in GOALS.items():
        for what in ("wall_s", "cpu_s"):
            our_s, their_s = (
                min(getattr(each, what) for each in took[side]) for side in ("ours", name)
            )
            verdict = "met" if their_s / our_s >= goal else "missed"
            kind = "wall time" if what == "wall_s" else "CPU time"
            yield (
                f"| {options.drives} drives of {options.seconds:g} s, {name}, {kind} | {rows} | "
                f"{frames} | {our_s:.2f} | {their_s:.2f} | {their_s / our_s:.1f} | ≥ {goal:g} | "
                f"{verdict} |"
            )


def timed(side: Callable[[], Any], meter: Meter) -> Took:
    """Run one side to its last row."""
    cpu_s, started = meter.cpu_s(), time.monotonic()
    side().write.format("noop").mode("overwrite").save()
    return Took(time.monotonic() - started, meter.cpu_s() - cpu_s)


class Meter:
    """CPU time of this process, a server and all that it ever started.

    Spark ends Python workers that idle for a minute, and their parent does not wait for them: what
    they took is known only by looking while they live.
    """

    def __init__(self, server: int) -> None:
        import psutil

        self._server = psutil.Process(server)
        self._seen: dict[tuple[int, float], float] = {}
        self._own_s = 0.0
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def cpu_s(self) -> float:
        """Seconds until now, less what it takes to measure them."""
        self._look()
        return time.process_time() - self._own_s + sum(self._seen.values())

    def close(self) -> None:
        """Look no longer."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            began = time.thread_time()
            self._look()
            self._own_s += time.thread_time() - began

    def _look(self) -> None:
        import psutil

        alive = [self._server]
        with contextlib.suppress(psutil.NoSuchProcess):
            alive += self._server.children(recursive=True)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                took = one.cpu_times()
                self._seen[one.pid, one.create_time()] = took.user + took.system


def ours(spark: Any, settings: Settings) -> Any:
    """The job, from the Delta log to its rows."""
    from spark_jobs.frame_plan import DriveWork, plan_frames
    from spark_jobs.silver_files import silver_tables
    from spark_jobs.silver_frames import frames_from
    from spark_jobs.tables import read_arrow
    from udfs.sync.rules import SyncRules

    rules = SyncRules()
    of_drive: dict[str, list[dict[str, Any]]] = {}
    for row in read_arrow(settings, "silver.clocks").to_pylist():
        of_drive.setdefault(row["drive_id"], []).append(row)
    drives = [DriveWork(drive, rows) for drive, rows in sorted(of_drive.items())]
    recordings = {row["recording_id"] for each in drives for row in each.clocks}
    tables = silver_tables(settings, recordings, rules=rules)
    plan = plan_frames(spark, settings, drives, tables, rules=rules)
    return frames_from(spark, settings, plan, drives, tables, rules=rules)


def streams_of(spark: Any, lake: Path) -> dict[str, Any]:
    """Images and streams as (drive_id, t_ns, values…) on UTC."""
    from pyspark.sql import functions as F  # noqa: N812

    clocks = spark.read.format("delta").load(str(lake / "silver/clocks"))
    offsets = F.broadcast(clocks.select("recording_id", "drive_id", "offset_ns"))

    def read(table: str, where: str = "true", **columns: str) -> Any:
        rows = spark.read.format("delta").load(str(lake / "silver" / table)).where(where)
        t_ns = "coalesce(sensor_time_ns, log_time_ns) - offset_ns AS t_ns"
        named = [f"{of} AS {name}" for name, of in columns.items()]
        return rows.join(offsets, "recording_id").selectExpr("drive_id", t_ns, *named)

    return {
        "images": read("images", camera_data_offset="data_offset"),
        "lidar": read("point_clouds", lidar_data_offset="data_offset"),
        "gnss": read("gnss", **{name: name for name in LINEAR["gnss"][0]}),
        "pose": read("odometry", **{name: name for name in LINEAR["pose"][0]}),
        "speed": read("signals", "signal = 'VehicleSpeed'", speed_m_s="value / 3.6"),
        "yaw_rate": read("imu", yaw_rate_rad_s="angular_velocity_z_rad_s"),
        "acceleration": read("imu", acceleration_m_s2="linear_acceleration_x_m_s2"),
        "steering_angle": read("signals", "signal = 'SteeringAngle'", steering_angle_rad="value"),
    }


def by_windows(spark: Any, lake: Path) -> Any:
    """One union and two windows a stream, one stream after the other."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    streams = streams_of(spark, lake)
    found = streams["images"]
    for stream in ("lidar", *LINEAR):
        right = streams[stream]
        names = [name for name in right.columns if name not in {"drive_id", "t_ns"}]
        left = found.withColumns({"is_image": F.lit(1), "s_ns": F.lit(None).cast("bigint")})
        right = right.withColumns({"is_image": F.lit(0), "s_ns": F.col("t_ns")})
        both = left.unionByName(right, allowMissingColumns=True)
        in_order = Window.partitionBy("drive_id").orderBy("t_ns", "is_image")
        behind = Window.partitionBy("drive_id").orderBy(F.col("t_ns").desc(), "is_image")
        paired = both.withColumns(
            {
                **{f"{name}_0": F.last(name, True).over(in_order) for name in ("s_ns", *names)},
                **{f"{name}_1": F.last(name, True).over(behind) for name in ("s_ns", *names)},
            }
        ).where("is_image = 1")
        kept = [name for name in found.columns if name not in names]
        found = paired.selectExpr(*kept, *(f"{paired_sql(stream, n)} AS {n}" for n in names))
    return found


def paired_sql(stream: str, name: str) -> str:
    """The value of a column from the samples on both sides."""
    before, after = f"{name}_0", f"{name}_1"
    if stream == "lidar":
        is_first = "s_ns_1 IS NULL OR t_ns - s_ns_0 <= s_ns_1 - t_ns"
        return (
            f"CASE WHEN {is_first} THEN IF(t_ns - s_ns_0 <= {SWEEP_NS}, {before}, NULL) "
            f"ELSE IF(s_ns_1 - t_ns <= {SWEEP_NS}, {after}, NULL) END"
        )
    _, gap, error = LINEAR[stream]
    return (
        f"CASE WHEN s_ns_1 = t_ns THEN {after} "
        f"WHEN s_ns_1 - s_ns_0 <= {gap} THEN {before} + ({after} - {before}) * "
        "((t_ns - s_ns_0) / (s_ns_1 - s_ns_0)) "
        f"WHEN s_ns_1 IS NULL AND t_ns - s_ns_0 <= {error} THEN {before} "
        f"WHEN s_ns_0 IS NULL AND s_ns_1 - t_ns <= {error} THEN {after} END"
    )


def by_pandas(spark: Any, lake: Path) -> Any:
    """One group a drive: all streams one below the other, taken apart again and joined."""
    from functools import reduce

    from pyspark.sql import functions as F  # noqa: N812

    rows = []
    for stream, df in streams_of(spark, lake).items():
        names = [name for name in df.columns if name not in {"drive_id", "t_ns"}]
        values = [F.col(name).cast("double").alias(f"v{i}") for i, name in enumerate(names)]
        rows.append(df.select("drive_id", "t_ns", F.lit(stream).alias("stream"), *values))
    together = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), rows)
    fields = ["camera_data_offset BIGINT", "lidar_data_offset DOUBLE"]
    schema = ", ".join(
        ["drive_id STRING", "t_ns BIGINT", *fields, *(f"{name} DOUBLE" for name in COLUMNS)]
    )
    return together.groupBy("drive_id").applyInPandas(joined_by_pandas, schema)


def joined_by_pandas(rows: Any) -> Any:
    """Frames of one drive."""
    import pandas as pd

    rows = rows.sort_values("t_ns", kind="stable")
    images = rows[rows["stream"] == "images"]
    instants = images[["t_ns"]]
    t_ns = instants["t_ns"].to_numpy()
    first = t_ns[0]  # what has no partner makes floats of times, which hold so many ns no more
    found = {
        "drive_id": images["drive_id"].to_numpy(),
        "t_ns": t_ns,
        "camera_data_offset": images["v0"].to_numpy().astype(np.int64),
    }
    for stream in ("lidar", *LINEAR):
        names = ("lidar_data_offset",) if stream == "lidar" else LINEAR[stream][0]
        values = [f"v{i}" for i in range(len(names))]
        right = rows[rows["stream"] == stream][["t_ns", *values]].assign(
            s_ns=lambda r: r["t_ns"] - first
        )
        before = pd.merge_asof(instants, right, on="t_ns", direction="backward")
        after = pd.merge_asof(instants, right, on="t_ns", direction="forward")
        past = t_ns - first - before["s_ns"].to_numpy()
        ahead = after["s_ns"].to_numpy() - (t_ns - first)
        for name, value in zip(names, values, strict=True):
            low, high = before[value].to_numpy(), after[value].to_numpy()
            if stream == "lidar":
                is_first = np.isnan(ahead) | (past <= ahead)
                chosen = np.where(is_first, low, high)
                near = np.where(is_first, past, ahead) <= SWEEP_NS
                found[name] = np.where(near, chosen, np.nan)
                continue
            _, gap, error = LINEAR[stream]
            span = past + ahead
            inside = low + (high - low) * (past / np.where(span > 0, span, 1))
            inside = np.where(ahead == 0, high, np.where(span <= gap, inside, np.nan))
            held = np.where(np.isnan(ahead) & (past <= error), low, inside)
            found[name] = np.where(np.isnan(past) & (ahead <= error), high, held)
    return pd.DataFrame(found)


def compare(mine: pa.Table, theirs: pa.Table, who: str) -> None:
    """End the program where a value differs."""
    order = [("drive_id", "ascending"), ("camera_data_offset", "ascending")]
    mine, theirs = mine.sort_by(order), theirs.sort_by(order)
    if len(mine) != len(theirs):
        raise SystemExit(f"{who}: {len(theirs)} frames, {len(mine)} were ours")
    for name in ("t_ns", "lidar_data_offset", *COLUMNS):
        one, other = (np.array(each[name].to_numpy(), dtype=np.float64) for each in (mine, theirs))
        if not np.allclose(one, other, rtol=1e-9, atol=1e-9, equal_nan=True):
            raise SystemExit(f"{who}: {name} differs")
        if np.isnan(one).mean() > 0.2:
            raise SystemExit(f"{name}: hardly anything to compare")


def worker_memory_mb(lake_uri: str) -> float:
    """MB above the base that one process takes for all tasks of the drives of a lake."""
    from spark_jobs import frame_plan, silver_frames
    from spark_jobs.silver_files import silver_tables
    from spark_jobs.tables import read_arrow
    from udfs.sync.rules import SyncRules

    def in_this_process(_spark: object, payloads: Any, work: Any) -> Iterator[bytes]:
        yield from map(work, payloads)

    rules = SyncRules()
    settings = attrs.evolve(settings_from({}, working_folder=ROOT), lake_uri=lake_uri)
    clocks = read_arrow(settings, "silver.clocks").to_pylist()
    drives = [frame_plan.DriveWork(clocks[0]["drive_id"], clocks)]
    tables = silver_tables(settings, {row["recording_id"] for row in clocks}, rules=rules)
    frame_plan.run_stage = in_this_process  # type: ignore[assignment]
    base = resident_kb()
    plan = frame_plan.plan_frames(None, settings, drives, tables, rules=rules)  # type: ignore[arg-type]
    payloads = [frame_plan.payload_of(task, tables) for task in plan.tasks]
    bare = [attrs.evolve(table, files=()) for table in tables]
    synchronise = silver_frames.synchroniser({drives[0].drive_id: clocks}, bare, rules, {})
    batch = pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary())], ["payload"])
    frames = sum(part.num_rows for part in synchronise(iter([batch])))
    seconds = (clocks[0]["valid_to_ns"] - clocks[0]["valid_from_ns"]) / SECOND
    if abs(frames - RATES_HZ["images"] * seconds) > 2:
        raise SystemExit(f"{frames} frames of {seconds} s")
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024


def resident_kb() -> int:
    """Memory of this process now, which no peak of its start must hide."""
    import psutil

    return int(psutil.Process().memory_info().rss / 1024)


def make_lake(place: Path, *, drives: int, seconds: float) -> int:
    """Write the tables of drives with two recorders; their rows."""
    from deltalake import write_deltalake

    rows = 0
    names = [f"drive-{number:03}" for number in range(drives)]
    for table in RATES_HZ:
        uri = str(place / "silver" / table)
        # A batch of an ingest leaves a file a table and task.
        step = max(1, -(-drives // 4))
        for start in range(0, drives, step):
            parts = [
                part
                for name in names[start : start + step]
                for part in rows_of(table, name, seconds)
            ]
            rows += sum(len(part) for part in parts)
            write_deltalake(uri, pa.concat_tables(parts), mode="append")
    clocks, recordings = [], []
    for name in names:
        for recorder, offset_ns in OFFSETS_NS.items():
            first = START_NS + offset_ns
            span = {"start_ns": first, "end_ns": first + round(seconds * SECOND)}
            own = {"drive_id": name, "recording_id": f"{name}-{recorder}", "recorder": recorder}
            recordings.append({**own, **span})
            clocks.append(
                {
                    **own, "reference": "utc", "method": "gnss_time", "anchor_ns": first,
                    "valid_from_ns": span["start_ns"], "valid_to_ns": span["end_ns"],
                    "offset_ns": offset_ns, "drift_ppb": 0.0, "uncertainty_ns": 10_000,
                    "drift_uncertainty_ppb": 1.0, "samples": 100,
                }
            )  # fmt: skip
    for table, values in (("silver.clocks", clocks), ("bronze.recordings", recordings)):
        where = place / table.replace(".", "/")
        write_deltalake(str(where), pa.Table.from_pylist(values, TABLES[table].schema))
    return rows


def rows_of(table: str, drive: str, seconds: float) -> Iterator[pa.Table]:
    """Rows of one silver table of a drive, in time order."""
    count = round(RATES_HZ[table] * seconds)
    of_signal = {"VehicleSpeed": "km/h", "SteeringAngle": "rad"} if table == "signals" else {"": ""}
    recorder = "bus" if table == "signals" else "adas"
    for number, (signal, unit) in enumerate(of_signal.items()):
        random = np.random.default_rng(len(drive) + number + sum(map(ord, drive + table)))
        jitter = random.integers(0, SECOND // RATES_HZ[table] // 4, count)
        true_ns = START_NS + np.arange(count) * (SECOND // RATES_HZ[table]) + jitter
        t_ns = true_ns + OFFSETS_NS[recorder]
        value = np.sin((true_ns - START_NS) / 3e9 + number)
        given: dict[str, Any] = {
            "recording_id": np.repeat(f"{drive}-{recorder}", count),
            "topic": np.repeat(f"/{table}{signal}", count),
            "frame_id": np.repeat("sensor", count),
            "log_time_ns": t_ns if signal else t_ns + LATENCY_NS,
            "sensor_time_ns": None if signal else t_ns,
            "unit_offset": np.full(count, -1),
            "data_offset": np.arange(count),
            "data_length": np.full(count, 100),
            "point_step_bytes": np.full(count, 20),
            "is_bigendian": np.zeros(count, bool),
            "fix_status": np.zeros(count),
            "signal": np.repeat(signal, count),
            "unit": np.repeat(unit, count),
            "source": np.repeat("Vehicle", count),
            "orientation_w": np.ones(count),
            **{f"orientation_{axis}": np.zeros(count) for axis in "xyz"},
        }
        contract = TABLES[f"silver.{table}"].schema
        columns = []
        for field in contract:
            one = given.get(field.name)
            if one is None and pa.types.is_floating(field.type):
                one = value
            columns.append(
                pa.nulls(count, field.type) if one is None else pa.array(one).cast(field.type)
            )
        yield pa.table(columns, schema=contract)


if __name__ == "__main__":
    main()
