"""Pictures for people: curves and camera frames as PNG bytes, byte-identical for equal inputs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from contracts.errors import DecodeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS_BGR = {
    "car": (60, 60, 230),
    "truck": (0, 160, 255),
    "pedestrian": (80, 200, 60),
    "cyclist": (220, 90, 200),
}
_OTHER_BGR = (200, 200, 200)


def plot_precision_recall(
    curves: Mapping[str, npt.NDArray[np.float64]], *, title: str = "Precision and recall at IoU 0.5"
) -> bytes:
    """PNG of one curve a class.

    Args:
        curves: Precision (101,) at recalls 0 to 1 by class; NaN where there is no object.
        title: Above the axes.
    """
    figure, axes = _figure()
    for name, precision in curves.items():
        if not np.isfinite(precision).all():
            continue
        recall = np.linspace(0, 1, precision.size)
        axes.plot(recall, precision, label=f"{name}, AP {precision.mean():.2f}", color=_rgb(name))
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", frameon=False)
    return _png(figure)


def plot_losses(losses: Sequence[float], *, title: str = "Training loss") -> bytes:
    """PNG of the loss by step, with its running mean."""
    figure, axes = _figure()
    values = np.asarray(losses, np.float64)
    window = max(1, min(20, values.size))
    axes.plot(values, color="0.8", linewidth=0.8, label="each step")
    if values.size:
        mean = np.convolve(values, np.full(window, 1 / window), mode="valid")
        axes.plot(np.arange(window - 1, values.size), mean, color="C0", label=f"mean of {window}")
        axes.legend(frameon=False)
    axes.set(xlabel="step", ylabel="loss", title=title)
    return _png(figure)


def draw_boxes(
    image_jpeg: bytes,
    boxes: Sequence[Mapping[str, Any]],
    *,
    truth: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """PNG of a camera image with boxes; the truth is drawn thin and white.

    Args:
        image_jpeg: The image.
        boxes: class_name, x0_px, y0_px, x1_px, y1_px and, if known, `score` or `confidence`.
        truth: The same, to compare with.

    Raises:
        DecodeError: The image is no JPEG.
    """
    import cv2

    image = cv2.imdecode(np.frombuffer(image_jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DecodeError("the image is no JPEG", code="BAD_IMAGE")
    for box in truth:
        cv2.rectangle(image, *_corners(box), (255, 255, 255), 1)
    for box in boxes:
        colour = COLOURS_BGR.get(box["class_name"], _OTHER_BGR)
        first, second = _corners(box)
        cv2.rectangle(image, first, second, colour, 2)
        score = box.get("score", box.get("confidence"))
        text = box["class_name"] if score is None else f"{box['class_name']} {score:.2f}"
        place = (first[0], max(first[1] - 4, 10))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return cv2.imencode(".png", image)[1].tobytes()


def _corners(box: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    x0, y0, x1, y1 = (round(box[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px"))
    return (x0, y0), (x1, y1)


def _figure() -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _rgb(name: str) -> tuple[float, ...]:
    return tuple(value / 255 for value in reversed(COLOURS_BGR.get(name, _OTHER_BGR)))
