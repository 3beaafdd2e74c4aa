"""The front camera: draws what it sees, and says how much of every road user shows."""

from __future__ import annotations

from collections import defaultdict

import attrs
import cv2
import numpy as np

from simulation.ground import GRASS, SHIFT, draw_ground
from simulation.lighting import atmosphere_of, backdrop, lamp_pools, shade
from simulation.motion import Trajectory
from simulation.plan import DrivePlan
from simulation.projection import NEAR_M, box_corners, clip_polygon
from simulation.rig import Camera, camera_from_world
from simulation.road import FloatArray
from simulation.scene import VIEW_M, Quads, Scene

_LAMP_POOL_M = 6.0
_LAMP_VIEW_M = 80.0
_LIMIT_PX = 1 << 14
_TRIANGLE = 3
_NOISE_MARGIN_PX = 64
_GLOW_SCALE = 4
_GLOW_SHOWS = 0.3
_SHADOW = 0.42
_SHADOW_GROWTH = 1.08
_RAIN_STREAKS = 130

Hulls = dict[int, list[np.ndarray]]


@attrs.frozen(eq=False)
class Frame:
    """A rendered image.

    Attributes:
        image: (H, W, 3) uint8, blue, green, red.
        visible_fraction: By object_id, the share of its outline that shows: neither hidden by
            something nearer nor outside the image. Objects that don't show at all are left out.
    """

    image: np.ndarray
    visible_fraction: dict[int, float]


class Renderer:
    """Draws the frames of one drive."""

    def __init__(self, plan: DrivePlan, *, camera: Camera) -> None:
        """Prepare what is the same for all frames.

        Args:
            plan: The drive.
            camera: The camera.
        """
        self.plan = plan
        self.camera = camera
        self.scene = Scene(plan)
        sizes = [(one.size.length_m, one.size.width_m, 0.0) for one in plan.actors]
        self.footprints = _SHADOW_GROWTH * np.array(sizes)
        self.atmosphere = atmosphere_of(plan.conditions)
        self.sky, self.light, self.haze = backdrop(camera, atmosphere=self.atmosphere)
        shape = (camera.height + _NOISE_MARGIN_PX, camera.width + _NOISE_MARGIN_PX, 3)
        noise = plan.stream("camera", "noise").normal(0.0, self.atmosphere.noise, shape)
        self.noise = np.rint(noise).astype(np.int16)

    def render(self, t_ns: int, *, number: int) -> Frame:
        """Draw the frame exposed at an instant.

        Args:
            t_ns: The exposure, UTC.
            number: Number of the frame in the drive; picks noise and rain.

        Returns:
            The image, and how much of each road user shows.
        """
        ego = self.plan.ego.at([t_ns])
        image = self._ground(ego, t_ns=t_ns)
        quads = self.scene.seen_from(ego, t_ns=t_ns)
        owner, hulls = self._draw(image, quads)
        image = self._add_glow(image, quads, owner=owner)
        image = self._add_weather(image, number=number)
        return Frame(image, _visible_fractions(owner, hulls))

    def _ground(self, ego: Trajectory, *, t_ns: int) -> np.ndarray:
        """Sky above, lit ground below, with the shadows of what stands on it."""
        camera = self.camera
        own = np.empty((camera.height, camera.width, 3), np.uint8)
        own[:] = np.rint(255 * np.array(GRASS)).astype(np.uint8)
        draw_ground(own, road=self.plan.road, ego=ego, camera=camera)
        horizon = int(np.ceil(camera.cy))
        light = self.light[horizon:]
        if self.atmosphere.lamps > 0:
            pools = lamp_pools(
                self._lamp_outlines(ego),
                shape=(camera.height, camera.width),
                strength=self.atmosphere.lamps,
            )
            light = light + pools[horizon:]
        shaded = own[horizon:] * light
        shaded[self._shadow_mask(ego, t_ns=t_ns)[horizon:] > 0] *= _SHADOW
        image = self.sky.copy()
        image[horizon:] = np.clip(shaded + self.haze[horizon:], 0, 255).astype(np.uint8)
        return image

    def _lamp_outlines(self, ego: Trajectory) -> list[FloatArray]:
        """Outlines of the ground lit by the street lamps nearby, in pixels."""
        lamps = self.plan.scenery.lamps
        angle = np.arange(12) * np.pi / 6
        disc = _LAMP_POOL_M * np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
        near = np.hypot(lamps.x_m - ego.x_m[0], lamps.y_m - ego.y_m[0]) < _LAMP_VIEW_M
        outlines = []
        for x, y in zip(lamps.x_m[near], lamps.y_m[near], strict=True):
            clipped = clip_polygon(camera_from_world(disc + np.array([x, y, 0.0]), ego=ego))
            if len(clipped) >= _TRIANGLE:
                outlines.append(self.camera.project(clipped))
        return outlines

    def _shadow_mask(self, ego: Trajectory, *, t_ns: int) -> np.ndarray:
        """(H, W) uint8, not 0 where a road user shades the ground under it."""
        mask = np.zeros((self.camera.height, self.camera.width), np.uint8)
        states = self.plan.motions.at(t_ns)
        places = np.stack([states.x_m, states.y_m, np.zeros(len(states.t_ns))], -1)
        corners = box_corners(places, yaw_rad=states.yaw_rad, size_m=self.footprints)[:, :4]
        seen = camera_from_world(corners, ego=ego)
        deepest = seen[:, :, 2].max(axis=1)
        for row in np.flatnonzero((deepest > 0) & (deepest < VIEW_M)):
            clipped = clip_polygon(seen[row])
            if len(clipped) >= _TRIANGLE:
                points = _fixed(self.camera.project(clipped))
                cv2.fillConvexPoly(mask, points, 1, cv2.LINE_8, SHIFT)
        return mask

    def _draw(self, image: np.ndarray, quads: Quads) -> tuple[np.ndarray, Hulls]:
        """Paint far parts first.

        Args:
            image: (H, W, 3) uint8, drawn into.
            quads: What is to be seen.

        Returns:
            (H, W) uint16 object_id that each pixel shows; the outlines of each road user's parts.
        """
        owner = np.zeros(image.shape[:2], np.uint16)
        hulls: Hulls = defaultdict(list)
        levels = self._levels(quads).tolist()
        whole = quads.corners[:, :, 2].min(axis=1) >= NEAR_M
        fixed = _fixed(self.camera.project(np.where(whole[:, None, None], quads.corners, 1.0)))
        for rows in _far_to_near(quads):
            outline = []
            for row in rows:
                points = fixed[row] if whole[row] else self._clipped(quads.corners[row])
                if len(points):
                    cv2.fillConvexPoly(image, points, levels[row], cv2.LINE_AA, SHIFT)
                    outline.append(points)
            if outline:
                hull = cv2.convexHull(np.concatenate(outline))
                object_id = int(quads.owner[rows[0]])
                cv2.fillConvexPoly(owner, hull, object_id, cv2.LINE_8, SHIFT)
                if object_id:
                    hulls[object_id].append(hull)
        return owner, hulls

    def _levels(self, quads: Quads) -> np.ndarray:
        """(Q, 3) grey levels of the quads under the light of the drive."""
        colours = shade(
            quads.colours,
            centres_camera=quads.corners.mean(axis=1),
            normals_world=quads.normals_world,
            glow=quads.glow,
            atmosphere=self.atmosphere,
        )
        return np.rint(255 * colours)

    def _clipped(self, corners_camera: FloatArray) -> np.ndarray:
        """Fixed-point pixels of a quad that reaches behind the camera; empty when none is left."""
        clipped = clip_polygon(corners_camera)
        if len(clipped) < _TRIANGLE:
            return np.empty((0, 2), np.int32)
        return _fixed(self.camera.project(clipped))

    def _add_glow(self, image: np.ndarray, quads: Quads, *, owner: np.ndarray) -> np.ndarray:
        """Add the light around lamps that show."""
        if self.atmosphere.glow < 0.5:
            return image
        height, width = image.shape[:2]
        lit = quads.take(quads.glow > _GLOW_SHOWS)
        centres = lit.corners.mean(axis=1)
        lit, centres = lit.take(centres[:, 2] > 1.0), centres[centres[:, 2] > 1.0]
        u, v = np.rint(self.camera.project(centres)).astype(int).T
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        shows = inside & (owner[v.clip(0, height - 1), u.clip(0, width - 1)] == lit.owner)
        strength = 700.0 * lit.glow / (1.0 + centres[:, 2] / 8.0)
        light = np.zeros((height // _GLOW_SCALE + 1, width // _GLOW_SCALE + 1, 3), np.float32)
        place = (v[shows] // _GLOW_SCALE, u[shows] // _GLOW_SCALE)
        np.add.at(light, place, (strength[:, None] * lit.colours)[shows].astype(np.float32))
        bloom = cv2.GaussianBlur(light, (0, 0), 1.2) + 0.6 * cv2.GaussianBlur(light, (0, 0), 4.0)
        full = cv2.resize(bloom, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.add(image, np.clip(full, 0, 255).astype(np.uint8))

    def _add_weather(self, image: np.ndarray, *, number: int) -> np.ndarray:
        """Add rain and the sensor's noise."""
        rng = self.plan.stream("camera", "frame", number)
        if self.plan.conditions.weather == "rain":
            image = _with_rain(image, rng=rng)
        height, width = image.shape[:2]
        row, column = rng.integers(0, _NOISE_MARGIN_PX, 2)
        noise = self.noise[row : row + height, column : column + width]
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def _far_to_near(quads: Quads) -> list[np.ndarray]:
    """Rows of each part in their own order, the farthest part first."""
    parts, of_part = np.unique(quads.part, return_inverse=True)
    if len(parts) == 0:
        return []
    distance = np.linalg.norm(quads.corners.mean(axis=1), axis=-1)
    depth = np.bincount(of_part, distance) / np.bincount(of_part)
    order = np.lexsort((np.arange(len(of_part)), of_part, -depth[of_part]))
    cuts = np.flatnonzero(np.diff(of_part[order])) + 1
    return np.split(order, cuts)


def _visible_fractions(owner: np.ndarray, hulls: Hulls) -> dict[int, float]:
    """Share of each road user's outline that it owns in the image.

    Args:
        owner: (H, W) uint16 object_id of each pixel.
        hulls: Outlines by object_id, in fixed-point pixels, also beyond the image.

    Returns:
        Shares above 0 by object_id.
    """
    height, width = owner.shape
    counts = np.bincount(owner.ravel())
    fractions = {}
    for object_id, outlines in hulls.items():
        if object_id >= len(counts) or counts[object_id] == 0:
            continue
        alone = np.zeros_like(owner, dtype=np.uint8)
        for outline in outlines:
            cv2.fillConvexPoly(alone, outline, 1, cv2.LINE_8, SHIFT)
        everywhere = (np.concatenate(outlines) / (1 << SHIFT)).astype(np.float32)
        hull = cv2.convexHull(everywhere)
        frame = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        inside, _ = cv2.intersectConvexConvex(hull, frame)
        inside_share = min(1.0, inside / max(cv2.contourArea(hull), 1e-6))
        hidden_share = counts[object_id] / np.count_nonzero(alone)
        fractions[object_id] = float(min(1.0, hidden_share) * inside_share)
    return {object_id: share for object_id, share in fractions.items() if share > 0}


def _with_rain(image: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Draw streaks of rain, half transparent."""
    height, width = image.shape[:2]
    start = rng.uniform((0, 0), (width, height), (_RAIN_STREAKS, 2))
    length = rng.uniform(6, 22, (_RAIN_STREAKS, 1))
    end = start + length * np.array([0.12, 1.0])
    lines = np.rint(np.stack([start, end], 1)).astype(np.int32)
    streaks = image.copy()
    tone = float(image.mean()) * 0.5 + 90.0
    cv2.polylines(streaks, list(lines), False, (tone, tone, tone), 1, cv2.LINE_AA)
    return cv2.addWeighted(image, 0.6, streaks, 0.4, 0.0)


def _fixed(points_px: FloatArray) -> np.ndarray:
    """(..., 2) int32 pixels in the fixed-point format of OpenCV's drawing functions."""
    limited = np.clip(points_px, -_LIMIT_PX, _LIMIT_PX)
    return np.rint(limited * (1 << SHIFT)).astype(np.int32)
