"""SQL on the curated tables: through the Spark server, or through DuckDB on the same files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

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
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

Engine = Literal["spark", "duckdb"]
OutputFormat = Literal["table", "csv", "json", "parquet"]
_READS = "One statement that reads is needed"
# As Spark's lexer has blanks and comments: a backslash carries a comment on over the line's end.
# Possessive, so that no part of a comment is ever taken for a word.
_FIRST_WORD = re.compile(
    r"(?:\s++|--(?:\\\n|[^\r\n])*+|/\*(?!\+)(?>(?:(?!/\*).)*?\*/))*+(\w*+)", re.DOTALL
)
_TELLING = frozenset({"SHOW", "DESCRIBE", "DESC", "EXPLAIN"})
_ASKING = frozenset({"SELECT", "WITH", "FROM", "VALUES", "TABLE"})
_OF_DUCKDB = re.compile(r"\b(?:main|temp|system|information_schema|pg_catalog)\.|\bsqlite_|\bpg_")


def run_query(settings: Settings, statement: str, *, engine: Engine = "spark") -> pa.Table:
    """The result of one SQL statement that reads; any other is refused and changes nothing.

    Raises:
        ContractViolation: SQL, the statement is wrong, or would write; says how.
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
        pa.array([None if value is None else _cell(value) for value in column.to_pylist()])
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type)
        else column
        for column in table.columns
    ]
    pa.csv.write_csv(pa.table(columns, names=table.column_names), file)


def _cell(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else _json(value)


def json_text(table: pa.Table) -> str:
    """A JSON array of row objects; bytes as hex, as Spark shows them."""
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise ContractViolation(
            f"Two columns are named {sorted(repeated)}", code="SQL", remedy="Give each an alias"
        )
    return _json(table.to_pylist())


def _json(value: object) -> str:
    """JSON of a value that Arrow gives: bytes as hex, what JSON has no form for as text."""
    word = _WORDS.get(type(value))
    return word(value) if word else _quoted(str(value))


def _json_object(value: dict[str, object]) -> str:
    return f"{{{', '.join([f'{_quoted(key)}: {_json(item)}' for key, item in value.items()])}}}"


def _json_array(value: Sequence[object]) -> str:
    return f"[{', '.join([_json(item) for item in value])}]"


# By type: a result may have millions of values. Decimals keep their digits, which no float would.
_WORDS: Mapping[type, Callable[[Any], str]] = {
    dict: _json_object,
    list: _json_array,
    tuple: _json_array,
    str: _quoted,
    int: repr,
    float: lambda value: repr(value) if math.isfinite(value) else "null",
    Decimal: lambda value: f"{value:f}",
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
    bytes: lambda value: _quoted(value.hex()),
}


def _spark(settings: Settings, statement: str) -> pa.Table:
    from pyspark.errors import PySparkException

    from spark_jobs.session import connected
    from spark_jobs.tables import register_existing

    is_query = _reading_word(statement) not in _TELLING
    if not reachable(settings.spark_remote):
        raise SetupError(
            f"No Spark server answers at {settings.spark_remote}",
            remedy="Start it with `drivelake up`, or ask the files directly with --engine duckdb",
        )
    try:
        with connected(settings) as spark:
            if is_query:
                _require_query(spark, statement)
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
            raise IntegrityError(_spark_words(error), code="MISSING_FILE") from error
        raise ContractViolation(_spark_words(error), code="SQL") from error


def _reading_word(statement: str) -> str:
    """The first word of a statement, in capitals; ContractViolation SQL if it begins no reading."""
    found = _FIRST_WORD.match(statement)
    assert found is not None  # of no characters, at the least
    word, rest = found[1].upper(), statement[found.end() :]
    if word in _TELLING | _ASKING or (not word and rest.startswith(("(", "/*"))):
        return word
    begins = f"; this one begins with {word}" if word else ""
    raise ContractViolation(f"{_READS}{begins}", code="SQL")


def _require_query(spark: SparkSession, statement: str) -> None:
    """Let Spark's own grammar say that a statement is a query; ContractViolation SQL if it isn't.

    Only a query can be described: `WITH x AS (…) INSERT …` and `FROM t INSERT INTO …` can't.
    """
    from pyspark.errors import AnalysisException, ParseException

    try:
        spark.sql(f"DESCRIBE QUERY\n{statement}")
    except ParseException as error:
        words = re.sub(r"\(line (\d+)", lambda m: f"(line {int(m[1]) - 1}", _spark_words(error))
        raise ContractViolation(f"{_READS}: {words}", code="SQL") from error
    except AnalysisException:
        return  # a query by its grammar: it says itself what it lacks


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
        raise ContractViolation(_READS, code="SQL")
    connection.sql("SET enable_external_access = false")
    return connection.sql(statement)


def _told(text: str) -> str:
    """The first line, and the names that DuckDB suggests below it, without those of its own."""
    lines = [line.strip() for line in text.strip().splitlines()]
    hints = [
        line
        for line in lines[1:]
        if line.startswith(("Candidate", "Did you mean")) and not _OF_DUCKDB.search(line)
    ]
    return " ".join([lines[0], *hints])


def _spark_words(error: PySparkException) -> str:
    """The first line of what Spark says, without its codes."""
    line = str(error).strip().splitlines()[0]
    return re.sub(r"^\[[\w.]+\] |\.? SQLSTATE: \w+", "", line).rstrip(";").strip()
