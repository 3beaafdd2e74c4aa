"""SQL on the curated tables: through the Spark server, or through DuckDB on the same files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from contracts.errors import ContractViolation, SetupError
from contracts.settings import Settings
from contracts.tables import LAYERS
from drivelake.catalogue import open_table, table_names
from spark_jobs.server import answers, local_port

Engine = Literal["spark", "duckdb"]
OutputFormat = Literal["table", "csv", "json", "parquet"]


def run_query(settings: Settings, statement: str, *, engine: Engine = "spark") -> pa.Table:
    """The result of one SQL statement.

    Raises:
        ContractViolation: SQL, the statement is wrong; says how.
        SetupError: The Spark server does not answer.
    """
    return _spark(settings, statement) if engine == "spark" else _duckdb(settings, statement)


def write_result(table: pa.Table, path: Path, *, kind: OutputFormat) -> None:
    """Write a result as CSV, JSON (one array of objects) or Parquet."""
    if kind == "csv":
        pa.csv.write_csv(table, path)
    elif kind == "parquet":
        pa.parquet.write_table(table, path, compression="zstd")
    else:
        path.write_text(as_json(table))


def as_json(table: pa.Table) -> str:
    """A JSON array of row objects; bytes as hex, as Spark shows them."""
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise ContractViolation(
            f"Two columns are named {sorted(repeated)}", code="SQL", remedy="Give each an alias"
        )
    return json.dumps(_finite(table.to_pylist()), default=_plain, allow_nan=False)


def _finite(value: object) -> object:
    """NaN and infinities as null: JSON has no other word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _spark(settings: Settings, statement: str) -> pa.Table:
    from pyspark.errors import PySparkException

    from spark_jobs.session import connected

    port = local_port(settings.spark_remote)
    if port is not None and not answers(port):
        raise SetupError(
            f"No Spark server answers at {settings.spark_remote}",
            remedy="Start it with `drivelake up`, or ask the files directly with --engine duckdb",
        )
    try:
        with connected(settings) as spark:
            return spark.sql(statement).toArrow()
    except PySparkException as error:
        raise ContractViolation(_first_line(str(error)), code="SQL") from error


def _duckdb(settings: Settings, statement: str) -> pa.Table:
    """DuckDB over lazy scans of the tables' files; the same on disk and on S3.

    Not over Arrow datasets: DuckDB 1.5 pushes string filters into them in a type Arrow refuses.
    """
    import duckdb
    import polars as pl

    connection = duckdb.connect()
    connection.sql("SET TimeZone = 'UTC'")
    for layer in LAYERS:
        connection.sql(f'CREATE SCHEMA "{layer}"')
    for name in table_names(settings):
        layer, table = name.split(".")
        connection.register(f"{layer}__{table}", pl.scan_delta(open_table(settings, name)))
        connection.sql(f'CREATE VIEW "{layer}"."{table}" AS FROM "{layer}__{table}"')
    try:
        return connection.sql(statement).to_arrow_table()
    except duckdb.Error as error:
        raise ContractViolation(_first_line(str(error)), code="SQL") from error


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
