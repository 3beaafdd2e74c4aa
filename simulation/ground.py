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
_FIRST_M = 3.2
"""Nearer ground lies below the image; to begin with it would only cost clipping."""

GRASS: Colour = (0.22, 0.38, 0.30)
_ASPHALT: Colour = (0.30, 0.29, 0.28)
_PAVEMENT: Colour = (0.52, 0.54, 0.56)
_CYCLE_STRIP: Colour = (0.28, 0.28, 0.42)
_PAINT: Colour = (0.88, 0.88, 0.88)
_KERB: Colour = (0.66, 0.67, 0.68)
_LIMIT_PX = 1 << 14
_DASH_EVERY_M = 9.0

Polygon = tuple[FloatArray, Colour]
Line = tuple[FloatArray, FloatArray]
"""Points of the centre line and the directions to its left."""


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
        if len(clipped) > 2:
            draw_polygon(image, camera.project(clipped), tuple(255.0 * np.array(colour)))


def _polygons(road: Road, *, s_ego: float, last: float) -> Iterator[Polygon]:
    """Everything on the ground near the ego, in drawing order."""
    first = s_ego + _FIRST_M
    s_m = np.concatenate([np.arange(first, first + 40, 2.0), np.arange(first + 40, last, 5.0)])
    for junction in road.junctions_m:
        if s_ego - 20 < junction < last:
            yield _cross_band(road, junction, half_m=JUNCTION_HALF_WIDTH_M + 3.0, colour=_PAVEMENT)
    line = road.frame_at(s_m)
    for side in (-1.0, 1.0):
        yield _band(line, side * KERB_M, side * SIDEWALK_END_M, _PAVEMENT)
    yield _band(line, -KERB_M - 0.15, KERB_M + 0.15, _KERB)
    yield _band(line, -KERB_M, KERB_M, _ASPHALT)
    for side in (-1.0, 1.0):
        yield _band(line, side * (CARRIAGEWAY_M + 0.1), side * 8.5, _CYCLE_STRIP)
    for d_m in (-CARRIAGEWAY_M, CARRIAGEWAY_M, -0.12, 0.12):
        yield _band(line, d_m - 0.07, d_m + 0.07, _PAINT)
    yield from _dashes(road, s_ego=s_ego, last=float(s_m[-1]))
    for junction in road.junctions_m:
        if s_ego - 20 < junction < last:
            yield from _junction(road, junction)
    for crossing in road.crossings_m:
        if s_ego - 5 < crossing < last:
            yield from _crossing(road, crossing)


def _dashes(road: Road, *, s_ego: float, last: float) -> Iterator[Polygon]:
    """The dashes between the lanes of one direction."""
    first = np.floor(s_ego / _DASH_EVERY_M) * _DASH_EVERY_M
    starts = np.arange(first, min(first + 100.0, last - 4.0), _DASH_EVERY_M)
    points, lefts = road.frame_at(starts[:, None] + np.array([0.0, 1.5, 3.0]))
    for line in zip(points, lefts, strict=True):
        for d_m in (-LANE_WIDTH_M, LANE_WIDTH_M):
            yield _band(line, d_m - 0.07, d_m + 0.07, _PAINT)


def _crossing(road: Road, s_m: float) -> Iterator[Polygon]:
    """A zebra crossing with its stop line on the ego's side."""
    near, far = s_m - CROSSING_HALF_WIDTH_M, s_m + CROSSING_HALF_WIDTH_M
    along = road.frame_at([near, far])
    for d_m in np.arange(-KERB_M + 0.4, KERB_M - 0.4, 1.0):
        yield _band(along, d_m, d_m + 0.5, _PAINT)
    yield _band(road.frame_at([near - 1.0, near - 0.6]), -CARRIAGEWAY_M, -0.3, _PAINT)


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


def _band(line: Line, d0_m: float, d1_m: float, colour: Colour) -> Polygon:
    """A strip along a piece of road between two distances from its centre line."""
    points, left = line
    return _flat(np.concatenate([points + d0_m * left, (points + d1_m * left)[::-1]])), colour


def _flat(xy: FloatArray) -> FloatArray:
    """Put (K, 2) points on the ground."""
    return np.column_stack([xy, np.zeros(len(xy))])
