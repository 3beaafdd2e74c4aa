"""Pictures in metadata: PNG bytes as Markdown that the page renders."""

from __future__ import annotations

import base64

import dagster as dg

from contracts.settings import Settings


def picture(png: bytes, *, title: str) -> dg.MarkdownMetadataValue:
    """Markdown metadata that shows a PNG."""
    return dg.MetadataValue.md(
        f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"
    )


def labelled_frame(settings: Settings) -> bytes | None:
    """PNG of the image that has the most labels, with its boxes; None if there is none.

    Args:
        settings: The deployment.
    """
    from ml.plots import draw_boxes
    from spark_jobs.payloads import places_of, read_payloads
    from spark_jobs.tables import read_arrow

    keys = ["drive_id", "t_ns", "camera_topic"]
    corners = {f"box_{corner}_px": f"{corner}_px" for corner in ("x0", "y0", "x1", "y1")}
    boxes = read_arrow(
        settings, "gold.labels", columns=[*keys, "class_name", "confidence", *corners]
    ).drop_null()
    if not boxes.num_rows:
        return None
    ranked = boxes.group_by(keys).aggregate([("class_name", "count")])
    order = [("class_name_count", "descending"), *((key, "ascending") for key in keys)]
    chosen = ranked.sort_by(order).select(keys).slice(0, 1)
    conditions = [(key, "=", chosen[key][0].as_py()) for key in keys]
    pointer = ["camera_unit_offset", "camera_data_offset", "camera_data_length"]
    frame = read_arrow(
        settings,
        "silver.frames",
        columns=["camera_recording_id", *pointer],
        filters=conditions,
    )
    recording = frame["camera_recording_id"].to_pylist()[:1]
    recordings = read_arrow(
        settings, "bronze.recordings", filters=[("recording_id", "=", recording[0])]
    )
    (image,) = read_payloads(
        recording,
        pointers=tuple(frame[name].combine_chunks().slice(0, 1) for name in pointer),
        places=places_of(recordings),
        storage_options=settings.storage_options,
    )
    mine = boxes.join(chosen, keys=keys, join_type="inner").to_pylist()
    return draw_boxes(image, [{corners.get(name, name): box[name] for name in box} for box in mine])
