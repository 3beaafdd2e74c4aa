"""All reads and writes of whole tables. Tables are external Delta tables under the lake's URI.

Bronze and the message tables of silver are written by delta-rs alone (`spark_jobs.commit`), the
others by Spark alone: one engine writes one table. Spark's catalogue names them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from contracts.errors import ContractViolation, SchemaMismatchError
from contracts.ids import canonical_json
from contracts.settings import Settings
from contracts.tables import LAYERS, TABLES, TableContract, table_uri
from spark_jobs.delta import open_table, read_where
from spark_jobs.evolution import change_of, differences
from spark_jobs.parts import statistics_columns
from spark_jobs.storage import filesystem_of, is_local, spark_location

VERSIONS_KEPT = frozenset({"silver.clocks", "silver.frames"})
"""Tables whose old versions others name: the log does not forget them, nor a VACUUM by itself."""
_RETENTION = ("delta.logRetentionDuration", "delta.deletedFileRetentionDuration")
_INSERT_ATTEMPTS = 20
_REPLACE_ATTEMPTS = 20


def message_contract(table: str, schema: pa.Schema, *, schema_name: str = "") -> TableContract:
    """The contract of the silver table of a message type that has no kind of its own."""
    name = f"silver.{table}"
    return TABLES.get(name) or TableContract(
        name=name,
        description=f"One row is a message of type {schema_name or table}.",
        schema=schema,
        keys=("recording_id", "channel_id", "sequence", "log_time_ns"),
        required=("recording_id", "channel_id", "topic", "log_time_ns", "ingest_date"),
    )


def table_exists(settings: Settings, name: str) -> bool:
    """Whether the table has a Delta log."""
    uri = table_uri(settings.lake_uri, name)
    return DeltaTable.is_deltatable(uri, storage_options=dict(settings.storage_options))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as Delta keeps it, without comments: for comparison by value."""
    return pa.schema(Schema.from_arrow(schema.remove_metadata()).to_arrow()).remove_metadata()


def stored_schema(table: DeltaTable) -> pa.Schema:
    """Arrow schema of a table as it stands in the log, comments dropped."""
    return pa.schema(table.schema().to_arrow()).remove_metadata()


def create_table(settings: Settings, contract: TableContract) -> DeltaTable:
    """Make the Delta table if it is not there; of two that race, one makes it.

    A table that lacks columns of its contract gets them; the rows that are there have nulls in
    them. The table of a message type may have more columns than a definition of the type, and its
    structs may get fields; those of a contract, whose rows go by position in Spark, may not.

    Raises:
        SchemaMismatchError: It is there with columns that do not fit the contract.
    """
    if not table_exists(settings, contract.name):
        _create(settings, contract)
    is_contract = contract.name in TABLES
    fitting = ("same",) if is_contract else ("same", "narrower")
    while True:
        table = open_table(settings, contract.name)
        found = differences(stored_schema(table), plain_schema(contract.schema))
        change = change_of(found)
        if change in fitting:
            return table
        grown = dict.fromkeys(difference.path[0] for difference in found)
        if change != "additive" or (is_contract and any(len(one.path) > 1 for one in found)):
            raise SchemaMismatchError(
                f"{contract.name} has other columns than its contract: "
                f"{', '.join(map(str, found))}",
                uri=table_uri(settings.lake_uri, contract.name),
            )
        fields = Schema.from_arrow(
            pa.schema([contract.schema.field(name) for name in grown])
        ).fields
        try:
            table.alter.add_columns(fields)  # to structs, the fields that they lack
        except CommitFailedError:
            if open_table(settings, contract.name).schema() == table.schema():
                raise  # it was no rival who added columns


def _create(settings: Settings, contract: TableContract) -> None:
    uri = table_uri(settings.lake_uri, contract.name)
    if is_local(uri):
        filesystem, path = filesystem_of(uri)
        filesystem.create_dir(path, recursive=True)
    statistics = statistics_columns(contract.schema)
    configuration: dict[str, str | None] = (
        {"delta.dataSkippingStatsColumns": ",".join(statistics)}
        if statistics
        else {"delta.dataSkippingNumIndexedCols": "0"}
    )
    if contract.name in VERSIONS_KEPT:
        configuration |= dict.fromkeys(_RETENTION, "interval 3650 days")
    try:
        DeltaTable.create(
            uri,
            Schema.from_arrow(contract.schema),
            mode="error",
            partition_by=list(contract.partition_by),
            name=contract.table,
            description=contract.description,
            configuration=configuration,
            storage_options=dict(settings.storage_options) or None,
        )
    except DeltaError:
        if not table_exists(settings, contract.name):
            raise


def ensure_table(spark: SparkSession, settings: Settings, contract: TableContract) -> None:
    """Make a table if it is not there and name it in the catalogue.

    Raises:
        SchemaMismatchError: It is there with other columns.
    """
    create_table(settings, contract)
    register_tables(spark, settings, [contract.name])


def register_tables(spark: SparkSession, settings: Settings, names: Iterable[str]) -> list[str]:
    """Name Delta tables in Spark's catalogue, as far as they exist; gives those new to it.

    Raises:
        ContractViolation: OTHER_LAKE, the names stand for the tables of another lake already.
    """
    wanted = sorted(set(names))
    layers = sorted({name.split(".", 1)[0] for name in wanted})
    for layer in layers:
        _claim_schema(spark, layer, spark_location(settings.lake_uri.rstrip("/")))
    known = {
        f"{layer}.{row.tableName}"
        for layer in layers
        for row in spark.sql(f"SHOW TABLES IN {layer}").collect()
    }
    new = [name for name in wanted if name not in known and table_exists(settings, name)]
    # One script is one thread of the server: each new one opens the catalogue anew (40 % of it).
    statements = [
        f"CREATE TABLE IF NOT EXISTS {name} USING DELTA "
        f"LOCATION '{_quoted(spark_location(table_uri(settings.lake_uri, name)))}';"
        for name in new
    ]
    if statements:
        spark.sql("\n".join(["BEGIN", *statements, "END"])).collect()
    return new


def register_existing(spark: SparkSession, settings: Settings) -> list[str]:
    """Name every Delta table that the lake holds: a new catalogue over an old lake."""
    return register_tables(spark, settings, _table_folders(settings))


def list_tables(settings: Settings) -> list[str]:
    """Names of the Delta tables that the lake holds, sorted."""
    return [name for name in _table_folders(settings) if table_exists(settings, name)]


def _table_folders(settings: Settings) -> list[str]:
    """Names of what looks like a table: a folder in that of a layer."""
    found = []
    for layer in LAYERS:
        uri = f"{settings.lake_uri.rstrip('/')}/{layer}"
        filesystem, path = filesystem_of(uri, storage_options=settings.storage_options)
        selector = pafs.FileSelector(path, allow_not_found=True)
        folders = [
            item.base_name
            for item in filesystem.get_file_info(selector)
            if item.type == pafs.FileType.Directory
        ]
        found += [f"{layer}.{folder}" for folder in folders]
    return sorted(found)


def table_version(settings: Settings, name: str) -> int:
    """Latest Delta version of a table."""
    return open_table(settings, name).version()


def table_versions(settings: Settings, names: Iterable[str]) -> dict[str, int]:
    """Latest Delta version by table; tables that are not there are left out."""
    return {name: table_version(settings, name) for name in names if table_exists(settings, name)}


def read(spark: SparkSession, name: str, *, version: int | None = None) -> DataFrame:
    """A table as a DataFrame, at its latest version or a pinned one."""
    if version is None:
        return spark.table(name)
    return spark.read.option("versionAsOf", version).table(name)


def read_arrow(
    settings: Settings,
    name: str,
    *,
    columns: Sequence[str] | None = None,
    filters: Sequence[tuple[str, str, object]] | None = None,
    version: int | None = None,
) -> pa.Table:
    """A table, or some columns and rows of it, without Spark: for small reads with low latency.

    Args:
        settings: Where the lake is.
        name: `layer.table`.
        columns: All by default, in the table's order.
        filters: Conjunction of (column, operator, value), as pyarrow's Parquet filters.
        version: Latest by default.
    """
    if not filters:
        dataset = open_table(settings, name, version=version).to_pyarrow_dataset()
        return dataset.to_table(columns=list(columns or dataset.schema.names))
    condition = pq.filters_to_expression(list(filters))
    if columns is None:
        return read_where(settings, name, condition, version=version)
    needed = list(dict.fromkeys([*columns, *(column for column, _, _ in filters)]))
    found = read_where(settings, name, condition, columns=needed, version=version)
    return found.select(list(columns))


def replace_rows(
    spark: SparkSession, settings: Settings, name: str, df: DataFrame, *, where: str
) -> int:
    """Replace the rows of `where` by those of `df` in one commit.

    Of two clients that race for the same rows the later one stands, whole; one that meets a rival
    begins again from the table as the rival left it.

    Args:
        spark: Session.
        settings: Where the lake is.
        name: `layer.table`; made if it is one of the contracts and not there.
        df: All rows must hold to `where`; Delta checks it.
        where: Predicate over the table's columns; no personal data, it stays in the log.

    Returns:
        The table's version afterwards.

    Raises:
        SchemaMismatchError: Columns of `df` differ from the table's in name or type.
        PySparkException: The write failed, or rivals changed the table again and again.
    """
    if name in TABLES:
        ensure_table(spark, settings, TABLES[name])
    rows = conformed(df, spark.table(name))
    for attempt in range(1, _REPLACE_ATTEMPTS + 1):
        try:
            (
                rows.write.format("delta")
                .mode("overwrite")
                .option("replaceWhere", where)
                .save(spark_location(table_uri(settings.lake_uri, name)))
            )
            break
        except PySparkException as error:
            if attempt == _REPLACE_ATTEMPTS or not _is_rivalry(error):
                raise
    return table_version(settings, name)


def _is_rivalry(error: PySparkException) -> bool:
    """Whether Delta refused a commit because another one came first."""
    return (error.getCondition() or "").startswith("DELTA_CONCURRENT")


def store_rows(
    spark: SparkSession, settings: Settings, name: str, rows: pa.Table, *, identity: Sequence[str]
) -> bool:
    """Make some rows the rows of their identity; False, and no commit, where they are already.

    For small tables.

    Args:
        spark: Session.
        settings: Where the lake is.
        name: `layer.table`, one of the contracts.
        rows: At least one; all equal in the columns of `identity`.
        identity: Columns of text that name what the rows belong to.
    """
    create_table(settings, TABLES[name])
    [of] = rows.select(identity).group_by(identity).aggregate([]).to_pylist()
    filters = [(column, "=", value) for column, value in of.items()]
    if _as_set(read_arrow(settings, name, filters=filters)) == _as_set(rows):
        return False
    replace_rows(
        spark,
        settings,
        name,
        spark.createDataFrame(rows.to_pylist(), from_arrow_schema(rows.schema)),
        where=" AND ".join(is_one_of(column, [value]) for column, value in of.items()),
    )
    return True


def _as_set(rows: pa.Table) -> set[bytes]:
    return {canonical_json(row) for row in rows.to_pylist()}


def is_one_of(column: str, values: Iterable[str]) -> str:
    """SQL predicate `column IN (…)` with its literals quoted."""
    quoted = ", ".join(
        "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" for value in values
    )
    return f"{column} IN ({quoted})"


def merge_rows(
    spark: SparkSession, settings: Settings, name: str, df: DataFrame, *, keys: Sequence[str]
) -> int:
    """Update the rows that `df` matches by `keys`, insert the others; gives the version after.

    Raises:
        SchemaMismatchError: Columns of `df` differ from the table's in name or type.
    """
    if name in TABLES:
        ensure_table(spark, settings, TABLES[name])
    source = f"source_{uuid4().hex}"
    conformed(df, spark.table(name)).createOrReplaceTempView(source)
    condition = " AND ".join(f"target.{key} <=> source.{key}" for key in keys)
    try:
        spark.sql(
            f"MERGE INTO {name} AS target USING {source} AS source ON {condition} "
            "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        ).collect()
    finally:
        spark.catalog.dropTempView(source)
    return table_version(settings, name)


def insert_new(
    settings: Settings,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str,
    fill: str | None = None,
) -> None:
    """Insert the rows whose key the table does not have; the others are left as they are.

    For small tables that delta-rs writes.

    Args:
        settings: Where the lake is.
        name: `layer.table`, one of the contracts.
        rows: One a key.
        key: Column that names a row.
        fill: Column that is set in a row that is there, if it is null there and not here.

    Raises:
        CommitFailedError: Rivals changed the table again and again.
    """
    columns = [key, fill] if fill else [key]
    for attempt in range(_INSERT_ATTEMPTS):
        table = open_table(settings, name)
        known = {row[key]: row for row in table.to_pyarrow_table(columns=columns).to_pylist()}
        new = [
            dict(row)
            for row in rows
            if row[key] not in known
            or (fill and known[row[key]][fill] is None and row[fill] is not None)
        ]
        if not new:
            return
        merger = table.merge(
            pa.Table.from_pylist(new, schema=TABLES[name].schema),
            predicate=f"target.{key} = source.{key}",
            source_alias="source",
            target_alias="target",
        ).when_not_matched_insert_all()
        if fill:
            merger = merger.when_matched_update({fill: f"source.{fill}"})
        try:
            merger.execute()
        except CommitFailedError:
            if attempt + 1 == _INSERT_ATTEMPTS:
                raise
            continue
        return


def conformed(df: DataFrame, like: DataFrame) -> DataFrame:
    """The columns of `df` in the order of `like`, nothing cast.

    Raises:
        SchemaMismatchError: A name or type differs.
    """
    given = {field.name: field.dataType.simpleString() for field in df.schema}
    wanted = {field.name: field.dataType.simpleString() for field in like.schema}
    if given != wanted:
        differing = {
            name: (given.get(name), wanted.get(name))
            for name in given.keys() | wanted.keys()
            if given.get(name) != wanted.get(name)
        }
        raise SchemaMismatchError(f"columns (given, wanted) differ: {differing}")
    return df.select(*wanted)


def _claim_schema(spark: SparkSession, layer: str, lake: str) -> None:
    """Make the schema of a layer; its comment says whose tables it names."""
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {layer} COMMENT '{_quoted(lake)}'").collect()
    about = {row[0]: row[1] for row in spark.sql(f"DESCRIBE SCHEMA {layer}").collect()}
    if not about.get("Comment"):
        spark.sql(f"COMMENT ON SCHEMA {layer} IS '{_quoted(lake)}'").collect()
    elif about["Comment"] != lake:
        raise ContractViolation(
            f"The schema {layer} of this Spark server names the tables of {about['Comment']}",
            code="OTHER_LAKE",
            uri=lake,
            remedy="Give each lake a server with a home of its own",
        )


def _quoted(text: str) -> str:
    """Text for a SQL literal."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
