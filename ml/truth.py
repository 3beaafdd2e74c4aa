"""What a detector is judged against: boxes by sample, from the labels or from a known truth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import SchemaMismatchError

TRUTH_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("class_name", pa.string()),
        ("x0_px", pa.float64()),
        ("y0_px", pa.float64()),
        ("x1_px", pa.float64()),
        ("y1_px", pa.float64()),
        ("distance_m", pa.float64()),
        ("is_ignored", pa.bool_()),
    ]
)
_OBJECT_COLUMNS = (
    "drive_id",
    "t_ns",
    "class_name",
    "box2d_x0_px",
    "box2d_y0_px",
    "box2d_x1_px",
    "box2d_y1_px",
    "distance_m",
    "visible_fraction",
)


def truth_from_labels(samples: pa.Table) -> pa.Table:
    """The dataset's own labels as truth, for recordings of which nothing better is known."""
    column = samples["boxes"].combine_chunks()
    flat = column.flatten()
    parents = pc.list_parent_indices(column)
    columns = {
        name: pc.struct_field(flat, name) for name in TRUTH_SCHEMA.names if name in _BOX_FIELDS
    }
    columns["sample_id"] = samples["sample_id"].take(parents).combine_chunks()
    columns["is_ignored"] = pa.array(np.zeros(len(flat), bool))
    return pa.table({name: columns[name] for name in TRUTH_SCHEMA.names}, schema=TRUTH_SCHEMA)


_BOX_FIELDS = ("class_name", "x0_px", "y0_px", "x1_px", "y1_px", "distance_m")


def truth_from_objects(
    samples: pa.Table,
    objects: pa.Table,
    *,
    tolerance_ns: int = 20_000_000,
    least_visible: float = 0.3,
    least_height_px: float = 12.0,
    farthest_m: float = 50.0,
) -> pa.Table:
    """Known objects at the instants of the samples.

    A sample takes the objects of its drive at the nearest known instant. An object that is mostly
    hidden, too low in the image to be told, or beyond the range that the detector is made for, is
    ignored: neither a miss nor, where it is found, a false alarm.

    Args:
        samples: Rows of `gold.dataset_samples`.
        objects: Columns drive_id, t_ns (UTC), class_name, box2d_x0_px … box2d_y1_px (null where out
            of the image), distance_m, visible_fraction.
        tolerance_ns: Farthest instant that is still the sample's.
        least_visible: Share of the object that must be seen.
        least_height_px: Least height of its box in the source image.
        farthest_m: Range of the detector; a lidar's labels reach no farther.

    Raises:
        SchemaMismatchError: A column is missing.
    """
    missing = [name for name in _OBJECT_COLUMNS if name not in objects.column_names]
    if missing:
        raise SchemaMismatchError(f"the truth lacks the columns {missing}")
    objects = objects.select(_OBJECT_COLUMNS)
    parts = [
        _of_drive(
            samples.filter(pc.equal(samples["drive_id"], drive)),
            objects.filter(pc.equal(objects["drive_id"], drive)),
            tolerance_ns=tolerance_ns,
        )
        for drive in sorted(samples["drive_id"].unique().to_pylist())
    ]
    found = pa.concat_tables(parts)
    found = found.filter(pc.is_valid(found["box2d_x0_px"]))
    height = pc.subtract(found["box2d_y1_px"], found["box2d_y0_px"])
    hidden = pc.less(pc.fill_null(found["visible_fraction"], 1.0), least_visible)
    far = pc.greater(found["distance_m"], farthest_m)
    ignored = pc.or_(pc.or_(hidden, far), pc.less(height, least_height_px))
    columns = [
        found["sample_id"],
        found["class_name"],
        *(found[f"box2d_{corner}_px"] for corner in ("x0", "y0", "x1", "y1")),
        found["distance_m"],
        ignored,
    ]
    return pa.table(columns, names=TRUTH_SCHEMA.names).cast(TRUTH_SCHEMA)


def _of_drive(samples: pa.Table, objects: pa.Table, *, tolerance_ns: int) -> pa.Table:
    known, instants = _nearest(samples, objects, tolerance_ns=tolerance_ns)
    stamps = pa.table({"sample_id": known["sample_id"], "instant": pa.array(instants, pa.int64())})
    return objects.join(stamps, keys="t_ns", right_keys="instant", join_type="inner").sort_by(
        [("t_ns", "ascending"), ("sample_id", "ascending")]
    )


def _nearest(
    samples: pa.Table, objects: pa.Table, *, tolerance_ns: int
) -> tuple[pa.Table, np.ndarray]:
    """Samples near a known instant, and that instant for each."""
    instants = np.unique(objects["t_ns"].to_numpy())
    wanted = samples["t_ns"].to_numpy()
    if not instants.size or not wanted.size:
        return samples.slice(0, 0), np.empty(0, np.int64)
    right = np.clip(np.searchsorted(instants, wanted), 0, instants.size - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = np.abs(wanted - instants[left]) <= np.abs(instants[right] - wanted)
    nearest = instants[np.where(nearer_left, left, right)]
    near = np.abs(nearest - wanted) <= tolerance_ns
    return samples.filter(pa.array(near)), nearest[near]
