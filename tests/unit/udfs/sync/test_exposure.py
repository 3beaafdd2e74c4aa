"""When an image was exposed, and what a camera that moves meanwhile shows where."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.udfs.sync.moving import Drive
from udfs.geometry.camera import Pinhole
from udfs.geometry.transforms import Transform, rotation_from_quaternion
from udfs.sync.exposure import Shutter, project_exposed
from udfs.sync.states import words_of

MS = 1_000_000
STAMP_NS = 5_000 * MS
CAMERA = Pinhole(1920, 1080, np.array([[1400.0, 0, 960], [0, 1400, 540], [0, 0, 1]]))
OPTICAL = Transform(rotation_from_quaternion([-0.5, 0.5, -0.5, 0.5]), np.array([1.9, 0.0, 1.4]))


@pytest.mark.parametrize(
    ("shutter", "instant_ms"),
    [
        (Shutter(), 0),
        (Shutter(exposure_ns=8 * MS), 4),
        (Shutter(exposure_ns=8 * MS, stamped="middle"), 0),
        (Shutter(exposure_ns=8 * MS, stamped="end"), -4),
        (Shutter(exposure_ns=8 * MS, readout_ns=30 * MS), 19),
        (Shutter(exposure_ns=8 * MS, readout_ns=30 * MS, delay_ns=25 * MS), -6),
    ],
)
def test_the_instant_of_an_image(shutter, instant_ms):
    """The middle of the exposure of the middle row, from what the camera calls its stamp."""
    assert shutter.instant_ns(STAMP_NS) == STAMP_NS + instant_ms * MS


def test_each_row_has_its_time():
    """From the first row's middle to the last row's, evenly; rows beyond are held."""
    shutter = Shutter(exposure_ns=2 * MS, readout_ns=10 * MS)
    found = shutter.rows_ns(0, [-5, 0, 50, 100, 200], height_px=101)
    assert found.tolist() == [MS, MS, 6 * MS, 11 * MS, 11 * MS]
    with pytest.raises(ValueError, match="exposure_ns"):
        Shutter(exposure_ns=-1)


def scene(drive):
    """(N, 3) points of the world in front of the camera at the stamp."""
    random = np.random.default_rng(3)
    local = np.c_[random.uniform(8, 80, 400), random.uniform(-15, 15, 400),
                  random.uniform(-1, 6, 400)]  # fmt: skip
    position, rotation = drive.poses([STAMP_NS])
    return Transform(rotation_from_quaternion(rotation[0]), position[0]).apply(local)


@pytest.mark.parametrize("readout_ms", [0, 30])
def test_an_image_shows_what_stood_where_when_its_row_was_exposed(readout_ms):
    """A point brought to another instant lands, to a tenth of a pixel, where its row saw it.

    By the pose at the stamp it would land tens of pixels away.
    """
    drive = Drive()
    world = scene(drive)
    count, at_ns = len(world), STAMP_NS - 120 * MS
    shutter = Shutter(exposure_ns=10 * MS, readout_ns=readout_ms * MS)
    base = drive.seen(world, np.full(count, at_ns), mount=Transform.identity())
    found = project_exposed(
        base, at_ns=at_ns, stamp_ns=STAMP_NS, motion=drive.motion(hz=50), camera=CAMERA,
        base_from_camera=OPTICAL, shutter=shutter,
    )  # fmt: skip
    assert set(words_of(found.state)) == {"ok"}
    truth = CAMERA.project(drive.seen(world, found.t_ns, mount=OPTICAL))
    assert np.abs(found.pixels - truth).max() < 0.1
    rows_ns = shutter.rows_ns(STAMP_NS, found.pixels[:, 1], height_px=CAMERA.height_px)
    assert np.abs(rows_ns - found.t_ns).max() < 10_000
    stamped = CAMERA.project(drive.seen(world, np.full(count, STAMP_NS), mount=OPTICAL))
    assert np.abs(stamped - truth).max() > 3


def test_what_cannot_be_seen_has_no_pixel():
    """Behind the camera: no pixel, though its place is known; without a pose: why."""
    drive = Drive()
    base = np.array([[20.0, 0.0, 1.0], [-20.0, 0.0, 1.0]])
    request = {
        "at_ns": STAMP_NS, "stamp_ns": STAMP_NS, "camera": CAMERA, "base_from_camera": OPTICAL,
        "shutter": Shutter(readout_ns=20 * MS),
    }  # fmt: skip
    found = project_exposed(base, motion=drive.motion(hz=50), **request)
    assert np.isnan(found.pixels).any(axis=1).tolist() == [False, True]
    assert words_of(found.state).tolist() == ["ok", "ok"]
    gone = project_exposed(base, motion=drive.motion(hz=50, gaps_ns=[STAMP_NS + MS]), **request)
    assert np.isnan(gone.pixels).all()
    assert words_of(gone.state).tolist() == ["gap", "gap"]
