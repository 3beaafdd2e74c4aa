"""The clock of a recorder: how far its stamps are from UTC."""

from __future__ import annotations

import attrs
import numpy as np

from contracts.recording import Int64Array
from simulation.random_streams import random_stream

MAX_OFFSET_NS = {"adas": 500_000_000, "bus": 5_000_000_000, "reference": 2_000_000_000}
MAX_DRIFT_PPM = 20.0
JITTER_RANGE_NS = (100_000, 1_000_000)


@attrs.frozen
class RecorderClock:
    """The law `stamp = t + offset_ns + drift_ppm * 1e-6 * (t - t_start_ns) + jitter`, t in UTC ns.

    Attributes:
        offset_ns: Clock minus UTC at `t_start_ns`.
        drift_ppm: How much faster than UTC the clock runs.
        jitter_ns: Bound of the jitter of one stamp: |jitter| <= jitter_ns (Gaussian of a third of
            it, clipped).
        t_start_ns: UTC at which the offset holds: the start of the drive.
    """

    offset_ns: int
    drift_ppm: float
    jitter_ns: int = attrs.field(validator=attrs.validators.ge(0))
    t_start_ns: int

    def exact_stamp(self, t_ns: Int64Array) -> Int64Array:
        """Map UTC to this clock without jitter.

        Args:
            t_ns: (N,) int64 UTC.

        Returns:
            (N,) int64 on this clock.
        """
        t_ns = np.asarray(t_ns, dtype=np.int64)
        drift_ns = np.rint(self.drift_ppm * 1e-6 * (t_ns - self.t_start_ns)).astype(np.int64)
        return t_ns + self.offset_ns + drift_ns

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
        """Invert the law; what remains is the jitter (and a rounding of 1 ns).

        Args:
            stamp_ns: (N,) int64 on this clock.

        Returns:
            (N,) int64 UTC.
        """
        elapsed_ns = np.asarray(stamp_ns, dtype=np.int64) - self.offset_ns - self.t_start_ns
        utc_elapsed = np.rint(elapsed_ns / (1.0 + self.drift_ppm * 1e-6)).astype(np.int64)
        return self.t_start_ns + utc_elapsed


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
