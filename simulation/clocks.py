"""The clock of a recorder: how far its stamps are from UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from contracts.recording import Int64Array
from simulation.random_streams import random_stream

MAX_OFFSET_NS = {"adas": 500_000_000, "bus": 5_000_000_000, "reference": 2_000_000_000}
MAX_DRIFT_PPM = 20.0
JITTER_RANGE_NS = (100_000, 1_000_000)
JUMP_RANGE_NS = (5_000_000, 2_000_000_000)
JUMP_SHARE_RANGE = (0.15, 0.85)
"""Part of a drive within which a clock is set."""


@attrs.frozen
class ClockJump:
    """A clock is set while it runs.

    Attributes:
        t_ns: The instant, UTC; what is stamped from it on is stamped by the new setting.
        size_ns: By how much the clock is set forwards; backwards if negative.
    """

    t_ns: int
    size_ns: int


def _jumps(value: Iterable[ClockJump | Mapping[str, Any]]) -> tuple[ClockJump, ...]:
    """Jumps in order of time, from values or from the truth's JSON."""
    jumps = [one if isinstance(one, ClockJump) else ClockJump(**one) for one in value]
    return tuple(sorted(jumps, key=lambda one: one.t_ns))


@attrs.frozen
class RecorderClock:
    """The law `stamp = t + offset_ns + drift_ppm * 1e-6 * (t - t_start_ns) + jumps + jitter`.

    t is UTC in ns; the jumps are the sum of those up to t.

    Attributes:
        offset_ns: Clock minus UTC at `t_start_ns`.
        drift_ppm: How much faster than UTC the clock runs.
        jitter_ns: Bound of the jitter of one stamp: |jitter| <= jitter_ns (Gaussian of a third of
            it, clipped).
        t_start_ns: UTC at which the offset holds: the start of the drive.
        jumps: When the clock was set, and by how much.
    """

    offset_ns: int
    drift_ppm: float
    jitter_ns: int = attrs.field(validator=attrs.validators.ge(0))
    t_start_ns: int
    jumps: tuple[ClockJump, ...] = attrs.field(default=(), converter=_jumps)

    def exact_stamp(self, t_ns: Int64Array) -> Int64Array:
        """Map UTC to this clock without jitter.

        Args:
            t_ns: (N,) int64 UTC.

        Returns:
            (N,) int64 on this clock.
        """
        t_ns = np.asarray(t_ns, dtype=np.int64)
        drift_ns = np.rint(self.drift_ppm * 1e-6 * (t_ns - self.t_start_ns)).astype(np.int64)
        return t_ns + self.offset_ns + drift_ns + self._jumped(t_ns)

    def _jumped(self, t_ns: Int64Array) -> Int64Array:
        """(N,) int64 ns, by how much the clock has been set up to some instants of UTC."""
        total = np.zeros(t_ns.shape, dtype=np.int64)
        for jump in self.jumps:
            total += np.where(t_ns >= jump.t_ns, jump.size_ns, 0)
        return total

    def stamp(self, t_ns: Int64Array, *, rng: np.random.Generator) -> Int64Array:
        """Map UTC to the stamps that this recorder writes, jitter included.

        Args:
            t_ns: (N,) int64 UTC.
            rng: Source of the jitter.

        Returns:
            (N,) int64 on this clock.
        """
        t_ns = np.asarray(t_ns, dtype=np.int64)
        jitter = rng.normal(0.0, self.jitter_ns / 3, t_ns.shape)
        jitter_ns = np.rint(np.clip(jitter, -self.jitter_ns, self.jitter_ns)).astype(np.int64)
        return self.exact_stamp(t_ns) + jitter_ns

    def utc_from_stamp(self, stamp_ns: Int64Array) -> Int64Array:
        """Invert the law of a clock without jumps; what remains is the jitter (and 1 ns).

        Args:
            stamp_ns: (N,) int64 on this clock.

        Returns:
            (N,) int64 UTC.

        Raises:
            ValueError: The clock jumps, so that a stamp may be of two instants or of none.
        """
        if self.jumps:
            raise ValueError("stamps of a clock that jumps have no inverse")
        elapsed_ns = np.asarray(stamp_ns, dtype=np.int64) - self.offset_ns - self.t_start_ns
        utc_elapsed = np.rint(elapsed_ns / (1.0 + self.drift_ppm * 1e-6)).astype(np.int64)
        return self.t_start_ns + utc_elapsed


def draw_jumps(
    seed: int, *, drive_id: str, t_start_ns: int, t_end_ns: int, share: float
) -> dict[str, tuple[ClockJump, ...]]:
    """Draw which recorder's clock of a drive is set, when and by how much.

    Args:
        seed: Seed of the fleet.
        drive_id: The drive.
        t_start_ns: Start of the drive, UTC.
        t_end_ns: Its end.
        share: Share of the drives in which one clock is set.

    Returns:
        A jump of one recorder, or nothing.
    """
    rng = random_stream(seed, drive_id, "clock", "jumps")
    if rng.random() >= share:
        return {}
    recorder = sorted(MAX_OFFSET_NS)[int(rng.integers(len(MAX_OFFSET_NS)))]
    size = round(float(np.exp(rng.uniform(*np.log(JUMP_RANGE_NS)))))
    sign = 1 if rng.random() < 0.5 else -1
    at = t_start_ns + round(float(rng.uniform(*JUMP_SHARE_RANGE)) * (t_end_ns - t_start_ns))
    return {recorder: (ClockJump(at, sign * size),)}


def draw_clocks(seed: int, *, drive_id: str, t_start_ns: int) -> dict[str, RecorderClock]:
    """Draw the clock errors of the three recorders of a drive.

    Args:
        seed: Seed of the fleet.
        drive_id: The drive.
        t_start_ns: Start of the drive, UTC.

    Returns:
        A clock by recorder: adas, bus, reference.
    """
    clocks = {}
    for recorder, bound in MAX_OFFSET_NS.items():
        rng = random_stream(seed, drive_id, "clock", recorder)
        clocks[recorder] = RecorderClock(
            offset_ns=int(rng.integers(-bound, bound + 1)),
            drift_ppm=round(float(rng.uniform(-MAX_DRIFT_PPM, MAX_DRIFT_PPM)), 3),
            jitter_ns=int(rng.integers(*JITTER_RANGE_NS)),
            t_start_ns=t_start_ns,
        )
    return clocks
