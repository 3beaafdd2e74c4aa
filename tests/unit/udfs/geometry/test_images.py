"""Sizes from the heads of images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from udfs.geometry.images import jpeg_size


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_size_of_a_jpeg(options):
    """Baseline and progressive files give width and height."""
    image = np.random.default_rng(0).integers(0, 255, (37, 91, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", image, options)[1].tobytes()
    assert jpeg_size(data) == (91, 37)


def test_what_is_no_jpeg_has_no_size():
    """PNG, nothing, and every cut before the frame header: None, never a guess."""
    image = np.zeros((8, 8, 3), np.uint8)
    assert jpeg_size(cv2.imencode(".png", image)[1].tobytes()) is None
    data = cv2.imencode(".jpg", image)[1].tobytes()
    header = data.index(b"\xff\xc0")
    assert {jpeg_size(data[:end]) for end in range(header + 9)} == {None}
