"""Tables on a real server: catalogue, writes that repeat, versions."""

from __future__ import annotations

import datetime as dt
import re
from concurrent.futures import ThreadPoolExecutor

import attrs
import pyarrow as pa
import pytest

from contracts.errors import ContractViolation, SchemaMismatchError
from contracts.tables import TABLES
from drivelake.query import json_text, run_query
from spark_jobs.delta import open_table
from spark_jobs.session import connected
from spark_jobs.tables import (
    ensure_table,
    list_tables,
    merge_rows,
    read,
    read_arrow,
    register_existing,
    replace_rows,
    store_rows,
    table_versions,
)

pytestmark = pytest.mark.spark
DAY = dt.date(2026, 11, 20)
NAME = "gold.releases"
CLOCKS = TABLES["silver.clocks"].schema


def clocks_df(spark, drive, *offsets):
    rows = [
        {
            "drive_id": drive,
            "recording_id": f"{drive}-{i}",
            "valid_from_ns": i,
            "offset_ns": offset,
            "ingest_date": DAY,
        }
        for i, offset in enumerate(offsets)
    ]
    return spark.createDataFrame(pa.Table.from_pylist(rows, schema=CLOCKS))


def offsets_of(settings, drive):
    rows = read_arrow(settings, "silver.clocks", filters=[("drive_id", "=", drive)])
    return sorted(rows.column("offset_ns").to_pylist())


def test_table_has_columns_comments_and_place(spark, settings):
    """A table of the contracts is external, at its URI, with the comments of its contract."""
    ensure_table(spark, settings, TABLES[NAME])
    ensure_table(spark, settings, TABLES[NAME])
    found = {row.col_name: row for row in spark.sql(f"DESCRIBE TABLE EXTENDED {NAME}").collect()}
    for field in TABLES[NAME].schema:
        assert found[field.name].comment == field.metadata[b"comment"].decode()
    assert found["Type"].data_type == "EXTERNAL"
    place = re.sub("^file:/+", "file:///", found["Location"].data_type)
    assert place == f"{settings.lake_uri}/gold/releases"
    assert NAME in list_tables(settings)
    assert NAME not in register_existing(spark, settings)


def test_sql_names_tables_that_the_catalogue_does_not_know(spark, settings):
    """A table that stands in the lake alone is named when it is first asked for."""
    ensure_table(spark, settings, TABLES["gold.releases"])
    spark.sql("DROP TABLE gold.releases").collect()  # the files stay: the table is external
    found = run_query(settings, "SELECT count(*) AS releases FROM gold.releases")
    assert found.column_names == ["releases"]
    with pytest.raises(ContractViolation, match="nothing"):
        run_query(settings, "SELECT * FROM gold.nothing")


WRITING = (
    "DELETE FROM {0}",
    "DROP TABLE {0}",
    "INSERT INTO {0} SELECT * FROM {0}",
    "WITH w AS (SELECT * FROM {0}) INSERT INTO {0} SELECT * FROM w",
    "FROM {0} INSERT INTO {0} SELECT *",
    "SELECT 1; DELETE FROM {0}",
    "SHOW TABLES; DELETE FROM {0}",
    "-- \\\nSHOW\nDELETE FROM {0}",  # to Spark one comment of two lines, and a statement
    "/* SHOW */ DELETE FROM {0}",
    "/* /* SHOW */ */ DELETE FROM {0}",
    "WITH w AS (DELETE FROM {0}) SELECT 1",
    "EXECUTE IMMEDIATE 'DELETE FROM {0}'",
    "BEGIN DELETE FROM {0}; END",
)
READING = (
    "SELECT count(*) FROM {0};",
    "/* first */ SELECT 1 -- last",
    "/* /* nested */ */ (SELECT 1) UNION (SELECT 2)",
    "WITH w AS (SELECT 1) SELECT * FROM w",
    "VALUES (1), (2)",
    "TABLE {0}",
    "FROM {0} |> WHERE drive_id = 'a'",
    "SHOW TABLES IN silver",
    "DESC HISTORY {0}",
    "EXPLAIN SELECT 1",
    "EXPLAIN DELETE FROM {0}",
    "EXPLAIN EXTENDED DROP TABLE {0}",
)


def test_sql_reads_and_changes_nothing(spark, settings):
    """Every form of a query and of a question about tables is answered, and nothing else is run."""
    name = "silver.clocks"
    replace_rows(spark, settings, name, clocks_df(spark, "t-read", 1), where="drive_id = 't-read'")
    version = open_table(settings, name).version()
    for statement in WRITING:
        with pytest.raises(ContractViolation) as refused:
            run_query(settings, statement.format(name))
        assert refused.value.code == "SQL"
    for statement in READING:
        assert run_query(settings, statement.format(name)).num_columns
    assert open_table(settings, name).version() == version
    assert name in [
        f"silver.{row.tableName}" for row in spark.sql("SHOW TABLES IN silver").collect()
    ]
    with pytest.raises(ContractViolation, match=r"near 'FRM' \(line 2, pos 0\)"):
        run_query(settings, "SELECT 1 a\nFRM t x y")


@pytest.mark.usefixtures("spark_server")
def test_numbers_are_the_same_json_from_both_engines(settings):
    """A sum is a whole number and a decimal keeps its digits, whoever answers."""
    query = "SELECT sum(1) AS s, CAST(1.5 AS DECIMAL(38, 2)) AS d, CAST(0.1 AS DOUBLE) AS f"
    texts = {json_text(run_query(settings, query, engine=engine)) for engine in ("spark", "duckdb")}
    assert texts == {'[{"s": 1, "d": 1.50, "f": 0.1}]'}


def test_replace_touches_its_rows_only(spark, settings):
    """A write replaces the rows that it names, in one commit; written again it gives the same."""

    def replace(drive, *offsets):
        df = clocks_df(spark, drive, *offsets)
        return replace_rows(spark, settings, "silver.clocks", df, where=f"drive_id = '{drive}'")

    first = replace("t-a", 1, 2)
    replace("t-b", 9)
    replace("t-b", 9)
    assert replace("t-a", 3) == first + 3
    assert (offsets_of(settings, "t-a"), offsets_of(settings, "t-b")) == ([3], [9])


def test_clients_that_race_lose_no_write(spark, settings):
    """Clients that replace the rows of different drives at once all find theirs in the table."""
    drives = [f"t-race-{i}" for i in range(6)]
    ensure_table(spark, settings, TABLES["silver.clocks"])

    def replace(drive):
        with connected(settings) as own:
            df = clocks_df(own, drive, 5)
            replace_rows(own, settings, "silver.clocks", df, where=f"drive_id = '{drive}'")

    with ThreadPoolExecutor(len(drives)) as pool:
        list(pool.map(replace, drives))
    assert [offsets_of(settings, drive) for drive in drives] == [[5]] * len(drives)


def test_rows_that_stand_already_commit_nothing(spark, settings):
    """Stored again they make no version; other rows of the same identity replace them, and back."""

    def store(value):
        row = {
            "model": "m", "model_version": "1", "dataset_id": "it's", "target": "torch",
            "slice": "all", "metric": "ap50", "value": value, "samples": 3, "objects": 4,
        }  # fmt: skip
        rows = pa.Table.from_pylist([row], schema=TABLES["gold.evaluations"].schema)
        identity = ("model", "model_version", "dataset_id", "target")
        return store_rows(spark, settings, "gold.evaluations", rows, identity=identity)

    assert [store(value) for value in (0.5, 0.5, 0.7, 0.5)] == [True, False, True, True]
    [row] = read_arrow(settings, "gold.evaluations", filters=[("model", "=", "m")]).to_pylist()
    assert row["value"] == 0.5


def test_old_versions_stay_readable(spark, settings):
    """A pinned version gives the rows of then, in Spark and in delta-rs."""
    df = clocks_df(spark, "t-c", 1)
    where = "drive_id = 't-c'"
    then = replace_rows(spark, settings, "silver.clocks", df, where=where)
    df = clocks_df(spark, "t-c", 2)
    replace_rows(spark, settings, "silver.clocks", df, where=where)
    old = read(spark, "silver.clocks", version=then).where(where).collect()
    assert [row.offset_ns for row in old] == [1]
    assert [row.offset_ns for row in read(spark, "silver.clocks").where(where).collect()] == [2]
    rows = read_arrow(settings, "silver.clocks", version=then).to_pylist()
    assert [row["offset_ns"] for row in rows if row["drive_id"] == "t-c"] == [1]
    assert table_versions(settings, ["silver.clocks", "silver.nothing"]) == {
        "silver.clocks": then + 1
    }


def test_merge_updates_and_inserts_by_key(spark, settings):
    """Rows with a known key are updated, nulls in keys included; others are inserted."""
    keys = ["drive_id", "recording_id", "valid_from_ns"]
    merge_rows(spark, settings, "silver.clocks", clocks_df(spark, "t-d", 1, 2), keys=keys)
    merge_rows(spark, settings, "silver.clocks", clocks_df(spark, "t-d", 5, 2, 7), keys=keys)
    assert offsets_of(settings, "t-d") == [2, 5, 7]


@pytest.mark.parametrize("change", ["type", "name"])
def test_other_columns_are_refused(spark, settings, change):
    """A DataFrame with another column or type is refused, never cast or widened."""
    df = clocks_df(spark, "t-e", 1)
    if change == "type":
        df = df.withColumn("offset_ns", df["offset_ns"].cast("int"))
    else:
        df = df.withColumnRenamed("offset_ns", "offset")
    with pytest.raises(SchemaMismatchError, match="offset"):
        replace_rows(spark, settings, "silver.clocks", df, where="drive_id = 't-e'")
    assert offsets_of(settings, "t-e") == []


def test_rows_outside_the_predicate_are_refused(spark, settings):
    """Delta refuses rows that the predicate of the replacement does not cover."""
    df = clocks_df(spark, "t-f", 1)
    with pytest.raises(Exception, match=r"(?i)replaceWhere|DELTA_REPLACE_WHERE_MISMATCH"):
        replace_rows(spark, settings, "silver.clocks", df, where="drive_id = 'x'")


def test_spark_writes_no_statistics_of_personal_columns(spark, settings):
    """Minima and maxima that Spark writes are of the safe columns only."""
    df = clocks_df(spark, "t-g", 1)
    where = "drive_id = 't-g'"
    replace_rows(spark, settings, "silver.clocks", df, where=where)
    adds = pa.table(open_table(settings, "silver.clocks").get_add_actions(flatten=True))
    named = {name.split(".", 1)[1] for name in adds.column_names if name.startswith("min.")}
    assert "drive_id" in named
    assert not named & {"evidence", "recorder", "method"}


def test_path_with_blanks_is_the_same_place_for_all(spark, settings, tmp_path):
    """Spark writes a lake whose folder has blanks and accents to where delta-rs reads it."""
    lake = attrs.evolve(settings, lake_uri=(tmp_path / "a lake, ä").as_uri())
    from spark_jobs.storage import spark_location
    from spark_jobs.tables import create_table

    create_table(lake, TABLES["silver.clocks"])
    place = spark_location(f"{lake.lake_uri}/silver/clocks")
    clocks_df(spark, "t-h", 4).write.format("delta").mode("append").save(place)
    assert offsets_of(lake, "t-h") == [4]
