"""How road users move: a speed over time along a path gives a trajectory."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array
from simulation.road import FloatArray, Path

GRID_NS = 10_000_000
MARGIN_NS = 1_000_000_000
WHEELBASE_M = 2.8
STEERING_RATIO = 15.0
SMOOTHING_S = 0.3


@attrs.frozen(eq=False)
class Trajectory:
    """The motion of one road user, sampled at 100 Hz UTC; every array is (N,).

    Attributes:
        t_ns: int64 UTC.
        x_m: World position of the reference point (of the ego: the rear axle on the ground).
        y_m: World position.
        yaw_rad: Heading, unwrapped.
        speed_m_s: Speed along the heading, never negative.
        accel_m_s2: Rate of change of the speed.
        yaw_rate_rad_s: Rate of change of the heading.
        curvature_1_m: Curvature of the path driven, positive to the left.
        road_s_m: Position along the road, NaN where the path leaves it.
        road_d_m: Position to the left of the centre line, NaN as above.
    """

    t_ns: Int64Array
    x_m: FloatArray
    y_m: FloatArray
    yaw_rad: FloatArray
    speed_m_s: FloatArray
    accel_m_s2: FloatArray
    yaw_rate_rad_s: FloatArray
    curvature_1_m: FloatArray
    road_s_m: FloatArray
    road_d_m: FloatArray

    @property
    def table(self) -> FloatArray:
        """(N, 9) all states but the times, in the order of the attributes."""
        return np.stack([getattr(self, name) for name in _STATES], axis=-1)

    @property
    def steering_angle_rad(self) -> FloatArray:
        """(N,) angle of the steering wheel, positive to the left (single-track model)."""
        return STEERING_RATIO * np.arctan(WHEELBASE_M * self.curvature_1_m)

    def at(self, t_ns: npt.ArrayLike) -> Trajectory:
        """Interpolate linearly at some times, which is the definition of the truth between samples.

        Args:
            t_ns: (M,) int64 UTC, within the trajectory's span.

        Returns:
            The states at these times.
        """
        times = np.asarray(t_ns, dtype=np.int64)
        row, share = grid_position(times, first_ns=int(self.t_ns[0]), count=len(self.t_ns))
        columns = (getattr(self, name) for name in _STATES)
        return Trajectory(
            times, *(column[row] + (column[row + 1] - column[row]) * share for column in columns)
        )


_STATES = tuple(field.name for field in attrs.fields(Trajectory))[1:]


@attrs.frozen(eq=False)
class Motions:
    """The trajectories of many road users on one grid, to look them up all at once.

    Attributes:
        first_ns: First time of the grid, UTC.
        tables: (A, N, 9) float64, a `Trajectory.table` for each.
    """

    first_ns: int
    tables: FloatArray

    def at(self, t_ns: int) -> Trajectory:
        """States of all at one instant, linear between samples.

        Args:
            t_ns: The instant, UTC.

        Returns:
            States whose arrays are (A,): one entry for each road user.
        """
        times = np.full(len(self.tables), t_ns, dtype=np.int64)
        row, share = grid_position(times[:1], first_ns=self.first_ns, count=self.tables.shape[1])
        before, after = self.tables[:, row[0]], self.tables[:, row[0] + 1]
        return Trajectory(times, *(before + (after - before) * share[0]).T)


def motions_of(trajectories: Sequence[Trajectory]) -> Motions:
    """Stack trajectories that share their grid; at least one."""
    tables = np.stack([trajectory.table for trajectory in trajectories])
    return Motions(int(trajectories[0].t_ns[0]), tables)


def grid_position(t_ns: Int64Array, *, first_ns: int, count: int) -> tuple[Int64Array, FloatArray]:
    """Place times between the samples of a 100 Hz grid.

    Args:
        t_ns: (M,) int64 UTC.
        first_ns: First time of the grid.
        count: Samples of the grid.

    Returns:
        (M,) the sample before, and (M,) the share of the way to the one after; times beyond the
        ends of the grid get the state at the end.
    """
    elapsed = np.clip(t_ns - first_ns, 0, (count - 1) * GRID_NS)
    row = np.minimum(elapsed // GRID_NS, count - 2)
    return row, (elapsed - row * GRID_NS) / GRID_NS


def time_grid(t_start_ns: int, *, t_end_ns: int) -> Int64Array:
    """The 100 Hz grid of a drive with a margin of one second at either end.

    Args:
        t_start_ns: Start of the drive, UTC; a grid point.
        t_end_ns: End of the drive, UTC.

    Returns:
        (N,) int64 UTC.
    """
    return np.arange(t_start_ns - MARGIN_NS, t_end_ns + MARGIN_NS + GRID_NS, GRID_NS)


def speed_from_knots(
    t_ns: Int64Array,
    *,
    t_start_ns: int,
    knots: Sequence[tuple[float, float]],
    ripple: float = 0.0,
    phase_rad: float = 0.0,
) -> FloatArray:
    """Build a speed with limited jerk from (seconds into the drive, m/s) knots.

    Args:
        t_ns: (N,) the drive's grid.
        t_start_ns: Start of the drive, UTC.
        knots: Seconds and speeds, seconds ascending; constant before the first and after the last.
        ripple: Relative amplitude of a driver's small, slow speed changes (none at standstill).
        phase_rad: Phase of the ripple.

    Returns:
        (N,) float64 m/s, not negative.
    """
    seconds = (t_ns - t_start_ns) / 1e9
    at, speeds = np.array(knots).T
    smooth = _box_filter(np.interp(seconds, at, speeds), width=int(SMOOTHING_S * 1e9 / GRID_NS))
    wave = np.sin(2 * np.pi * 0.31 * seconds + phase_rad) + 0.6 * np.sin(
        2 * np.pi * 0.73 * seconds + 2 * phase_rad
    )
    return np.maximum(smooth, 0.0) * (1.0 + ripple * wave)


def drive_along(
    path: Path, *, t_ns: Int64Array, speed_m_s: FloatArray, start_u_m: float
) -> Trajectory:
    """Move along a path at a given speed.

    Args:
        path: The path.
        t_ns: (N,) int64 UTC at 100 Hz.
        speed_m_s: (N,) speed at these times.
        start_u_m: Where on the path the motion starts, metres.

    Returns:
        The trajectory.

    Raises:
        ValueError: The motion leaves the path.
    """
    dt_s = GRID_NS / 1e9
    steps = (speed_m_s[1:] + speed_m_s[:-1]) / 2 * dt_s
    u = start_u_m + np.concatenate([[0.0], np.cumsum(steps)])
    if u[0] < 0 or u[-1] > path.length_m:
        raise ValueError(
            f"motion from {u[0]:.0f} to {u[-1]:.0f} m on {path.length_m:.0f} m of path"
        )
    at = path.at(u)
    return Trajectory(
        t_ns=t_ns,
        x_m=at.x_m,
        y_m=at.y_m,
        yaw_rad=at.yaw_rad,
        speed_m_s=speed_m_s,
        accel_m_s2=np.gradient(speed_m_s, dt_s),
        yaw_rate_rad_s=at.curvature_1_m * speed_m_s,
        curvature_1_m=at.curvature_1_m,
        road_s_m=at.road_s_m,
        road_d_m=at.road_d_m,
    )


def _box_filter(values: FloatArray, *, width: int) -> FloatArray:
    """Smooth with a moving average of odd width, the ends held."""
    half = width // 2
    padded = np.pad(values, half, mode="edge")
    return np.convolve(padded, np.ones(2 * half + 1) / (2 * half + 1), "valid")
