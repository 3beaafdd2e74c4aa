"""ROS messages of the simulated sensors, for ROS 1 and ROS 2, built from plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import attrs
import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from simulation.rig import Camera, Mount
from simulation.road import FloatArray
from simulation.sensors import GnssSamples, ImuSamples, OdometrySamples

Ros = Literal[1, 2]

IMU = "sensor_msgs/msg/Imu"
ODOMETRY = "nav_msgs/msg/Odometry"
NAV_SAT_FIX = "sensor_msgs/msg/NavSatFix"
TIME_REFERENCE = "sensor_msgs/msg/TimeReference"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
TF = "tf2_msgs/msg/TFMessage"
DETECTIONS = "vision_msgs/msg/Detection3DArray"

_VISION_MESSAGES = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id\n"
    ),
    "vision_msgs/msg/Detection3DArray": (
        "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n"
    ),
}
_FLOAT32, _UINT32 = 7, 6
_NO_COVARIANCE = np.zeros(9)


@attrs.frozen
class Detection:
    """A road user as the tracker of the ADAS computer sees it, in base_link."""

    track_id: int
    class_name: str
    score: float
    xyz_m: tuple[float, float, float]
    yaw_rad: float
    size_m: tuple[float, float, float]


class RosMessages:
    """Builds and serialises messages of one ROS version."""

    def __init__(self, ros: Ros) -> None:
        """Load the message definitions.

        Args:
            ros: 1 for the ROS 1 serialisation, 2 for little-endian CDR.
        """
        self.ros = ros
        self.typestore = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_HUMBLE)
        added: dict[str, Any] = {}
        for name, text in _VISION_MESSAGES.items():
            added |= get_types_from_msg(text, name)
        self.typestore.register(added)

    def encode(self, message: Any) -> bytes:
        """Serialise a message."""
        name = message.__msgtype__
        if self.ros == 1:
            return bytes(self.typestore.serialize_ros1(message, name))
        return bytes(self.typestore.serialize_cdr(message, name))

    def definition(self, type_name: str) -> str:
        """The full text of a message definition, its dependencies included."""
        return self.typestore.generate_msgdef(type_name, ros_version=self.ros)[0]

    def imu(self, samples: ImuSamples, row: int, *, stamp_ns: int, frame_id: str) -> bytes:
        """An `Imu` message of one sample."""
        return self.encode(
            self._new(
                IMU,
                header=self._header(stamp_ns, frame_id, row),
                orientation=self._heading(float(samples.yaw_rad[row])),
                orientation_covariance=_NO_COVARIANCE,
                angular_velocity=self._vector(samples.rates_rad_s[row]),
                angular_velocity_covariance=_NO_COVARIANCE,
                linear_acceleration=self._vector(samples.accels_m_s2[row]),
                linear_acceleration_covariance=_NO_COVARIANCE,
            )
        )

    def odometry(
        self, samples: OdometrySamples, row: int, *, stamp_ns: int, frame_id: str
    ) -> bytes:
        """An `Odometry` message of one sample: pose in `frame_id`, twist in base_link."""
        place = (float(samples.x_m[row]), float(samples.y_m[row]), 0.0)
        pose = self._pose(place, float(samples.yaw_rad[row]))
        twist = self._new(
            "geometry_msgs/msg/Twist",
            linear=self._vector((float(samples.speed_m_s[row]), 0.0, 0.0)),
            angular=self._vector((0.0, 0.0, float(samples.yaw_rate_rad_s[row]))),
        )
        return self.encode(
            self._new(
                ODOMETRY,
                header=self._header(stamp_ns, frame_id, row),
                child_frame_id="base_link",
                pose=self._new(
                    "geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)
                ),
                twist=self._new(
                    "geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)
                ),
            )
        )

    def nav_sat_fix(
        self, samples: GnssSamples, row: int, *, stamp_ns: int, sigma_m: float
    ) -> bytes:
        """A `NavSatFix` message of one sample."""
        variance = sigma_m**2
        return self.encode(
            self._new(
                NAV_SAT_FIX,
                header=self._header(stamp_ns, "gnss", row),
                status=self._new("sensor_msgs/msg/NavSatStatus", status=0, service=1),
                latitude=float(samples.latitude_deg[row]),
                longitude=float(samples.longitude_deg[row]),
                altitude=float(samples.altitude_m[row]),
                position_covariance=np.diag([variance, variance, 4 * variance]).ravel(),
                position_covariance_type=2,
            )
        )

    def time_reference(self, *, stamp_ns: int, utc_ns: int, row: int) -> bytes:
        """A `TimeReference`: the recorder's clock when the GNSS said it was `utc_ns`."""
        return self.encode(
            self._new(
                TIME_REFERENCE,
                header=self._header(stamp_ns, "gnss", row),
                time_ref=self._time(utc_ns),
                source="gnss",
            )
        )

    def compressed_image(self, jpeg: np.ndarray, *, stamp_ns: int) -> bytes:
        """A `CompressedImage` of (N,) uint8 JPEG bytes."""
        return self.encode(
            self._new(
                COMPRESSED_IMAGE,
                header=self._header(stamp_ns, "camera_front", 0),
                format="jpeg",
                data=jpeg,
            )
        )

    def camera_info(self, camera: Camera, *, stamp_ns: int) -> bytes:
        """The calibration of the camera."""
        focal, cx, cy = camera.focal_px, camera.cx, camera.cy
        return self.encode(
            self._new(
                CAMERA_INFO,
                header=self._header(stamp_ns, "camera_front", 0),
                height=camera.height,
                width=camera.width,
                distortion_model="plumb_bob",
                d=np.zeros(5),
                k=np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1.0]),
                r=np.eye(3).ravel(),
                p=np.array([focal, 0, cx, 0, 0, focal, cy, 0, 0, 0, 1.0, 0]),
                binning_x=0,
                binning_y=0,
                roi=self._new(
                    "sensor_msgs/msg/RegionOfInterest",
                    x_offset=0,
                    y_offset=0,
                    height=0,
                    width=0,
                    do_rectify=False,
                ),
            )
        )

    def point_cloud(self, points: np.ndarray, *, stamp_ns: int) -> bytes:
        """A `PointCloud2` of a structured array; one field for each of its columns."""
        fields = [
            self._new(
                "sensor_msgs/msg/PointField",
                name=name,
                offset=int(points.dtype.fields[name][1]),
                datatype=_UINT32 if points.dtype[name].kind == "u" else _FLOAT32,
                count=1,
            )
            for name in points.dtype.names
        ]
        return self.encode(
            self._new(
                POINT_CLOUD,
                header=self._header(stamp_ns, "lidar_top", 0),
                height=1,
                width=len(points),
                fields=fields,
                is_bigendian=False,
                point_step=points.dtype.itemsize,
                row_step=points.nbytes,
                data=points.view(np.uint8),
                is_dense=True,
            )
        )

    def static_transforms(self, mounts: Sequence[Mount], *, stamp_ns: int) -> bytes:
        """A `TFMessage` with the pose of every sensor in base_link."""
        transforms = [
            self._new(
                "geometry_msgs/msg/TransformStamped",
                header=self._header(stamp_ns, "base_link", 0),
                child_frame_id=mount.frame_id,
                transform=self._new(
                    "geometry_msgs/msg/Transform",
                    translation=self._vector(mount.xyz_m),
                    rotation=self._quaternion(mount.xyzw),
                ),
            )
            for mount in mounts
        ]
        return self.encode(self._new(TF, transforms=transforms))

    def detections(self, found: Sequence[Detection], *, stamp_ns: int) -> bytes:
        """A `Detection3DArray` in base_link."""
        header = self._header(stamp_ns, "base_link", 0)
        return self.encode(
            self._new(
                DETECTIONS,
                header=header,
                detections=[self._detection(one, header) for one in found],
            )
        )

    def _detection(self, one: Detection, header: Any) -> Any:
        """One tracked object."""
        pose = self._pose(one.xyz_m, one.yaw_rad)
        hypothesis = self._new(
            "vision_msgs/msg/ObjectHypothesis", class_id=one.class_name, score=one.score
        )
        result = self._new(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=hypothesis,
            pose=self._new(
                "geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)
            ),
        )
        box = self._new("vision_msgs/msg/BoundingBox3D", center=pose, size=self._vector(one.size_m))
        return self._new(
            "vision_msgs/msg/Detection3D",
            header=header,
            results=[result],
            bbox=box,
            id=str(one.track_id),
        )

    def _new(self, type_name: str, **fields: Any) -> Any:
        return self.typestore.types[type_name](**fields)

    def _time(self, t_ns: int) -> Any:
        seconds, nanoseconds = divmod(int(t_ns), 1_000_000_000)
        return self._new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)

    def _header(self, stamp_ns: int, frame_id: str, sequence: int) -> Any:
        extra = {"seq": sequence} if self.ros == 1 else {}
        return self._new(
            "std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id=frame_id, **extra
        )

    def _vector(self, xyz: Sequence[float] | FloatArray) -> Any:
        x, y, z = (float(value) for value in xyz)
        return self._new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _quaternion(self, xyzw: Sequence[float]) -> Any:
        x, y, z, w = xyzw
        return self._new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def _heading(self, yaw_rad: float) -> Any:
        return self._quaternion((0.0, 0.0, float(np.sin(yaw_rad / 2)), float(np.cos(yaw_rad / 2))))

    def _pose(self, xyz: Sequence[float], yaw_rad: float) -> Any:
        x, y, z = xyz
        point = self._new("geometry_msgs/msg/Point", x=x, y=y, z=z)
        return self._new(
            "geometry_msgs/msg/Pose", position=point, orientation=self._heading(yaw_rad)
        )
