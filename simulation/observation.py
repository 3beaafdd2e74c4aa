"""What camera and lidar of a drive see, computed once for the recording and for the truth."""

from __future__ import annotations

import attrs
import cv2
import numpy as np

from contracts.errors import PlatformError
from simulation.lidar import Lidar, Sweep
from simulation.plan import DrivePlan
from simulation.render import Renderer
from simulation.rig import CAMERA_DELAY_NS, CAMERA_PERIOD_NS, LIDAR_PERIOD_NS, Camera
from simulation.sensors import every

JPEG_QUALITY = 82
CAMERA_DROP_SHARE = 0.02
LIDAR_DROP_SHARE = 0.01


@attrs.frozen(eq=False)
class Shot:
    """One exposure of the camera.

    Attributes:
        number: From 0 in the drive; dropped frames count.
        t_ns: The exposure, UTC.
        recorded: Whether it reaches the recording.
        jpeg: (N,) uint8.
        visible_fraction: By object_id; see `simulation.render.Frame`.
    """

    number: int
    t_ns: int
    recorded: bool
    jpeg: np.ndarray
    visible_fraction: dict[int, float]


@attrs.frozen(eq=False)
class Observations:
    """Shots and sweeps of a drive.

    Attributes:
        camera: The camera.
        shots: In order of time, dropped ones included.
        sweeps: In order of time, dropped ones included.
        sweep_recorded: (len(sweeps),) bool, whether each reaches the recording.
    """

    camera: Camera
    shots: tuple[Shot, ...]
    sweeps: tuple[Sweep, ...]
    sweep_recorded: np.ndarray


def observe(plan: DrivePlan, *, camera: Camera) -> Observations:
    """Run camera and lidar over a drive.

    Args:
        plan: The drive.
        camera: The camera.

    Returns:
        What they see.

    Raises:
        PlatformError: An image could not be compressed.
    """
    sweep_ns = every(LIDAR_PERIOD_NS, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
    lidar = Lidar(plan)
    sweeps = tuple(lidar.sweep(int(t_ns), number=n) for n, t_ns in enumerate(sweep_ns))
    kept = plan.stream("lidar", "drops").random(len(sweeps)) >= LIDAR_DROP_SHARE
    return Observations(camera, _shots(plan, camera=camera), sweeps, kept)


def _shots(plan: DrivePlan, *, camera: Camera) -> tuple[Shot, ...]:
    """Render and compress every frame."""
    renderer = Renderer(plan, camera=camera)
    shot_ns = every(
        CAMERA_PERIOD_NS,
        t_start_ns=plan.t_start_ns,
        t_end_ns=plan.t_end_ns,
        phase_ns=CAMERA_DELAY_NS,
    )
    kept = plan.stream("camera", "drops").random(len(shot_ns)) >= CAMERA_DROP_SHARE
    shots = []
    for number, t_ns in enumerate(shot_ns):
        frame = renderer.render(int(t_ns), number=number)
        done, jpeg = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise PlatformError("the image could not be compressed", code="JPEG")
        shots.append(
            Shot(number, int(t_ns), bool(kept[number]), jpeg.ravel(), frame.visible_fraction)
        )
    return tuple(shots)
