"""The common message types, mapped to the silver tables that every container and generation shares.

ROS 1 and ROS 2 spellings are alike here: names come without `/msg/`, columns in lower case.

Source: sensor_msgs, nav_msgs, geometry_msgs, tf2_msgs, vision_msgs and can_msgs of ROS 1 and ROS 2,
ros2_socketcan_msgs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.recording import Int64Array
from contracts.tables import TABLES

STAMP = "header.stamp_ns"
FRAME = "header.frame_id"
POINTER_FIELD = "data"
_POINTER_PARTS = ("offset", "length")
_NUMBERS = {pa.from_numpy_dtype(code): np.dtype(code) for code in "?bhiqBHIQefd"}
"""NumPy's number types; to ask Arrow for them imports pandas, 0.85 s in each child of a task."""


@attrs.frozen
class Kind:
    """How a message type becomes rows of a silver table.

    Attributes:
        table: The table, without `silver.`.
        paths: Source of each column: a dotted path, or several of which the first that exists.
        constants: Columns with one value.
        rows_from: Path of the list that has one row for each element; "" for one row a message.
            Paths then start at the element.
        best_of: Path of a list within the element, of which `best_paths` read the element with
            the highest score.
        best_paths: As `paths`, from that element; "score" orders them.
        has_pointer: Whether the field `data` stays in the recording.
        header_in_row: Whether the header stands in the element, rather than in the message.
        optional: Columns that are null where the definition has none of their paths.
    """

    table: str
    paths: Mapping[str, tuple[str, ...]]
    constants: Mapping[str, object] = attrs.field(factory=dict)
    rows_from: str = ""
    best_of: str = ""
    best_paths: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    has_pointer: bool = False
    header_in_row: bool = True
    optional: frozenset[str] = frozenset()

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the table."""
        return TABLES[f"silver.{self.table}"].schema


@attrs.frozen(eq=False)
class KindRows:
    """Columns of a kind: its own and the two that come from the header.

    Attributes:
        columns: By name, each with R rows.
        message: (R,) int64, which message each row is of; None where each is of its own.
    """

    columns: Mapping[str, pa.Array]
    message: Int64Array | None


def kind_of(schema_name: str) -> Kind | None:
    """Kind of a ROS message type, in either spelling; None if it has a table of its own."""
    return KINDS.get(schema_name.replace("/msg/", "/"))


def fits(kind: Kind, schema: pa.Schema) -> bool:
    """Whether the message's own definition has every field that the kind reads, in its type."""
    root: pa.DataType | None = pa.struct(list(schema))
    row = _element_type(_type_at(root, kind.rows_from)) if kind.rows_from else root
    best = _element_type(_type_at(row, kind.best_of)) if kind.best_of else row
    header = row if kind.header_in_row else root
    wanted: list[tuple[pa.DataType | None, str, tuple[str, ...]]]
    wanted = [(header, "sensor_time_ns", (STAMP,)), (header, "frame_id", (FRAME,))]
    wanted += [(row, name, paths) for name, paths in kind.paths.items()]
    wanted += [(best, name, paths) for name, paths in kind.best_paths.items()]
    if kind.has_pointer:
        wanted += [(root, f"data_{part}", (f"{POINTER_FIELD}_{part}",)) for part in _POINTER_PARTS]
    types = {field.name: field.type for field in kind.schema}
    for owner, name, paths in wanted:
        found = next((one for path in paths if (one := _type_at(owner, path))), None)
        if found is None and name not in kind.optional:
            return False
        if found is not None and not _holds(types[name], found):
            return False
    return True


def kind_rows(
    kind: Kind, rows: pa.RecordBatch, *, payload_offset: Int64Array, unit_offset: Int64Array
) -> KindRows:
    """Columns of the kind from decoded messages.

    Args:
        kind: A kind that `fits` the schema of `rows`.
        rows: (M rows) the message's own columns.
        payload_offset: (M,) where each payload starts, for pointers.
        unit_offset: (M,) the unit that each is in.
    """
    root = pa.StructArray.from_arrays(rows.columns, fields=list(rows.schema))
    table, message = root, None
    if kind.rows_from:
        lists = _at(root, kind.rows_from)
        message = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
        table = pc.list_flatten(lists)
    header, owner = (table, None) if kind.header_in_row else (root, message)
    columns = {
        "sensor_time_ns": _taken(_at(header, STAMP), owner),
        "frame_id": _taken(_at(header, FRAME), owner),
    }
    columns |= {name: _first_at(table, paths) for name, paths in kind.paths.items()}
    if kind.best_of:
        best = _best_elements(_at(table, kind.best_of), kind.best_paths["score"])
        columns |= {name: _first_at(best, paths) for name, paths in kind.best_paths.items()}
    count = len(table)
    columns |= {name: pa.repeat(pa.scalar(one), count) for name, one in kind.constants.items()}
    if kind.has_pointer:
        starts = rows.column(f"{POINTER_FIELD}_offset").to_numpy() + payload_offset
        columns["unit_offset"] = pa.array(unit_offset)
        columns["data_offset"] = pa.array(starts)
        columns["data_length"] = rows.column(f"{POINTER_FIELD}_length")
    types = {field.name: field.type for field in kind.schema}
    return KindRows({name: _cast(one, types[name]) for name, one in columns.items()}, message)


def _holds(kind: pa.DataType, source: pa.DataType) -> bool:
    """Whether a column of `kind` takes every value of `source`."""
    if pa.types.is_list(kind) and pa.types.is_list(source):
        return _holds(kind.value_type, source.value_type)
    if pa.types.is_struct(kind) and pa.types.is_struct(source):
        names = [field.name for field in source]
        fields = zip(kind, source, strict=False)
        return names == [field.name for field in kind] and all(
            _holds(one.type, other.type) for one, other in fields
        )
    if kind == source:
        return True
    if pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return bool(pa.types.is_integer(source))
    if pa.types.is_floating(kind) and pa.types.is_integer(source):
        return bool(source.bit_width < kind.bit_width)
    is_number = pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean
    if any(test(kind) for test in is_number) and any(test(source) for test in is_number):
        return bool(np.can_cast(_NUMBERS[source], _NUMBERS[kind], "safe"))
    return False


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)


def _type_at(kind: pa.DataType | None, path: str) -> pa.DataType | None:
    for name in path.split("."):
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            return None
        kind = kind.field(name).type
    return kind


def _element_type(kind: pa.DataType | None) -> pa.DataType | None:
    return kind.value_type if kind is not None and pa.types.is_list(kind) else None


def _at(column: pa.Array, path: str) -> pa.Array:
    for name in path.split("."):
        # A struct without nulls and offset gives its child as it is, 50 times faster.
        plain = column.offset == 0 and column.null_count == 0
        column = column.field(name) if plain else pc.struct_field(column, [name])
    return column


def _first_at(column: pa.Array, paths: Sequence[str]) -> pa.Array:
    """The first path that the definition has, null where it has none."""
    found = next((path for path in paths if _type_at(column.type, path)), None)
    return pa.nulls(len(column)) if found is None else _at(column, found)


def _taken(column: pa.Array, rows: Int64Array | None) -> pa.Array:
    return column if rows is None else column.take(pa.array(rows))


def _best_elements(lists: pa.ListArray, score_paths: Sequence[str]) -> pa.Array:
    """(R,) of each list the element with the highest score, null where it is empty."""
    parents = pc.list_parent_indices(lists).to_numpy()
    elements = pc.list_flatten(lists)
    scores = _first_at(elements, score_paths).to_numpy(zero_copy_only=False)
    order = np.lexsort((-scores, parents))
    owners, first = np.unique(parents[order], return_index=True)
    chosen = np.full(len(lists), -1, np.int64)
    chosen[owners] = order[first]
    return elements.take(pa.array(chosen, mask=chosen < 0))


def _paths(columns: Mapping[str, str | tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: (one,) if isinstance(one, str) else one for name, one in columns.items()}


def _axes(column: str, path: str, *, unit: str = "", axes: str = "xyz") -> dict[str, str]:
    tail = f"_{unit}" if unit else ""
    return {f"{column}_{axis}{tail}": f"{path}.{axis}" for axis in axes}


_IMU = Kind(
    "imu",
    _paths(
        {
            **_axes("orientation", "orientation", axes="xyzw"),
            **_axes("angular_velocity", "angular_velocity", unit="rad_s"),
            **_axes("linear_acceleration", "linear_acceleration", unit="m_s2"),
            "orientation_covariance": "orientation_covariance",
            "angular_velocity_covariance": "angular_velocity_covariance",
            "linear_acceleration_covariance": "linear_acceleration_covariance",
        }
    ),
)
_GNSS = Kind(
    "gnss",
    _paths(
        {
            "latitude_deg": "latitude",
            "longitude_deg": "longitude",
            "altitude_m": "altitude",
            "fix_status": "status.status",
            "service": "status.service",
            "position_covariance": "position_covariance",
            "position_covariance_type": "position_covariance_type",
        }
    ),
)
_ODOMETRY = Kind(
    "odometry",
    _paths(
        {
            "child_frame_id": "child_frame_id",
            **_axes("position", "pose.pose.position", unit="m"),
            **_axes("orientation", "pose.pose.orientation", axes="xyzw"),
            **_axes("linear_velocity", "twist.twist.linear", unit="m_s"),
            **_axes("angular_velocity", "twist.twist.angular", unit="rad_s"),
            "pose_covariance": "pose.covariance",
            "twist_covariance": "twist.covariance",
        }
    ),
)
_IMAGE = Kind(
    "images",
    _paths({"encoding": "encoding", "height_px": "height", "width_px": "width"}),
    constants={"is_compressed": False},
    has_pointer=True,
)
_COMPRESSED_IMAGE = Kind(
    "images",
    _paths({"encoding": "format"}),
    constants={"is_compressed": True},
    has_pointer=True,
)
_POINT_CLOUD = Kind(
    "point_clouds",
    _paths(
        {
            "height": "height",
            "width": "width",
            "point_step_bytes": "point_step",
            "row_step_bytes": "row_step",
            "is_bigendian": "is_bigendian",
            "is_dense": "is_dense",
            "fields": "fields",
        }
    ),
    has_pointer=True,
)
_TRANSFORMS = Kind(
    "transforms",
    _paths(
        {
            "child_frame_id": "child_frame_id",
            **_axes("translation", "transform.translation", unit="m"),
            **_axes("rotation", "transform.rotation", axes="xyzw"),
        }
    ),
    rows_from="transforms",
)
_DETECTIONS = Kind(
    "objects",
    _paths(
        {
            "object_id": ("id", "tracking_id"),
            **_axes("position", "bbox.center.position", unit="m"),
            **_axes("orientation", "bbox.center.orientation", axes="xyzw"),
            **_axes("size", "bbox.size", unit="m"),
        }
    ),
    rows_from="detections",
    best_of="results",
    best_paths=_paths(
        {
            "class_name": ("hypothesis.class_id", "id"),
            "score": ("hypothesis.score", "score"),
        }
    ),
    header_in_row=False,
    optional=frozenset({"object_id"}),
)
_CAN_FRAME = Kind(
    "can_frames",
    _paths(
        {
            "can_id": "id",
            "is_extended": "is_extended",
            "is_remote": "is_rtr",
            "is_error": "is_error",
            "dlc": "dlc",
            "data": "data",
        }
    ),
    constants={"is_fd": False},
)
_CAN_FD_FRAME = Kind(
    "can_frames",
    _paths(
        {
            "can_id": "id",
            "is_extended": "is_extended",
            "is_error": "is_error",
            "dlc": "len",
            "data": "data",
        }
    ),
    constants={"is_fd": True, "is_remote": False},
)

KINDS: Mapping[str, Kind] = {
    "sensor_msgs/Imu": _IMU,
    "sensor_msgs/NavSatFix": _GNSS,
    "nav_msgs/Odometry": _ODOMETRY,
    "sensor_msgs/Image": _IMAGE,
    "sensor_msgs/CompressedImage": _COMPRESSED_IMAGE,
    "sensor_msgs/PointCloud2": _POINT_CLOUD,
    "tf2_msgs/TFMessage": _TRANSFORMS,
    "tf/tfMessage": _TRANSFORMS,
    "vision_msgs/Detection3DArray": _DETECTIONS,
    "can_msgs/Frame": _CAN_FRAME,
    "ros2_socketcan_msgs/FdFrame": _CAN_FD_FRAME,
}
