"""What tables there are and what is in them, read from the Delta logs without Spark."""

from __future__ import annotations

from typing import Any

import attrs
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from contracts.errors import ContractViolation, IntegrityError
from contracts.limits import UPLOAD_ALERTS
from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs import delta

TROUBLED_STATES = ("QUARANTINED", "PARTIAL", "PENDING")
_TROUBLE_COLUMNS = (
    "state",
    "reason_code",
    "reason",
    "fault_offset",
    "recovered_messages",
    "lost_messages",
    "flags",
    "recording_id",
    "sha256",
    "uri",
    "size_bytes",
    "updated_ns",
)


@attrs.frozen
class TableState:
    """A table as its log describes it.

    Attributes:
        name: `layer.table`.
        rows: Of the latest version.
        version: The latest; -1 of a damaged table.
        files: Of the latest version.
        size_bytes: Of these files.
        description: What a row is.
        damage: What is wrong with its log; empty if nothing is.
    """

    name: str
    rows: int
    version: int
    files: int
    size_bytes: int
    description: str
    damage: str = ""


def open_table(settings: Settings, name: str, *, version: int | None = None) -> DeltaTable:
    """Open a table by `layer.table`.

    Raises:
        ContractViolation: UNKNOWN_TABLE, there is no such table in the lake.
        IntegrityError: DAMAGED_TABLE, its log can't be read.
    """
    try:
        return delta.open_table(settings, name, version=version)
    except TableNotFoundError as error:
        raise ContractViolation(
            f"There is no table {name}",
            code="UNKNOWN_TABLE",
            remedy="`drivelake tables` lists those that exist",
        ) from error


def read_table(settings: Settings, name: str, *, version: int | None = None) -> pa.Table:
    """All rows of a table as Arrow."""
    return open_table(settings, name, version=version).to_pyarrow_table()


def list_tables(settings: Settings) -> list[TableState]:
    """Every table of the lake, by layer and name; a damaged one with what is wrong with it."""
    return [_state(settings, name) for name in delta.table_names(settings)]


def count_by(settings: Settings, name: str, column: str) -> dict[str, int]:
    """Number of rows by the values of a column."""
    table = open_table(settings, name).to_pyarrow_dataset().to_table(columns=[column])
    counted = pl.from_arrow(table)
    assert isinstance(counted, pl.DataFrame)
    return dict(counted.group_by(column).len().sort(column).iter_rows())


def troubled_uploads(settings: Settings) -> list[dict[str, Any]]:
    """Uploads that were not taken whole or that a person should look at, the latest first.

    Each with state, reason code and reason, first faulty byte, messages recovered and lost, flags,
    hash and uri.
    """
    if "bronze.uploads" not in delta.table_names(settings):
        return []
    is_broken = pc.field("state").isin(TROUBLED_STATES)
    is_flagged = pc.list_value_length(pc.field("flags")) > 0
    found = delta.read_where(
        settings, "bronze.uploads", is_broken | is_flagged, columns=_TROUBLE_COLUMNS
    )
    return [
        row
        for row in found.sort_by([("updated_ns", "descending")]).to_pylist()
        if row["state"] in TROUBLED_STATES or UPLOAD_ALERTS.intersection(row["flags"])
    ]


def _state(settings: Settings, name: str) -> TableState:
    contract = TABLES.get(name)
    description = contract.description if contract else "One row is a message of this type."
    try:
        table = open_table(settings, name)
    except IntegrityError as error:
        return TableState(name, 0, -1, 0, 0, description, damage=error.what)
    actions = pa.table(table.get_add_actions(flatten=True))
    return TableState(
        name=name,
        rows=sum(actions["num_records"].to_pylist()),
        version=table.version(),
        files=actions.num_rows,
        size_bytes=sum(actions["size_bytes"].to_pylist()),
        description=description,
    )
