"""Where a moving vehicle's sensor was when it saw each point, and what that point is elsewhere.

The world is taken to stand still. Between two poses the vehicle keeps its speed and its turn rate;
nothing is said of times before the first pose, behind the last, in a hole, or beyond a jump.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.limits import SYNC_TOLERANCES
from contracts.recording import Int64Array, UInt8Array
from udfs.geometry.transforms import FloatArray, Transform
from udfs.native.library import library, start_of
from udfs.sync.limits import NOWHERE, Boundaries, SamplesStruct
from udfs.sync.pairing import rooms_of
from udfs.sync.stream_rules import usage
from udfs.sync.synchronise import samples_of

Float32Array = npt.NDArray[np.float32]
POSE_GAP_NS = SYNC_TOLERANCES["pose"].max_gap_ns
"""Widest hole between two poses that the vehicle is followed through."""
_MOST_GAP_NS = 2**52 - 1
_POSITION = tuple(f"position_{axis}_m" for axis in "xyz")
_ORIENTATION = tuple(f"orientation_{axis}" for axis in "xyzw")


@attrs.frozen(eq=False)
class EgoMotion:
    """Poses of a vehicle in a frame that stands still, as an odometry or a map has them.

    Attributes:
        t_ns: (N,) int64, ascending.
        position_m: (N, 3) float64 of base_link.
        rotation_xyzw: (N, 4) float64 unit quaternions.
        boundaries: Where the clock of the poses jumped, or they begin anew.
    """

    t_ns: Int64Array
    position_m: FloatArray
    rotation_xyzw: FloatArray
    boundaries: Boundaries

    @classmethod
    def of(
        cls,
        poses: Any,
        *,
        time: str = "t_ns",
        jumps_ns: npt.ArrayLike = (),
        gaps_ns: npt.ArrayLike = (),
    ) -> EgoMotion:
        """From rows like those of `silver.odometry`; a row that is no pose is passed over.

        Args:
            poses: Arrow table, or what can be made one, in time order, with the columns
                `position_x_m` … `position_z_m` and `orientation_x` … `orientation_w`.
            time: Column of the times.
            jumps_ns: Instants at which the clock of the poses jumped.
            gaps_ns: Instants at which the poses begin anew, so that older ones mean nothing.

        Raises:
            ContractViolation: USAGE, a column is missing, or times that are not in order.
        """
        boundaries = Boundaries.of(jumps_ns=jumps_ns, gaps_ns=gaps_ns)
        rows = poses if isinstance(poses, pa.Table) else pa.table(poses)
        if missing := [
            name for name in (*_POSITION, *_ORIENTATION) if name not in rows.schema.names
        ]:
            raise usage(f"the poses have no column {missing[0]}")
        wanted = (
            rows.select([time, *_POSITION, *_ORIENTATION]) if time in rows.schema.names else rows
        )
        samples = samples_of("poses", wanted, time=time, boundaries=boundaries)
        values = [_floats(samples.columns[name]) for name in (*_POSITION, *_ORIENTATION)]
        return cls.from_arrays(
            samples.t_ns, np.stack(values[:3], axis=1), np.stack(values[3:], axis=1), boundaries
        )

    @classmethod
    def from_arrays(
        cls,
        t_ns: Int64Array,
        position_m: FloatArray,
        rotation_xyzw: FloatArray,
        boundaries: Boundaries,
    ) -> EgoMotion:
        """From (N,) ascending times, (N, 3) positions and (N, 4) quaternions of any length."""
        norm = np.linalg.norm(rotation_xyzw, axis=1)
        is_pose = np.isfinite(position_m).all(axis=1) & (norm > 1e-9) & np.isfinite(norm)
        if not is_pose.all():
            t_ns, position_m = t_ns[is_pose], position_m[is_pose]
            rotation_xyzw, norm = rotation_xyzw[is_pose], norm[is_pose]
        return cls(
            np.ascontiguousarray(t_ns),
            np.ascontiguousarray(position_m),
            np.ascontiguousarray(rotation_xyzw / norm[:, None]),
            boundaries,
        )

    @classmethod
    def on_a_circle(
        cls, span_ns: tuple[int, int], *, at_ns: int, speed_m_s: float, yaw_rate_rad_s: float
    ) -> EgoMotion:
        """Of a vehicle that keeps its speed and yaw rate, in its own base_link of an instant.

        Args:
            span_ns: First and last time that it is followed to, inclusive.
            at_ns: The instant, within them.
            speed_m_s: Along its x axis.
            yaw_rate_rad_s: To the left.
        """
        t_ns = np.array([span_ns[0], span_ns[1]], np.int64)
        elapsed_s = (t_ns - at_ns) / 1e9
        turn = yaw_rate_rad_s * elapsed_s
        # Chord of the circle: sin(x)/x stays defined on a straight road.
        chord = speed_m_s * elapsed_s * np.sinc(turn / (2 * np.pi))
        none = np.zeros(2)
        position = np.stack([chord * np.cos(turn / 2), chord * np.sin(turn / 2), none], axis=1)
        rotation = np.stack([none, none, np.sin(turn / 2), np.cos(turn / 2)], axis=1)
        return cls.from_arrays(t_ns, position, rotation, NOWHERE)


@attrs.frozen(eq=False)
class Moved:
    """Points elsewhere.

    Attributes:
        xyz_m: x, y and z, (N,) float32 each; NaN where the state is not ok.
        state: (N,) uint8 codes: ok; gap, in a hole between poses or beyond a declared gap; jump,
            across a jump of the poses' clock; stale, before the first pose or behind the last;
            missing, there is none. Of an instant without a pose, its reason at all points.
        lost: How many are not ok.
    """

    xyz_m: Sequence[Float32Array]
    state: UInt8Array
    lost: int


def move_to_instant(
    xyz_m: Sequence[Float32Array],
    t_ns: Int64Array,
    *,
    at_ns: int,
    motion: EgoMotion,
    base_from_sensor: Transform,
    into_base: bool = False,
    max_gap_ns: int = POSE_GAP_NS,
) -> Moved:
    """Points as they were seen, each at its own time, to where they are at one instant.

    Args:
        xyz_m: x, y and z, (N,) float32 each, in the sensor's frame at the time of each.
        t_ns: (N,) int64 times, in any order; quickest where neighbours are close.
        at_ns: The instant, on the same clock.
        motion: Of the vehicle.
        base_from_sensor: Where the sensor sits.
        into_base: Whether the points come out in base_link of that instant, or in the sensor's
            frame.
        max_gap_ns: Widest hole between two poses that is bridged, up to 52 days.
    """
    frame = base_from_sensor if into_base else Transform.identity()
    return _move(
        xyz_m, t_ns, at_ns=at_ns, motion=motion, mount=base_from_sensor, frame=frame,
        max_gap_ns=max_gap_ns, is_away=False,
    )  # fmt: skip


def move_to_times(
    xyz_m: Sequence[Float32Array],
    t_ns: Int64Array,
    *,
    at_ns: int,
    motion: EgoMotion,
    base_from_sensor: Transform,
    max_gap_ns: int = POSE_GAP_NS,
) -> Moved:
    """The other way: points in base_link of one instant, to where a sensor sees each at its time.

    Args:
        xyz_m: x, y and z, (N,) float32 each, in base_link at the instant.
        t_ns: (N,) int64, when each is looked at.
        at_ns: The instant.
        motion: Of the vehicle.
        base_from_sensor: Where the sensor sits.
        max_gap_ns: As above.

    Returns:
        The points in the sensor's frame at their times.
    """
    return _move(
        xyz_m, t_ns, at_ns=at_ns, motion=motion, mount=base_from_sensor, frame=base_from_sensor,
        max_gap_ns=max_gap_ns, is_away=True,
    )  # fmt: skip


def _move(
    xyz_m: Sequence[Float32Array],
    t_ns: Int64Array,
    *,
    at_ns: int,
    motion: EgoMotion,
    mount: Transform,
    frame: Transform,
    max_gap_ns: int,
    is_away: bool,
) -> Moved:
    count = len(t_ns)
    if any(len(axis) != count or axis.dtype != np.float32 for axis in xyz_m):
        raise usage(f"there are {count} times: x, y and z must be as many float32")
    *rooms, state = rooms_of(count, (4, 4, 4, 1))
    found = [room.view(np.float32) for room in rooms]
    vehicle = _MotionStruct(
        motion.boundaries.struct(motion.t_ns),
        start_of(motion.position_m),
        start_of(motion.rotation_xyzw),
        _rigid(mount),
        min(max_gap_ns, _MOST_GAP_NS),
    )
    points = _PointsStruct(
        _rigid(frame), at_ns, count, start_of(t_ns), _three(xyz_m), _three(found),
        start_of(state), is_away,
    )  # fmt: skip
    lost = _kernels().move_points(ctypes.byref(vehicle), ctypes.byref(points))
    return Moved(found, state, lost)


class _RigidStruct(ctypes.Structure):
    """`Rigid` of motion.c."""

    _fields_ = (("rotation", ctypes.c_double * 9), ("translation", ctypes.c_double * 3))


class _MotionStruct(ctypes.Structure):
    """`Motion` of motion.c."""

    _fields_ = (
        ("samples", SamplesStruct),
        ("positions", ctypes.c_void_p),
        ("rotations", ctypes.c_void_p),
        ("mount", _RigidStruct),
        ("max_gap_ns", ctypes.c_uint64),
    )


class _PointsStruct(ctypes.Structure):
    """`Points` of motion.c."""

    _fields_ = (
        ("frame", _RigidStruct),
        ("at_ns", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("t_ns", ctypes.c_void_p),
        ("from_", ctypes.c_void_p * 3),
        ("to", ctypes.c_void_p * 3),
        ("states", ctypes.c_void_p),
        ("is_away", ctypes.c_int64),
    )


def _rigid(transform: Transform) -> _RigidStruct:
    rotation, translation = transform.rotation.ravel().tolist(), transform.translation.tolist()
    return _RigidStruct((ctypes.c_double * 9)(*rotation), (ctypes.c_double * 3)(*translation))


def _three(axes: Sequence[npt.NDArray[np.float32]]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * 3)(*map(start_of, axes))


def _floats(column: pa.Array) -> FloatArray:
    """(N,) float64, NaN where it is null."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    loaded.move_points.argtypes = (ctypes.POINTER(_MotionStruct), ctypes.POINTER(_PointsStruct))
    loaded.move_points.restype = ctypes.c_int64
    return loaded
