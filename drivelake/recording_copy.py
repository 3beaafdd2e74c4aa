"""Recordings written anew: what can be read of one, as MCAP, as a bag or as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mcap.writer import CompressionType
from mcap.writer import Writer as McapFileWriter
from rosbags.rosbag1 import Writer as BagFileWriter

from contracts.errors import ContractViolation
from contracts.recording import MessageGroup, RecordingIndex
from drivelake.recording_json import write_json
from udfs.decode.packed import unpacked
from udfs.decode.reading import Account, iter_rows
from udfs.decode.recording import (
    has_messages,
    index_recording,
    iter_message_groups,
    quick_index,
)
from udfs.decode.selection import Selection
from udfs.decode.source import OpenSource

CHUNK_BYTES = 4 << 20
HELD_BYTES = 16 << 20
"""Rows of a table that are held back to make row groups worth reading."""
MAX_ATTACHMENT_BYTES = 256 << 20


@attrs.frozen
class Copied:
    """What was written.

    Attributes:
        recovered: Messages.
        lost: None if unknown how many.
        bad: Messages that would not decode, where they were decoded.
        reasons: Why messages are missing, by code.
        files: File, rows or messages in it.
    """

    recovered: int
    lost: int | None
    bad: int
    reasons: Mapping[str, str]
    files: tuple[tuple[str, int], ...]


class MessageWriter(Protocol):
    """Writes messages to a file of some container."""

    def write(self, channel: int, log_ns: int, publish_ns: int, sequence: int, data: bytes) -> None:
        """Write one message."""
        ...

    def close(self) -> None:
        """Write what stands at the end of the file."""
        ...


def copy_messages(
    source: OpenSource,
    out: Path,
    *,
    selection: Selection,
    container: str,
    walk: bool,
    definitions: Mapping[str, bytes],
) -> Copied:
    """Write the messages of a recording to a new file, as they were published.

    A container of samples or frames has no messages: its rows become messages in JSON, a topic for
    each signal and for each bus.

    Args:
        source: The recording.
        out: The file.
        selection: What is asked for.
        container: `mcap`, or `bag` for a recording of ROS 1.
        walk: Whether the recording's own index is set aside.
        definitions: Bus definitions by binding.

    Raises:
        ContractViolation: USAGE, the recording has no messages that go into a bag.
        DecodeError: It can't be indexed.
        UnsupportedFormatError: No recording, or none that can be read here.
    """
    index = index_recording(source) if walk else quick_index(source)
    account = Account.of_index(index)
    if not has_messages(index):
        count = _copy_as_json(
            source, index, out, selection=selection, account=account, definitions=definitions
        )
        return _copied(account, index, selection, files=((out.name, count),))
    with _writer(container, out, index, source) as writer:
        for group in iter_message_groups(source, index, selection=selection):
            account.add_ledger(group.ledger)
            _write_group(writer, group, account)
    return _copied(account, index, selection, files=((out.name, account.written),))


def copy_rows(
    source: OpenSource,
    folder: Path,
    *,
    selection: Selection,
    definitions: Mapping[str, bytes],
) -> Copied:
    """Write the rows of a recording as Parquet, one file a table; images and sweeps with them.

    Raises:
        ContractViolation: USAGE, a topic is not in the recording.
        DecodeError: It can't be indexed.
        UnsupportedFormatError: No recording, or none that can be read here.
    """
    index = index_recording(source) if selection.is_all else quick_index(source)
    account = Account.of_index(index)
    files = _ParquetFiles(folder)
    for table, rows in iter_rows(
        source,
        index,
        selection=selection,
        account=account,
        definitions=definitions,
        payloads=True,
    ):
        files.write(table, rows)
    return _copied(account, index, selection, files=files.close())


def _copied(
    account: Account,
    index: RecordingIndex,
    selection: Selection,
    *,
    files: tuple[tuple[str, int], ...],
) -> Copied:
    lost: int | None = account.lost
    if account.lost_unknown:
        lost = None
    elif selection.is_all and index.messages_declared is not None:
        lost = max(account.lost, index.messages_declared - account.written - account.bad)
    return Copied(account.written, lost, account.bad, account.reasons, files)


def _copy_as_json(
    source: OpenSource,
    index: RecordingIndex,
    out: Path,
    *,
    selection: Selection,
    account: Account,
    definitions: Mapping[str, bytes],
) -> int:
    """Write rows as JSON messages of an MCAP file; gives how many."""
    if out.suffix == ".bag":
        what = f"{index.format} holds no messages of ROS 1: only those go into a bag"
        raise ContractViolation(what, code="USAGE", remedy="Name a file that ends in .mcap")
    rows = iter_rows(
        source, index, selection=selection, account=account, definitions=definitions, payloads=True
    )
    with out.open("wb") as stream:
        return write_json(rows, stream, profile=index.profile, account=account)


def _write_group(writer: MessageWriter, group: MessageGroup, account: Account) -> None:
    """Write the messages of a group in the order of the file."""
    if not group.batches:
        return
    batches = group.batches
    channel = np.concatenate([np.full(len(b.starts), b.channel_id, np.int64) for b in batches])
    parts = [batch.columns() for batch in batches]
    of = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    log, publish = of["log_time_ns"], of["publish_time_ns"]
    order = np.lexsort((of["payload_offset"], of["unit_offset"]))
    account.written += len(order)
    fits = (log[order] >= 0) & (publish[order] >= 0)
    account.add_untimely(int(np.count_nonzero(~fits)))
    order = order[fits]
    arena = batches[0].arena.data
    columns = (channel, log, publish, of["sequence"], of["starts"], of["lengths"])
    for c, log_ns, publish_ns, number, at, size in zip(
        *(column[order].tolist() for column in columns), strict=True
    ):
        writer.write(c, log_ns, publish_ns, number, bytes(arena[at : at + size]))


@contextmanager
def _writer(
    container: str, out: Path, index: RecordingIndex, source: OpenSource
) -> Iterator[MessageWriter]:
    if container == "bag":
        bag = _BagFile(out, index)
        yield bag
        bag.close()
        return
    with out.open("wb") as stream:
        mcap = _McapFile(stream, index, source)
        yield mcap
        mcap.close()


class _McapFile:
    """An MCAP file with the channels, attachments and metadata of a recording."""

    def __init__(self, stream: Any, index: RecordingIndex, source: OpenSource) -> None:
        writer = McapFileWriter(stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        writer.start(profile=index.profile, library="drivelake")
        schemas = {
            schema.id: writer.register_schema(schema.name, schema.encoding, schema.data)
            for schema in index.schemas
            if schema.name or schema.data
        }
        self._channels = {
            channel.id: writer.register_channel(
                channel.topic,
                channel.message_encoding,
                schemas.get(channel.schema_id, 0),
                dict(channel.metadata),
            )
            for channel in index.channels
        }
        for one in index.attachments if index.format == "mcap" else ():
            if one.length <= MAX_ATTACHMENT_BYTES:
                data = bytes(unpacked(source).read_at(one.offset, one.length))
                time = one.log_time_ns or 0
                writer.add_attachment(time, time, one.name, one.media_type, data)
        for name, pairs in index.metadata.items():
            writer.add_metadata(name, dict(pairs))
        self._writer = writer

    def write(self, channel: int, log_ns: int, publish_ns: int, sequence: int, data: bytes) -> None:
        """Write one message; the sequence of a container that has none starts anew at 2^32."""
        self._writer.add_message(
            self._channels[channel], log_ns, data, publish_ns, sequence & 0xFFFFFFFF
        )

    def close(self) -> None:
        """Write summary and footer."""
        self._writer.finish()


class _BagFile:
    """A ROS 1 bag with the connections of a recording."""

    def __init__(self, out: Path, index: RecordingIndex) -> None:
        schemas = {schema.id: schema for schema in index.schemas}
        wrong = [c for c in index.channels if c.message_encoding != "ros1"]
        if wrong:
            what = f"{wrong[0].topic} is no topic of ROS 1: only those go into a bag"
            raise ContractViolation(what, code="USAGE", remedy="Name a file that ends in .mcap")
        self._writer = BagFileWriter(out)
        self._writer.open()
        self._connections = {}
        for channel in index.channels:
            schema, about = schemas[channel.schema_id], channel.metadata
            latching = about.get("latching")
            self._connections[channel.id] = self._writer.add_connection(
                channel.topic,
                schema.name if "/msg/" in schema.name else schema.name.replace("/", "/msg/"),
                msgdef=schema.data.decode("utf-8", "replace"),
                md5sum=about.get("md5sum") or "*",
                callerid=about.get("callerid"),
                latching=int(latching) if latching and latching.isdigit() else None,
            )

    def write(self, channel: int, log_ns: int, publish_ns: int, sequence: int, data: bytes) -> None:
        """Write one message; a bag has neither publish time nor sequence."""
        del publish_ns, sequence
        self._writer.write(self._connections[channel], log_ns, data)

    def close(self) -> None:
        """Write the index section."""
        self._writer.close()


class _ParquetFiles:
    """One Parquet file a table; another one where a type of the same name has other columns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[tuple[str, pa.Schema], tuple[str, pq.ParquetWriter]] = {}
        self._held: dict[tuple[str, pa.Schema], list[pa.RecordBatch]] = {}
        self._rows: dict[str, int] = {}

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Add rows to the file of a table."""
        schema = rows.schema.remove_metadata()
        key = next((k for k in self._open if k[0] == table and k[1].equals(schema)), None)
        if key is None:
            key = table, schema
            others = sum(name == table for name, _ in self._open)
            name = f"{table}-{others + 1}.parquet" if others else f"{table}.parquet"
            writer = pq.ParquetWriter(self._folder / name, schema, compression="zstd")
            self._open[key] = name, writer
        held = self._held.setdefault(key, [])
        held.append(rows)
        if sum(batch.nbytes for batch in held) > HELD_BYTES:
            self._flush(key)

    def close(self) -> tuple[tuple[str, int], ...]:
        """Close the files: their names and rows."""
        for key, (_, writer) in self._open.items():
            self._flush(key)
            writer.close()
        return tuple(sorted(self._rows.items()))

    def _flush(self, key: tuple[str, pa.Schema]) -> None:
        name, writer = self._open[key]
        rows = pa.Table.from_batches(
            [batch.replace_schema_metadata(None) for batch in self._held.pop(key, [])], key[1]
        )
        writer.write_table(rows)
        self._rows[name] = self._rows.get(name, 0) + rows.num_rows
