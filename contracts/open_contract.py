"""A table contract as an Open Data Contract Standard document.

Source: ODCS 3.1.0 (Bitol), sections Fundamentals, Schema, Data quality and Team.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from contracts.limits import LIMITS, PACES, RANGES, value_set
from contracts.tables import TableContract

API_VERSION = "v3.1.0"
CONTRACT_VERSION = "1.0.0"
_SCALARS: tuple[tuple[pa.DataType, str, str], ...] = (
    (pa.string(), "string", "STRING"),
    (pa.binary(), "string", "BINARY"),
    (pa.bool_(), "boolean", "BOOLEAN"),
    (pa.date32(), "date", "DATE"),
    (pa.int8(), "integer", "TINYINT"),
    (pa.int16(), "integer", "SMALLINT"),
    (pa.int32(), "integer", "INT"),
    (pa.int64(), "integer", "BIGINT"),
    (pa.float32(), "number", "FLOAT"),
    (pa.float64(), "number", "DOUBLE"),
)
_LOGICAL = {kind: logical for kind, logical, _ in _SCALARS}
_SQL = {kind: sql for kind, _, sql in _SCALARS}


def sql_type(kind: pa.DataType) -> str:
    """The type as Spark SQL writes it.

    Raises:
        KeyError: A type that no table of the lakehouse may hold.

    >>> sql_type(pa.list_(pa.struct([("name", pa.string())])))
    'ARRAY<STRUCT<name: STRING>>'
    """
    if pa.types.is_list(kind):
        return f"ARRAY<{sql_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"STRUCT<{', '.join(f'{field.name}: {sql_type(field.type)}' for field in kind)}>"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _SQL[kind]


def _type_properties(kind: pa.DataType) -> dict[str, Any]:
    physical = {"physicalType": sql_type(kind)}
    if pa.types.is_list(kind):
        return {"logicalType": "array", **physical, "items": _type_properties(kind.value_type)}
    if pa.types.is_struct(kind):
        members = [{"name": field.name, **_type_properties(field.type)} for field in kind]
        return {"logicalType": "object", **physical, "properties": members}
    logical = "number" if pa.types.is_decimal(kind) else _LOGICAL[kind]
    options: dict[str, Any] = {"format": "binary"} if kind == pa.binary() else {}
    return {
        "logicalType": logical,
        **physical,
        **({"logicalTypeOptions": options} if options else {}),
    }


def _options(field: pa.Field) -> dict[str, float]:
    low, high = RANGES.get(field.name, (None, None))
    limits = {"minimum": low, "maximum": high}
    return {name: value for name, value in limits.items() if value is not None}


def _column(table: TableContract, field: pa.Field) -> dict[str, Any]:
    comment = (field.metadata or {}).get(b"comment", b"").decode()
    column: dict[str, Any] = {
        "name": field.name,
        **_type_properties(field.type),
        "description": comment,
        "required": field.name in table.required,
    }
    if field.name in table.keys:
        column |= {"primaryKey": True, "primaryKeyPosition": table.keys.index(field.name) + 1}
    if field.name in table.partition_by:
        column |= {
            "partitioned": True,
            "partitionKeyPosition": table.partition_by.index(field.name) + 1,
        }
    if options := _options(field):
        column["logicalTypeOptions"] = options
    if values := value_set(table.name, field.name):
        column["quality"] = [
            {
                "metric": "invalidValues",
                "dimension": "conformity",
                "arguments": {"validValues": list(values)},
                "mustBe": 0,
            }
        ]
    return column


def _service_levels(table: TableContract) -> list[dict[str, Any]]:
    """What is promised of the times of a table; the quality rules hold it to them."""
    levels: list[dict[str, Any]] = []
    if pace := PACES.get(table.name):
        levels = [
            {"property": "frequency", "value": pace.least_hz, "valueExt": pace.most_hz}
            | {"unit": "Hz", "element": f"{table.table}.sensor_time_ns"},
            {"property": "longestSilence", "value": pace.max_gap_ns, "unit": "ns"},
            {"property": "lostMessages", "value": LIMITS.lost_share, "unit": "share"},
            {"property": "jitter", "value": LIMITS.jitter_period, "unit": "usual step"},
            {"property": "unevenSteps", "value": LIMITS.jitter_share, "unit": "share"},
            {"property": "stuckStamps", "value": LIMITS.stuck_messages - 1, "unit": "messages"},
        ]
    uncertainty = {"property": "clockUncertainty", "value": LIMITS.clock_uncertainty_ns}
    uncertainty["unit"] = "ns"
    if table.name == "silver.clocks":
        levels = [uncertainty | {"element": "clocks.uncertainty_ns"}]
    elif table.name == "silver.frames":
        complete = {"property": "completeFrames", "value": 1 - LIMITS.incomplete_frame_share}
        levels = [
            uncertainty | {"element": "frames.clock_uncertainty_ns"},
            complete | {"unit": "share", "element": "frames.is_complete"},
        ]
    return levels


def open_contract(table: TableContract) -> dict[str, Any]:
    """The document of a table, in the key order in which it is to be written.

    Args:
        table: The contract; every column must be in `schema`.
    """
    levels = _service_levels(table)
    return {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": f"drivelake.{table.name}",
        "name": table.name,
        "version": CONTRACT_VERSION,
        "status": "active",
        "domain": table.layer,
        "dataProduct": "drivelake",
        "description": {
            "purpose": table.description,
            "limitations": "All times are int64 nanoseconds; log times are on the recorder's "
            "clock, t_ns is UTC. Units are suffixes of the column names.",
        },
        "team": {"name": table.owner.removeprefix("team:")},
        "schema": [
            {
                "name": table.table,
                "physicalName": table.name,
                "physicalType": "delta table",
                "logicalType": "object",
                "dataGranularityDescription": table.description,
                "properties": [_column(table, field) for field in table.schema],
            }
        ],
        **({"slaProperties": levels} if levels else {}),
    }
