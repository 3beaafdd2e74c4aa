"""`gold.labels`: objects found in the lidar sweeps of the frames, projected into the images.

Run alone: `python -m spark_jobs.gold_labels [DRIVE_ID…]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  Spark's own usage
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.settings import Settings
from spark_jobs.drive_versions import FRAMES, make_anew
from spark_jobs.drives import read_recordings, tables_of_type
from spark_jobs.payloads import Place, places_of, read_payloads
from spark_jobs.report import JobReport
from spark_jobs.tables import (
    is_one_of,
    read,
    read_arrow,
    replace_rows,
    table_exists,
)
from udfs.perception.calibration import calibration_from
from udfs.perception.frame_labels import FRAME_COLUMNS, LABELS, label_frames
from udfs.perception.rules import LabelRules

TABLE = "gold.labels"
VERSIONS = "gold.label_versions"
CAMERA_INFO = "sensor_msgs_camerainfo"
CLIP_NS = 20_000_000_000
"""Frames of one task: a long drive is labelled by many workers."""
SWEEPS_AT_ONCE = 32

_TASKS_A_DRIVE, _MOST_TASKS = 4, 256
_POINTER = ("lidar_unit_offset", "lidar_data_offset", "lidar_data_length")


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    drive_ids: Sequence[str] | None = None,
    rules: LabelRules | None = None,
) -> JobReport:
    """Label the drives whose frames or rules are new; others are left alone.

    Args:
        spark: Session.
        settings: Where the lake is.
        drive_ids: Drives to look at; all that have frames by default.
        rules: Sizes and limits; the defaults if None.
    """
    rules = rules or LabelRules()

    def label(drives: list[str]) -> list[str]:
        chosen = read_recordings(settings, drive_ids=drives)
        rows = labels_from(
            read(spark, FRAMES).where(is_one_of("drive_id", drives)),
            tasks=min(_MOST_TASKS, _TASKS_A_DRIVE * len(drives)),
            calibrations=read_calibrations(settings, chosen),
            places=places_of(chosen),
            storage_options=settings.storage_options,
            rules=rules,
        )
        replace_rows(spark, settings, TABLE, rows, where=is_one_of("drive_id", drives))
        return drives

    return make_anew(
        spark,
        settings,
        TABLE,
        VERSIONS,
        label,
        drive_ids=drive_ids,
        rules_version=rules.version,
    )


def labels_from(
    frames: DataFrame,
    *,
    tasks: int,
    calibrations: Mapping[str, pa.Table],
    places: Mapping[str, Place],
    storage_options: Mapping[str, str],
    rules: LabelRules,
) -> DataFrame:
    """Labels of frames, one group a clip of a drive; the workers read the sweeps themselves.

    Args:
        frames: Rows of `silver.frames`.
        tasks: Among how many the clips are dealt.
        calibrations: From `read_calibrations`.
        places: Where the recordings are.
        storage_options: For S3.
        rules: Sizes and limits.
    """
    label = _labeller(calibrations, places, storage_options, rules)
    clip = F.floor(F.col("t_ns") / CLIP_NS).alias("clip")
    # Dealt to a stated number: adaptive execution would count bytes, of which pointers have few,
    # and give all clips to one task.
    return (
        frames.where("lidar_state = 'ok'")
        .select(*FRAME_COLUMNS, clip)
        .repartition(tasks, "drive_id", "clip")
        .groupBy("drive_id", "clip")
        .applyInArrow(label, from_arrow_schema(LABELS))
    )


def read_calibrations(settings: Settings, recordings: pa.Table) -> dict[str, pa.Table]:
    """Static transforms and camera infos of some recordings, as rows with their drive.

    Returns:
        `transforms` and one table for every CameraInfo table; with a column `drive_id`.
    """
    found = {}
    for table in ["transforms", *tables_of_type(settings, CAMERA_INFO)]:
        if not table_exists(settings, f"silver.{table}"):
            continue
        filters: list[tuple[str, str, object]] = [
            ("recording_id", "in", recordings["recording_id"].to_pylist())
        ]
        if table == "transforms":
            filters.append(("is_static", "=", True))
        rows = read_arrow(settings, f"silver.{table}", filters=filters)
        of_row = pc.index_in(rows["recording_id"], recordings["recording_id"].combine_chunks())
        drives = pc.take(recordings["drive_id"], of_row)
        found[table] = rows.append_column("drive_id", drives).sort_by("log_time_ns")
    return found


def _labeller(
    calibrations: Mapping[str, pa.Table],
    places: Mapping[str, Place],
    storage_options: Mapping[str, str],
    rules: LabelRules,
) -> Callable[[pa.Table], pa.Table]:
    def label(frames: pa.Table) -> pa.Table:
        drive = frames["drive_id"][0]
        rows = {
            name: table.filter(pc.equal(table["drive_id"], drive)).to_pylist()
            for name, table in calibrations.items()
        }
        infos = [row for name, of_table in rows.items() if name != "transforms" for row in of_table]
        calibration = calibration_from(rows.get("transforms", []), infos)
        parts = [LABELS.empty_table()]
        ordered = frames.sort_by("t_ns")
        for start in range(0, len(ordered), SWEEPS_AT_ONCE):
            part = ordered.slice(start, SWEEPS_AT_ONCE)
            sweeps = read_payloads(
                part["lidar_recording_id"].to_pylist(),
                pointers=tuple(part[name] for name in _POINTER),
                places=places,
                storage_options=storage_options,
            )
            parts.append(
                label_frames(part.to_pylist(), sweeps=sweeps, calibration=calibration, rules=rules)
            )
        return pa.concat_tables(parts)

    return label


if __name__ == "__main__":
    from spark_jobs.command import run_job

    run_job(run)
