"""Delta tables opened without Spark; light, for commands that must answer at once."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from contracts.errors import IntegrityError
from contracts.settings import Settings
from contracts.tables import LAYERS, table_uri
from spark_jobs.storage import filesystem_of


def open_table(settings: Settings, name: str, *, version: int | None = None) -> DeltaTable:
    """A table by `layer.table`, at its latest version or a pinned one.

    Raises:
        TableNotFoundError: It was never made.
        IntegrityError: DAMAGED_TABLE, its log can't be read.
    """
    uri = table_uri(settings.lake_uri, name)
    try:
        return DeltaTable(
            uri, version=version, storage_options=dict(settings.storage_options) or None
        )
    except TableNotFoundError:
        raise
    except DeltaError as error:
        raise IntegrityError(
            f"the log of {name} can't be read: {str(error).splitlines()[0]}",
            code="DAMAGED_TABLE",
            uri=uri,
            remedy="Restore the file of _delta_log that is damaged or gone",
        ) from error


def table_names(settings: Settings) -> list[str]:
    """Names `layer.table` of every table of the lake."""
    filesystem, root = filesystem_of(
        settings.lake_uri.rstrip("/"), storage_options=settings.storage_options
    )
    names = []
    for layer in LAYERS:
        selector = pafs.FileSelector(f"{root}/{layer}", allow_not_found=True)
        for entry in filesystem.get_file_info(selector):
            log = filesystem.get_file_info(f"{entry.path}/_delta_log")
            if log.type == pafs.FileType.Directory:
                names.append(f"{layer}.{entry.base_name}")
    return sorted(names, key=lambda name: (LAYERS.index(name.split(".")[0]), name))


def read_where(
    settings: Settings,
    name: str,
    condition: pc.Expression,
    *,
    columns: Sequence[str] | None = None,
    version: int | None = None,
) -> pa.Table:
    """Rows of a table that meet a condition, which asks for no other columns than those read.

    The condition is not pushed into the scan: files and statistics of delta-rs hold string views,
    which pyarrow 25 can't compare with strings. Batch by batch the memory stays bounded.
    """
    dataset = open_table(settings, name, version=version).to_pyarrow_dataset()
    names = list(columns or dataset.schema.names)
    kept = [
        pa.Table.from_batches([batch]).filter(condition)
        for batch in dataset.to_batches(columns=names)
    ]
    schema = pa.schema([dataset.schema.field(name) for name in names])
    return pa.concat_tables(kept) if kept else schema.empty_table()


def require_files(settings: Settings, name: str) -> None:
    """Check that every file which the latest version names is there.

    Raises:
        IntegrityError: MISSING_FILE, with the first that is not.
    """
    table = open_table(settings, name)
    root = table_uri(settings.lake_uri, name)
    filesystem, place = filesystem_of(root, storage_options=settings.storage_options)
    paths = table.get_add_actions(flatten=True).column("path").to_pylist()
    for path, info in zip(
        paths, filesystem.get_file_info([f"{place}/{path}" for path in paths]), strict=True
    ):
        if not info.is_file:
            raise IntegrityError(
                f"version {table.version()} of {name} names a file that is not there",
                code="MISSING_FILE",
                uri=f"{root}/{path}",
                remedy="Restore it; RESTORE the table to an older version if nobody has it",
            )
