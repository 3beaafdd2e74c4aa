"""Rows as JSON messages of an MCAP file: for containers that hold samples or frames."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import IO

import polars as pl
import pyarrow as pa
from mcap.writer import CompressionType, Writer

from contracts.tables import MESSAGE_COLUMNS
from udfs.decode.reading import Account

CHUNK_BYTES = 4 << 20
_LEFT_OUT = frozenset(MESSAGE_COLUMNS) - {"frame_id"}
"""What the message itself says in MCAP: its topic, its times."""
_TYPES = {pl.Boolean: "boolean", pl.String: "string", pl.Float64: "number", pl.Float32: "number"}


def write_json(
    rows: Iterable[tuple[str, pa.RecordBatch]], stream: IO[bytes], *, profile: str, account: Account
) -> int:
    """Write rows by table, each as a JSON object; bytes as hex, what JSON can't say as null.

    A signal is a topic `group/signal`, a bus a topic `can/bus`.

    Args:
        rows: From `iter_rows`.
        stream: Where to.
        profile: Of the file.
        account: Takes the rows whose time MCAP can't hold.

    Returns:
        Messages written.
    """
    writer = Writer(stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
    writer.start(profile=profile, library="drivelake")
    schemas: dict[str, int] = {}
    channels: dict[tuple[str, str], int] = {}
    written = 0
    for table, batch in rows:
        frame = _plain(batch)
        fits = frame.filter(pl.col("log_time_ns") >= 0, pl.col("publish_time_ns") >= 0)
        account.add_untimely(len(frame) - len(fits))
        own = [name for name in fits.columns if name not in _LEFT_OUT]
        if table not in schemas:
            text = json.dumps(_schema(table, fits.select(own))).encode()
            schemas[table] = writer.register_schema(f"drivelake.{table}", "jsonschema", text)
        columns = (
            _topics(table, fits),
            fits["log_time_ns"],
            fits["publish_time_ns"],
            fits["sequence"],
            fits.select(pl.struct(own).struct.json_encode().alias("json"))["json"],
        )
        for topic, log_ns, publish_ns, number, data in zip(
            *(column.to_list() for column in columns), strict=True
        ):
            key = table, topic
            if key not in channels:
                channels[key] = writer.register_channel(topic, "json", schemas[table])
            sequence = number & 0xFFFFFFFF
            writer.add_message(channels[key], log_ns, data.encode(), publish_ns, sequence)
        written += len(fits)
    writer.finish()
    return written


def _plain(batch: pa.RecordBatch) -> pl.DataFrame:
    """Columns that JSON has words for."""
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    floats, octets = pl.col(pl.Float32, pl.Float64), pl.col(pl.Binary)
    return frame.with_columns(pl.when(floats.is_finite()).then(floats)).with_columns(
        octets.bin.encode("hex")
    )


def _topics(table: str, frame: pl.DataFrame) -> pl.Series:
    if table == "signals":
        name = pl.concat_str("topic", pl.lit("/"), pl.col("signal").fill_null(""))
    elif table == "can_frames":
        name = pl.concat_str(pl.lit("can/"), pl.col("bus").cast(pl.String).fill_null("?"))
    else:
        name = pl.col("topic")
    return frame.select(name.alias("name"))["name"]


def _schema(table: str, frame: pl.DataFrame) -> dict[str, object]:
    properties = {}
    for name, dtype in frame.schema.items():
        kind = "integer" if dtype.is_integer() else _TYPES.get(dtype.base_type())
        properties[name] = {"type": [kind, "null"]} if kind else {}
    return {"title": table, "type": "object", "properties": properties}
