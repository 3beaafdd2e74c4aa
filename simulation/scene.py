"""The upright things of a drive as one heap of quads, placed for one instant of the camera."""

from __future__ import annotations

import attrs
import numpy as np

from simulation.actors import Actor
from simulation.meshes import BRAKING, PARKED, Mesh, actor_mesh, house_mesh, lamp_mesh, tree_mesh
from simulation.motion import Trajectory
from simulation.plan import DrivePlan
from simulation.rig import camera_from_world
from simulation.road import FloatArray

VIEW_M = 140.0
_DETAIL_VIEW_M = 70.0
_BRAKING_M_S2 = -0.8
_STEP_M = {"pedestrian": 0.7, "cyclist": 1.6}
_HOUSE_FACES = 5
_MAX_PARTS = 4


@attrs.frozen(eq=False)
class Quads:
    """Quads of many things; every array has Q rows, in drawing order within a part.

    Attributes:
        corners: (Q, 4, 3) float64, in the world or in the camera's optical frame.
        normals_world: (Q, 3) float64.
        colours: (Q, 3) float64.
        glow: (Q,) float64.
        owner: (Q,) int64 object_id; 0 for what is no road user.
        part: (Q,) int64, equal for quads of one part of one thing.
        detail: (Q,) bool, left out when far away.
    """

    corners: FloatArray
    normals_world: FloatArray
    colours: FloatArray
    glow: FloatArray
    owner: np.ndarray
    part: np.ndarray
    detail: np.ndarray

    def take(self, chosen: np.ndarray) -> Quads:
        """The chosen rows (a mask or indices)."""
        return Quads(*(column[chosen] for column in attrs.astuple(self, recurse=False)))


class Scene:
    """Meshes of a drive; those that never move are placed once."""

    def __init__(self, plan: DrivePlan) -> None:
        """Build the meshes.

        Args:
            plan: The drive.
        """
        self.actors = plan.actors
        self.motions = plan.motions
        self.fixtures = _fixtures(plan)
        self.fixture_xy = self.fixtures.corners[:, :, :2].mean(axis=1)
        self.meshes = {
            (actor.object_id, variant): actor_mesh(
                actor.class_name, size=actor.size, look=actor.look, variant=variant
            )
            for actor in plan.actors
            for variant in (0, BRAKING, PARKED)
        }

    def seen_from(self, ego: Trajectory, *, t_ns: int) -> Quads:
        """Place everything at an instant and keep the faces that look at the camera.

        Args:
            ego: The ego's state at that instant.
            t_ns: The instant, UTC.

        Returns:
            The quads in the camera's optical frame.
        """
        offset = self.fixture_xy - np.array([ego.x_m[0], ego.y_m[0]])
        distance = np.hypot(offset[:, 0], offset[:, 1])
        near = distance < np.where(self.fixtures.detail, _DETAIL_VIEW_M, VIEW_M)
        heap = [self.fixtures.take(near)]
        first_part = int(self.fixtures.part[-1]) + 1
        states = self.motions.at(t_ns)
        away = np.hypot(states.x_m - ego.x_m[0], states.y_m - ego.y_m[0])
        for row in np.flatnonzero(away < VIEW_M):
            actor = self.actors[row]
            mesh = self.meshes[(actor.object_id, _variant(actor, states, row))]
            parts_from = first_part + _MAX_PARTS * int(row)
            heap.append(_placed(mesh, actor, states, row, first_part=parts_from))
        columns = zip(*(attrs.astuple(item, recurse=False) for item in heap), strict=True)
        everything = Quads(*(np.concatenate(column) for column in columns))
        return _facing_camera(everything, ego=ego)


def _facing_camera(world: Quads, *, ego: Trajectory) -> Quads:
    """Move to the optical frame, without what is behind the camera or faces away."""
    corners = camera_from_world(world.corners, ego=ego)
    ahead = corners[:, :, 2].max(axis=1) > 0
    across = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    towards = np.einsum("qi,qi->q", across, corners.mean(axis=1)) < 0
    return attrs.evolve(world, corners=corners).take(ahead & towards)


def _variant(actor: Actor, states: Trajectory, row: int) -> int:
    """Which of its looks a road user has: braking, parked or neither; this step or the other."""
    if actor.class_name in _STEP_M:
        travelled = np.hypot(states.x_m[row], states.y_m[row])
        return int(travelled / _STEP_M[actor.class_name]) % 2
    if actor.parked:
        return PARKED
    return BRAKING if states.accel_m_s2[row] < _BRAKING_M_S2 else 0


def _placed(mesh: Mesh, actor: Actor, states: Trajectory, row: int, *, first_part: int) -> Quads:
    """A road user's mesh at its place in the world."""
    turn = _turn(float(states.yaw_rad[row]))
    place = np.array([states.x_m[row], states.y_m[row], 0.0])
    count = len(mesh.quads)
    return Quads(
        corners=mesh.quads @ turn.T + place,
        normals_world=mesh.normals @ turn.T,
        colours=mesh.colours,
        glow=mesh.glow,
        owner=np.full(count, actor.object_id),
        part=first_part + mesh.part,
        detail=np.zeros(count, dtype=bool),
    )


def _fixtures(plan: DrivePlan) -> Quads:
    """Houses, trees and lamps in the world."""
    scenery = plan.scenery
    heap: list[Quads] = []
    for kind, boxes in attrs.asdict(scenery, recurse=False).items():
        for number in range(len(boxes.x_m)):
            length, width, height = (
                float(column[number]) for column in (boxes.length_m, boxes.width_m, boxes.height_m)
            )
            look = int(boxes.look[number])
            if kind == "buildings":
                mesh = house_mesh(length_m=length, width_m=width, height_m=height, look=look)
            elif kind == "trees":
                mesh = tree_mesh(height_m=height, look=look)
            else:
                mesh = lamp_mesh(height_m=height)
            turn = _turn(float(boxes.yaw_rad[number]))
            place = np.array([boxes.x_m[number], boxes.y_m[number], 0.0])
            count = len(mesh.quads)
            detail = (np.arange(count) >= _HOUSE_FACES) & (kind == "buildings")
            heap.append(
                Quads(
                    corners=mesh.quads @ turn.T + place,
                    normals_world=mesh.normals @ turn.T,
                    colours=mesh.colours,
                    glow=mesh.glow,
                    owner=np.zeros(count, dtype=np.int64),
                    part=np.full(count, len(heap)),
                    detail=detail,
                )
            )
    columns = zip(*(attrs.astuple(item, recurse=False) for item in heap), strict=True)
    return Quads(*(np.concatenate(column) for column in columns))


def _turn(yaw_rad: float) -> FloatArray:
    """(3, 3) rotation about the vertical."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
