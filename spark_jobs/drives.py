"""Which drives there are, which of them need work, and their silver rows as observations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial, reduce
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  Spark's own usage

from contracts.ids import table_slug
from contracts.settings import Settings
from spark_jobs.tables import is_one_of, read, read_arrow, table_exists
from udfs.sync.drive_clocks import RECORDINGS
from udfs.sync.observations import OBSERVATIONS, columns_needed, observations_from
from udfs.sync.rules import SyncRules

DRIVES_AT_ONCE = 128
"""Drives of one commit: bounds the predicate and what is sent to the workers."""


def read_recordings(settings: Settings, *, drive_ids: Sequence[str] | None) -> pa.Table:
    """Rows of `bronze.recordings` of some drives, or of all; none if nothing was ingested."""
    if not table_exists(settings, "bronze.recordings"):
        return pa.schema([(name, pa.string()) for name in RECORDINGS]).empty_table()
    filters = None if drive_ids is None else [("drive_id", "in", list(drive_ids))]
    columns = [*RECORDINGS, "uri", "format"]
    return read_arrow(settings, "bronze.recordings", columns=columns, filters=filters)


def in_batches(names: Iterable[str], *, size: int = DRIVES_AT_ONCE) -> Iterator[list[str]]:
    """Sorted names in lists of at most `size`."""
    rest = iter(sorted(names))
    while batch := list(islice(rest, size)):
        yield batch


def tables_of_type(settings: Settings, slug: str) -> list[str]:
    """Silver tables that hold messages of a type, by the slug of its name.

    Usually that is the table of this name alone; a type with two definitions has two tables.
    """
    names = {slug}
    if table_exists(settings, "bronze.schemas"):
        schemas = read_arrow(settings, "bronze.schemas", columns=["name", "table_name"])
        names |= {
            row["table_name"].removeprefix("silver.")
            for row in schemas.to_pylist()
            if row["table_name"] and table_slug(row["name"] or "") == slug
        }
    return sorted(name for name in names if table_exists(settings, f"silver.{name}"))


def read_stream_rows(
    spark: SparkSession, settings: Settings, recordings: pa.Table, *, rules: SyncRules
) -> DataFrame:
    """Silver rows of some recordings that synchronisation needs, all tables one below the other.

    The tables are pruned to the columns and signals that the rules name. `observations_in` takes
    the rows of a group apart again; so a drive goes through Python once, not once a table.

    Args:
        spark: Session.
        settings: Where the lake is.
        recordings: Rows of `bronze.recordings`.
        rules: Which column is which stream.

    Returns:
        `drive_id`, `role` (the slug of the table) and the columns of all tables, null where a table
        has no such column. Every recording has a row of role `recording`.
    """
    known = recordings.select(["drive_id", "recording_id"]).to_pylist()
    everyone = spark.createDataFrame(
        [(row["drive_id"], row["recording_id"]) for row in known],
        "drive_id STRING, recording_id STRING",
    )
    parts = [
        _rows_of(spark, recordings, table=table, role=role, rules=rules)
        for role in sorted(rules.tables)
        for table in tables_of_type(settings, role)
    ]
    rows = [part.join(F.broadcast(everyone), "recording_id") for part in parts]
    everyone = everyone.withColumn("role", F.lit("recording"))
    return reduce(partial(DataFrame.unionByName, allowMissingColumns=True), rows, everyone)


def observations_in(rows: pa.Table, *, rules: SyncRules) -> pa.Table:
    """Observations in the rows of `read_stream_rows`, in a worker."""
    parts = [OBSERVATIONS.empty_table()]
    for role in sorted(set(pc.unique(rows["role"]).to_pylist()) & rules.tables):
        of_role = rows.filter(pc.equal(rows["role"], role))
        parts.append(observations_from(of_role, table=role, rules=rules))
    return pa.concat_tables(parts)


def _rows_of(
    spark: SparkSession, recordings: pa.Table, *, table: str, role: str, rules: SyncRules
) -> DataFrame:
    wanted = read(spark, f"silver.{table}").where(
        is_one_of("recording_id", recordings["recording_id"].to_pylist())
    )
    if role == "signals":
        wanted = wanted.where(_is_quantity(rules))
    columns = columns_needed(role, rules=rules)
    return wanted.select(F.lit(role).alias("role"), *columns)


def _is_quantity(rules: SyncRules) -> Column:
    """The condition that a signal's name, as `signal_key`, is one of the rules'."""
    names = sorted(frozenset().union(*(each.signals for each in rules.quantities)))
    return F.regexp_replace(F.lower("signal"), "[^a-z0-9]+", "").isin(names)
