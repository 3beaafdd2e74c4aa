"""Clocks of a simulated fleet against the truth: offsets, their stated errors, and jumps.

    python benchmarks/clocks.py [--write] [--drives 200] [--seconds 120] [--seed 7]

Nothing is rendered: what the recorders stamp is made from the ego's motion, a clock, jitter and
losses. A drive has an ADAS computer with a GNSS receiver, and a bus logger and a reference logger
that share the motion with it. Clocks are up to 30 s off and drift by up to 50 ppm, stamps jitter by
up to 1 ms, 5 % of all messages are lost, and in one of five drives one clock is set by 5 ms to 2 s.

An error is that of the stated offset at 20 instants of a drive, two seconds or more from a jump; an
interval is the stated offset, give or take 1.96 of its standard errors. A jump is found if a clock
has a segment on either side of it, and placed if the middle between them is within 50 ms of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import arguments, publish  # noqa: E402

from contracts.tables import TABLES  # noqa: E402
from simulation.clocks import RecorderClock, draw_jumps  # noqa: E402
from simulation.motion import Trajectory  # noqa: E402
from simulation.plan import drive_id_of, plan_ego  # noqa: E402
from simulation.random_streams import random_stream  # noqa: E402
from udfs.sync.drive_clocks import estimate_drive_clocks  # noqa: E402
from udfs.sync.observations import observations_of  # noqa: E402
from udfs.sync.rules import SyncRules  # noqa: E402

RULES = SyncRules()
OFFSET_NS = 30_000_000_000
DRIFT_PPM = 50.0
JITTER_NS = (100_000, 1_000_000)
LOST = 0.05
JUMPS = 0.2
LATENCY_NS = (2_500_000, 6_000_000)
PROBES = 20
AWAY_NS = 2_000_000_000
MARGIN_NS = 1_000_000_000
PLACED_NS = 50_000_000
RECORDERS = ("adas", "bus", "reference")


@attrs.frozen(eq=False)
class Drive:
    """A drive, its true clocks, and what is estimated of them."""

    t_start_ns: int
    t_end_ns: int
    clocks: Mapping[str, RecorderClock]
    rows: Sequence[Mapping[str, Any]]


def main() -> None:
    """Simulate, estimate, compare."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--drives", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    start = time.process_time()
    drives = [
        estimated(options.seed, index=index, seconds=options.seconds)
        for index in range(1, options.drives + 1)
    ]
    spent = time.process_time() - start
    lines = [*report(drives), "", f"{spent:.0f} s of CPU time, simulation included."]
    publish("clocks", lines, write=options.write)


def estimated(seed: int, *, index: int, seconds: float) -> Drive:
    """One drive, from its motion to the rows of its clocks."""
    name = drive_id_of(index)
    ego = plan_ego(seed=seed, index=index, seconds=seconds)
    start_ns = int(ego.t_ns[0]) + MARGIN_NS
    end_ns = start_ns + round(seconds * 1e9)
    jumps = draw_jumps(seed, drive_id=name, t_start_ns=start_ns, t_end_ns=end_ns, share=JUMPS)
    rng = random_stream(seed, name, "benchmark", "clocks")
    clocks = {
        recorder: RecorderClock(
            offset_ns=int(rng.integers(-OFFSET_NS, OFFSET_NS + 1)),
            drift_ppm=float(rng.uniform(-DRIFT_PPM, DRIFT_PPM)),
            jitter_ns=int(rng.integers(*JITTER_NS)),
            t_start_ns=start_ns,
            jumps=jumps.get(recorder, ()),
        )
        for recorder in RECORDERS
    }
    tables = {
        table: pa.concat_tables(parts)
        for table, parts in stamped_tables(
            ego, start_ns=start_ns, end_ns=end_ns, clocks=clocks, rng=rng
        ).items()
    }
    found = estimate_drive_clocks(
        observations_of(tables, rules=RULES),
        recordings=recordings_of(name, tables),
        rules=RULES,
    )
    return Drive(start_ns, end_ns, clocks, found.to_pylist())


def stamped_tables(
    ego: Trajectory,
    *,
    start_ns: int,
    end_ns: int,
    clocks: Mapping[str, RecorderClock],
    rng: np.random.Generator,
) -> dict[str, list[pa.Table]]:
    """Silver rows of all recorders, by table."""

    def instants(period_ns: int) -> np.ndarray:
        phase = int(rng.integers(period_ns))
        t_ns = np.arange(start_ns + phase, end_ns, period_ns, dtype=np.int64)
        return t_ns[rng.random(len(t_ns)) >= LOST]

    def motion(t_ns: np.ndarray, name: str, noise: float) -> np.ndarray:
        knots = ego.t_ns
        values = np.interp(t_ns - knots[0], knots - knots[0], getattr(ego, name))
        return values + rng.normal(0.0, noise, len(t_ns))

    def rows(table: str, recorder: str, t_ns: np.ndarray, **columns: Any) -> pa.Table:
        clock = clocks[recorder]
        sensor = clock.stamp(t_ns, rng=rng)
        log = clock.stamp(t_ns + rng.integers(*LATENCY_NS, len(t_ns)), rng=rng)
        return laid(table, recorder, log=log, sensor=sensor, columns=columns)

    found: dict[str, list[pa.Table]] = {}
    ms = 1_000_000
    images, imu = instants(100 * ms), instants(10 * ms)
    found["images"] = [rows("images", "adas", images)]
    found["imu"] = [
        rows("imu", "adas", imu, angular_velocity_z_rad_s=motion(imu, "yaw_rate_rad_s", 0.004))
    ]
    for recorder, period_ms in (("adas", 20), ("reference", 10)):
        t_ns = instants(period_ms * ms)
        speed, yaw_rate = motion(t_ns, "speed_m_s", 0.03), motion(t_ns, "yaw_rate_rad_s", 0.005)
        part = rows(
            "odometry",
            recorder,
            t_ns,
            linear_velocity_x_m_s=speed,
            angular_velocity_z_rad_s=yaw_rate,
        )
        found.setdefault("odometry", []).append(part)
    whole = np.arange(start_ns, end_ns, 1000 * ms, dtype=np.int64)
    whole = whole[rng.random(len(whole)) >= LOST]
    found["sensor_msgs_timereference"] = [
        rows("sensor_msgs_timereference", "adas", whole, time_ref_ns=whole)
    ]
    found["signals"] = []
    for name, unit, source, period_ms, factor, noise in (
        ("VehicleSpeed", "km/h", "speed_m_s", 20, 3.6, 0.05),
        ("YawRate", "deg/s", "yaw_rate_rad_s", 20, 180 / np.pi, 0.2),
        ("SteeringAngle", "deg", "steering_angle_rad", 50, 180 / np.pi, 0.5),
    ):
        t_ns = instants(period_ms * ms)
        value = factor * motion(t_ns, source, 0.0) + rng.normal(0.0, noise, len(t_ns))
        log = clocks["bus"].stamp(t_ns, rng=rng)
        columns = {
            "signal": [name] * len(t_ns),
            "unit": [unit] * len(t_ns),
            "source": ["Vehicle"] * len(t_ns),
            "value": value,
        }
        found["signals"].append(laid("signals", "bus", log=log, sensor=None, columns=columns))
    return found


def laid(
    table: str,
    recorder: str,
    *,
    log: np.ndarray,
    sensor: np.ndarray | None,
    columns: Mapping[str, Any],
) -> pa.Table:
    """Columns laid into the schema of a silver table, in order of log time as a reader may."""
    count = len(log)
    given = {
        "recording_id": [recorder] * count,
        "topic": [f"/{table}"] * count,
        "log_time_ns": log,
        "sensor_time_ns": sensor,
        **columns,
    }
    name = f"silver.{table}"
    if name not in TABLES:
        given["frame_id"] = pa.nulls(count, pa.string())
        return pa.table(given)
    arrays = [
        pa.nulls(count, field.type)
        if given.get(field.name) is None
        else pa.array(given[field.name], field.type)
        for field in TABLES[name].schema
    ]
    return pa.table(arrays, schema=TABLES[name].schema)


def recordings_of(drive: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """Rows of `bronze.recordings`: a recording a recorder."""
    spans: dict[str, list[int]] = {}
    for table in tables.values():
        names, log = table["recording_id"].to_pylist(), table["log_time_ns"].to_numpy()
        for name in set(names):
            mine = log[np.array(names) == name]
            spans.setdefault(name, []).extend([int(mine.min()), int(mine.max())])
    return pa.table(
        {
            "drive_id": [drive] * len(spans),
            "recording_id": list(spans),
            "recorder": list(spans),
            "start_ns": [min(each) for each in spans.values()],
            "end_ns": [max(each) for each in spans.values()],
            "ingest_date": pa.nulls(len(spans), pa.date32()),
        }
    )


def report(drives: Sequence[Drive]) -> Iterator[str]:
    """The table of the results."""
    yield "| recorder | tied | median ms | p99 ms | largest ms | covered | jumps | found | placed |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    every: list[np.ndarray] = []
    spurious, jumps_all, found_all, placed_all = 0, 0, 0, 0
    for recorder in RECORDERS:
        errors, jumps, found, placed, tied = [], 0, 0, 0, 0
        for drive in drives:
            rows = [
                row
                for row in drive.rows
                if row["recorder"] == recorder and row["uncertainty_ns"] is not None
            ]
            tied += bool(rows)
            true = drive.clocks[recorder].jumps
            jumps += len(true)
            spurious += max(len(rows) - 1 - len(true), 0)
            for jump in true:
                place_ns = place_of(rows, jump.t_ns)
                found += place_ns is not None
                placed += place_ns is not None and abs(place_ns - jump.t_ns) <= PLACED_NS
            errors.append(errors_of(drive, recorder, rows))
        every.append(np.concatenate(errors))
        yield f"| {recorder} | {tied} | {figures(every[-1])} | {jumps} | {found} | {placed} |"
        jumps_all, found_all, placed_all = jumps_all + jumps, found_all + found, placed_all + placed
    yield (
        f"| all | | {figures(np.concatenate(every))} | {jumps_all} | {found_all} | {placed_all} |"
    )
    yield "| goal | | ≤ 0.5 | ≤ 3 | | 93–97 % | | all | all |"
    yield ""
    alerts = sum(row["alert"] is not None for drive in drives for row in drive.rows)
    yield (
        f"{len(drives)} drives; jumps that were none: {spurious} (goal: 0);"
        f" evidence said to contradict other: {alerts} (none does)."
    )


def errors_of(drive: Drive, recorder: str, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N, 2) error of the stated offset and its stated standard error, ns, at instants of a drive.

    Instants that no segment holds for count for nothing: there nothing is stated.
    """
    clock = drive.clocks[recorder]
    t_ns = np.linspace(drive.t_start_ns, drive.t_end_ns, PROBES + 2).astype(np.int64)[1:-1]
    for jump in clock.jumps:
        t_ns = t_ns[np.abs(t_ns - jump.t_ns) > AWAY_NS]
    stamps = clock.exact_stamp(t_ns)
    found = []
    for row in rows:
        inside = (stamps >= row["valid_from_ns"]) & (stamps <= row["valid_to_ns"])
        away_s = (stamps[inside] - row["anchor_ns"]) / 1e9
        stated = row["offset_ns"] + np.rint(row["drift_ppb"] * away_s).astype(np.int64)
        error = stated - (stamps - t_ns)[inside]
        stated_error = np.hypot(row["uncertainty_ns"], row["drift_uncertainty_ppb"] * away_s)
        found.append(np.column_stack([error, stated_error]))
    return np.concatenate([np.empty((0, 2)), *found])


def place_of(rows: Sequence[Mapping[str, Any]], t_ns: int) -> int | None:
    """Middle between the two segments around a jump, UTC; None if there is but one."""
    if len(rows) < 2:
        return None
    # The rows say when a clock's readings are certain: behind a step back, later than the jump.
    spans = []
    for row in rows:
        drift = 1e-9 * row["drift_ppb"]
        ends = (row["valid_from_ns"], row["valid_to_ns"])
        spans.append(
            [end - row["offset_ns"] - round(drift * (end - row["anchor_ns"])) for end in ends]
        )
    spans.sort()
    middles = [(before[1] + after[0]) // 2 for before, after in pairwise(spans)]
    return min(middles, key=lambda middle: abs(middle - t_ns))


def figures(errors: np.ndarray) -> str:
    """Median, 99th percentile and largest error in ms, and the share within the intervals."""
    if not len(errors):
        return "| | |"
    size = np.abs(errors[:, 0]) / 1e6
    covered = float(np.mean(np.abs(errors[:, 0]) <= 1.96 * errors[:, 1]))
    return (
        f"{np.median(size):.3f} | {np.percentile(size, 99):.2f} | {size.max():.2f} | {covered:.1%}"
    )


if __name__ == "__main__":
    main()
