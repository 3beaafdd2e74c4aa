"""A Delta table as an asset: its spec from the contract, its metadata from the Delta log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.column_lineage import column_lineage
from assets.failures import ErrorRetries
from assets.partitions import ingest_days
from assets.table_state import table_state
from contracts.limits import RANGES, value_set
from contracts.open_contract import sql_type
from contracts.settings import Settings
from contracts.tables import TABLES, TableContract, table_uri

if TYPE_CHECKING:
    from spark_jobs.report import JobReport

RETRIES = ErrorRetries(
    max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
SPARK_POOL = "spark"
COMPUTE_POOL = "compute"


def key_of(name: str) -> dg.AssetKey:
    """Asset key of a table: `silver.frames` is [silver, frames]."""
    return dg.AssetKey(name.split("."))


def table_spec(
    name: str,
    *,
    group: str,
    deps: Iterable[str] = (),
    kinds: Iterable[str] = ("spark", "deltalake"),
) -> dg.AssetSpec:
    """Spec of a table of the contracts; partitioned by ingest day if the table is.

    Args:
        name: `layer.table`.
        group: Group within the layer.
        deps: Tables and other assets that it is made of, as `layer.name`.
        kinds: What makes and keeps it.
    """
    contract = TABLES[name]
    return dg.AssetSpec(
        key_of(name),
        deps=[key_of(dep) for dep in deps],
        description=contract.description,
        group_name=f"{contract.layer}/{group}",
        kinds=set(kinds),
        owners=[contract.owner],
        partitions_def=ingest_days if "ingest_date" in contract.partition_by else None,
        metadata={
            "dagster/table_name": contract.name,
            "dagster/column_schema": column_schema(contract),
        },
    )


def column_schema(contract: TableContract) -> dg.TableSchema:
    """Columns with their SQL types, comments and constraints."""
    keys = ", ".join(contract.keys)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                sql_type(field.type),
                description=(field.metadata or {}).get(b"comment", b"").decode(),
                constraints=dg.TableColumnConstraints(
                    nullable=field.name not in contract.required,
                    unique=contract.keys == (field.name,),
                    other=_constraints(contract, field.name),
                ),
            )
            for field in contract.schema
        ],
        constraints=dg.TableConstraints(other=[f"({keys}) is unique"] if keys else []),
    )


def _constraints(contract: TableContract, column: str) -> list[str]:
    found = []
    if values := value_set(contract.name, column):
        found.append(f"one of {', '.join(values)}")
    if limits := RANGES.get(column):
        low, high = limits
        found.append(
            f"{'' if low is None else f'{low:g} ≤ '}value{'' if high is None else f' ≤ {high:g}'}"
        )
    return found


def table_metadata(settings: Settings, name: str, *, day: dt.date | None = None) -> dict[str, Any]:
    """What the Delta log says of a table: version, rows, files, bytes, place.

    Args:
        settings: The deployment.
        name: `layer.table`, which exists.
        day: Ingest day whose rows are counted too.
    """
    state = table_state(settings, name, day=day)
    found: dict[str, Any] = {
        "dagster/uri": table_uri(settings.lake_uri, name),
        "dagster/row_count": state.rows,
        "delta/version": state.version,
        "delta/files": state.files,
        "delta/size_bytes": state.size_bytes,
    }
    if day is not None:
        found["dagster/partition_row_count"] = state.day_rows
    return found


def table_result(
    settings: Settings,
    name: str,
    *,
    day: dt.date | None = None,
    more: Mapping[str, Any] | None = None,
) -> dg.MaterializeResult[None]:
    """Result of an asset that is a table.

    Args:
        settings: The deployment.
        name: `layer.table`.
        day: Ingest day of the run.
        more: Metadata beside that of the table.
    """
    return dg.MaterializeResult(
        asset_key=key_of(name),
        metadata={
            **table_metadata(settings, name, day=day),
            **column_lineage(name),
            **(more or {}),
        },
    )


def job_metadata(report: JobReport) -> dict[str, Any]:
    """What a Spark job says of its run."""
    return {
        "job/rows_written": report.rows,
        "job/committed": report.committed,
        "job/drives": len(report.drives),
        "job/seconds": report.seconds,
    }
