"""The one commit that makes the parts of a batch visible, and what becomes of the others.

The driver names all parts of a table in one Delta commit that carries the identity of its batch,
so a repeat commits nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from contracts.errors import PlatformError
from contracts.settings import Settings
from contracts.tables import SILVER_KINDS, TABLES, table_uri
from spark_jobs.delta import open_table
from spark_jobs.parts import PARTITION_COLUMN, Part, PartWriter, delete_file, folder_of_batch
from spark_jobs.storage import filesystem_of
from spark_jobs.tables import list_tables


def write_rows(
    settings: Settings, name: str, rows: pa.Table, *, ingest_date: dt.date, batch_id: str
) -> Part | None:
    """Write a table of the driver as one part; None if it has no rows."""
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
        return writer.close()


def commit_parts(
    settings: Settings, name: str, parts: Sequence[Part], *, app_id: str, version: int = 1
) -> bool:
    """Make parts visible in one commit; False if this identity had committed before.

    Columns that a rival gave the table meanwhile are null in the rows of these parts.

    Raises:
        PlatformError: PART_MISSING, a file that was written is not there any more.
        CommitFailedError: The storage or the log refused, and not because of a repeat.
    """
    table = open_table(settings, name)
    while not _is_done(table.transaction_version(app_id), version):
        try:
            _check_files(settings, name, parts)
            table.create_write_transaction(
                [_add_action(part) for part in parts],
                mode="append",
                schema=table.schema(),
                partition_by=[PARTITION_COLUMN],
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(app_id, version)], max_commit_retries=100
                ),
            )
        except (CommitFailedError, PlatformError) as error:
            before, table = table, open_table(settings, name)
            if _is_done(table.transaction_version(app_id), version):
                return False  # a rival that works on the same batch was quicker
            if isinstance(error, PlatformError) or table.schema() == before.schema():
                raise
        else:
            return True
    return False


def remove_orphans(settings: Settings, name: str, *, ingest_date: dt.date, batch_id: str) -> int:
    """Delete the files of a committed batch that its commit does not name; gives their number.

    Only to be called when the table has this batch's commit: what is not in it never will be.
    """
    folder = folder_of_batch(ingest_date, batch_id)
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
        delete_file(filesystem, orphan)
    return len(orphans)


def withdraw(settings: Settings, batch_id: str, recording_ids: Sequence[str]) -> None:
    """Delete what an unfinished batch has committed of some recordings, and stop it for good.

    Whoever still works on it finds in every table that it has committed already.
    """
    app_id = app_id_of(batch_id)
    wanted = ", ".join(f"'{name}'" for name in sorted(set(recording_ids)))
    for name in filter(_is_of_ingest, list_tables(settings)):
        table = open_table(settings, name)
        if table.transaction_version(app_id) is None:
            commit_parts(settings, name, [], app_id=app_id)
        else:
            table.delete(f"recording_id IN ({wanted})")


def discard_parts(settings: Settings, parts: Sequence[Part]) -> None:
    """Delete parts that will never be committed."""
    for part in parts:
        filesystem, root = filesystem_of(
            table_uri(settings.lake_uri, part.table), storage_options=settings.storage_options
        )
        delete_file(filesystem, f"{root}/{part.path}")


def app_id_of(batch_id: str) -> str:
    """Identity of the commits of a batch of ingest."""
    return f"ingest:{batch_id}"


def _is_of_ingest(name: str) -> bool:
    """Whether batches commit parts to the table."""
    layer, table = name.split(".", 1)
    if layer == "silver":
        return table in SILVER_KINDS or name not in TABLES
    return layer == "bronze" and name not in ("bronze.uploads", "bronze.schemas")


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
