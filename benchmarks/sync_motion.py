"""Sweeps brought to one instant of a moving vehicle, side by side with scipy and NumPy.

    python benchmarks/sync_motion.py [--write] [--repeats 7]

A sweep of 100,000 points over 0.1 s, in the order in which a spinning lidar sees them, and one of
10,000 in any order; the vehicle turns at 30 °/s and 30 m/s, with poses at 100 Hz. Ours is
`drivelake.compensate` from an Arrow table to another; the peer what people write: scipy's `Slerp`
and `numpy.interp` of the poses at each point, a rotation for each point, and back into the frame of
the instant. The points are compared before; all is float32 outside and float64 inside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation, Slerp

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import Case, arguments, publish, table  # noqa: E402

from udfs.sync.sweeps import compensate  # noqa: E402

SECOND_NS = 1_000_000_000
AT_NS = 1_790_000_000 * SECOND_NS
SWEEP_NS = SECOND_NS // 10
SPEED_M_S, TURN_RAD_S = 30.0, np.radians(30.0)
AXES, TURNS = "xyz", "xyzw"
CLOSE_M = 0.01


def main() -> None:
    """Measure both sweeps."""
    options = arguments(__doc__ or "").parse_args()
    publish("sync_motion", table(cases(), repeats=options.repeats), write=options.write)


def cases() -> Iterator[Case]:
    """A large sweep in order, a small one in none."""
    random = np.random.default_rng(3)
    poses = poses_at(AT_NS + np.arange(-SECOND_NS, SECOND_NS, SECOND_NS // 100))
    for count, order in ((100_000, "in order"), (10_000, "in any order")):
        t_ns = AT_NS - SWEEP_NS + np.arange(count) * SWEEP_NS // count
        if order != "in order":
            t_ns = random.permutation(t_ns)
        points = {axis: random.uniform(-80, 80, count).astype(np.float32) for axis in AXES}
        rows = pa.table({"t_ns": t_ns, **points})
        yield case(f"{count:,} points {order}, scipy", rows, poses)


def case(what: str, rows: pa.Table, poses: pa.Table) -> Case:
    """Both sides, once compared."""

    def ours() -> pa.Table:
        return compensate(rows, poses, at_ns=AT_NS)

    theirs = by_scipy(rows, poses)
    found = np.stack([ours()[axis].to_numpy() for axis in AXES], axis=1)
    if not np.allclose(found, theirs(), atol=CLOSE_M, rtol=0.0):
        raise SystemExit(f"{what}: other points")
    return Case(what, rows.nbytes, lambda: len(ours()), lambda: len(theirs()))


def poses_at(t_ns: np.ndarray) -> pa.Table:
    """Poses on a circle, in its start's frame."""
    heading = TURN_RAD_S * (t_ns - t_ns[0]) / 1e9
    radius_m = SPEED_M_S / TURN_RAD_S
    none = np.zeros(len(t_ns))
    position = (radius_m * np.sin(heading), radius_m * (1 - np.cos(heading)), none)
    turn = (none, none, np.sin(heading / 2), np.cos(heading / 2))
    return pa.table(
        {
            "t_ns": t_ns,
            **{f"position_{axis}_m": one for axis, one in zip(AXES, position, strict=True)},
            **{f"orientation_{axis}": one for axis, one in zip(TURNS, turn, strict=True)},
        }
    )


def by_scipy(rows: pa.Table, poses: pa.Table) -> Callable[[], np.ndarray]:
    """Poses between the poses for each point, and the two changes of frame."""
    pose_ns, t_ns = poses["t_ns"].to_numpy(), rows["t_ns"].to_numpy()
    position = np.stack([poses[f"position_{axis}_m"].to_numpy() for axis in AXES], axis=1)
    turn = np.stack([poses[f"orientation_{axis}"].to_numpy() for axis in TURNS], axis=1)

    def run() -> np.ndarray:
        seen = np.stack([rows[axis].to_numpy() for axis in AXES], axis=1)
        elapsed, of_poses = (t_ns - AT_NS) / 1e9, (pose_ns - AT_NS) / 1e9
        turned = Slerp(of_poses, Rotation.from_quat(turn))
        here = [np.interp(elapsed, of_poses, position[:, axis]) for axis in range(3)]
        there = [np.interp(0.0, of_poses, position[:, axis]) for axis in range(3)]
        in_world = turned(elapsed).apply(seen) + np.stack(here, axis=1)
        moved = turned(0.0).inv().apply(in_world - np.stack(there))
        return np.asarray(moved, np.float32)

    return run


if __name__ == "__main__":
    main()
