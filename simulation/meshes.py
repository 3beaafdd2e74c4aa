"""What things look like: small meshes of quadrilaterals for road users, houses, trees and lamps.

A mesh stands on the ground at its own origin, x forward. Its quads are drawn in order, a decal
after the face it lies on; quads that face away are left out. Colours are blue, green, red in
[0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from simulation.actors import ClassName, Size
from simulation.road import FloatArray

Colour = tuple[float, float, float]

BRAKING, PARKED = 1, 2
"""Looks of a vehicle besides the ordinary one: its brake lights shine, or none of its lights do."""

_CAR_PAINTS: tuple[Colour, ...] = (
    (0.80, 0.80, 0.82),
    (0.12, 0.12, 0.13),
    (0.45, 0.45, 0.47),
    (0.62, 0.25, 0.10),
    (0.12, 0.12, 0.62),
    (0.30, 0.38, 0.16),
    (0.92, 0.92, 0.93),
    (0.20, 0.55, 0.72),
)
_CARGO_PAINTS: tuple[Colour, ...] = (
    (0.85, 0.86, 0.88),
    (0.20, 0.45, 0.85),
    (0.55, 0.40, 0.15),
    (0.65, 0.70, 0.72),
)
_CLOTHES: tuple[Colour, ...] = (
    (0.15, 0.15, 0.70),
    (0.65, 0.35, 0.12),
    (0.20, 0.60, 0.70),
    (0.25, 0.25, 0.28),
    (0.75, 0.75, 0.78),
    (0.20, 0.50, 0.22),
)
_FACADES: tuple[Colour, ...] = (
    (0.62, 0.72, 0.80),
    (0.50, 0.58, 0.72),
    (0.70, 0.72, 0.74),
    (0.45, 0.50, 0.62),
    (0.66, 0.70, 0.66),
)
_GLASS: Colour = (0.25, 0.21, 0.18)
_RUBBER: Colour = (0.06, 0.06, 0.06)
_METAL: Colour = (0.5, 0.5, 0.5)
_SKIN: Colour = (0.52, 0.66, 0.86)
_TROUSERS: Colour = (0.28, 0.20, 0.16)
_WHITE_LIGHT: Colour = (0.92, 0.98, 1.0)
_RED_LIGHT: Colour = (0.05, 0.05, 0.75)
_PLATE: Colour = (0.9, 0.9, 0.9)


@attrs.frozen(eq=False)
class Mesh:
    """Quads of one thing; every array has Q rows.

    Attributes:
        quads: (Q, 4, 3) float64 corners, counter-clockwise seen from outside.
        colours: (Q, 3) float64.
        glow: (Q,) float64, light that it gives off (1 = a lamp).
        part: (Q,) int64, which part it belongs to; parts are sorted by distance on their own.
    """

    quads: FloatArray
    colours: FloatArray
    glow: FloatArray
    part: np.ndarray
    normals: FloatArray = attrs.field(init=False)

    @normals.default
    def _normals_default(self) -> FloatArray:
        across = np.cross(self.quads[:, 2] - self.quads[:, 0], self.quads[:, 3] - self.quads[:, 1])
        return across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-12)


class _Builder:
    """Collects quads in drawing order."""

    def __init__(self) -> None:
        self.rows: list[tuple[FloatArray, Colour, float, int]] = []
        self.part = 0

    def add(self, quads: FloatArray, colour: Colour, *, glow: float = 0.0) -> None:
        """Add quads of one colour; `quads` is (Q, 4, 3) or (4, 3)."""
        for quad in np.asarray(quads, dtype=np.float64).reshape(-1, 4, 3):
            self.rows.append((quad, colour, glow, self.part))

    def build(self) -> Mesh:
        """Freeze what was added."""
        quads, colours, glow, part = zip(*self.rows, strict=True)
        return Mesh(np.stack(quads), np.array(colours), np.array(glow), np.array(part))


def actor_mesh(class_name: ClassName, *, size: Size, look: int, variant: int) -> Mesh:
    """The mesh of a road user.

    Args:
        class_name: What it is.
        size: Its outer dimensions; the mesh fills them.
        look: Picks colours.
        variant: Of vehicles `BRAKING`, `PARKED` or 0; of people the phase of the step, 0 or 1.

    Returns:
        The mesh, origin on the ground at the centre of the footprint; it fills the size exactly.
    """
    makers = {"car": _car, "truck": _truck, "pedestrian": _pedestrian, "cyclist": _cyclist}
    mesh = makers[class_name](size, look, variant)
    points = mesh.quads.reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.array([size.length_m, size.width_m, size.height_m])
    middle = (low + high) / 2 * np.array([1.0, 1.0, 0.0]) + low * np.array([0.0, 0.0, 1.0])
    fitted = (mesh.quads - middle) * extent / (high - low)
    glow = np.zeros_like(mesh.glow) if variant == PARKED else mesh.glow
    return Mesh(fitted, mesh.colours, glow, mesh.part)


def house_mesh(*, length_m: float, width_m: float, height_m: float, look: int) -> Mesh:
    """A house with rows of windows; some are lit (their glow shows at night)."""
    builder = _Builder()
    faces = _box((-length_m / 2, -width_m / 2, 0.0), (length_m / 2, width_m / 2, height_m))
    paint = _FACADES[look % len(_FACADES)]
    builder.add(faces, paint)
    floors = max(1, int(height_m / 3.0))
    for number, face in enumerate(faces[:4]):
        across = length_m if number in (1, 3) else width_m
        columns = max(2, int(across / 2.8))
        for row in range(floors):
            for column in range(columns):
                u, v = (column + 0.5) / columns, (row + 0.55) / floors
                window = _decal(
                    face,
                    (u - 0.18 / columns * 1.6, u + 0.18 / columns * 1.6),
                    (v - 0.22 / floors, v + 0.24 / floors),
                )
                lit = (look * 7 + number * 31 + row * 13 + column * 5) % 7 < 2
                builder.add(
                    window, (0.55, 0.85, 0.98) if lit else _GLASS, glow=0.75 if lit else 0.0
                )
    return builder.build()


def tree_mesh(*, height_m: float, look: int) -> Mesh:
    """A trunk with a crown of three tiers."""
    builder = _Builder()
    trunk = 0.38 * height_m
    builder.add(_prism(_ring(0.18, 0.18, 6), 0.0, trunk), (0.16, 0.24, 0.32))
    shade = 0.8 + 0.4 * (look % 16) / 16
    green = (0.16 * shade, 0.42 * shade, 0.25 * shade)
    tiers = ((0.30, 1.0, 0.75), (0.52, 1.7, 0.95), (0.80, 1.25, 1.08))
    for bottom, radius, tone in tiers:
        lower, upper = bottom * height_m, min(1.0, bottom + 0.28) * height_m
        ring = _ring(radius, radius, 8)
        colour = (green[0] * tone, green[1] * tone, green[2] * tone)
        builder.add(_frustum(ring, lower, ring * 0.72, upper), colour)
    return builder.build()


def lamp_mesh(*, height_m: float) -> Mesh:
    """A street lamp."""
    builder = _Builder()
    builder.add(_prism(_ring(0.07, 0.07, 6), 0.0, height_m), (0.35, 0.36, 0.36))
    builder.add(
        _box((-0.15, -0.45, height_m - 0.12), (0.15, 0.45, height_m)), (0.75, 0.9, 1.0), glow=1.0
    )
    return builder.build()


def _car(size: Size, look: int, variant: int) -> Mesh:
    length, width, height = size.length_m, size.width_m, size.height_m
    paint = _CAR_PAINTS[look % len(_CAR_PAINTS)]
    half, side, belt = length / 2, width / 2, 0.56 * height
    builder = _Builder()
    body = _box((-half, -side, 0.22), (half, side, belt))
    builder.add(body, paint)
    front, left, rear, right = body[:4]
    for face in (front, rear):
        builder.add(_decal(face, (0.02, 0.98), (0.0, 0.22)), (0.12, 0.12, 0.12))
        builder.add(_decal(face, (0.36, 0.64), (0.26, 0.46)), _PLATE)
    builder.add(_decal(front, (0.25, 0.75), (0.55, 0.78)), (0.08, 0.08, 0.08))
    _vehicle_lights(builder, front=front, rear=rear, braking=variant == BRAKING, band=(0.6, 0.88))
    for face in (left, right):
        builder.add(_decal(face, (0.0, 1.0), (0.0, 0.12)), (0.1, 0.1, 0.1))
    for sign in (-1.0, 1.0):
        for x in (-0.30 * length, 0.31 * length):
            _wheel(builder, x=x, y=sign * (side + 0.005), radius=0.33)
    low = np.array(
        [
            (0.26 * length, -side * 0.96),
            (0.26 * length, side * 0.96),
            (-0.47 * length, side * 0.96),
            (-0.47 * length, -side * 0.96),
        ]
    )
    high = np.array(
        [
            (0.06 * length, -side * 0.78),
            (0.06 * length, side * 0.78),
            (-0.36 * length, side * 0.78),
            (-0.36 * length, -side * 0.78),
        ]
    )
    cabin = _frustum(low, belt, high, height)
    builder.add(cabin, paint)
    for face in cabin[:4]:
        builder.add(_decal(face, (0.06, 0.94), (0.1, 0.86)), _GLASS)
    for face in (cabin[1], cabin[3]):
        builder.add(_decal(face, (0.49, 0.53), (0.1, 0.86)), paint)
    return builder.build()


def _truck(size: Size, look: int, variant: int) -> Mesh:
    length, width, height = size.length_m, size.width_m, size.height_m
    half, side = length / 2, width / 2
    nose = half - 1.9
    builder = _Builder()
    cab = _box((nose, -side * 0.97, 0.45), (half, side * 0.97, 0.82 * height))
    builder.add(cab, _CAR_PAINTS[(look // 8) % len(_CAR_PAINTS)])
    builder.add(_decal(cab[0], (0.06, 0.94), (0.55, 0.90)), _GLASS)
    builder.add(_decal(cab[0], (0.15, 0.85), (0.12, 0.40)), (0.1, 0.1, 0.1))
    for face in (cab[1], cab[3]):
        builder.add(_decal(face, (0.3, 0.85), (0.55, 0.88)), _GLASS)
    for u in ((0.02, 0.18), (0.82, 0.98)):
        builder.add(_decal(cab[0], u, (0.16, 0.30)), _WHITE_LIGHT, glow=1.0)
    for sign in (-1.0, 1.0):
        _wheel(builder, x=half - 1.1, y=sign * side, radius=0.48)
    builder.part = 1
    builder.add(_box((-half, -side * 0.9, 0.55), (nose, side * 0.9, 0.95)), (0.12, 0.12, 0.12))
    cargo = _box((-half, -side, 0.95), (nose - 0.15, side, height))
    builder.add(cargo, _CARGO_PAINTS[look % len(_CARGO_PAINTS)])
    builder.add(_decal(cargo[2], (0.49, 0.51), (0.0, 1.0)), (0.2, 0.2, 0.2))
    for face in (cargo[1], cargo[3]):
        builder.add(_decal(face, (0.12, 0.88), (0.42, 0.58)), _CLOTHES[look % len(_CLOTHES)])
    back = _box((-half - 0.01, -side, 0.6), (-half + 0.1, side, 0.92))[2]
    builder.add(back, (0.1, 0.1, 0.1))
    for u in ((0.02, 0.16), (0.84, 0.98)):
        builder.add(
            _decal(back, u, (0.15, 0.85)), _RED_LIGHT, glow=1.0 if variant == BRAKING else 0.45
        )
    for sign in (-1.0, 1.0):
        for x in (-half + 1.1, -half + 2.2):
            _wheel(builder, x=x, y=sign * side, radius=0.48)
    return builder.build()


def _pedestrian(size: Size, look: int, variant: int) -> Mesh:
    height = size.height_m
    builder = _Builder()
    stride = (0.20 if variant == 0 else -0.20) * size.length_m / 0.55
    trousers = _TROUSERS if look % 2 else (0.35, 0.33, 0.33)
    hip = 0.48 * height
    for sign in (-1.0, 1.0):
        leg = _ring(0.085, 0.085, 6) + np.array([0.0, sign * 0.10])
        foot = leg + np.array([sign * stride, 0.0])
        builder.add(_frustum(foot, 0.06, leg, hip), trousers)
        builder.add(
            _box(
                (sign * stride - 0.1, sign * 0.1 - 0.06, 0.0),
                (sign * stride + 0.16, sign * 0.1 + 0.06, 0.08),
            ),
            _RUBBER,
        )
    coat = _CLOTHES[(look // 2) % len(_CLOTHES)]
    shoulder = 0.83 * height
    builder.add(_frustum(_ring(0.15, 0.19, 8), hip - 0.08, _ring(0.14, 0.23, 8), shoulder), coat)
    for sign in (-1.0, 1.0):
        arm = _ring(0.055, 0.055, 6) + np.array([0.0, sign * 0.24])
        hand = arm + np.array([-sign * stride * 0.8, 0.0])
        builder.add(_frustum(hand, 0.50 * height, arm, shoulder - 0.03), coat)
    _head(builder, x=0.0, bottom=shoulder + 0.02, top=height, look=look)
    return builder.build()


def _cyclist(size: Size, look: int, variant: int) -> Mesh:
    length, height = size.length_m, size.height_m
    builder = _Builder()
    radius = 0.34
    axle = length / 2 - radius
    for x in (-axle, axle):
        for sign in (-1.0, 1.0):
            _wheel(builder, x=x, y=sign * 0.02, radius=radius, hub=0.84)
    paint = _CLOTHES[(look // 3) % len(_CLOTHES)]
    for bar in (
        ((-axle, 0.34), (-0.1, 0.85)),
        ((-0.1, 0.85), (0.42, 0.85)),
        ((0.42, 0.95), (axle, 0.34)),
        ((-0.1, 0.40), (0.42, 0.85)),
        ((-0.15, 0.92), (-0.05, 0.36)),
    ):
        _bar(builder, bar[0], bar[1], colour=paint)
    builder.add(_box((-0.35, -0.10, 0.90), (-0.05, 0.10, 0.96)), _RUBBER)
    builder.add(_box((0.40, -0.27, 0.98), (0.46, 0.27, 1.03)), _RUBBER)
    low, high = (0.42, 0.62) if variant == 0 else (0.62, 0.42)
    for sign, knee in ((-1.0, low), (1.0, high)):
        thigh = _ring(0.085, 0.085, 6) + np.array([-0.12, sign * 0.11])
        builder.add(_frustum(thigh + np.array([0.25, 0.0]), knee, thigh, 0.98), _TROUSERS)
        builder.add(
            _frustum(
                thigh + np.array([0.10, 0.0]),
                knee - 0.30,
                thigh + np.array([0.24, 0.0]),
                knee + 0.05,
            ),
            _TROUSERS,
        )
    coat = _CLOTHES[look % len(_CLOTHES)]
    shoulder = 0.84 * height
    torso = _ring(0.14, 0.19, 8)
    builder.add(
        _frustum(torso + np.array([-0.18, 0.0]), 0.93, torso + np.array([0.12, 0.0]), shoulder),
        coat,
    )
    for sign in (-1.0, 1.0):
        arm = _ring(0.05, 0.05, 6) + np.array([0.0, sign * 0.22])
        builder.add(
            _frustum(arm + np.array([0.40, 0.0]), 1.03, arm + np.array([0.12, 0.0]), shoulder), coat
        )
    _head(builder, x=0.18, bottom=shoulder, top=height, look=look)
    builder.add(_box((-axle - 0.30, -0.04, 0.62), (-axle - 0.26, 0.04, 0.70)), _RED_LIGHT, glow=0.5)
    builder.add(_box((0.50, -0.04, 0.90), (0.54, 0.04, 0.98)), _WHITE_LIGHT, glow=0.6)
    return builder.build()


def _head(builder: _Builder, *, x: float, bottom: float, top: float, look: int) -> None:
    """A head with hair (or a helmet)."""
    ring = _ring(0.10, 0.09, 8) + np.array([x, 0.0])
    middle = bottom + 0.62 * (top - bottom)
    builder.add(_prism(ring, bottom, middle), _SKIN)
    builder.add(_prism(ring, middle, top), (0.10, 0.12, 0.20) if look % 3 else (0.55, 0.75, 0.85))


def _wheel(builder: _Builder, *, x: float, y: float, radius: float, hub: float = 0.55) -> None:
    """A wheel seen from the side: tyre and hub, facing away from the vehicle's middle."""
    for scale, colour in ((1.0, _RUBBER), (hub, _METAL)):
        angle = np.arange(8) * np.pi / 4 + np.pi / 8
        ring = np.stack(
            [
                x + scale * radius * np.cos(angle),
                np.full(8, y),
                radius + scale * radius * np.sin(angle),
            ],
            -1,
        )
        # With y pointing away, x-z runs clockwise on the left side and so must be turned round.
        ring = ring[::-1] if y > 0 else ring
        builder.add(np.stack([ring[[0, 1, 2, 3]], ring[[0, 3, 4, 7]], ring[[4, 5, 6, 7]]]), colour)


def _bar(
    builder: _Builder, start: tuple[float, float], end: tuple[float, float], *, colour: Colour
) -> None:
    """A thin bar in the vehicle's middle plane, seen from both sides."""
    first, last = np.array([start[0], 0.0, start[1]]), np.array([end[0], 0.0, end[1]])
    along = last - first
    across = 0.022 * np.array([-along[2], 0.0, along[0]]) / np.linalg.norm(along)
    quad = np.stack([first - across, last - across, last + across, first + across])
    builder.add(np.stack([quad, quad[::-1]]), colour)


def _vehicle_lights(
    builder: _Builder,
    *,
    front: FloatArray,
    rear: FloatArray,
    braking: bool,
    band: tuple[float, float],
) -> None:
    """Headlights and tail lights in the corners of the end faces."""
    for u in ((0.02, 0.22), (0.78, 0.98)):
        builder.add(_decal(front, u, band), _WHITE_LIGHT, glow=1.0)
        builder.add(_decal(rear, u, band), _RED_LIGHT, glow=1.0 if braking else 0.4)


def _ring(radius_x: float, radius_y: float, count: int) -> FloatArray:
    """(count, 2) corners of a regular polygon, counter-clockwise."""
    angle = (np.arange(count) + 0.5) * 2 * np.pi / count
    return np.stack([radius_x * np.cos(angle), radius_y * np.sin(angle)], -1)


def _prism(ring: FloatArray, bottom: float, top: float) -> FloatArray:
    """An upright prism over a ring."""
    return _frustum(ring, bottom, ring, top)


def _frustum(low: FloatArray, bottom: float, high: FloatArray, top: float) -> FloatArray:
    """Sides and top of a solid between two rings of the same even count.

    Args:
        low: (K, 2) ring at the bottom, counter-clockwise.
        bottom: Its height.
        high: (K, 2) ring at the top.
        top: Its height.

    Returns:
        (Q, 4, 3) quads: the K sides, then the top.
    """
    count = len(low)
    lower = np.column_stack([low, np.full(count, bottom)])
    upper = np.column_stack([high, np.full(count, top)])
    after = np.roll(np.arange(count), -1)
    sides = np.stack([lower, lower[after], upper[after], upper], axis=1)
    caps = [upper[[0, k, k + 1, k + 2]] for k in range(1, count - 2, 2)]
    return np.concatenate([sides, np.stack(caps)])


def _box(low: Sequence[float], high: Sequence[float]) -> FloatArray:
    """Faces of a box without its bottom: front (+x), left, rear, right, top; (5, 4, 3)."""
    ring = np.array([(high[0], low[1]), (high[0], high[1]), (low[0], high[1]), (low[0], low[1])])
    return _frustum(ring, low[2], ring, high[2])


def _decal(face: FloatArray, u: tuple[float, float], v: tuple[float, float]) -> FloatArray:
    """The part of a face between shares of its width (u) and height (v)."""
    bottom = [face[0] + (face[1] - face[0]) * share for share in u]
    top = [face[3] + (face[2] - face[3]) * share for share in u]
    (b0, b1), (t0, t1) = bottom, top
    return np.stack(
        [b0 + (t0 - b0) * v[0], b1 + (t1 - b1) * v[0], b1 + (t1 - b1) * v[1], b0 + (t0 - b0) * v[1]]
    )
