"""Parquet files that workers write themselves, with all that a Delta commit must say of them.

Nobody sees a part before `spark_jobs.commit` names it. The writer answers for what Spark would
check: exact schema, partition values, statistics.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from contracts.errors import SchemaMismatchError
from contracts.tables import table_uri
from spark_jobs.storage import filesystem_of, is_local

ROW_GROUP_BYTES = 32 << 20
"""Memory that one open file holds back at most."""
PARTITION_COLUMN = "ingest_date"
STATISTICS_COLUMNS = frozenset(
    {
        "recording_id",
        "channel_id",
        "sequence",
        "log_time_ns",
        "publish_time_ns",
        "sensor_time_ns",
        "unit_offset",
        "drive_id",
        "batch_id",
        "sha256",
        "schema_hash",
        "chunk_index",
        "offset",
        "start_ns",
        "end_ns",
        "first_ns",
        "last_ns",
        "t_ns",
        "camera_recording_id",
        "camera_log_time_ns",
        "valid_from_ns",
        "valid_to_ns",
        "label_id",
        "dataset_id",
        "sample_id",
        "bundle_id",
        "created_ns",
        "ingested_ns",
    }
)
"""The only columns with minima and maxima in the log: no personal data, no free text."""


@attrs.frozen
class Part:
    """A Parquet file that is written and not committed yet.

    Attributes:
        table: `layer.table`.
        path: Relative to the table, as it goes into the log.
        size_bytes: Size of the file.
        rows: Rows in it.
        ingest_date: Its partition, ISO.
        modified_ms: When it was written, UTC.
        stats: Statistics as Delta keeps them, JSON.
    """

    table: str
    path: str
    size_bytes: int
    rows: int
    ingest_date: str
    modified_ms: int
    stats: str


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch, when its columns are exactly the schema's in name, order and type.

    Raises:
        SchemaMismatchError: Naming the first column that differs.
    """
    given = batch.schema.remove_metadata()
    if not given.equals(schema.remove_metadata()):
        for mine, wanted in zip(given, schema, strict=False):
            if mine.name != wanted.name or mine.type != wanted.type:
                what = f"column {mine.name} {mine.type} where {wanted.name} {wanted.type} belongs"
                raise SchemaMismatchError(what)
        if len(given) != len(schema):
            raise SchemaMismatchError(f"{len(given)} columns, the table has {len(schema)}")
    return batch.cast(schema) if given != schema else batch


class PartWriter:
    """One Parquet file of a table and an ingest day, filled batch by batch in bounded memory.

    On disk it grows under a hidden name and is renamed when it is whole; on S3 it appears when its
    upload completes. Left by an exception, it deletes what it wrote.
    """

    def __init__(
        self,
        table: str,
        *,
        lake_uri: str,
        schema: pa.Schema,
        ingest_date: dt.date,
        batch_id: str,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        """Name the file; nothing is opened before the first batch."""
        self.table = table
        self._schema = schema
        self._columns = pa.schema([field for field in schema if field.name != PARTITION_COLUMN])
        self._day = ingest_date
        self._lake_uri = lake_uri
        self._options = storage_options
        self.path = f"{folder_of_batch(ingest_date, batch_id)}/{uuid4().hex}.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._metadata: list[Any] = []
        self._held: list[pa.RecordBatch] = []
        self.held_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows.

        Raises:
            SchemaMismatchError: Columns differ from the table's, or a row is of another day.
        """
        if batch.num_rows == 0:
            return
        batch = conform(batch, self._schema)
        days = batch.column(PARTITION_COLUMN)
        if days.null_count or pc.any(pc.not_equal(days, self._day)).as_py():
            raise SchemaMismatchError(f"{PARTITION_COLUMN} is not {self._day} in every row")
        self._held.append(batch.select(self._columns.names))
        self.held_bytes += batch.nbytes
        if self.held_bytes >= ROW_GROUP_BYTES:
            self.flush()

    def close(self) -> Part | None:
        """Finish the file; None if no row was written."""
        self.flush()
        if self._writer is None:
            return None
        self._writer.close()
        self._stream.close()
        if self._temporary is not None:
            _make_durable(self._temporary, self._place)
        size = self._filesystem.get_file_info(self._place).size
        return Part(
            table=self.table,
            path=self.path,
            size_bytes=size,
            rows=self._metadata[0].num_rows,
            ingest_date=self._day.isoformat(),
            modified_ms=time.time_ns() // 1_000_000,
            stats=_statistics(self._metadata[0], statistics_columns(self._columns)),
        )

    def abort(self) -> None:
        """Delete what was written."""
        self._held, self.held_bytes = [], 0
        if self._writer is not None:
            self._writer.close()
            self._stream.close()
            delete_file(self._filesystem, self._temporary or self._place)
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Delete the file if the block failed."""
        if kind is not None:
            self.abort()

    def flush(self) -> None:
        """Write what is held as a row group."""
        if not self._held:
            return
        if self._writer is None:
            self._open()
        table = pa.Table.from_batches(self._held, self._columns)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))  # type: ignore[union-attr]
        self._held, self.held_bytes = [], 0

    def _open(self) -> None:
        uri = f"{table_uri(self._lake_uri, self.table)}/{self.path}"
        self._filesystem, self._place = filesystem_of(uri, storage_options=self._options)
        self._temporary = None
        if is_local(uri):
            place = Path(self._place)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = str(place.with_name(f".{place.name}.tmp"))
        self._stream = self._filesystem.open_output_stream(self._temporary or self._place)
        strings = [field.name for field in self._columns if pa.types.is_string(field.type)]
        self._writer = pq.ParquetWriter(
            self._stream,
            self._columns.remove_metadata(),
            compression="zstd",
            use_dictionary=strings or False,
            store_schema=False,
            metadata_collector=self._metadata,
        )


def statistics_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Columns of a table whose statistics go into the Delta log, in the table's order."""
    simple = (pa.types.is_integer, pa.types.is_string)
    return tuple(
        field.name
        for field in schema
        if field.name in STATISTICS_COLUMNS and any(test(field.type) for test in simple)
    )


def _statistics(metadata: Any, columns: Sequence[str]) -> str:
    """Delta statistics of some columns from the Parquet footer.

    Source: Delta protocol, per-file statistics.
    """
    ordinals = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    minima: dict[str, Any] = {}
    maxima: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in columns:
        groups = [
            metadata.row_group(g).column(ordinals[name]).statistics
            for g in range(metadata.num_row_groups)
        ]
        if any(group is None or not group.has_null_count for group in groups):
            continue
        nulls[name] = sum(group.null_count for group in groups)
        bounds = [group for group in groups if group.has_min_max]
        if bounds:
            minima[name] = min(group.min for group in bounds)
            maxima[name] = max(group.max for group in bounds)
    return json.dumps(
        {
            "numRecords": metadata.num_rows,
            "minValues": minima,
            "maxValues": maxima,
            "nullCount": nulls,
        }
    )


def _make_durable(temporary: str, place: str) -> None:
    """On the disk before it has its name: a commit that names it outlives a power cut."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    Path(temporary).rename(place)


def delete_file(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a file; one that is not there is as good."""
    try:
        filesystem.delete_file(path)
    except FileNotFoundError:
        return


def folder_of_batch(ingest_date: dt.date, batch_id: str) -> str:
    """Where a batch's parts lie in a table: a listing finds them all, committed or not."""
    return f"{PARTITION_COLUMN}={ingest_date.isoformat()}/{batch_id[:16]}"
