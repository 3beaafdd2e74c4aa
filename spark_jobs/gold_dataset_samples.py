"""`gold.datasets` and `gold.dataset_samples`: frozen sets of labelled images to train on.

Run alone: `python -m spark_jobs.gold_dataset_samples NAME [DRIVE_ID…]`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  Spark's own usage
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.errors import ContractViolation
from contracts.ids import canonical_json
from contracts.limits import LIMITS
from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.payloads import Place, places_of, read_payloads
from spark_jobs.tables import (
    create_table,
    is_one_of,
    merge_rows,
    read,
    read_arrow,
    replace_rows,
    table_versions,
)
from udfs.geometry.images import jpeg_size
from udfs.perception.samples import (
    SPLITS,
    SplitShares,
    dataset_hash,
    sample_id,
    split_drives,
    visible_boxes,
)

DATASETS = "gold.datasets"
SAMPLES = "gold.dataset_samples"
SOURCES = ("bronze.recordings", "silver.frames", "gold.labels")
IMAGES_AT_ONCE = 64

_SAMPLE_SCHEMA = pa.schema(
    [field for field in TABLES[SAMPLES].schema if field.name != "dataset_id"]
)
_POINTER = ("camera_unit_offset", "camera_data_offset", "camera_data_length")

Batches = Iterator[pa.RecordBatch]


@attrs.frozen
class DatasetSpec:
    """A request for a dataset.

    Attributes:
        name: Name; the dataset's identity is the name and the hash of its content.
        drive_ids: Drives to take; all if None.
        camera_topic: Camera to take; all if None.
        min_confidence: Least confidence of a label.
        min_box_px: Least height of a box in the image.
        max_distance_m: Farthest object.
        max_hidden_share: Greatest share of a box that a nearer one may cover.
        max_clock_uncertainty_ns: Greatest standard error of the clocks in a frame.
        shares: Split of the drives.
        versions: Delta versions to read by table; the latest where none is given.
    """

    name: str
    drive_ids: tuple[str, ...] | None = None
    camera_topic: str | None = None
    min_confidence: float = 0.5
    min_box_px: float = 8.0
    max_distance_m: float = 50.0
    max_hidden_share: float = 0.8
    max_clock_uncertainty_ns: int = LIMITS.clock_uncertainty_ns
    shares: SplitShares = attrs.field(factory=SplitShares)
    versions: Mapping[str, int] = attrs.field(factory=dict)

    def specification(self) -> str:
        """The request without the versions, as canonical JSON."""
        request = attrs.asdict(self, filter=lambda field, _: field.name != "versions")
        return canonical_json(request).decode()


@attrs.frozen
class DatasetReport:
    """A dataset version, and whether this run made it.

    Attributes:
        dataset_id: Name and content hash.
        content_hash: Over every sample, label and split.
        committed: False when it was there already.
        samples: Samples by split.
        table_versions: Delta versions it was read from.
        seconds: How long the run took.
    """

    dataset_id: str
    content_hash: str
    committed: bool
    samples: Mapping[str, int]
    table_versions: Mapping[str, int]
    seconds: float


def build_dataset(spark: SparkSession, settings: Settings, spec: DatasetSpec) -> DatasetReport:
    """Build a dataset of the frames that have labels in the image.

    The same request on the same table versions is answered from `gold.datasets`; the same content
    by another way gives the same identity, and no second commit either.

    Args:
        spark: Session.
        settings: Where the lake is.
        spec: What to take.

    Raises:
        ContractViolation: EMPTY_DATASET, no frame fits the request.
    """
    started = time.monotonic()
    for name in (DATASETS, SAMPLES):
        create_table(settings, TABLES[name])
    versions = {**table_versions(settings, SOURCES), **spec.versions}
    known = _known(settings, spec, versions)
    if known is not None:
        return _report(known, committed=False, started_s=started)
    samples = _samples(spark, settings, spec, versions=versions).persist()
    try:
        columns = ("split", "drive_id", "sample_id", "t_ns", "recording_id")
        members = samples.select(*columns).toArrow().to_pylist()
        if not members:
            raise ContractViolation(
                f"no labelled frame fits the request for {spec.name!r}", code="EMPTY_DATASET"
            )
        content = dataset_hash(
            (row["split"], row["drive_id"], row["sample_id"], row["t_ns"]) for row in members
        )
        row = _dataset_row(spec, members, content=content, versions=versions)
        committed = not _is_stored(settings, row["dataset_id"])
        if committed:
            _write(spark, settings, samples, row)
    finally:
        samples.unpersist()
    return _report(row, committed=committed, started_s=started)


def _samples(
    spark: SparkSession, settings: Settings, spec: DatasetSpec, *, versions: Mapping[str, int]
) -> DataFrame:
    """Rows of `gold.dataset_samples` without the dataset's identity."""
    labels = read(spark, "gold.labels", version=versions["gold.labels"])
    frames = read(spark, "silver.frames", version=versions["silver.frames"])
    frames = frames.where(F.col("clock_uncertainty_ns") <= spec.max_clock_uncertainty_ns)
    if spec.drive_ids is not None:
        frames = frames.where(is_one_of("drive_id", spec.drive_ids))
    if spec.camera_topic is not None:
        frames = frames.where(F.col("camera_topic") == spec.camera_topic)
    boxes = _boxes(labels, spec)
    keys = ["drive_id", "camera_topic", "t_ns"]
    pointers = frames.select(*keys, "camera_recording_id", *_POINTER)
    chosen = pointers.join(boxes, keys)
    drives = [row.drive_id for row in chosen.select("drive_id").distinct().collect()]
    split = split_drives(drives, shares=spec.shares)
    recordings = read_arrow(settings, "bronze.recordings", version=versions["bronze.recordings"])
    materialise = _materialiser(
        split, places_of(recordings), settings.storage_options, spec.max_hidden_share
    )
    # Frames of one recording in order: a worker reads every chunk of a recording once.
    ordered = chosen.repartition("camera_recording_id").sortWithinPartitions(
        "camera_recording_id", "camera_unit_offset", "camera_data_offset"
    )
    return ordered.mapInArrow(materialise, from_arrow_schema(_SAMPLE_SCHEMA))


def _boxes(labels: DataFrame, spec: DatasetSpec) -> DataFrame:
    """Boxes by frame, as the column `boxes`."""
    fitting = labels.where(
        (F.col("confidence") >= spec.min_confidence)
        & (F.col("box_y1_px") - F.col("box_y0_px") >= spec.min_box_px)
        & (F.col("distance_m") <= spec.max_distance_m)
    )
    box = F.struct(
        "class_name",
        *(F.col(f"box_{side}_px").alias(f"{side}_px") for side in ("x0", "y0", "x1", "y1")),
        "distance_m",
        "confidence",
    )
    collected = F.sort_array(F.collect_list(box)).alias("boxes")
    return fitting.groupBy("drive_id", "camera_topic", "t_ns").agg(collected)


def _materialiser(
    split: Mapping[str, str],
    places: Mapping[str, Place],
    storage_options: Mapping[str, str],
    max_hidden_share: float,
) -> Callable[[Batches], Batches]:
    def materialise(batches: Batches) -> Batches:
        for batch in batches:
            for start in range(0, len(batch), IMAGES_AT_ONCE):
                rows = batch.slice(start, IMAGES_AT_ONCE)
                images = read_payloads(
                    rows["camera_recording_id"].to_pylist(),
                    pointers=tuple(rows[name] for name in _POINTER),
                    places=places,
                    storage_options=storage_options,
                )
                samples = [
                    _sample(row, image, boxes=boxes, split=split[row["drive_id"]])
                    for row, image in zip(rows.to_pylist(), images, strict=True)
                    for boxes in [visible_boxes(row["boxes"], max_hidden_share=max_hidden_share)]
                    if boxes and jpeg_size(image) is not None
                ]
                yield pa.RecordBatch.from_pylist(samples, _SAMPLE_SCHEMA)

    return materialise


def _sample(
    frame: Mapping[str, Any], image: bytes, *, boxes: list[Mapping[str, Any]], split: str
) -> dict[str, Any]:
    width, height = jpeg_size(image) or (None, None)
    return {
        "sample_id": sample_id(image, boxes),
        "split": split,
        "drive_id": frame["drive_id"],
        "t_ns": frame["t_ns"],
        "recording_id": frame["camera_recording_id"],
        "image_jpeg": image,
        "image_width_px": width,
        "image_height_px": height,
        "boxes": boxes,
    }


def _dataset_row(
    spec: DatasetSpec,
    members: list[dict[str, Any]],
    *,
    content: str,
    versions: Mapping[str, int],
) -> dict[str, Any]:
    counts = Counter(row["split"] for row in members)
    return {
        "dataset_id": f"{spec.name}-{content[:12]}",
        "name": spec.name,
        "content_hash": content,
        "specification": spec.specification(),
        "table_versions": canonical_json(dict(versions)).decode(),
        "recording_ids": sorted({row["recording_id"] for row in members}),
        **{f"{split}_samples": counts[split] for split in SPLITS},
        "split_rule": spec.shares.rule,
        "created_ns": time.time_ns(),
    }


def _write(
    spark: SparkSession, settings: Settings, samples: DataFrame, row: Mapping[str, Any]
) -> None:
    """Samples first: a dataset that is listed is whole."""
    dataset_id = row["dataset_id"]
    replace_rows(
        spark,
        settings,
        SAMPLES,
        samples.withColumn("dataset_id", F.lit(dataset_id)),
        where=is_one_of("dataset_id", [dataset_id]),
    )
    schema = TABLES[DATASETS].schema
    listed = spark.createDataFrame([dict(row)], from_arrow_schema(schema))
    merge_rows(spark, settings, DATASETS, listed, keys=["dataset_id"])


def _known(
    settings: Settings, spec: DatasetSpec, versions: Mapping[str, int]
) -> dict[str, Any] | None:
    """The dataset that the same request on the same versions gave before."""
    wanted = {
        "specification": spec.specification(),
        "table_versions": canonical_json(dict(versions)).decode(),
    }
    filters: list[tuple[str, str, object]] = [
        (column, "=", value) for column, value in wanted.items()
    ]
    rows = read_arrow(settings, DATASETS, filters=filters).to_pylist()
    return rows[0] if rows else None


def _is_stored(settings: Settings, dataset_id: str) -> bool:
    return len(read_arrow(settings, DATASETS, filters=[("dataset_id", "=", dataset_id)])) > 0


def _report(row: Mapping[str, Any], *, committed: bool, started_s: float) -> DatasetReport:
    import json

    return DatasetReport(
        dataset_id=row["dataset_id"],
        content_hash=row["content_hash"],
        committed=committed,
        samples={split: row[f"{split}_samples"] for split in SPLITS},
        table_versions=json.loads(row["table_versions"]),
        seconds=round(time.monotonic() - started_s, 3),
    )


def _main() -> None:
    import argparse
    import json
    import os
    import sys
    from pathlib import Path

    from contracts.settings import settings_from
    from spark_jobs.session import connect

    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("name")
    parser.add_argument("drive_ids", nargs="*", metavar="DRIVE_ID", help="all drives if none")
    arguments = parser.parse_args()
    settings = settings_from(os.environ, working_folder=Path.cwd())
    spark = connect(settings)
    try:
        drives = tuple(arguments.drive_ids) or None
        report = build_dataset(spark, settings, DatasetSpec(arguments.name, drives))
    finally:
        spark.stop()
    sys.stdout.write(json.dumps(attrs.asdict(report)) + "\n")


if __name__ == "__main__":
    _main()
