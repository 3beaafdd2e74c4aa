from __future__ import annotations

import attrs
import cv2
import numpy as np
import pytest

from simulation.lidar import MAX_RANGE_M, Lidar
from simulation.meshes import actor_mesh
from simulation.plan import plan_drive
from simulation.projection import box_corners, box_outline_points, clipped_box2d
from simulation.render import Renderer
from simulation.rig import LIDAR_MOUNT, camera_from_world, camera_of_size
from simulation.story import Conditions

CAMERA = camera_of_size((640, 384))


@pytest.fixture(scope="module")
def plan():
    """A drive by day without rain or fog."""
    clear = Conditions(weather="clear", light="day")
    return attrs.evolve(plan_drive(seed=7, index=1, seconds=4.0), conditions=clear)


def test_drawn_pixels_fill_the_true_boxes(plan):
    """What is drawn of a wholly visible road user fills its 2D box and never leaves it."""
    renderer = Renderer(plan, camera=CAMERA)
    checked = 0
    for number in range(0, 40, 4):
        t_ns = plan.t_start_ns + number * 100_000_000
        ego = plan.ego.at([t_ns])
        image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
        owner, _ = renderer._draw(image, renderer.scene.seen_from(ego, t_ns=t_ns))
        frame = renderer.render(t_ns, number=number)
        for actor in plan.actors:
            if frame.visible_fraction.get(actor.object_id, 0) < 0.999:
                continue
            box = _true_box(actor, t_ns=t_ns, ego=ego)
            rows, columns = np.nonzero(owner == actor.object_id)
            if box is None or len(rows) < 150:
                continue
            drawn = (columns.min(), rows.min(), columns.max(), rows.max())
            # Inside the box there may be air at the corners of a cuboid around a rounder thing.
            air = 1.5 + 0.3 * np.array([box[2] - box[0], box[3] - box[1]] * 2)
            assert (np.abs(np.array(drawn) - box) < air).all()
            assert drawn[0] >= box[0] - 1.5
            assert drawn[1] >= box[1] - 1.5
            assert drawn[2] <= box[2] + 1.5
            assert drawn[3] <= box[3] + 1.5
            checked += 1
    assert checked > 15


@pytest.mark.parametrize("class_name", ["car", "truck", "pedestrian", "cyclist"])
@pytest.mark.parametrize("variant", [0, 1, 2])
def test_meshes_fill_the_size_of_their_actor(plan, class_name, variant):
    """A mesh reaches exactly to the sides of the 3D box, from the ground up."""
    actor = next(actor for actor in plan.actors if actor.class_name == class_name)
    mesh = actor_mesh(class_name, size=actor.size, look=actor.look, variant=variant)
    points = mesh.quads.reshape(-1, 3)
    half = np.array([actor.size.length_m, actor.size.width_m]) / 2
    assert np.allclose(points.min(axis=0), [*-half, 0.0])
    assert np.allclose(points.max(axis=0), [*half, actor.size.height_m])
    assert np.allclose(np.linalg.norm(mesh.normals, axis=-1), 1.0)


def test_light_and_weather_change_the_image(plan):
    """Nights are darker than dusk and day, fog has less contrast, and frames are repeatable."""
    images = {}
    for light, weather in (("day", "clear"), ("dusk", "clear"), ("night", "clear"), ("day", "fog")):
        changed = attrs.evolve(plan, conditions=Conditions(weather=weather, light=light))
        images[light, weather] = Renderer(changed, camera=CAMERA).render(plan.t_start_ns, number=0)
    again = Renderer(plan, camera=CAMERA).render(plan.t_start_ns, number=0)
    assert np.array_equal(again.image, images["day", "clear"].image)
    brightness = {key: frame.image.mean() for key, frame in images.items()}
    assert brightness["night", "clear"] < 0.6 * brightness["dusk", "clear"]
    assert brightness["dusk", "clear"] < 0.9 * brightness["day", "clear"]
    far = (slice(140, 168), slice(240, 400))
    contrast = {key: frame.image[far].std() for key, frame in images.items()}
    assert contrast["day", "fog"] < 0.6 * contrast["day", "clear"]


def test_a_nearer_car_hides_a_farther_one(plan):
    """An actor put right behind another, seen from the camera, shows nothing of itself."""
    t_ns = plan.t_start_ns
    ego = plan.ego.at([t_ns])
    truck = next(one for one in plan.actors if one.class_name == "truck")
    walker = next(one for one in plan.actors if one.class_name == "pedestrian")
    actors = tuple(
        _standing(one, ego=ego, ahead_m=ahead, object_id=number)
        for number, (one, ahead) in enumerate(((truck, 20.0), (walker, 40.0)), start=1)
    )
    for kept, shows in ((actors, False), (actors[1:], True)):
        motions = attrs.evolve(
            plan.motions, tables=np.stack([actor.trajectory.table for actor in kept])
        )
        alone = attrs.evolve(plan, actors=kept, motions=motions)
        frame = Renderer(alone, camera=CAMERA).render(t_ns, number=0)
        assert (2 in frame.visible_fraction) == shows


def test_empty_ground_is_where_the_plane_is(plan):
    """Without anything on it, every ray that points down returns from the ground."""
    kept = plan.actors[:1]
    motions = attrs.evolve(plan.motions, tables=plan.motions.tables[:1])
    lidar = Lidar(attrs.evolve(plan, actors=kept, motions=motions))
    lidar.fixed, lidar.fixed_reach_m = [], np.zeros(0)
    lidar.fixed_xy = np.zeros((0, 2))
    sweep = lidar.sweep(plan.t_start_ns, number=0)
    hits = sum(sweep.hits.values())
    on_ground = np.abs(sweep.points["z"] + LIDAR_MOUNT.xyz_m[2]) < 0.12
    assert on_ground.sum() >= len(sweep.points) - hits
    assert np.hypot(sweep.points["x"], sweep.points["y"]).max() < MAX_RANGE_M


def test_the_front_is_scanned_when_the_camera_exposes(plan):
    """Points straight ahead are fired 16.7 ms after the start of the sweep."""
    sweep = Lidar(plan).sweep(plan.t_start_ns, number=0)
    ahead = np.abs(np.arctan2(sweep.points["y"], sweep.points["x"])) < 0.02
    assert np.abs(sweep.points["t"][ahead].astype(float) - 100e6 / 6).max() < 1e6


def test_images_compress_to_what_a_fleet_can_carry(plan):
    """A frame takes tens of kilobytes, not megabytes."""
    image = Renderer(plan, camera=CAMERA).render(plan.t_start_ns, number=0).image
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert 10_000 < len(jpeg) < 120_000


def _true_box(actor, *, t_ns, ego):
    state = actor.trajectory.at([t_ns])
    corners = box_corners(
        np.array([[state.x_m[0], state.y_m[0], 0.0]]),
        yaw_rad=state.yaw_rad,
        size_m=np.array([attrs.astuple(actor.size)]),
    )[0]
    outline = box_outline_points(camera_from_world(corners, ego=ego), camera=CAMERA)
    box = clipped_box2d(outline, camera=CAMERA)
    return None if box is None else np.array(box)


def _standing(actor, *, ego, ahead_m, object_id):
    """The same road user standing still ahead of the ego, turned like it."""
    path = actor.trajectory
    count = len(path.t_ns)
    yaw = ego.yaw_rad[0]
    trajectory = attrs.evolve(
        path,
        x_m=np.full(count, ego.x_m[0] + ahead_m * np.cos(yaw)),
        y_m=np.full(count, ego.y_m[0] + ahead_m * np.sin(yaw)),
        yaw_rad=np.full(count, yaw),
        speed_m_s=np.zeros(count),
        accel_m_s2=np.zeros(count),
    )
    return attrs.evolve(actor, trajectory=trajectory, object_id=object_id)
