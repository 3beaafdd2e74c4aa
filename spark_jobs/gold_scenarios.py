"""`gold.scenarios`: situations found by SQL rules in frames and tracks.

Run alone: `python -m spark_jobs.gold_scenarios [DRIVE_ID…]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own usage
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.ids import content_hash
from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.drive_versions import FRAMES, make_anew
from spark_jobs.report import JobReport
from spark_jobs.scenario_rules import RULES, ScenarioRule
from spark_jobs.tables import (
    is_one_of,
    read,
    read_arrow,
    replace_rows,
)

TABLE = "gold.scenarios"
VERSIONS = "gold.scenario_versions"
CLOCKS = "silver.clocks"
OBJECTS = "silver.objects"


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    drive_ids: Sequence[str] | None = None,
    rules: Sequence[ScenarioRule] = RULES,
) -> JobReport:
    """Find the situations of drives whose frames or rules are new; rows that hold are left alone.

    Args:
        spark: Session.
        settings: Where the lake is.
        drive_ids: Drives to look at; all that have frames by default.
        rules: What to look for.
    """

    def search(drives: list[str]) -> list[str]:
        found = scenarios_from(spark, drive_ids=drives, rules=rules)
        changed = _changed(settings, found, drive_ids=drives)
        if changed:
            rows = found.filter(pc.is_in(found["drive_id"], pa.array(changed)))
            replace_rows(
                spark,
                settings,
                TABLE,
                spark.createDataFrame(rows.to_pylist(), from_arrow_schema(found.schema)),
                where=is_one_of("drive_id", changed),
            )
        return changed

    return make_anew(
        spark,
        settings,
        TABLE,
        VERSIONS,
        search,
        drive_ids=drive_ids,
        rules_version=content_hash(sorted((rule.name, rule.version) for rule in rules))[:16],
    )


def scenarios_from(
    spark: SparkSession, *, drive_ids: Sequence[str], rules: Sequence[ScenarioRule]
) -> pa.Table:
    """Situations of some drives as rows of `gold.scenarios`, in order."""
    contract = TABLES[TABLE].schema
    with _views(spark, drive_ids) as views:
        parts = [
            spark.sql(rule.sql.format(**views)).select(
                "*",
                F.lit(rule.scenario).alias("scenario"),
                F.lit(rule.name).alias("rule"),
                F.lit(rule.version).alias("rule_version"),
            )
            for rule in rules
        ]
        versions = spark.table(views["frames"]).groupBy("drive_id")
        version_of = versions.agg(F.max("sync_version").alias("sync_version"))
        union = reduce(DataFrame.unionByName, parts).join(version_of, "drive_id")
        found = union.select(*contract.names).toArrow()
    plain = found.cast(contract)
    return plain.sort_by([(name, "ascending") for name in ("drive_id", "start_ns", "scenario")])


@contextmanager
def _views(spark: SparkSession, drive_ids: Sequence[str]) -> Iterator[dict[str, str]]:
    """Temporary views that the rules read, by placeholder."""
    suffix = uuid4().hex
    names = {name: f"{name}_{suffix}" for name in ("frames", "tracks")}
    chosen = is_one_of("drive_id", drive_ids)
    read(spark, FRAMES).where(chosen).createOrReplaceTempView(names["frames"])
    clocks = read(spark, CLOCKS).where(f"{chosen} AND method != 'assumed'")
    _on_utc(read(spark, OBJECTS), clocks).createOrReplaceTempView(names["tracks"])
    try:
        yield names
    finally:
        for name in names.values():
            spark.catalog.dropTempView(name)


def _on_utc(rows: DataFrame, clocks: DataFrame) -> DataFrame:
    """Rows with `drive_id` and `t_ns`, by the segment of the clock that each is in.

    The outer segments of a recording hold beyond their ends; what lies between two, where the clock
    jumped, has no time and is left out.
    """
    in_order = Window.partitionBy("recording_id").orderBy("valid_from_ns")
    segments = clocks.select(
        "recording_id",
        "drive_id",
        "anchor_ns",
        "offset_ns",
        "drift_ppb",
        F.when(F.lag("valid_from_ns").over(in_order).isNotNull(), F.col("valid_from_ns")).alias(
            "holds_from_ns"
        ),
        F.when(F.lead("valid_to_ns").over(in_order).isNotNull(), F.col("valid_to_ns")).alias(
            "holds_to_ns"
        ),
    )
    stamped = rows.withColumn("stamp_ns", F.coalesce("sensor_time_ns", "log_time_ns"))
    inside = F.coalesce(F.col("stamp_ns") >= F.col("holds_from_ns"), F.lit(True)) & F.coalesce(
        F.col("stamp_ns") <= F.col("holds_to_ns"), F.lit(True)
    )
    grown = F.rint(F.col("drift_ppb") * 1e-9 * (F.col("stamp_ns") - F.col("anchor_ns")))
    placed = F.col("stamp_ns") - F.col("offset_ns") - grown.cast("bigint")
    return (
        stamped.join(F.broadcast(segments), "recording_id")
        .where(inside)
        .withColumn("t_ns", placed)
        .drop("stamp_ns", "holds_from_ns", "holds_to_ns", "anchor_ns", "offset_ns", "drift_ppb")
    )


def _changed(settings: Settings, found: pa.Table, *, drive_ids: Sequence[str]) -> list[str]:
    """Drives whose situations differ from those stored."""
    stored = read_arrow(settings, TABLE, filters=[("drive_id", "in", list(drive_ids))])
    return [
        drive
        for drive in drive_ids
        if _rows_of(found, drive) != _rows_of(stored.select(found.column_names), drive)
    ]


def _rows_of(scenarios: pa.Table, drive_id: str) -> list[tuple[object, ...]]:
    mine = scenarios.filter(pc.equal(scenarios["drive_id"], drive_id)).to_pylist()
    return sorted((tuple(row.values()) for row in mine), key=str)


if __name__ == "__main__":
    from spark_jobs.command import run_job

    run_job(run)
