"""Sweeps as Arrow tables, brought to one instant of the vehicle that moved meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array
from udfs.geometry.transforms import Transform
from udfs.sync.columns import ok_of
from udfs.sync.motion import POSE_GAP_NS, EgoMotion, Float32Array, move_to_instant
from udfs.sync.states import state_column
from udfs.sync.stream_rules import usage
from udfs.sync.synchronise import T_NS as TIME

_AXES = ("x", "y", "z")
_STATE = "state"


def compensate(
    points: Any,
    poses: Any,
    *,
    at_ns: int,
    base_from_sensor: Transform | npt.ArrayLike | None = None,
    time: str = TIME,
    sweep_ns: tuple[int, int] | None = None,
    columns: int | None = None,
    into_base: bool = False,
    max_gap_ns: int = POSE_GAP_NS,
    jumps_ns: npt.ArrayLike = (),
    gaps_ns: npt.ArrayLike = (),
) -> pa.Table:
    """Bring the points of a sweep to one instant; see `drivelake.compensate`, which is this."""
    rows = points if isinstance(points, pa.Table) else pa.table(points)
    if missing := [axis for axis in _AXES if axis not in rows.column_names]:
        raise usage(f"the points have no column {missing[0]}")
    if _STATE in rows.column_names:
        raise usage(
            f"the points have a column {_STATE}, which the result has for its own",
            remedy="Rename it, or leave it out",
        )
    t_ns = _times(rows, time=time, sweep_ns=sweep_ns, columns=columns)
    motion = (
        poses
        if isinstance(poses, EgoMotion)
        else EgoMotion.of(poses, time=time, jumps_ns=jumps_ns, gaps_ns=gaps_ns)
    )
    moved = move_to_instant(
        [_float32(rows[axis]) for axis in _AXES], t_ns, at_ns=at_ns, motion=motion,
        base_from_sensor=_transform(base_from_sensor), into_base=into_base, max_gap_ns=max_gap_ns,
    )  # fmt: skip
    known = ok_of(moved.state)
    found = {name: rows[name] for name in rows.column_names}
    for axis, values in zip(_AXES, moved.xyz_m, strict=True):
        found[axis] = known.column(values, pa.float32())
    found |= {time: pa.array(t_ns), _STATE: state_column(moved.state)}
    instants = {"at_ns": at_ns}
    if len(t_ns):
        instants |= {"start_ns": int(t_ns.min()), "end_ns": int(t_ns.max())}
    return pa.table(found).replace_schema_metadata(
        {name: str(instant) for name, instant in instants.items()}
    )


def spread_times(
    count: int, *, start_ns: int, end_ns: int, columns: int | None = None
) -> Int64Array:
    """Times of the points of a sweep that does not give them: evenly, in the order of the points.

    Args:
        count: Points.
        start_ns: Time of the first.
        end_ns: Time of the last.
        columns: Of a cloud that is stored ring by ring, points a ring: those in one column were
            seen together.

    Returns:
        (count,) int64.

    Raises:
        ContractViolation: USAGE, the end before the start, or a cloud that is not so many columns.
    """
    if end_ns < start_ns:
        raise usage(f"the sweep ends at {end_ns}, before it begins at {start_ns}")
    steps = columns or count
    if columns is not None and (columns < 1 or count % columns):
        raise usage(f"{count} points are not rings of {columns}")
    share = np.arange(steps) / max(steps - 1, 1)
    once = start_ns + np.rint(share * (end_ns - start_ns)).astype(np.int64)
    return np.tile(once, count // steps) if steps else np.empty(0, np.int64)


def _times(
    rows: pa.Table, *, time: str, sweep_ns: tuple[int, int] | None, columns: int | None
) -> Int64Array:
    has_times = time in rows.column_names
    if has_times == (sweep_ns is not None):
        said = f"have a column {time} and a sweep" if has_times else f"have no column {time}"
        raise usage(
            f"the points {said}",
            remedy="Give the time of each point, or sweep_ns for points that have none",
        )
    if sweep_ns is not None:
        start_ns, end_ns = sweep_ns
        return spread_times(len(rows), start_ns=start_ns, end_ns=end_ns, columns=columns)
    column = rows[time]
    if column.type != pa.int64() or column.null_count:
        raise usage(f"the times of the points are {column.type}, or null: not int64 ns")
    return (
        column.combine_chunks().to_numpy() if column.num_chunks != 1 else column.chunk(0).to_numpy()
    )


def _float32(column: pa.ChunkedArray) -> Float32Array:
    """(N,) float32, NaN where it is null."""
    values = column.cast(pa.float32(), safe=False)
    found = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    return np.ascontiguousarray(found.to_numpy(zero_copy_only=False))


def _transform(given: Transform | npt.ArrayLike | None) -> Transform:
    """A transform, or a 4×4 matrix that is one.

    Raises:
        ContractViolation: USAGE, the matrix is none of a rotation and a translation.
    """
    if given is None:
        return Transform.identity()
    if isinstance(given, Transform):
        return given
    matrix = np.asarray(given, np.float64)
    if matrix.shape == (4, 4):
        rotation = matrix[:3, :3]
        is_rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        if is_rigid and np.linalg.det(rotation) > 0 and np.array_equal(matrix[3], [0, 0, 0, 1]):
            return Transform(rotation, matrix[:3, 3])
    raise usage("base_from_sensor is no 4×4 matrix of a rotation and a translation")
