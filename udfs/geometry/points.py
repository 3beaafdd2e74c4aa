"""The bytes of a point cloud as arrays, by the layout that the cloud states itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.errors import DecodeError

FloatArray = npt.NDArray[np.float64]

# sensor_msgs/PointField: INT8 = 1 … FLOAT64 = 8.
_KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_OFFSETS_NS = {"t": 1.0, "time_offset_ns": 1.0, "time": 1e9, "time_offset": 1e9}


@attrs.frozen(eq=False)
class PointCloud:
    """The valid points of a sweep, in the frame of the sensor.

    Attributes:
        xyz: (N, 3) float64, metres.
        offset_ns: (N,) int64 since the stamp of the sweep; zeros if the sweep does not say.
    """

    xyz: FloatArray
    offset_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.xyz)


def read_points(
    data: bytes,
    *,
    fields: Sequence[Mapping[str, Any]],
    point_step_bytes: int,
    is_bigendian: bool = False,
) -> PointCloud:
    """Read the points of a sweep; points that are not finite are left out.

    Args:
        data: Points, one after the other.
        fields: name, offset, datatype and count of each field, as in PointField.
        point_step_bytes: Bytes a point.
        is_bigendian: Byte order.

    Raises:
        DecodeError: POINT_LAYOUT, no x, y or z, or fields beyond the point.

    Source:
        sensor_msgs/msg/PointCloud2 and PointField.
    """
    layout = {field["name"]: field for field in fields}
    used = ["x", "y", "z", *(name for name in _OFFSETS_NS if name in layout)]
    points = _points(data, layout, used, point_step_bytes, is_bigendian=is_bigendian)
    xyz = np.column_stack([points[name].astype(np.float64) for name in "xyz"])
    offset = _offsets_ns(points)
    finite = np.isfinite(xyz).all(axis=1)
    return PointCloud(xyz[finite], offset[finite])


def points_table(row: Mapping[str, Any]) -> pa.Table:
    """All points of a sweep with what is said of each; see `drivelake.points`, which is this."""
    layout = {field["name"]: field for field in row["fields"] if field["count"] <= 1}
    points = _points(
        row["data"], layout, list(layout), row["point_step_bytes"],
        is_bigendian=bool(row["is_bigendian"]),
    )  # fmt: skip
    columns = {name: points[name].astype(points[name].dtype.newbyteorder("=")) for name in layout}
    stamp_ns = row["sensor_time_ns"]
    if stamp_ns is not None and not _OFFSETS_NS.keys().isdisjoint(layout):
        columns["t_ns"] = stamp_ns + _offsets_ns(points)
    return pa.table(columns)


def _points(
    data: bytes,
    layout: Mapping[str, Mapping[str, Any]],
    used: Sequence[str],
    step_bytes: int,
    *,
    is_bigendian: bool,
) -> npt.NDArray[np.void]:
    """(N,) records with the fields that are used.

    Raises:
        DecodeError: POINT_LAYOUT.
    """
    if not {"x", "y", "z"} <= set(layout):
        raise DecodeError("a sweep without x, y and z", code="POINT_LAYOUT")
    order = ">" if is_bigendian else "<"
    try:
        point = np.dtype(
            {
                "names": used,
                "formats": [order + _KINDS[layout[name]["datatype"]] for name in used],
                "offsets": [layout[name]["offset"] for name in used],
                "itemsize": step_bytes,
            }
        )
    except (KeyError, ValueError) as error:
        raise DecodeError(f"point layout: {error}", code="POINT_LAYOUT") from error
    return np.frombuffer(data, point, count=len(data) // step_bytes)


def _offsets_ns(points: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """(N,) int64 since the stamp of the sweep; zeros if the points do not say."""
    for name, unit_ns in _OFFSETS_NS.items():
        if name in (points.dtype.names or ()):
            later = points[name].astype(np.float64) * unit_ns
            return np.rint(later).astype(np.int64)
    return np.zeros(len(points), np.int64)
