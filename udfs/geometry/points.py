"""The bytes of a point cloud as arrays, by the layout that the cloud states itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

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
    if not {"x", "y", "z"} <= set(layout):
        raise DecodeError("a sweep without x, y and z", code="POINT_LAYOUT")
    order = ">" if is_bigendian else "<"
    used = ["x", "y", "z", *(name for name in _OFFSETS_NS if name in layout)]
    try:
        kinds = [order + _KINDS[layout[name]["datatype"]] for name in used]
        point = np.dtype(
            {
                "names": used,
                "formats": kinds,
                "offsets": [layout[name]["offset"] for name in used],
                "itemsize": point_step_bytes,
            }
        )
    except (KeyError, ValueError) as error:
        raise DecodeError(f"point layout: {error}", code="POINT_LAYOUT") from error
    points = np.frombuffer(data, point, count=len(data) // point_step_bytes)
    xyz = np.column_stack([points[name].astype(np.float64) for name in "xyz"])
    offset = np.zeros(len(points), dtype=np.int64)
    if len(used) > 3:
        offset = np.rint(points[used[3]].astype(np.float64) * _OFFSETS_NS[used[3]]).astype(np.int64)
    finite = np.isfinite(xyz).all(axis=1)
    return PointCloud(xyz[finite], offset[finite])
