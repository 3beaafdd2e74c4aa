"""Streams brought to the instants of a reference, side by side with what people use for it.

    python benchmarks/sync_align.py [--write] [--repeats 7]

Eight streams of four float64 columns, of 1 to 100 Hz with jitter, from half a minute to an hour
long, are brought to 100 Hz and to 10 Hz. Ours is `drivelake.sync` from Arrow tables to one Arrow
table: values, and for every value its time, its distance from the instant and its state. The peers:

- polars: `join_asof` of the instants with each stream, values and the time of the sample.
- numpy: `interp` for each column; the values alone.
- scipy: `Slerp` of the four columns of each stream, to quaternions again; the values alone.

Polars runs with one thread, and takes the streams for sorted without a look. The tolerance is a
second. A drive of half a minute shows what a call costs, whatever its size.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = "1"  # CPU time is compared; read when polars is imported

import numpy as np
import polars as pl
import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import Case, arguments, publish, table  # noqa: E402

from udfs.sync.reference import Rate  # noqa: E402
from udfs.sync.stream_rules import Method, Rule  # noqa: E402
from udfs.sync.synchronise import synchronise  # noqa: E402

RATES_HZ = (1, 10, 20, 25, 30, 50, 100, 100)
SECOND_NS = 1_000_000_000
TOLERANCE_NS = SECOND_NS
START_NS = 1_790_000_000 * SECOND_NS
Streams = Mapping[str, pa.Table]


def main() -> None:
    """Measure every rule that has a peer."""
    options = arguments(__doc__ or "").parse_args()
    publish("sync_align", table(cases(), repeats=options.repeats), write=options.write)


def cases() -> Iterator[Case]:
    """Each rule, for long and short drives, to 100 and 10 Hz."""
    for seconds, hz in ((3600, 100), (3600, 10), (300, 100), (30, 100)):
        span = f"{seconds} s to {hz} Hz"
        rate = Rate(hz, START_NS, START_NS + seconds * SECOND_NS)
        streams = drive(seconds)
        peer = polars_of(streams, rate)
        yield case(f"nearest, {span}, polars", streams, rate, "nearest", peer("nearest"), goal=0.9)
        yield case(f"last, {span}, polars", streams, rate, "last", peer("backward"), goal=0.9)
        yield case(
            f"linear, {span}, numpy", streams, rate, "linear", numpy_of(streams, rate), goal=1.5
        )
        turns = drive(seconds, columns=quaternions)
        theirs = scipy_of(turns, rate)
        yield case(f"slerp, {span}, scipy", turns, rate, "spherical", theirs, goal=30)


def case(
    what: str,
    streams: Streams,
    rate: Rate,
    method: Method,
    theirs: Callable[[], int],
    *,
    goal: float,
) -> Case:
    """One rule for all streams; what is counted are the values that it gives."""
    rules = dict.fromkeys(streams, Rule(method, tolerance_ns=TOLERANCE_NS))
    size = sum(one.nbytes for one in streams.values())

    def ours() -> int:
        found = synchronise(streams, reference=rate, rules=rules)
        return 4 * len(streams) * found.num_rows

    return Case(what, size, ours, theirs, goal=goal)


def drive(seconds: int, columns: Callable[[int], dict[str, np.ndarray]] | None = None) -> Streams:
    """A stream of each rate: a tenth of the period of jitter, in order."""
    random = np.random.default_rng(7)
    made = {}
    for i, hz in enumerate(RATES_HZ):
        count = seconds * hz
        period = SECOND_NS // hz
        t_ns = START_NS + np.arange(count) * period + random.integers(0, period // 10, count)
        values = (columns or smooth)(count)
        made[f"s{i}"] = pa.table({"t_ns": t_ns, **values})
    return made


def smooth(count: int) -> dict[str, np.ndarray]:
    """Four columns that change slowly."""
    return {f"v{i}": np.sin(np.arange(count) / (10 + i)) for i in range(4)}


def quaternions(count: int) -> dict[str, np.ndarray]:
    """A vehicle that turns, pitches and rolls; of either sign, as estimators give them."""
    random = np.random.default_rng(8)
    values = np.cumsum(random.normal(0, 0.02, (count, 4)), axis=0)
    values[:, 3] += 1
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values *= random.choice([-1.0, 1.0], (count, 1))
    return {f"q_{axis}": values[:, i].copy() for i, axis in enumerate("xyzw")}


def polars_of(streams: Streams, rate: Rate) -> Callable[[str], Callable[[], int]]:
    """`join_asof` with each stream, by strategy."""
    instants = pl.DataFrame({"t_ns": instants_of(rate)}).set_sorted("t_ns")
    frames = []
    for name, one in streams.items():
        own = pl.DataFrame(pl.from_arrow(one)).rename(lambda column, name=name: f"{name}_{column}")
        frames.append(own.rechunk().set_sorted(f"{name}_t_ns"))

    def with_strategy(strategy: str) -> Callable[[], int]:
        def run() -> int:
            found = instants
            for right in frames:
                found = found.join_asof(
                    right, left_on="t_ns", right_on=right.columns[0], strategy=strategy,
                    tolerance=TOLERANCE_NS, coalesce=False,
                )  # fmt: skip
            return 4 * len(frames) * found.height

        return run

    return with_strategy


def numpy_of(streams: Streams, rate: Rate) -> Callable[[], int]:
    """`numpy.interp` for each column."""
    instants = instants_of(rate)
    plain = [[column.to_numpy() for column in one.columns] for one in streams.values()]

    def run() -> int:
        found = [
            np.interp(instants, t_ns, column) for t_ns, *columns in plain for column in columns
        ]
        return len(found) * len(instants)

    return run


def scipy_of(streams: Streams, rate: Rate) -> Callable[[], int]:
    """`Slerp` for each stream, within its samples: outside of them it raises."""
    from scipy.spatial.transform import Rotation, Slerp

    instants = instants_of(rate)
    plain = [
        (one["t_ns"].to_numpy(), np.column_stack([c.to_numpy() for c in one.columns[1:]]))
        for one in streams.values()
    ]

    def run() -> int:
        found = []
        for t_ns, values in plain:
            held = np.clip(instants, t_ns[0], t_ns[-1])
            found.append(Slerp(t_ns, Rotation.from_quat(values))(held).as_quat())
        return 4 * len(found) * len(instants)

    return run


def instants_of(rate: Rate) -> np.ndarray:
    """The instants of a rate that has both ends."""
    assert rate.start_ns is not None
    assert rate.end_ns is not None
    return rate.instants(rate.start_ns, rate.end_ns)[:-1]


if __name__ == "__main__":
    main()
