"""The truth of simulated drives, for evaluation alone; labels stand in where there is none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from contracts.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


@attrs.frozen(eq=False)
class Truth:
    """What a detector is judged against.

    Attributes:
        rows: `ml.truth.TRUTH_SCHEMA`.
        light_by_drive: day, dusk or night by drive, where it is known.
        origins: `truth` or `labels` by drive.
    """

    rows: pa.Table
    light_by_drive: dict[str, str]
    origins: dict[str, str]


def truth_of(settings: Settings, samples: pa.Table) -> Truth:
    """Truth of the samples: the known objects of a simulated drive, or the labels of a real one.

    Args:
        settings: Names the place of the truth.
        samples: Rows of `gold.dataset_samples`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from ml.truth import truth_from_labels, truth_from_objects

    parts, light, origins = [], {}, {}
    for drive in sorted(samples["drive_id"].unique().to_pylist()):
        mine = samples.filter(pc.equal(samples["drive_id"], drive))
        objects = _objects(settings, drive)
        origins[drive] = "labels" if objects is None else "truth"
        if objects is None:
            parts.append(truth_from_labels(mine))
            continue
        named = objects.append_column("drive_id", pa.array([drive] * objects.num_rows))
        parts.append(truth_from_objects(mine, named))
        light[drive] = _conditions(settings, drive)["light"]
    return Truth(rows=pa.concat_tables(parts), light_by_drive=light, origins=origins)


def _objects(settings: Settings, drive: str) -> pa.Table | None:
    import pyarrow.parquet as pq

    from spark_jobs.storage import filesystem_of

    place = f"{settings.truth_uri.rstrip('/')}/{drive}/objects.parquet"
    filesystem, path = filesystem_of(place, storage_options=settings.storage_options)
    if not filesystem.get_file_info(path).is_file:
        return None
    return pq.read_table(path, filesystem=filesystem)


def _conditions(settings: Settings, drive: str) -> dict[str, Any]:
    from spark_jobs.storage import filesystem_of

    place = f"{settings.truth_uri.rstrip('/')}/{drive}/conditions.json"
    filesystem, path = filesystem_of(place, storage_options=settings.storage_options)
    with filesystem.open_input_stream(path) as stream:
        return dict(json.loads(stream.read()))
