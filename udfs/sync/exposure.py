"""When the rows of an image were exposed, and where the vehicle's camera saw a point at that time.

The stamp of an image is the time of its first row's exposure at best, often that of its arrival.
"""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.geometry.camera import Pinhole
from udfs.geometry.transforms import FloatArray, Transform
from udfs.sync.motion import POSE_GAP_NS, EgoMotion, move_to_times
from udfs.sync.states import CODES, OK

_ROUNDS = 4
_NEAR_M = 0.1
_not_negative = attrs.validators.ge(0)


@attrs.frozen(kw_only=True)
class Shutter:
    """How a camera exposes, and what it calls the time of an image.

    Attributes:
        exposure_ns: How long each row is exposed.
        readout_ns: From the first row's exposure to the last row's; 0 for a global shutter.
        stamped: Which instant of the first row's exposure the stamp is.
        delay_ns: How much later than that the stamp is, e.g. one taken on arrival.
    """

    exposure_ns: int = attrs.field(default=0, validator=_not_negative)
    readout_ns: int = attrs.field(default=0, validator=_not_negative)
    stamped: Literal["start", "middle", "end"] = attrs.field(
        default="start", validator=attrs.validators.in_(("start", "middle", "end"))
    )
    delay_ns: int = 0

    def instant_ns(self, stamp_ns: int) -> int:
        """The time that stands for an image: the middle of its exposure, of its middle row."""
        return self._first_row_ns(stamp_ns) + self.readout_ns // 2

    def rows_ns(self, stamp_ns: int, rows: npt.ArrayLike, *, height_px: int) -> Int64Array:
        """(N,) int64, the middle of the exposure of (N,) rows, whole or not, of an image.

        Rows beyond the image count as its first or its last.
        """
        share = np.clip(np.asarray(rows, np.float64) / max(height_px - 1, 1), 0.0, 1.0)
        later = np.rint(share * self.readout_ns).astype(np.int64)
        return np.asarray(self._first_row_ns(stamp_ns) + later)

    def _first_row_ns(self, stamp_ns: int) -> int:
        half = self.exposure_ns // 2
        behind = {"start": half, "middle": 0, "end": half - self.exposure_ns}[self.stamped]
        return stamp_ns - self.delay_ns + behind


@attrs.frozen(eq=False)
class Projected:
    """Points in an image of a camera that moved.

    Attributes:
        pixels: (N, 2) float64, also beyond the image; NaN behind the camera, and where the state
            is not ok.
        t_ns: (N,) int64, when the row was exposed that saw the point.
        state: (N,) uint8 codes as of `udfs.sync.motion.Moved`.
    """

    pixels: FloatArray
    t_ns: Int64Array
    state: UInt8Array


def project_exposed(
    points_base: FloatArray,
    *,
    at_ns: int,
    stamp_ns: int,
    motion: EgoMotion,
    camera: Pinhole,
    base_from_camera: Transform,
    shutter: Shutter,
    max_gap_ns: int = POSE_GAP_NS,
) -> Projected:
    """Where an image shows points that stand still, by the pose at their row's exposure.

    Args:
        points_base: (N, 3) float64 in base_link of one instant.
        at_ns: That instant, e.g. the one that a sweep was brought to.
        stamp_ns: Stamp of the image, on the same clock.
        motion: Of the vehicle.
        camera: Intrinsics.
        base_from_camera: Where it sits; its frame is optical.
        shutter: When it exposes.
        max_gap_ns: Widest hole between two poses that is bridged.
    """
    xyz = [np.ascontiguousarray(axis, np.float32) for axis in points_base.T]
    t_ns = np.full(len(points_base), shutter.instant_ns(stamp_ns), np.int64)
    pixels = np.empty((0, 2))
    # Which row sees a point says when, and when says which row: each round brings the two closer
    # by the rows that a point moves while one is read out.
    for _ in range(_ROUNDS if shutter.readout_ns else 1):
        moved = move_to_times(
            xyz, t_ns, at_ns=at_ns, motion=motion, base_from_sensor=base_from_camera,
            max_gap_ns=max_gap_ns,
        )  # fmt: skip
        seen = np.stack([axis.astype(np.float64) for axis in moved.xyz_m], axis=-1)
        seen[~(seen[:, 2] > _NEAR_M)] = np.nan
        pixels = camera.project(seen)
        is_seen = (moved.state == CODES[OK]) & np.isfinite(pixels[:, 1])
        rows_ns = shutter.rows_ns(
            stamp_ns, np.where(is_seen, pixels[:, 1], 0.0), height_px=camera.height_px
        )
        used_ns, t_ns = t_ns, np.where(is_seen, rows_ns, t_ns)
    return Projected(pixels, used_ns, moved.state)
