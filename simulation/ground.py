"""The ground as the camera sees it: road, markings and pavements as flat colours in the image."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from simulation.meshes import Colour
from simulation.motion import Trajectory
from simulation.projection import clip_polygon
from simulation.rig import Camera, camera_from_world
from simulation.road import (
    CARRIAGEWAY_M,
    CROSSING_HALF_WIDTH_M,
    JUNCTION_HALF_WIDTH_M,
    KERB_M,
    LANE_WIDTH_M,
    SIDEWALK_END_M,
    FloatArray,
    Road,
)

SHIFT = 4
VIEW_M = 150.0

GRASS: Colour = (0.22, 0.38, 0.30)
_ASPHALT: Colour = (0.30, 0.29, 0.28)
_PAVEMENT: Colour = (0.52, 0.54, 0.56)
_CYCLE_STRIP: Colour = (0.28, 0.28, 0.42)
_PAINT: Colour = (0.88, 0.88, 0.88)
_KERB: Colour = (0.66, 0.67, 0.68)
_LIMIT_PX = 1 << 14

Polygon = tuple[FloatArray, Colour]


def draw_polygon(image: np.ndarray, points_px: FloatArray, colour: tuple[float, ...]) -> None:
    """Fill a polygon given in fractions of pixels, smoothed at its edges.

    Args:
        image: (H, W, C) uint8, drawn into.
        points_px: (K, 2) float64 corners.
        colour: C values in the image's own scale.
    """
    fixed = np.rint(np.clip(points_px, -_LIMIT_PX, _LIMIT_PX) * (1 << SHIFT)).astype(np.int32)
    cv2.fillPoly(image, [fixed], colour, lineType=cv2.LINE_AA, shift=SHIFT)


def draw_ground(image: np.ndarray, *, road: Road, ego: Trajectory, camera: Camera) -> None:
    """Draw the ground's own colours, without light or haze.

    Args:
        image: (H, W, 3) uint8, drawn into.
        road: The road.
        ego: The ego's state at the exposure.
        camera: The camera.
    """
    s_ego = float(ego.road_s_m[0])
    last = min(s_ego + VIEW_M, road.centre.length_m)
    for points_world, colour in _polygons(road, s_ego=s_ego, last=last):
        clipped = clip_polygon(camera_from_world(points_world, ego=ego))
        if len(clipped) > 2:  # noqa: PLR2004
            draw_polygon(image, camera.project(clipped), tuple(255.0 * np.array(colour)))


def _polygons(road: Road, *, s_ego: float, last: float) -> Iterator[Polygon]:
    """Everything on the ground near the ego, in drawing order."""
    s_m = np.concatenate([np.arange(s_ego, s_ego + 40, 2.0), np.arange(s_ego + 40, last, 5.0)])
    for junction in road.junctions_m:
        if s_ego - 20 < junction < last:
            yield _cross_band(road, junction, half_m=JUNCTION_HALF_WIDTH_M + 3.0, colour=_PAVEMENT)
    for side in (-1.0, 1.0):
        yield _band(road, s_m, side * KERB_M, side * SIDEWALK_END_M, _PAVEMENT)
    yield _band(road, s_m, -KERB_M - 0.15, KERB_M + 0.15, _KERB)
    yield _band(road, s_m, -KERB_M, KERB_M, _ASPHALT)
    for side in (-1.0, 1.0):
        yield _band(road, s_m, side * (CARRIAGEWAY_M + 0.1), side * 8.5, _CYCLE_STRIP)
    yield from _lines(road, s_m=s_m, s_ego=s_ego)
    for junction in road.junctions_m:
        if s_ego - 20 < junction < last:
            yield from _junction(road, junction)
    for crossing in road.crossings_m:
        if s_ego - 5 < crossing < last:
            yield from _crossing(road, crossing)


def _lines(road: Road, *, s_m: FloatArray, s_ego: float) -> Iterator[Polygon]:
    """Edge lines, the double line in the middle, the dashes between lanes of one direction."""
    for d_m in (-CARRIAGEWAY_M, CARRIAGEWAY_M, -0.12, 0.12):
        yield _band(road, s_m, d_m - 0.07, d_m + 0.07, _PAINT)
    first = np.floor(s_ego / 9.0) * 9.0
    for start in np.arange(first, min(first + 100.0, s_m[-1] - 4.0), 9.0):
        dash = np.array([start, start + 1.5, start + 3.0])
        for d_m in (-LANE_WIDTH_M, LANE_WIDTH_M):
            yield _band(road, dash, d_m - 0.07, d_m + 0.07, _PAINT)


def _crossing(road: Road, s_m: float) -> Iterator[Polygon]:
    """A zebra crossing with its stop line on the ego's side."""
    along = np.array([s_m - CROSSING_HALF_WIDTH_M, s_m + CROSSING_HALF_WIDTH_M])
    for d_m in np.arange(-KERB_M + 0.4, KERB_M - 0.4, 1.0):
        yield _band(road, along, d_m, d_m + 0.5, _PAINT)
    stop = np.array([s_m - CROSSING_HALF_WIDTH_M - 1.0, s_m - CROSSING_HALF_WIDTH_M - 0.6])
    yield _band(road, stop, -CARRIAGEWAY_M, -0.3, _PAINT)


def _junction(road: Road, s_m: float) -> Iterator[Polygon]:
    """The crossing road, laid over the lines of the main road."""
    yield _cross_band(road, s_m, half_m=JUNCTION_HALF_WIDTH_M, colour=_ASPHALT)
    for side in (-1.0, 1.0):
        for near in np.arange(KERB_M + 2.0, 50.0, 9.0):
            corners = road.xy_from_sd(
                np.array([s_m - 0.07, s_m - 0.07, s_m + 0.07, s_m + 0.07]),
                side * np.array([near, near + 3.0, near + 3.0, near]),
            )
            yield _flat(corners), _PAINT


def _cross_band(road: Road, s_m: float, *, half_m: float, colour: Colour) -> Polygon:
    """A straight strip at a right angle to the road."""
    at = road.centre.at(np.array([s_m]))
    yaw = at.yaw_rad[0]
    along, across = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    middle = np.array([at.x_m[0], at.y_m[0]])
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = np.stack([middle + a * half_m * along + b * 60.0 * across for a, b in signs])
    return _flat(corners), colour


def _band(road: Road, s_m: FloatArray, d0_m: float, d1_m: float, colour: Colour) -> Polygon:
    """A strip along the road between two distances from its centre line."""
    left = road.xy_from_sd(s_m, np.full(len(s_m), d0_m))
    right = road.xy_from_sd(s_m, np.full(len(s_m), d1_m))
    return _flat(np.concatenate([left, right[::-1]])), colour


def _flat(xy: FloatArray) -> FloatArray:
    """Put (K, 2) points on the ground."""
    return np.column_stack([xy, np.zeros(len(xy))])
