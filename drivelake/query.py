"""SQL on the curated tables: through the Spark server, or through DuckDB on the same files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from contracts.errors import ContractViolation, IntegrityError, SetupError
from contracts.settings import Settings
from contracts.tables import LAYERS
from drivelake.catalogue import open_table
from spark_jobs.delta import require_files, table_names
from spark_jobs.server import reachable

if TYPE_CHECKING:
    import duckdb

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
        with path.open("wb") as file:
            write_csv(table, file)
    elif kind == "parquet":
        pa.parquet.write_table(table, path, compression="zstd")
    else:
        path.write_text(json_text(table))


def write_csv(table: pa.Table, file: BinaryIO) -> None:
    """Write CSV; nested values as JSON, bytes as hex, for CSV has no words for them."""
    columns = [
        pa.array([None if value is None else _as_text(value) for value in column.to_pylist()])
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type)
        else column
        for column in table.columns
    ]
    pa.csv.write_csv(pa.table(columns, names=table.column_names), file)


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(_finite(value), default=_plain, allow_nan=False)


def json_text(table: pa.Table) -> str:
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
    from spark_jobs.tables import register_existing

    if not reachable(settings.spark_remote):
        raise SetupError(
            f"No Spark server answers at {settings.spark_remote}",
            remedy="Start it with `drivelake up`, or ask the files directly with --engine duckdb",
        )
    try:
        with connected(settings) as spark:
            try:
                return spark.sql(statement).toArrow()
            except PySparkException as error:
                # The server's catalogue may be younger than the lake.
                unknown = error.getCondition() == "TABLE_OR_VIEW_NOT_FOUND"
                if not (unknown and register_existing(spark, settings)):
                    raise
            return spark.sql(statement).toArrow()
    except PySparkException as error:
        if (error.getCondition() or "").startswith("FAILED_READ_FILE"):
            raise IntegrityError(_first_line(str(error)), code="MISSING_FILE") from error
        raise ContractViolation(_first_line(str(error)), code="SQL") from error


def _duckdb(settings: Settings, statement: str) -> pa.Table:
    """DuckDB over lazy scans of the tables' files; the same on disk and on S3.

    Not over Arrow datasets: DuckDB 1.5 pushes string filters into them in a type Arrow refuses.
    It only reads, and only the tables: no statement writes or opens anything else.
    """
    import duckdb
    import polars as pl

    with duckdb.connect() as connection:
        connection.sql("SET TimeZone = 'UTC'")
        for layer in LAYERS:
            connection.sql(f'CREATE SCHEMA "{layer}"')
        for name in table_names(settings):
            try:
                opened = open_table(settings, name)
            except IntegrityError:
                if name.split(".")[1] in statement.lower():
                    raise
                continue  # the others can be asked
            layer, table = name.split(".")
            connection.register(f"{layer}__{table}", pl.scan_delta(opened))
            connection.sql(f'CREATE VIEW "{layer}"."{table}" AS FROM "{layer}__{table}"')
        try:
            return _read_only(connection, statement).to_arrow_table()
        except duckdb.Error as error:
            for name in table_names(settings) if "No such file" in str(error) else ():
                if name.split(".")[1] in statement.lower():
                    require_files(settings, name)
            raise ContractViolation(_told(str(error)), code="SQL") from error


def _read_only(connection: duckdb.DuckDBPyConnection, statement: str) -> duckdb.DuckDBPyRelation:
    """The result of a statement that reads."""
    import duckdb

    found = connection.extract_statements(statement)
    reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(found) != 1 or found[0].type not in reading:
        raise ContractViolation("One statement that reads is needed", code="SQL")
    connection.sql("SET enable_external_access = false")
    return connection.sql(statement)


def _told(text: str) -> str:
    """The first line, and the names that DuckDB suggests below it."""
    lines = [line.strip() for line in text.strip().splitlines()]
    hints = [line for line in lines[1:] if line.startswith(("Candidate", "Did you mean"))]
    return " ".join([lines[0], *hints])


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
