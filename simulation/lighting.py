"""Light and haze: what conditions make of a colour at a place in front of the camera."""

from __future__ import annotations

import attrs
import cv2
import numpy as np

from simulation.meshes import Colour
from simulation.rig import CAMERA_MOUNT, Camera
from simulation.road import FloatArray
from simulation.story import Conditions

_SUN_DIRECTION = np.array([0.35, -0.45, 0.82])


@attrs.frozen
class Atmosphere:
    """Light and air of a drive; colours are blue, green, red.

    Attributes:
        ambient: Light from everywhere.
        sun: Light from the sun, on surfaces that face it.
        zenith: Colour of the sky above.
        horizon: Colour of the sky at the horizon, and of haze.
        haze_1_m: Share of light lost a metre.
        headlights: Strength of the ego's own lights.
        lamps: Strength of the street lamps.
        glow: How much of a lamp's light shows.
        noise: Standard deviation of the sensor's noise in grey levels.
    """

    ambient: Colour
    sun: Colour
    zenith: Colour
    horizon: Colour
    haze_1_m: float
    headlights: float
    lamps: float
    glow: float
    noise: float


_BY_LIGHT = {
    "day": Atmosphere(
        ambient=(0.52, 0.50, 0.48), sun=(0.46, 0.50, 0.52), zenith=(0.86, 0.62, 0.38),
        horizon=(0.93, 0.88, 0.82), haze_1_m=0.0012,
        headlights=0.0, lamps=0.0, glow=0.15, noise=1.8,
    ),
    "dusk": Atmosphere(
        ambient=(0.36, 0.30, 0.29), sun=(0.05, 0.10, 0.16), zenith=(0.45, 0.28, 0.20),
        horizon=(0.42, 0.55, 0.78), haze_1_m=0.002,
        headlights=0.35, lamps=0.25, glow=0.7, noise=3.0,
    ),
    "night": Atmosphere(
        ambient=(0.115, 0.095, 0.085), sun=(0.0, 0.0, 0.0), zenith=(0.07, 0.045, 0.035),
        horizon=(0.12, 0.09, 0.08), haze_1_m=0.002,
        headlights=1.0, lamps=0.45, glow=1.0, noise=4.5,
    ),
}  # fmt: skip


def atmosphere_of(conditions: Conditions) -> Atmosphere:
    """Combine light and weather.

    Args:
        conditions: Weather and light of the drive.

    Returns:
        The atmosphere.
    """
    base = _BY_LIGHT[conditions.light]
    if conditions.weather == "clear":
        return base
    grey = float(np.mean(base.horizon)) * (0.92 if conditions.weather == "fog" else 0.75)
    sky = (grey * 1.03, grey, grey * 0.98)
    dim = 0.95 if conditions.weather == "fog" else 0.80
    return attrs.evolve(
        base,
        ambient=tuple(dim * (a + 0.35 * s) for a, s in zip(base.ambient, base.sun, strict=True)),
        sun=tuple(0.08 * value for value in base.sun),
        zenith=tuple(0.9 * value for value in sky),
        horizon=sky,
        haze_1_m=0.022 if conditions.weather == "fog" else 0.006,
        headlights=max(base.headlights, 0.1),
        noise=base.noise * 1.15,
    )


def shade(
    colours: FloatArray,
    *,
    centres_camera: FloatArray,
    normals_world: FloatArray,
    glow: FloatArray,
    atmosphere: Atmosphere,
) -> FloatArray:
    """Light the faces of things and put the air between them and the camera.

    Args:
        colours: (Q, 3) own colours.
        centres_camera: (Q, 3) middles in the optical frame.
        normals_world: (Q, 3) unit normals.
        glow: (Q,) own light.
        atmosphere: Light and air.

    Returns:
        (Q, 3) float64 colours in [0, 1].
    """
    facing_sun = np.clip(normals_world @ _SUN_DIRECTION, 0.0, None)[:, None]
    light = np.array(atmosphere.ambient) + np.array(atmosphere.sun) * facing_sun
    # Without a sun, sides must still differ from each other, or shapes vanish.
    light = light * (0.86 + 0.14 * normals_world[:, :1] ** 2 + 0.10 * normals_world[:, 2:])
    light = light + headlight(centres_camera, strength=atmosphere.headlights)[:, None]
    lit = colours * light
    own = np.clip(glow * atmosphere.glow, 0.0, 1.0)[:, None]
    lit = lit * (1 - own) + np.minimum(colours * 1.35, 1.0) * own
    distance = np.linalg.norm(centres_camera, axis=-1)
    clear = np.exp(-atmosphere.haze_1_m * distance)[:, None]
    return np.clip(lit * clear + np.array(atmosphere.horizon) * (1 - clear), 0.0, 1.0)


def headlight(points_camera: FloatArray, *, strength: float) -> FloatArray:
    """Light of the ego's low beam at some points.

    Args:
        points_camera: (..., 3) optical frame.
        strength: Brightness near the car.

    Returns:
        (...) float64.
    """
    right, down, ahead = np.moveaxis(points_camera, -1, 0)
    ahead = np.maximum(ahead, 0.1)
    beam = np.exp(-(((right - 0.04 * ahead) / (0.42 * ahead + 1.0)) ** 2))
    reach = 1.0 / (1.0 + (ahead / 24.0) ** 2)
    above = CAMERA_MOUNT.xyz_m[2] - down
    cut_off = 0.22 + 0.78 / (1.0 + np.exp((above - 1.1) / 0.25))
    return strength * beam * reach * cut_off


def backdrop(
    camera: Camera, *, atmosphere: Atmosphere
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sky, and the light and haze of every ground pixel (the same for all frames of a drive).

    Args:
        camera: The camera.
        atmosphere: Light and air.

    Returns:
        The sky (H, W, 3) uint8; the ground's light (H, W, 3) float32; its haze (H, W, 3) float32
        in grey levels, to be added.
    """
    rows, columns = np.arange(camera.height, dtype=np.float64), np.arange(camera.width)
    up = np.clip((camera.cy - rows) / camera.cy, 0.0, 1.0)[:, None, None] ** 0.7
    sky = np.array(atmosphere.horizon) * (1 - up) + np.array(atmosphere.zenith) * up
    sky_image = np.broadcast_to(np.rint(255 * sky), (camera.height, camera.width, 3))
    below = np.maximum(rows - camera.cy, 0.5)
    ahead = CAMERA_MOUNT.xyz_m[2] * camera.focal_px / below
    right = (columns[None, :] - camera.cx) / camera.focal_px * ahead[:, None]
    down = np.full_like(right, CAMERA_MOUNT.xyz_m[2])
    points = np.stack([right, down, np.broadcast_to(ahead[:, None], right.shape)], -1)
    beam = headlight(points, strength=0.75 * atmosphere.headlights)[..., None]
    light = np.array(atmosphere.ambient) + 0.8 * np.array(atmosphere.sun) + beam
    distance = np.linalg.norm(points, axis=-1, keepdims=True)
    clear = np.exp(-atmosphere.haze_1_m * distance)
    haze = 255.0 * np.array(atmosphere.horizon) * (1 - clear)
    return (
        np.ascontiguousarray(sky_image.astype(np.uint8)),
        (light * clear).astype(np.float32),
        haze.astype(np.float32),
    )


def lamp_pools(
    lamps_px: list[FloatArray], *, shape: tuple[int, int], strength: float
) -> np.ndarray:
    """Light that street lamps throw on the ground.

    Args:
        lamps_px: Outlines of the lit discs, (K, 2) pixels each.
        shape: Height and width of the image.
        strength: Brightness in the middle.

    Returns:
        (H, W, 1) float32 to add to the ground's light.
    """
    scale = 4
    small = np.zeros((shape[0] // scale, shape[1] // scale), dtype=np.float32)
    for outline in lamps_px:
        fixed = np.rint(np.clip(outline / scale, -4000, 4000)).astype(np.int32)
        cv2.fillConvexPoly(small, fixed, strength)
    small = cv2.GaussianBlur(small, (0, 0), 4.0)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)[..., None]
