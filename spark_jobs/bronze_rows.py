"""Rows of the bronze tables that follow from the indexes of a batch and from its counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import pyarrow as pa

from contracts.ids import sha256_hex
from contracts.recording import LedgerEntry, RecordingIndex
from contracts.tables import TABLES
from spark_jobs.balance import Balance
from spark_jobs.ingest_decode import Counts
from spark_jobs.ingest_index import ChannelPlan

Fault = tuple[str, str, int | None]
"""Reason code, words, byte offset."""
_UNKNOWN_SPAN = [0, 0, None, None]


@attrs.frozen
class Taken:
    """A recording of the batch that will be committed."""

    recording_id: str
    upload: Mapping[str, Any]
    index: RecordingIndex
    plans: Mapping[int, ChannelPlan]
    tables: Mapping[int, str | None]
    counts: Counts
    balance: Balance


def recordings_table(taken: Iterable[Taken], *, common: Mapping[str, Any]) -> pa.Table:
    """Rows of `bronze.recordings`; `common` gives the columns that a batch shares."""
    return _table(
        "bronze.recordings",
        (
            {
                "recording_id": item.recording_id,
                "drive_id": item.upload["drive_id"],
                "vehicle_key": item.upload["vehicle_key"],
                "recorder": item.upload["recorder"],
                "uri": item.upload["uri"],
                "format": item.index.format,
                "profile": item.index.profile,
                "library": item.index.library,
                "size_bytes": item.upload["size_bytes"],
                "start_ns": item.index.start_ns,
                "end_ns": item.index.end_ns,
                "channel_count": len(item.index.channels),
                "messages_declared": item.balance.declared,
                "messages_written": item.balance.written,
                "messages_bad": item.balance.bad,
                "messages_lost": item.balance.lost,
                "integrity": item.index.integrity,
                "outcome": item.balance.outcome,
                "flags": sorted({f.code for f in item.index.findings} | {*item.balance.flags}),
                "software_version": _stated(item.index, "software_version"),
                "calibration_version": _stated(item.index, "calibration_version"),
                **common,
            }
            for item in taken
        ),
    )


def _stated(index: RecordingIndex, key: str) -> str | None:
    """What a recording says of its recorder in any of its metadata records."""
    return next((record[key] for record in index.metadata.values() if record.get(key)), None)


def channels_table(taken: Iterable[Taken], *, common: Mapping[str, Any]) -> pa.Table:
    """Rows of `bronze.channels`."""
    return _table("bronze.channels", (row for item in taken for row in _channels_of(item, common)))


def _channels_of(item: Taken, common: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    schemas = {schema.id: schema for schema in item.index.schemas}
    for channel in item.index.channels:
        schema = schemas.get(channel.schema_id)
        plan = item.plans[channel.id]
        written, bad, first, last = item.counts.channels.get(channel.id, _UNKNOWN_SPAN)
        yield {
            "recording_id": item.recording_id,
            "channel_id": channel.id,
            "topic": channel.topic,
            "schema_name": schema.name if schema else None,
            "schema_hash": schema.hash if schema else None,
            "schema_encoding": schema.encoding if schema else None,
            "message_encoding": channel.message_encoding,
            "table_name": _in_silver(item.tables[channel.id]),
            "decode_status": plan.status,
            "message_count": written,
            "bad_count": bad,
            "rate_hz": _rate_hz(written, first, last),
            "first_ns": first,
            "last_ns": last,
            **common,
        }


def _in_silver(table: str | None) -> str | None:
    return f"silver.{table}" if table else None


def _rate_hz(messages: int, first_ns: int | None, last_ns: int | None) -> float | None:
    if messages < 2 or first_ns is None or last_ns is None or last_ns <= first_ns:
        return None
    return (messages - 1) * 1e9 / (last_ns - first_ns)


def chunks_table(taken: Iterable[Taken], *, common: Mapping[str, Any]) -> pa.Table:
    """Rows of `bronze.chunks`."""
    return _table(
        "bronze.chunks",
        (
            {
                "recording_id": item.recording_id,
                "chunk_index": unit.index,
                "offset": unit.offset,
                "length": unit.length,
                "compression": unit.compression,
                "uncompressed_size_bytes": unit.uncompressed_size,
                "start_ns": unit.start_ns,
                "end_ns": unit.end_ns,
                "message_count": unit.message_count,
                "channel_counts": [
                    {"channel_id": channel, "message_count": count}
                    for channel, count in sorted(unit.channel_counts.items())
                ],
                **common,
            }
            for item in taken
            for unit in item.index.units
        ),
    )


def structure_table(
    taken: Iterable[Taken],
    refused: Mapping[str, tuple[int, Fault]],
    *,
    common: Mapping[str, Any],
) -> pa.Table:
    """Rows of `bronze.decode_ledger` that no unit speaks of.

    Args:
        taken: Recordings to commit: the bytes outside their units.
        refused: Size and fault of the recordings that are not: all of their bytes.
        common: Columns that a batch shares.
    """
    rows = [
        {"recording_id": item.recording_id, **attrs.asdict(entry), **common}
        for item in taken
        for entry in item.index.structure
    ]
    rows += [
        {
            "recording_id": recording_id,
            **attrs.asdict(LedgerEntry(0, size, "quarantined", code, what)),
            "messages_declared": None,
            "messages_lost": None,
            **common,
        }
        for recording_id, (size, (code, what, _)) in refused.items()
    ]
    return _table("bronze.decode_ledger", rows)


def schemas_rows(taken: Iterable[Taken], *, common: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of `bronze.schemas`, one a hash."""
    rows: dict[str, dict[str, Any]] = {}
    for item in taken:
        by_schema = {
            c.schema_id: item.tables[c.id]
            for c in reversed(item.index.channels)
            if item.plans[c.id].status != "QUARANTINED"  # which says nothing of its schema
        }
        for schema in item.index.schemas:
            rows[schema.hash] = {
                "schema_hash": schema.hash,
                "name": schema.name,
                "encoding": schema.encoding,
                "data": schema.data,
                "table_name": "silver.signals"
                if schema.encoding == "dbc"
                else _in_silver(by_schema.get(schema.id)),
                **common,
            }
    return list(rows.values())


def definition_row(
    data: bytes, *, name: str, encoding: str, common: Mapping[str, Any]
) -> dict[str, Any]:
    """Row of `bronze.schemas` for a bus definition; its hash is the one that signals name."""
    return {
        "schema_hash": sha256_hex(data),
        "name": name,
        "encoding": encoding,
        "data": data,
        "table_name": "silver.signals",
        **common,
    }


def _table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=TABLES[name].schema)
