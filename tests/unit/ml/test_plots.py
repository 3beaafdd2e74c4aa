import cv2
import numpy as np
import pytest

from contracts.errors import DecodeError
from ml.plots import COLOURS_BGR, draw_boxes, plot_losses, plot_precision_recall


def pixels(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_precision_recall(
            {"car": np.linspace(1, 0.4, 101), "truck": np.full(101, np.nan)}
        ),
        lambda: plot_losses(list(np.geomspace(8, 1, 60))),
        lambda: plot_precision_recall({}),
        lambda: plot_losses([]),
    ],
)
def test_plots_are_pictures_and_repeat(draw):
    """Each plot is a PNG of 600 × 400, even without data, and the same bytes each time."""
    assert pixels(draw()).shape == (400, 600, 3)
    assert draw() == draw()


def test_boxes_are_drawn_where_they_are():
    """The frame of a box has its class's colour, the truth is white, the rest is untouched."""
    grey = cv2.imencode(".jpg", np.full((120, 200, 3), 90, np.uint8))[1].tobytes()
    box = {"class_name": "car", "x0_px": 20, "y0_px": 40, "x1_px": 80, "y1_px": 90, "score": 0.5}
    true_box = {**box, "x0_px": 120, "x1_px": 180}
    image = pixels(draw_boxes(grey, [box], truth=[true_box]))
    assert tuple(image[65, 20]) == COLOURS_BGR["car"]
    assert tuple(image[65, 120]) == (255, 255, 255)
    assert abs(int(image[110, 100, 0]) - 90) <= 2


def test_bytes_that_are_no_image_are_refused():
    """A broken image is an error, never an empty picture."""
    with pytest.raises(DecodeError):
        draw_boxes(b"no image", [])
