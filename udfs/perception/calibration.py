"""Where the sensors of a drive sit, from its transforms and camera infos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from udfs.geometry.camera import Pinhole
from udfs.geometry.transforms import Transform, TransformTree

BASE_FRAME = "base_link"


@attrs.frozen(eq=False)
class Calibration:
    """The calibration of one drive.

    Attributes:
        tree: Static transforms.
        cameras: Intrinsics by coordinate frame of the camera.
    """

    tree: TransformTree
    cameras: Mapping[str, Pinhole]

    def base_from(self, frame_id: str | None) -> Transform | None:
        """`base_link_from_frame`; None if the frame is not connected to it."""
        return self.tree.find(BASE_FRAME, frame_id) if frame_id else None

    def camera(self, frame_id: str | None) -> tuple[Pinhole, Transform] | None:
        """Intrinsics and `camera_from_base_link`; None if either is not known."""
        camera = self.cameras.get(frame_id or "")
        base_from_camera = self.base_from(frame_id)
        if camera is None or base_from_camera is None:
            return None
        return camera, base_from_camera.inverse()


def calibration_from(
    transforms: Iterable[Mapping[str, Any]], camera_infos: Iterable[Mapping[str, Any]]
) -> Calibration:
    """Put the calibration of a drive together.

    Args:
        transforms: Static rows of `silver.transforms` of the drive's recordings, in time order.
        camera_infos: Rows of the drive's CameraInfo tables, in time order; the last one counts.
    """
    cameras = {}
    for row in camera_infos:
        camera = Pinhole.from_camera_info(row)
        if camera is not None and row["frame_id"]:
            cameras[row["frame_id"]] = camera
    return Calibration(TransformTree.from_rows(transforms), cameras)
