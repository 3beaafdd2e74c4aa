"""The quality rules on Spark: the verdicts of DuckDB, which the unit tests have checked."""

from __future__ import annotations

import re

import duckdb
import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.tables import LAYERS, TABLES
from quality.evaluate import evaluate_all
from quality.expectations import validate
from tests.unit.quality.good_lake import DAY, good_tables
from tests.unit.quality.test_rules import MUTATIONS

pytestmark = pytest.mark.spark
JUDGED = sorted({table for _, table, _ in MUTATIONS})
_NAME = re.compile(rf"\b({'|'.join(LAYERS)})\.([a-z_]+)")


def _on_duckdb(tables):
    connection = duckdb.connect()
    for layer in LAYERS:
        connection.execute(f"CREATE SCHEMA {layer}")
    for name, rows in tables.items():
        connection.register("incoming", rows)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        connection.unregister("incoming")
    return connection


def _on_spark(spark, tables):
    """Views of the session, for the catalogue is shared with the tests of the jobs."""
    for name, rows in tables.items():
        frame = spark.createDataFrame(rows, from_arrow_schema(rows.schema))
        frame.createOrReplaceTempView(f"judged_{name.replace('.', '_')}")
    return lambda text: spark.sql(_NAME.sub(r"judged_\1_\2", text)).toArrow()


def _counts(query):
    results = evaluate_all(JUDGED, query=query, day=DAY)
    return {(r.rule.id, r.table): (r.passed, r.rows_checked, r.rows_failed) for r in results}


def test_spark_and_duckdb_judge_alike(spark):
    """On rows that many mutations have damaged, both engines count the same faults by rule."""
    lake = _on_duckdb(good_tables())
    for _, table, mutation in MUTATIONS:
        if "DELETE" not in mutation:
            lake.execute(mutation.format(t=table))
    mutated = {name: lake.table(name).to_arrow_table().cast(TABLES[name].schema) for name in TABLES}
    expected = _counts(lambda text: lake.sql(text).to_arrow_table())
    assert sum(not passed for passed, _, _ in expected.values()) > 20
    assert _counts(_on_spark(spark, mutated)) == expected


def test_suite_runs_on_spark(spark):
    """A Great Expectations suite gives the same verdicts on a Spark DataFrame as on Arrow rows."""
    contract = TABLES["gold.scenarios"]
    rows = good_tables()["gold.scenarios"]
    broken = rows.set_column(
        rows.schema.get_field_index("scenario"), "scenario", pa.array(["parking"], pa.string())
    )
    frame = spark.createDataFrame(broken, from_arrow_schema(broken.schema))
    on_spark, on_arrow = validate(frame, table=contract), validate(broken, table=contract)
    assert not on_arrow.passed
    assert [(o.expectation, o.passed) for o in on_spark.outcomes] == [
        (o.expectation, o.passed) for o in on_arrow.outcomes
    ]
