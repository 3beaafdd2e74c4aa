"""Engines that the rules run on: Spark for any size, DuckDB in this process for small tables.

Both give the same counts (tests/spark/test_quality.py). On small tables a Spark query costs one to
three seconds of planning and scheduling, and a day's checks are about a hundred.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.dataset as pads
from pyspark.sql import SparkSession

from quality.evaluate import Query


def spark_query(session: SparkSession) -> Query:
    """Runs SQL on the Spark server; the tables are those of its catalogue."""
    return lambda text: session.sql(text).toArrow()


def duckdb_query(tables: Mapping[str, pads.Dataset | pa.Table]) -> Query:
    """Runs SQL in this process over Arrow data; only the columns needed are read.

    Args:
        tables: Data by `layer.table`.
    """
    import duckdb

    connection = duckdb.connect()
    # Files of delta-rs hold string views, which pyarrow can't filter; DuckDB filters itself.
    connection.execute("SET disabled_optimizers = 'filter_pushdown'")
    for layer in sorted({name.split(".", 1)[0] for name in tables}):
        connection.execute(f"CREATE SCHEMA {layer}")
    for name, data in tables.items():
        alias = name.replace(".", "_")
        connection.register(alias, data)
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {alias}")
    return lambda text: connection.sql(text).to_arrow_table()
