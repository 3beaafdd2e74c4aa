"""The tables of the lakehouse: name, columns, units, keys and owner. The authority on schemas.

Times are int64 nanoseconds (`_ns`). `log_time_ns` is the recorder's clock; `t_ns` is UTC after
clock resolution. Units are suffixes of the column names. Columns are nullable in storage; what
must be there is said by `required` and checked by `quality/`.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pyarrow as pa

LAYERS = ("bronze", "silver", "gold")

_STR = pa.string()
_I64 = pa.int64()
_I32 = pa.int32()
_F64 = pa.float64()
_BOOL = pa.bool_()
_BIN = pa.binary()
_F64S = pa.list_(pa.field("element", _F64))
_STRS = pa.list_(pa.field("element", _STR))


@attrs.frozen
class TableContract:
    """What a table promises.

    Attributes:
        name: `layer.table`.
        description: One row is …
        schema: Arrow schema; each field carries `comment` in its metadata.
        keys: Columns whose values together name a row.
        required: Columns that are never null.
        owner: Team that answers for it.
        partition_by: Delta partition columns.
    """

    name: str
    description: str
    schema: pa.Schema
    keys: tuple[str, ...]
    required: tuple[str, ...]
    owner: str = "team:data-platform"
    partition_by: tuple[str, ...] = ("ingest_date",)

    @property
    def layer(self) -> str:
        """The part before the dot."""
        return self.name.split(".", 1)[0]

    @property
    def table(self) -> str:
        """The part behind the dot."""
        return self.name.split(".", 1)[1]


def _schema(columns: Mapping[str, tuple[pa.DataType, str]]) -> pa.Schema:
    return pa.schema(
        [pa.field(name, kind, metadata={"comment": text}) for name, (kind, text) in columns.items()]
    )


_INGEST_DATE = {"ingest_date": (pa.date32(), "UTC day of the ingest; the partition column")}
_POINTER = {
    "unit_offset": (_I64, "File offset of the compressed unit, -1 if none; rowid in a db3"),
    "data_offset": (_I64, "Start of the bytes in the uncompressed unit, or in the file"),
    "data_length": (_I64, "Number of bytes"),
}
MESSAGE_COLUMNS: Mapping[str, tuple[pa.DataType, str]] = {
    "recording_id": (_STR, "SHA-256 of the recording"),
    "channel_id": (_I32, "Channel of the recording"),
    "topic": (_STR, "Topic"),
    "sequence": (_I64, "Sequence as recorded, or the ordinal within the channel"),
    "log_time_ns": (_I64, "When it was recorded, recorder's clock"),
    "publish_time_ns": (_I64, "When it was published, publisher's clock"),
    "sensor_time_ns": (_I64, "header.stamp, sensor's clock"),
    "frame_id": (_STR, "Coordinate frame"),
}


def _xyz(prefix: str, unit: str, text: str) -> dict[str, tuple[pa.DataType, str]]:
    tail = f"_{unit}" if unit else ""
    return {f"{prefix}_{axis}{tail}": (_F64, f"{text}, {axis}") for axis in "xyz"}


def _quaternion(prefix: str, text: str) -> dict[str, tuple[pa.DataType, str]]:
    return {f"{prefix}_{axis}": (_F64, f"{text}, quaternion {axis}") for axis in "xyzw"}


def message_schema(columns: Mapping[str, tuple[pa.DataType, str]]) -> pa.Schema:
    """Schema of a silver table: the common message columns, its own, and the partition column."""
    return _schema({**MESSAGE_COLUMNS, **columns, **_INGEST_DATE})


def message_table_schema(fields: list[pa.Field]) -> pa.Schema:
    """Schema of the table of a message type that has no kind of its own."""
    common = list(_schema(MESSAGE_COLUMNS))
    return pa.schema([*common, *fields, *_schema(_INGEST_DATE)])


_FIELDS = pa.list_(
    pa.field(
        "element",
        pa.struct([("name", _STR), ("offset", _I64), ("datatype", _I32), ("count", _I64)]),
    )
)

_RESIDUALS = pa.list_(pa.field("element", pa.struct([("clock_ns", _I64), ("residual_ns", _I64)])))
_SENSORS = pa.list_(
    pa.field(
        "element",
        pa.struct(
            [
                ("topic", _STR),
                ("valid_from_ns", _I64),
                ("valid_to_ns", _I64),
                ("anchor_ns", _I64),
                ("offset_ns", _I64),
                ("drift_ppb", _F64),
                ("uncertainty_ns", _I64),
                ("drift_uncertainty_ppb", _F64),
                ("samples", _I64),
            ]
        ),
    )
)

_SILVER_KINDS: dict[str, tuple[str, dict[str, tuple[pa.DataType, str]]]] = {
    "imu": (
        "an inertial measurement",
        {
            **_quaternion("orientation", "Orientation"),
            **_xyz("angular_velocity", "rad_s", "Angular velocity"),
            **_xyz("linear_acceleration", "m_s2", "Linear acceleration"),
            "orientation_covariance": (_F64S, "Row-major 3×3, rad²"),
            "angular_velocity_covariance": (_F64S, "Row-major 3×3"),
            "linear_acceleration_covariance": (_F64S, "Row-major 3×3"),
        },
    ),
    "gnss": (
        "a satellite position fix",
        {
            "latitude_deg": (_F64, "WGS84 latitude"),
            "longitude_deg": (_F64, "WGS84 longitude"),
            "altitude_m": (_F64, "Height above the WGS84 ellipsoid"),
            "fix_status": (_I32, "NavSatStatus.status"),
            "service": (_I32, "NavSatStatus.service"),
            "position_covariance": (_F64S, "Row-major 3×3 ENU, m²"),
            "position_covariance_type": (_I32, "As in NavSatFix"),
        },
    ),
    "odometry": (
        "a pose and twist estimate",
        {
            "child_frame_id": (_STR, "Frame of the twist"),
            **_xyz("position", "m", "Position in frame_id"),
            **_quaternion("orientation", "Orientation in frame_id"),
            **_xyz("linear_velocity", "m_s", "Velocity in child_frame_id"),
            **_xyz("angular_velocity", "rad_s", "Angular velocity in child_frame_id"),
            "pose_covariance": (_F64S, "Row-major 6×6"),
            "twist_covariance": (_F64S, "Row-major 6×6"),
        },
    ),
    "images": (
        "a camera image; its bytes stay in the recording",
        {
            "encoding": (_STR, "JPEG, PNG, … or the pixel encoding"),
            "height_px": (_I64, "Rows, null for compressed images"),
            "width_px": (_I64, "Columns, null for compressed images"),
            "is_compressed": (_BOOL, "Whether the bytes are an image file"),
            **_POINTER,
        },
    ),
    "point_clouds": (
        "a lidar or radar sweep; its bytes stay in the recording",
        {
            "height": (_I64, "Rows of the cloud"),
            "width": (_I64, "Points a row"),
            "point_step_bytes": (_I64, "Bytes a point"),
            "row_step_bytes": (_I64, "Bytes a row"),
            "is_bigendian": (_BOOL, "Byte order of the points"),
            "is_dense": (_BOOL, "Whether no point is invalid"),
            "fields": (_FIELDS, "Layout of a point, as in PointField"),
            **_POINTER,
        },
    ),
    "transforms": (
        "a transform between two coordinate frames",
        {
            "child_frame_id": (_STR, "Frame that is placed"),
            **_xyz("translation", "m", "Translation in frame_id"),
            **_quaternion("rotation", "Rotation in frame_id"),
            "is_static": (_BOOL, "Whether it holds for the whole recording"),
        },
    ),
    "objects": (
        "an object that a perception system reported",
        {
            "object_id": (_STR, "Track identity, as reported"),
            "class_name": (_STR, "Class, as reported"),
            "score": (_F64, "Confidence in [0, 1]"),
            **_xyz("position", "m", "Centre in frame_id"),
            **_quaternion("orientation", "Orientation in frame_id"),
            **_xyz("size", "m", "Extent along the object's own axes"),
        },
    ),
    "can_frames": (
        "a CAN or CAN FD frame",
        {
            "bus": (_I32, "Bus channel of the logger"),
            "can_id": (_I64, "Arbitration id without flags"),
            "is_extended": (_BOOL, "29-bit id"),
            "is_fd": (_BOOL, "CAN FD frame"),
            "is_remote": (_BOOL, "Remote request"),
            "is_error": (_BOOL, "Error frame"),
            "dlc": (_I32, "Data length code"),
            "data": (_BIN, "Payload"),
            "direction": (_STR, "Rx or Tx, null if unknown"),
        },
    ),
    "signals": (
        "a sample of a scalar signal",
        {
            "signal": (_STR, "Name of the signal"),
            "source": (_STR, "Channel group, or message of the bus definition"),
            "value": (_F64, "Physical value; null if invalid or textual"),
            "text": (_STR, "Text of a textual or enumerated signal"),
            "raw_value": (_F64, "Value before conversion, where there is one"),
            "in_range": (_BOOL, "Whether value lies in its stated range; null if none is stated"),
            "unit": (_STR, "Unit as the definition states it"),
            "definition_hash": (_STR, "SHA-256 of the bus definition, null for measured signals"),
        },
    ),
    "raw_messages": (
        "a message that no decoder serves, kept whole to be decoded later",
        {
            "message_encoding": (_STR, "Encoding as recorded"),
            "schema_hash": (_STR, "Definition as recorded"),
            "data": (_BIN, "Payload"),
        },
    ),
}

_BRONZE: dict[str, tuple[str, dict[str, tuple[pa.DataType, str]], tuple[str, ...]]] = {
    "uploads": (
        "an object seen in landing",
        {
            "uri": (_STR, "Where it was seen"),
            "sha256": (_STR, "Hash of its bytes, null while PENDING"),
            "size_bytes": (_I64, "Size"),
            "modified_ns": (_I64, "Modification time of the storage, UTC"),
            "state": (_STR, "PENDING, ACCEPTED, PARTIAL, QUARANTINED, DUPLICATE or ERASED"),
            "kind": (_STR, "recording, bus_definition, recording_metadata, upload_manifest"),
            "format": (_STR, "Format found by content"),
            "reason_code": (_STR, "Why it was not simply accepted"),
            "reason": (_STR, "The same in words"),
            "fault_offset": (_I64, "Byte where the fault is, if known"),
            "recovered_messages": (_I64, "Messages written"),
            "lost_messages": (_I64, "Messages lost; null if unknown"),
            "flags": (_STRS, "Findings that lost nothing"),
            "duplicate_of": (_STR, "recording_id of the first upload of the same bytes"),
            "recording_id": (_STR, "Recording made of it"),
            "drive_id": (_STR, "Drive it belongs to"),
            "recorder": (_STR, "Recorder that wrote it"),
            "vehicle_key": (_STR, "Surrogate key of the vehicle"),
            "batch_id": (_STR, "Ingest batch that took it"),
            "first_seen_ns": (_I64, "When it was first seen, UTC"),
            "updated_ns": (_I64, "When its state last changed, UTC"),
        },
        ("uri", "sha256"),
    ),
    "recordings": (
        "a recording",
        {
            "recording_id": (_STR, "SHA-256 of its bytes"),
            "drive_id": (_STR, "Drive"),
            "vehicle_key": (_STR, "Surrogate key of the vehicle"),
            "recorder": (_STR, "Recorder within the vehicle"),
            "uri": (_STR, "Where its bytes are"),
            "format": (_STR, "mcap, ros1bag, rosbag2_db3, mdf4, asc, blf, trc or candump"),
            "profile": (_STR, "Profile as the file states it"),
            "library": (_STR, "Writer as the file states it"),
            "size_bytes": (_I64, "Size"),
            "start_ns": (_I64, "First log time, recorder's clock"),
            "end_ns": (_I64, "Last log time, recorder's clock, inclusive"),
            "channel_count": (_I64, "Channels"),
            "messages_declared": (_I64, "Messages the file declares, null if it does not"),
            "messages_written": (_I64, "Messages in silver"),
            "messages_bad": (_I64, "Messages in bronze.bad_messages"),
            "messages_lost": (_I64, "Messages lost; null if unknown"),
            "integrity": (_STR, "CRC or NONE"),
            "outcome": (_STR, "ACCEPTED or PARTIAL"),
            "flags": (_STRS, "Findings"),
            "software_version": (_STR, "Software of the recorder"),
            "calibration_version": (_STR, "Calibration of the vehicle"),
            "pipeline_version": (_STR, "Hash of the decode pipeline"),
            "ingested_ns": (_I64, "When it was ingested, UTC"),
        },
        ("recording_id",),
    ),
    "channels": (
        "a channel of a recording",
        {
            "recording_id": (_STR, "Recording"),
            "channel_id": (_I32, "Channel"),
            "topic": (_STR, "Topic"),
            "schema_name": (_STR, "Name of the definition"),
            "schema_hash": (_STR, "Identity of the definition"),
            "schema_encoding": (_STR, "ros2msg, ros1msg, protobuf, jsonschema, …"),
            "message_encoding": (_STR, "cdr, ros1, protobuf, json, …"),
            "table_name": (_STR, "Silver table that its rows are in"),
            "decode_status": (_STR, "DECODED, NO_DECODER, NO_DEFINITION or QUARANTINED"),
            "message_count": (_I64, "Messages written"),
            "bad_count": (_I64, "Messages that would not decode"),
            "rate_hz": (_F64, "Mean rate over its span, null below two messages"),
            "first_ns": (_I64, "First log time, recorder's clock"),
            "last_ns": (_I64, "Last log time, recorder's clock"),
        },
        ("recording_id", "channel_id"),
    ),
    "schemas": (
        "a message or bus definition by hash",
        {
            "schema_hash": (_STR, "Identity: over name, encoding and text"),
            "name": (_STR, "Name of the definition"),
            "encoding": (_STR, "Language of the definition"),
            "data": (_BIN, "The definition itself"),
            "table_name": (_STR, "Silver table of its messages"),
        },
        ("schema_hash",),
    ),
    "chunks": (
        "a chunk, data block or row range of a recording",
        {
            "recording_id": (_STR, "Recording"),
            "chunk_index": (_I64, "Ordinal in the file"),
            "offset": (_I64, "Start in the file, bytes (rowid in a db3)"),
            "length": (_I64, "Bytes in the file (rows in a db3)"),
            "compression": (_STR, "Compression, empty if none"),
            "uncompressed_size_bytes": (_I64, "Size when decompressed"),
            "start_ns": (_I64, "First log time, recorder's clock"),
            "end_ns": (_I64, "Last log time, recorder's clock, inclusive"),
            "message_count": (_I64, "Messages the index declares, null if it does not"),
            "channel_counts": (
                pa.list_(
                    pa.field("element", pa.struct([("channel_id", _I32), ("message_count", _I64)]))
                ),
                "Messages by channel",
            ),
        },
        ("recording_id", "chunk_index"),
    ),
    "decode_ledger": (
        "the fate of a byte range of a recording",
        {
            "recording_id": (_STR, "Recording"),
            "offset": (_I64, "Start in the file, bytes"),
            "length": (_I64, "Bytes"),
            "fate": (_STR, "decoded, quarantined or skipped"),
            "reason_code": (_STR, "Why not decoded"),
            "detail": (_STR, "The same in words"),
            "messages_declared": (_I64, "Messages the range declares, null if it does not"),
            "messages_written": (_I64, "Messages in silver"),
            "messages_bad": (_I64, "Messages in bronze.bad_messages"),
            "messages_lost": (_I64, "Messages lost; null if unknown"),
        },
        ("recording_id", "offset"),
    ),
    "bad_messages": (
        "a message that would not decode",
        {
            "recording_id": (_STR, "Recording"),
            "channel_id": (_I32, "Channel"),
            "topic": (_STR, "Topic"),
            "unit_offset": (_I64, "File offset of its unit, -1 if none"),
            "offset": (_I64, "Start of its payload in the unit"),
            "log_time_ns": (_I64, "Log time, null if it does not fit int64"),
            "error_class": (_STR, "Class of the error"),
            "error": (_STR, "What was wrong"),
            "first_bytes": (_BIN, "At most 1,024 bytes of the payload"),
        },
        ("recording_id", "unit_offset", "offset"),
    ),
}


_STATE = (_STR, "ok, gap, stale, missing, no_clock or jump")


def _value(name: str, kind: pa.DataType, text: str) -> dict[str, tuple[pa.DataType, str]]:
    """A synchronised value with its own time, error and state."""
    stem = name.removesuffix("_m_s2").removesuffix("_m_s").removesuffix("_rad_s")
    stem = stem.removesuffix("_rad")
    return {
        name: (kind, text),
        f"{stem}_t_ns": (_I64, f"{text}: time of the nearest sample used, UTC"),
        f"{stem}_sync_error_ns": (_I64, f"{text}: t_ns of the nearest sample minus the frame's"),
        f"{stem}_state": _STATE,
    }


_FRAMES = {
    "drive_id": (_STR, "Drive"),
    "clock": (_STR, "Clock of t_ns: utc, or reference where nothing ties the drive to UTC"),
    "t_ns": (_I64, "Exposure of the camera image, UTC"),
    "camera_recording_id": (_STR, "Recording of the image"),
    "camera_topic": (_STR, "Topic of the image"),
    "camera_frame_id": (_STR, "Coordinate frame of the camera"),
    "camera_log_time_ns": (_I64, "Log time of the image, recorder's clock"),
    "camera_unit_offset": (_I64, "Pointer to the image: unit"),
    "camera_data_offset": (_I64, "Pointer to the image: start"),
    "camera_data_length": (_I64, "Pointer to the image: bytes"),
    "lidar_recording_id": (_STR, "Recording of the nearest sweep, null if none"),
    "lidar_frame_id": (_STR, "Coordinate frame of the sweep"),
    "lidar_unit_offset": (_I64, "Pointer to the sweep: unit"),
    "lidar_data_offset": (_I64, "Pointer to the sweep: start"),
    "lidar_data_length": (_I64, "Pointer to the sweep: bytes"),
    "lidar_point_step_bytes": (_I64, "Bytes a point of the sweep"),
    "lidar_fields": (_FIELDS, "Layout of a point of the sweep"),
    "lidar_t_ns": (_I64, "Time of the sweep, UTC"),
    "lidar_sync_error_ns": (_I64, "Time of the sweep minus the frame's"),
    "lidar_state": _STATE,
    "latitude_deg": (_F64, "WGS84 latitude, interpolated"),
    "longitude_deg": (_F64, "WGS84 longitude, interpolated"),
    "altitude_m": (_F64, "WGS84 height, interpolated"),
    "gnss_t_ns": (_I64, "Time of the nearest fix used, UTC"),
    "gnss_sync_error_ns": (_I64, "Time of the nearest fix minus the frame's"),
    "gnss_state": _STATE,
    "position_x_m": (_F64, "Position in the odometry frame, interpolated"),
    "position_y_m": (_F64, "Position in the odometry frame, interpolated"),
    "yaw_rad": (_F64, "Heading in the odometry frame, interpolated"),
    "pose_t_ns": (_I64, "Time of the nearest pose used, UTC"),
    "pose_sync_error_ns": (_I64, "Time of the nearest pose minus the frame's"),
    "pose_state": _STATE,
    **_value("speed_m_s", _F64, "Speed from the vehicle bus, interpolated"),
    **_value("yaw_rate_rad_s", _F64, "Yaw rate from the inertial unit, interpolated"),
    **_value("acceleration_m_s2", _F64, "Longitudinal acceleration, interpolated"),
    **_value("steering_angle_rad", _F64, "Steering wheel angle from the bus, interpolated"),
    "sync_error_ns": (_I64, "Largest distance of any value used from t_ns"),
    "clock_uncertainty_ns": (_I64, "Largest standard error of the clocks involved"),
    "is_complete": (_BOOL, "Whether every stream is ok"),
    "sync_version": (_STR, "Hash of the rules and clocks used"),
}

_BOX3D = {
    **_xyz("position", "m", "Centre in base_link"),
    "yaw_rad": (_F64, "Heading in base_link"),
    "length_m": (_F64, "Extent along the heading"),
    "width_m": (_F64, "Extent across the heading"),
    "height_m": (_F64, "Extent upwards"),
}
_BOX2D = {
    "box_x0_px": (_F64, "Left, null if not in the image"),
    "box_y0_px": (_F64, "Top"),
    "box_x1_px": (_F64, "Right, exclusive"),
    "box_y1_px": (_F64, "Bottom, exclusive"),
}
SAMPLE_BOX = pa.struct(
    [
        ("class_name", _STR),
        ("x0_px", _F64),
        ("y0_px", _F64),
        ("x1_px", _F64),
        ("y1_px", _F64),
        ("distance_m", _F64),
        ("confidence", _F64),
    ]
)

_VERSIONS = {
    "drive_id": (_STR, "Drive"),
    "sync_version": (_STR, "Version of the frames; of a drive the latest counts"),
    "rules_version": (_STR, "Hash of the rules and the algorithm"),
    "rows": (_I64, "Rows of the drive, 0 where nothing was found"),
    "created_ns": (_I64, "When, UTC"),
}

_REST: dict[str, tuple[str, dict[str, tuple[pa.DataType, str]], tuple[str, ...], str]] = {
    "silver.clocks": (
        "a clock segment of a recorder: t_ns = stamp - offset_ns - drift since anchor_ns",
        {
            "drive_id": (_STR, "Drive"),
            "recording_id": (_STR, "Recording whose clock it is"),
            "recorder": (_STR, "Recorder"),
            "reference": (_STR, "Clock that the offset is measured against"),
            "valid_from_ns": (_I64, "First stamp it holds for; what lies between two has no time"),
            "valid_to_ns": (_I64, "Last stamp it holds for, inclusive"),
            "anchor_ns": (
                _I64,
                "Recorder's clock at which offset_ns holds, where it is known best",
            ),
            "offset_ns": (_I64, "Recorder's clock minus UTC at anchor_ns"),
            "drift_ppb": (_F64, "Growth of the offset, ns per s"),
            "uncertainty_ns": (_I64, "Standard error of the offset at anchor_ns; null if unknown"),
            "drift_uncertainty_ppb": (_F64, "Standard error of the drift; null if unknown"),
            "method": (_STR, "gnss_time, bus_frames, shared_signal, reference or assumed"),
            "evidence": (_STR, "What was compared; behind a semicolon, what was weighed in"),
            "samples": (_I64, "Samples compared"),
            "correlation": (_F64, "Peak of the correlation, null where none was taken"),
            "alert": (_STR, "Evidence that contradicts the row, and by how much; null if none"),
            "sensors": (
                _SENSORS,
                "Clocks that its sensors have of their own, less what the quickest message takes",
            ),
            "residuals": (
                _RESIDUALS,
                "At most 64 of the ties it was fitted to: recorder's clock, how far off the line",
            ),
            "clock_version": (_STR, "Hash of the recordings and rules it was estimated from"),
        },
        ("recording_id", "valid_from_ns"),
        "team:synchronisation",
    ),
    "silver.frames": (
        "an instant on the camera's clock with every sensor at that instant",
        _FRAMES,
        ("drive_id", "camera_topic", "t_ns"),
        "team:synchronisation",
    ),
    "silver.frame_versions": (
        "a synchronisation of a drive: what its frames were made of, and which version holds them",
        {
            "drive_id": (_STR, "Drive"),
            "sync_version": (_STR, "Hash of the rules and clocks; of a drive the latest counts"),
            "rules_version": (_STR, "Hash of the rules and the algorithm alone"),
            "frames_version": (_I64, "Delta version of silver.frames that holds these frames"),
            "clocks_version": (_I64, "Delta version of silver.clocks that they hold to"),
            "from_ns": (_I64, "First instant made anew for late data, inclusive; null for all"),
            "to_ns": (_I64, "Last instant made anew for late data, exclusive; null for all"),
            "created_ns": (_I64, "When, UTC"),
        },
        ("drive_id", "created_ns"),
        "team:synchronisation",
    ),
    "gold.scenarios": (
        "a labelled situation in a clip",
        {
            "drive_id": (_STR, "Drive"),
            "scenario": (_STR, "hard_braking, cut_in or standstill"),
            "start_ns": (_I64, "Start of the clip, UTC, inclusive"),
            "end_ns": (_I64, "End of the clip, UTC, exclusive"),
            "actor": (_STR, "Track of the other road user, null if none"),
            "rule": (_STR, "Rule that found it"),
            "rule_version": (_STR, "Hash of the rule"),
            "parameters": (_STR, "What was measured, JSON"),
            "sync_version": (_STR, "Version of the frames it was found in"),
        },
        ("drive_id", "scenario", "start_ns"),
        "team:perception",
    ),
    "gold.scenario_versions": (
        "a search of a drive for situations: what they were found in, and how many there were",
        _VERSIONS,
        ("drive_id", "created_ns"),
        "team:perception",
    ),
    "gold.label_versions": (
        "a labelling of a drive: what its labels were made of, and how many there were",
        _VERSIONS,
        ("drive_id", "created_ns"),
        "team:perception",
    ),
    "gold.labels": (
        "an object in a frame",
        {
            "drive_id": (_STR, "Drive"),
            "t_ns": (_I64, "Frame, UTC"),
            "camera_topic": (_STR, "Camera of the 2D box"),
            "label_id": (_STR, "Identity: hash of drive, frame, ordinal and labeller"),
            "class_name": (_STR, "car, truck, pedestrian or cyclist"),
            **_BOX3D,
            **_BOX2D,
            "distance_m": (_F64, "Distance of the centre from base_link"),
            "lidar_points": (_I64, "Points inside the box"),
            "confidence": (_F64, "Probability that the box is right"),
            "labeller": (_STR, "Who or what made it"),
            "labeller_version": (_STR, "Its version"),
            "sync_version": (_STR, "Version of the frames it was made on"),
        },
        ("label_id",),
        "team:perception",
    ),
    "gold.datasets": (
        "a dataset version",
        {
            "dataset_id": (_STR, "Name and content hash"),
            "name": (_STR, "Name"),
            "content_hash": (_STR, "Over every sample, label and split"),
            "specification": (_STR, "The request, canonical JSON"),
            "table_versions": (_STR, "Delta versions read, JSON"),
            "recording_ids": (_STRS, "Recordings in it"),
            "train_samples": (_I64, "Samples to train on"),
            "validation_samples": (_I64, "Samples to choose by"),
            "test_samples": (_I64, "Samples to judge by"),
            "split_rule": (_STR, "How the splits were made"),
            "created_ns": (_I64, "UTC"),
        },
        ("dataset_id",),
        "team:perception",
    ),
    "gold.dataset_samples": (
        "a member of a dataset version",
        {
            "dataset_id": (_STR, "Dataset version"),
            "sample_id": (_STR, "SHA-256 of the image and its labels"),
            "split": (_STR, "train, validation or test"),
            "drive_id": (_STR, "Drive"),
            "t_ns": (_I64, "Frame, UTC"),
            "recording_id": (_STR, "Recording of the image"),
            "image_jpeg": (_BIN, "The image as recorded"),
            "image_width_px": (_I64, "Columns"),
            "image_height_px": (_I64, "Rows"),
            "boxes": (pa.list_(pa.field("element", SAMPLE_BOX)), "Labels in the image"),
        },
        ("dataset_id", "sample_id"),
        "team:perception",
    ),
    "gold.evaluations": (
        "a metric of a model on a slice",
        {
            "model": (_STR, "Registered name"),
            "model_version": (_STR, "Registered version"),
            "dataset_id": (_STR, "Dataset version"),
            "target": (_STR, "torch, onnx, onnx_int8, qnn_…"),
            "slice": (_STR, "all, light=night, distance=0-20, class=car, …"),
            "metric": (_STR, "ap50, precision, recall"),
            "value": (_F64, "Value"),
            "lower": (_F64, "Lower end of the 95 % interval"),
            "upper": (_F64, "Upper end of the 95 % interval"),
            "samples": (_I64, "Images in the slice"),
            "objects": (_I64, "True objects in the slice"),
        },
        ("model", "model_version", "dataset_id", "target", "slice", "metric"),
        "team:machine-learning",
    ),
    "gold.releases": (
        "a hand-off bundle",
        {
            "bundle_id": (_STR, "SHA-256 of its manifest"),
            "uri": (_STR, "Where it is"),
            "model": (_STR, "Registered name"),
            "model_version": (_STR, "Registered version"),
            "dataset_id": (_STR, "Dataset version it was trained on"),
            "targets": (_STRS, "Targets it holds binaries for"),
            "manifest": (_STR, "The manifest, canonical JSON"),
            "signer": (_STR, "Fingerprint of the public key"),
            "created_ns": (_I64, "UTC"),
        },
        ("bundle_id",),
        "team:deployment",
    ),
}


_ALSO_REQUIRED = {
    "silver.frame_versions": ("sync_version", "rules_version", "frames_version", "clocks_version"),
    "gold.scenario_versions": tuple(_VERSIONS),
    "gold.label_versions": tuple(_VERSIONS),
}


def _silver_kind(kind: str) -> TableContract:
    text, columns = _SILVER_KINDS[kind]
    return TableContract(
        name=f"silver.{kind}",
        description=f"One row is {text}.",
        schema=message_schema(columns),
        keys=("recording_id", "channel_id", "sequence", "log_time_ns"),
        required=("recording_id", "channel_id", "topic", "log_time_ns", "ingest_date"),
    )


def _tables() -> dict[str, TableContract]:
    tables = [
        TableContract(
            name=f"bronze.{name}",
            description=f"One row is {text}.",
            schema=_schema({**columns, **_INGEST_DATE}),
            keys=keys,
            required=("ingest_date",)
            if name == "uploads"
            else (*(key for key in keys if key != "sha256"), "ingest_date"),
        )
        for name, (text, columns, keys) in _BRONZE.items()
    ]
    tables += [_silver_kind(kind) for kind in _SILVER_KINDS]
    for name, (text, columns, keys, owner) in _REST.items():
        in_silver = name.startswith("silver.")
        tables.append(
            TableContract(
                name=name,
                description=f"One row is {text}.",
                schema=_schema({**columns, **(_INGEST_DATE if in_silver else {})}),
                keys=keys,
                required=(*keys, *_ALSO_REQUIRED.get(name, ())),
                owner=owner,
                partition_by=("ingest_date",) if in_silver else (),
            )
        )
    return {table.name: table for table in tables}


TABLES: Mapping[str, TableContract] = _tables()
SILVER_KINDS = tuple(_SILVER_KINDS)


def table_uri(lake_uri: str, name: str) -> str:
    """Where a table's files are: `<lake>/<layer>/<table>`."""
    return f"{lake_uri.rstrip('/')}/{name.replace('.', '/')}"
