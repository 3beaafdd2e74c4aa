"""Worker-side Parquet and the one commit that makes it visible.

Workers write finished files that nobody sees; the driver names them all in one Delta commit that
carries the identity of its batch, so a repeat commits nothing. The writer answers for what Spark
would check: exact schema, partition values, statistics.
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
from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from contracts.errors import PlatformError, SchemaMismatchError
from contracts.settings import Settings
from contracts.tables import table_uri
from spark_jobs.storage import filesystem_of, is_local
from spark_jobs.tables import open_table, statistics_columns

ROW_GROUP_BYTES = 32 << 20
"""Memory that one open file holds back at most."""
PARTITION_COLUMN = "ingest_date"


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
        self.path = (
            f"{PARTITION_COLUMN}={ingest_date.isoformat()}/{batch_id[:16]}/{uuid4().hex}.parquet"
        )
        self._writer: pq.ParquetWriter | None = None
        self._metadata: list[Any] = []
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0

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
        self._held_bytes += batch.nbytes
        if self._held_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> Part | None:
        """Finish the file; None if no row was written."""
        self._flush()
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
        self._held, self._held_bytes = [], 0
        if self._writer is not None:
            self._writer.close()
            self._stream.close()
            _delete(self._filesystem, self._temporary or self._place)
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

    def _flush(self) -> None:
        if not self._held:
            return
        if self._writer is None:
            self._open()
        table = pa.Table.from_batches(self._held, self._columns)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))  # type: ignore[union-attr]
        self._held, self._held_bytes = [], 0

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


def write_rows(
    settings: Settings, name: str, rows: pa.Table, *, ingest_date: dt.date, batch_id: str
) -> list[Part]:
    """Write a table of the driver as one part; none if it has no rows."""
    with PartWriter(
        name,
        lake_uri=settings.lake_uri,
        schema=rows.schema,
        ingest_date=ingest_date,
        batch_id=batch_id,
        storage_options=settings.storage_options,
    ) as writer:
        for batch in rows.to_batches():
            writer.write(batch)
        part = writer.close()
    return [part] if part else []


def commit_parts(
    settings: Settings, name: str, parts: Sequence[Part], *, app_id: str, version: int = 1
) -> bool:
    """Make parts visible in one commit; False if this identity had committed before.

    Raises:
        PlatformError: PART_MISSING, a file that was written is not there any more.
        CommitFailedError: The storage or the log refused, and not because of a repeat.
    """
    table = open_table(settings, name)
    if _is_done(table.transaction_version(app_id), version):
        return False
    _check_files(settings, name, parts)
    try:
        table.create_write_transaction(
            [_add_action(part) for part in parts],
            mode="append",
            schema=table.schema(),
            partition_by=[PARTITION_COLUMN],
            commit_properties=CommitProperties(
                app_transactions=[Transaction(app_id, version)], max_commit_retries=100
            ),
        )
    except CommitFailedError:
        if _is_done(open_table(settings, name).transaction_version(app_id), version):
            return False  # a rival that works on the same batch was quicker
        raise
    return True


def remove_orphans(settings: Settings, name: str, *, ingest_date: dt.date, batch_id: str) -> int:
    """Delete the files of a committed batch that its commit does not name; gives their number.

    Only to be called when the table has this batch's commit: what is not in it never will be.
    """
    folder = f"{PARTITION_COLUMN}={ingest_date.isoformat()}/{batch_id[:16]}"
    filesystem, path = filesystem_of(
        f"{table_uri(settings.lake_uri, name)}/{folder}", storage_options=settings.storage_options
    )
    found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    if not found:
        return 0
    adds = pa.table(open_table(settings, name).get_add_actions(flatten=True))
    kept = {Path(str(item)).name for item in adds.column("path").to_pylist() if folder in str(item)}
    orphans = [item.path for item in found if item.base_name not in kept]
    for orphan in orphans:
        _delete(filesystem, orphan)
    return len(orphans)


def _is_done(committed: int | None, version: int) -> bool:
    return committed is not None and committed >= version


def _add_action(part: Part) -> AddAction:
    return AddAction(
        path=part.path,
        size=part.size_bytes,
        partition_values={PARTITION_COLUMN: part.ingest_date},
        modification_time=part.modified_ms,
        data_change=True,
        stats=part.stats,
    )


def _check_files(settings: Settings, name: str, parts: Sequence[Part]) -> None:
    """A commit must never name a file that is not there: the table would not read any more."""
    filesystem, root = filesystem_of(
        table_uri(settings.lake_uri, name), storage_options=settings.storage_options
    )
    found = filesystem.get_file_info([f"{root}/{part.path}" for part in parts])
    for part, info in zip(parts, found, strict=True):
        if info.size != part.size_bytes:
            what = f"a part of {name} has {info.size} bytes, {part.size_bytes} were written"
            raise PlatformError(what, code="PART_MISSING", uri=info.path)


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


def _delete(filesystem: pafs.FileSystem, path: str) -> None:
    try:
        filesystem.delete_file(path)
    except FileNotFoundError:
        return
