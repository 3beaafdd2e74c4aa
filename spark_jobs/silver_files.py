"""Rows of silver message tables read from their Parquet files, by workers too, without the JVM.

Spark would make rows of the columns, sort them by drive over a shuffle and make columns of them
again, for Python; read where they are needed they stay columns. The driver takes the names of the
files and what they hold from the Delta log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from contracts.errors import UnsupportedFormatError
from contracts.settings import Settings
from contracts.tables import table_uri
from spark_jobs.delta import open_table
from spark_jobs.drives import tables_of_type
from spark_jobs.storage import filesystem_of
from udfs.sync.observations import OBSERVATIONS, columns_needed, observations_from
from udfs.sync.rules import SyncRules
from udfs.sync.spans import Span, hull

_ROWS_AT_ONCE = 1 << 16
_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


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
        schema: Of the columns that synchronisation needs.
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
    dataset = pads.dataset(
        [f"{root}/{each.path}" for each in files],
        schema=table.schema,
        format="parquet",
        filesystem=filesystem,
    )
    batches = dataset.to_batches(
        columns=list(columns or table.schema.names),
        filter=_condition(wanted),
        batch_size=_ROWS_AT_ONCE,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    for batch in batches:
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


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


def read_observations(
    tables: Iterable[SilverTable],
    wanted: Mapping[str, Span | None],
    *,
    rules: SyncRules,
    storage_options: Mapping[str, str],
) -> pa.Table:
    """The same in one table."""
    found = iter_observations(tables, wanted, rules=rules, storage_options=storage_options)
    return pa.concat_tables([OBSERVATIONS.empty_table(), *found])


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
        schema=pa.schema([pa.field(each.name, _plain(each.type)) for each in fields]),
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


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type as Parquet files of this lake have it: no views."""
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pa.struct([each.with_type(_plain(each.type)) for each in fields])
    return _VIEWS.get(kind, kind)


def _condition(wanted: Mapping[str, Span | None]) -> pc.Expression:
    whole = [name for name, span in wanted.items() if span is None]
    log_time = pc.field("log_time_ns")
    parts = [
        (pc.field("recording_id") == name) & (log_time >= span[0]) & (log_time < span[1])
        for name, span in wanted.items()
        if span is not None
    ]
    if whole or not parts:
        parts.append(pc.field("recording_id").isin(whole))
    condition = parts[0]
    for part in parts[1:]:
        condition = condition | part
    return condition
