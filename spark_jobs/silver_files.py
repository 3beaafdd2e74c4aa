"""Rows of silver message tables read from their Parquet files, by workers too, without the JVM.

Spark would make rows of the columns, sort them by drive over a shuffle and make columns of them
again, for Python; read where they are needed they stay columns. The driver takes the names of the
files and what they hold from the Delta log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import UnsupportedFormatError
from contracts.settings import Settings
from contracts.tables import table_uri
from spark_jobs.delta import open_table
from spark_jobs.drives import tables_of_type
from spark_jobs.storage import filesystem_of
from udfs.sync.observations import OBSERVATIONS, WORD, columns_needed, encoded, observations_from
from udfs.sync.rules import SyncRules
from udfs.sync.spans import Span, hull

_ROWS_AT_ONCE = 1 << 16
_READ_AT_ONCE = 1 << 20
_MOST_RUNS = 256
_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
_ALWAYS: Span = (-(1 << 63), (1 << 63) - 1)


@attrs.frozen
class SilverFile:
    """A file of a table: its path in the table, and the least and greatest of its rows."""

    path: str
    recordings: tuple[str, str] | None
    log_times: Span | None

    def may_hold(self, recordings: Collection[str], within: Span | None) -> bool:
        """Whether rows of one of some recordings, logged within a half-open span, may be in it."""
        if self.recordings is not None:
            low, high = self.recordings
            if not any(low <= each <= high for each in recordings):
                return False
        if within is None or self.log_times is None:
            return True
        return self.log_times[0] < within[1] and within[0] <= self.log_times[1]


@attrs.frozen
class SilverTable:
    """A table that a role is played by, as it was when it was looked up.

    Attributes:
        role: The slug of its type.
        uri: Where it is.
        schema: Of the columns that synchronisation needs; text as dictionaries, as files hold it.
        files: All of its files, or those that matter.
    """

    role: str
    uri: str
    schema: pa.Schema
    files: tuple[SilverFile, ...]

    def as_json(self) -> list[Any]:
        """Its files for a payload; `with_files` takes them."""
        return [[each.path, each.recordings, each.log_times] for each in self.files]

    def with_files(self, files: Iterable[Any]) -> SilverTable:
        """The same with the files that `as_json` gave, read back from JSON."""
        mine = tuple(SilverFile(path, pair_of(ids), pair_of(times)) for path, ids, times in files)
        return attrs.evolve(self, files=mine)

    def holding(self, recordings: Collection[str], *, within: Span | None = None) -> SilverTable:
        """The same with only those files that may hold some rows."""
        kept = tuple(each for each in self.files if each.may_hold(recordings, within))
        return attrs.evolve(self, files=kept)


def silver_tables(
    settings: Settings, recordings: Collection[str], *, rules: SyncRules
) -> list[SilverTable]:
    """The tables that synchronisation needs, with the files that may hold some recordings."""
    return [
        silver_table(
            settings, f"silver.{name}", role=role, columns=columns_needed(role, rules=rules)
        ).holding(recordings)
        for role in sorted(rules.tables)
        for name in tables_of_type(settings, role)
    ]


def iter_rows(
    table: SilverTable,
    wanted: Mapping[str, Span | None],
    *,
    columns: Sequence[str] | None = None,
    storage_options: Mapping[str, str],
) -> Iterator[pa.Table]:
    """Rows of some recordings, in the order of the files, in memory that does not grow with them.

    Args:
        table: From `silver_tables`.
        wanted: By recording, the half-open span of its log times; None for all of them.
        columns: All that synchronisation needs by default.
        storage_options: For S3.
    """
    within = hull(wanted.values())
    files = table.holding(wanted, within=within).files
    if not files:
        return
    filesystem, root = filesystem_of(table.uri, storage_options=storage_options)
    schema = table.schema
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    read = {*schema.names, "recording_id"}
    if any(span is not None for span in wanted.values()):
        read.add("log_time_ns")
    for each in files:
        with filesystem.open_input_file(f"{root}/{each.path}") as stream:
            metadata = pq.read_metadata(stream)
            present = [name for name in metadata.schema.to_arrow_schema().names if name in read]
            # Of a column's part of a row group, however long, no more than a piece is held.
            file = pq.ParquetFile(
                stream,
                metadata=metadata,
                read_dictionary=[n for n in present if table.schema.field(n).type == WORD],
                buffer_size=_READ_AT_ONCE,
                pre_buffer=False,
            )
            batches = file.iter_batches(
                batch_size=_ROWS_AT_ONCE,
                row_groups=_groups_of(metadata, wanted, within),
                columns=present,
                use_threads=False,
            )
            for batch in batches:
                rows = _chosen(batch, wanted)
                if rows.num_rows:
                    yield _laid(rows, schema)


def _groups_of(
    metadata: pq.FileMetaData, wanted: Mapping[str, Span | None], within: Span | None
) -> list[int]:
    """Row groups that may hold what is wanted."""
    found = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        bounds: dict[str, tuple[Any, Any]] = {}
        for place in range(group.num_columns):
            column = group.column(place)
            if column.path_in_schema in {"recording_id", "log_time_ns"}:
                known = column.statistics
                if known is not None and known.has_min_max:
                    bounds[column.path_in_schema] = (known.min, known.max)
        rows = SilverFile("", bounds.get("recording_id"), bounds.get("log_time_ns"))
        if rows.may_hold(wanted, within):
            found.append(number)
    return found


def _chosen(batch: pa.RecordBatch, wanted: Mapping[str, Span | None]) -> pa.RecordBatch:
    """The rows of a batch that are wanted."""
    recording = batch.column("recording_id")
    names = recording.dictionary.to_pylist()
    if all(name in wanted and wanted[name] is None for name in names):
        return batch
    codes = recording.indices.to_numpy()
    kept = np.array([name in wanted for name in names], np.bool_)[codes]
    if any(wanted.get(name) is not None for name in names):
        spans = [wanted.get(name) or _ALWAYS for name in names]
        starts, ends = np.array(spans, np.int64).T
        log_ns = batch.column("log_time_ns").to_numpy()
        kept &= (log_ns >= starts[codes]) & (log_ns < ends[codes])
    rows = np.flatnonzero(kept)
    if not len(rows):
        return batch.slice(0, 0)
    first, end = int(rows[0]), int(rows[-1]) + 1
    if end - first == len(rows):
        return batch.slice(first, end - first)
    return batch.take(pa.array(rows))


def _laid(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """A batch with the columns of a schema; what a file was written without is null."""
    have = set(batch.schema.names)
    return pa.table(
        [
            batch.column(field.name).cast(field.type)
            if field.name in have
            else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def iter_observations(
    tables: Iterable[SilverTable],
    wanted: Mapping[str, Span | None],
    *,
    rules: SyncRules,
    storage_options: Mapping[str, str],
) -> Iterator[pa.Table]:
    """Observations of some recordings, table by table and in the order of the files."""
    for table in tables:
        for rows in iter_rows(table, wanted, storage_options=storage_options):
            yield observations_from(rows, table=table.role, rules=rules)


def by_drive(observations: Iterable[pa.Table], drives: Sequence[Collection[str]]) -> list[pa.Table]:
    """The observations of each drive, in one piece a column.

    Args:
        observations: From `iter_observations`, of all the drives, and of no other.
        drives: The recordings of each; a recording is of one drive.
    """
    place = {name: at for at, names in enumerate(drives) for name in names}
    found: list[list[pa.Table]] = [[OBSERVATIONS.empty_table()] for _ in drives]
    for part in observations:
        recording = encoded(part["recording_id"])
        # a file has the names of others in its dictionary, which no row here has
        of_word = [place.get(name, 0) for name in recording.dictionary.to_pylist()]
        of_row = np.array(of_word, np.uint16)[recording.indices.to_numpy()]
        ordered = part
        if np.count_nonzero(np.diff(of_row)) >= _MOST_RUNS:
            ordered = part.take(pa.array(np.argsort(of_row, kind="stable")))
            of_row = np.sort(of_row)
        # Files hold recording by recording, so that there is little to sort.
        edges = [0, *(np.flatnonzero(np.diff(of_row)) + 1).tolist(), len(of_row)]
        for start, end in pairwise(edges):
            if start < end:
                found[of_row[start]].append(ordered.slice(start, end - start))
    return [pa.concat_tables(parts).combine_chunks() for parts in found]


def silver_table(
    settings: Settings, name: str, *, role: str, columns: Sequence[str]
) -> SilverTable:
    """A table as it is now, with all of its files.

    Raises:
        UnsupportedFormatError: DELETION_VECTORS, rows of its files may be deleted.
    """
    table = open_table(settings, name)
    uri = table_uri(settings.lake_uri, name)
    if "deletionVectors" in (table.protocol().reader_features or ()):
        raise UnsupportedFormatError(
            f"{name} may have rows that are deleted by vector; delta-rs writes it, and none",
            code="DELETION_VECTORS",
            uri=uri,
        )
    stored = pa.schema(table.schema().to_arrow())
    fields = [stored.field(each) for each in columns]
    adds = pa.table(table.get_add_actions(flatten=True))
    return SilverTable(
        role=role,
        uri=uri,
        schema=pa.schema([pa.field(each.name, _as_read(each.type)) for each in fields]),
        files=tuple(
            SilverFile(path, recordings, log_times)
            for path, recordings, log_times in zip(
                adds["path"].to_pylist(),
                _bounds(adds, "recording_id"),
                _bounds(adds, "log_time_ns"),
                strict=True,
            )
        ),
    )


def _bounds(adds: pa.Table, column: str) -> list[tuple[object, object] | None]:
    """Least and greatest value by file; None where the log does not have them."""
    if f"min.{column}" not in adds.column_names:
        return [None] * len(adds)
    both = zip(adds[f"min.{column}"].to_pylist(), adds[f"max.{column}"].to_pylist(), strict=True)
    return [None if low is None or high is None else (low, high) for low, high in both]


def pair_of(value: Sequence[Any] | None) -> Any:
    """A span, or other pair, that was in JSON."""
    return None if value is None else (value[0], value[1])


def _as_read(kind: pa.DataType) -> pa.DataType:
    """The type that a column is read as: four bytes a row of text, since rows repeat what it is."""
    plain = _plain(kind)
    return WORD if pa.types.is_string(plain) else plain


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type as Parquet files of this lake have it: no views."""
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pa.struct([each.with_type(_plain(each.type)) for each in fields])
    return _VIEWS.get(kind, kind)
