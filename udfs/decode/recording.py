"""One way into every container: index a recording, decode it to rows by table, follow pointers.

Each function takes an object as it is stored; what is packed as a whole is unpacked first, and
positions then count in the unpacked stream (see `udfs.decode.packed`).
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType

import attrs
import pyarrow as pa

from contracts.errors import ContractViolation, UnsupportedFormatError
from contracts.recording import (
    Channel,
    Finding,
    Format,
    Int64Array,
    MessageGroup,
    RecordingIndex,
    Source,
    TableGroup,
    Unit,
)
from udfs.decode.context import DecodeContext
from udfs.decode.messages import DecodeStatus, plan_of_channel, table_groups
from udfs.decode.packed import UnpackedSource, unpacked
from udfs.decode.pointers import payloads_at
from udfs.decode.selection import Selection
from udfs.decode.sniff import sniff

_MODULES: Mapping[Format, str] = {
    "mcap": "udfs.decode.mcap",
    "ros1bag": "udfs.decode.ros1bag",
    "rosbag2_db3": "udfs.decode.rosbag2",
    "mdf3": "udfs.decode.mdf4",
    "mdf4": "udfs.decode.mdf4",
    "asc": "udfs.decode.can_log",
    "blf": "udfs.decode.can_log",
    "trc": "udfs.decode.can_log",
    "candump": "udfs.decode.can_log",
}
_QUICK: Mapping[str, str] = {
    "mcap": "udfs.decode.mcap_quick",
    "ros1bag": "udfs.decode.ros1bag_quick",
}


def index_recording(source: Source) -> RecordingIndex:
    """Read what a recording says of itself, whatever its container.

    Raises:
        DecodeError: EMPTY, BAD_MAGIC, or the container's own reasons when nothing can be decoded.
        UnsupportedFormatError: A known format that no reader here takes, or no recording at all.
    """
    inner = unpacked(source)
    found = sniff(inner)
    if found.kind != "recording":
        what = f"a {found.kind} ({found.format}) is no recording"
        raise UnsupportedFormatError(what, code="NOT_A_RECORDING", uri=source.uri)
    index: RecordingIndex = _reader_of(found.format).index_recording(inner)
    if not isinstance(inner, UnpackedSource):
        return index  # the same object: a reader knows by it what it has found out already
    structure = index.structure
    if _speaks_of_bytes(index):
        structure = (*inner.stored_entries(structure), *inner.around())
    findings = (*_packing_findings(inner), *index.findings)
    return attrs.evolve(index, structure=structure, findings=findings)


def quick_index(source: Source) -> RecordingIndex:
    """The index as the recording's own index section states it, or else `index_recording`.

    It takes a few reads of a large file instead of all of it, and finds no damage: to read a part
    of a recording, never to account for all of it.

    Raises:
        DecodeError: As `index_recording`.
        UnsupportedFormatError: As `index_recording`.
    """
    inner = unpacked(source)
    found = sniff(inner)
    is_whole = not isinstance(inner, UnpackedSource) or inner.is_whole
    if found.kind == "recording" and found.format in _QUICK and is_whole:
        index: RecordingIndex | None
        index = importlib.import_module(_QUICK[found.format]).quick_index(inner)
        if index is not None:
            return attrs.evolve(index, findings=(*_packing_findings(inner), *index.findings))
    return index_recording(source)


def iter_table_groups(
    source: Source,
    index: RecordingIndex,
    *,
    context: DecodeContext,
    units: Sequence[Unit] | None = None,
    selection: Collection[int] | None = None,
) -> Iterator[TableGroup]:
    """Decode a recording, or some of its units, to rows by silver table.

    Args:
        source: The recording.
        index: From `index_recording`, or rebuilt from the bronze tables.
        context: Values that go into every row.
        units: Units to decode; all by default. Each is in exactly one group's ledger.
        selection: Channel ids to decode; all by default. The rest is skipped and said so.

    Yields:
        Groups of about 32 MB of payload; their ledgers balance by themselves.

    Raises:
        ContractViolation: A selection of an MDF file or a CAN log.
    """
    reader, inner = _reader_of(index.format), unpacked(source)
    groups: Iterator[TableGroup]
    if not hasattr(reader, "iter_message_groups"):
        if selection is not None:
            raise ContractViolation(f"{index.format} is decoded by units, not by channels")
        groups = reader.iter_table_groups(inner, index, units=units, context=context)
    else:
        messages = reader.iter_message_groups(inner, index, units=units, channels=selection)
        groups = table_groups(messages, index=index, context=context, selection=selection)
    yield from _as_stored(groups, inner, index)


def iter_selected_groups(
    source: Source,
    index: RecordingIndex,
    *,
    context: DecodeContext,
    selection: Selection,
    units: Sequence[Unit] | None = None,
) -> Iterator[TableGroup]:
    """Decode what is asked for of a recording; of the rest as little is read as can be.

    Args:
        source: The recording.
        index: From `index_recording` or `quick_index`.
        context: Values that go into every row.
        selection: Topics, span and tables.
        units: Of these units; of all by default.

    Yields:
        Groups as `iter_table_groups` does. Their ledgers speak of the units that were read.

    Raises:
        ContractViolation: USAGE, a topic is not in the recording.
    """
    channels = [
        channel
        for channel in selection.channels(index)
        if _may_give(index, channel, selection.tables, context)
    ]
    ids = {channel.id for channel in channels}
    wanted = selection.units(index, channels=ids, among=units)
    reader, inner = _reader_of(index.format), unpacked(source)
    groups: Iterator[TableGroup]
    if not hasattr(reader, "iter_message_groups"):
        topics = {channel.topic for channel in channels}
        every = reader.iter_table_groups(inner, index, units=wanted, context=context)
        groups = (selection.clip_rows(group, topics=topics) for group in every)
    else:
        if any(unit.uncompressed_size is None for unit in wanted) and index.format in _QUICK:
            wanted = importlib.import_module(_QUICK[index.format]).sized(inner, wanted)
        messages = reader.iter_message_groups(inner, index, units=wanted, channels=ids)
        clipped = selection.clip_messages(messages)
        groups = table_groups(clipped, index=index, context=context, selection=ids)
        groups = (selection.clip_tables(group) for group in groups)
    yield from _as_stored(groups, inner, index)


def has_messages(index: RecordingIndex) -> bool:
    """Whether a recording holds messages, rather than samples of signals or frames of a bus."""
    return hasattr(_reader_of(index.format), "iter_message_groups")


def iter_message_groups(
    source: Source,
    index: RecordingIndex,
    *,
    units: Sequence[Unit] | None = None,
    selection: Selection,
) -> Iterator[MessageGroup]:
    """Messages that are asked for as they were published, undecoded.

    Raises:
        UnsupportedFormatError: NO_MESSAGES, the container holds samples or frames.
        ContractViolation: USAGE, a topic is not in the recording.
    """
    reader = _reader_of(index.format)
    if not hasattr(reader, "iter_message_groups"):
        what = f"{index.format} holds samples of signals or frames of a bus, no messages"
        raise UnsupportedFormatError(what, code="NO_MESSAGES", uri=source.uri)
    ids = {channel.id for channel in selection.channels(index)}
    wanted = selection.units(index, channels=ids, among=units)
    groups = reader.iter_message_groups(unpacked(source), index, units=wanted, channels=ids)
    yield from selection.clip_messages(groups)


def table_of_channel(
    index: RecordingIndex, channel: Channel, *, table_names: Mapping[str, str] | None = None
) -> tuple[str, pa.Schema | None, DecodeStatus]:
    """Silver table of a channel, its Arrow schema, and whether its messages decode.

    Follows from the definitions alone, so tables can be made before anything is decoded. Messages
    of a channel that is not DECODED go to `raw_messages`.
    """
    reader = _reader_of(index.format)
    if hasattr(reader, "table_of_channel"):
        answer: tuple[str, pa.Schema | None, DecodeStatus] = reader.table_of_channel(index, channel)
        return answer
    plan = plan_of_channel(index, channel, table_names=table_names or {})
    return plan.table, plan.schema, plan.status


def resolve_pointers(
    source: Source,
    *,
    format: Format,  # noqa: A002  the column's name
    unit_offset: Int64Array,
    data_offset: Int64Array,
    data_length: Int64Array,
) -> pa.BinaryArray:
    """Read the bytes that pointers name; each unit is read and decompressed once.

    Args:
        source: The recording the pointers were made from, as it is stored.
        format: Its container.
        unit_offset: (N,) as in `silver.images` and `silver.point_clouds`: in the unpacked stream
            where the recording is packed as a whole, which takes as long as to unpack it.
        data_offset: (N,) start within the uncompressed unit, or in the (unpacked) file.
        data_length: (N,) bytes.

    Returns:
        (N,) binary, in the order asked for.

    Raises:
        DecodeError: TRUNCATED, a pointer leads outside its unit; or the unit is damaged.
    """
    return payloads_at(
        unpacked(source),
        read_units=_reader_of(format).read_units,
        unit_offset=unit_offset,
        data_offset=data_offset,
        data_length=data_length,
    )


def _packing_findings(source: Source) -> Iterator[Finding]:
    """What is to be said of how a recording is packed."""
    if isinstance(source, UnpackedSource):
        yield from source.findings()


def _as_stored(
    groups: Iterator[TableGroup], source: Source, index: RecordingIndex
) -> Iterator[TableGroup]:
    """The groups with ledgers of what is stored."""
    if not isinstance(source, UnpackedSource) or not _speaks_of_bytes(index):
        yield from groups
        return
    for group in groups:
        yield attrs.evolve(group, ledger=source.stored_entries(group.ledger))


def _speaks_of_bytes(index: RecordingIndex) -> bool:
    """Whether ranges of the ledger are bytes; those of a database are rows."""
    return index.format != "rosbag2_db3"


def _may_give(
    index: RecordingIndex,
    channel: Channel,
    tables: Collection[str] | None,
    context: DecodeContext,
) -> bool:
    """Whether messages of a channel may become rows of one of the tables, frames also signals."""
    if tables is None:
        return True
    table = table_of_channel(index, channel, table_names=context.table_names)[0]
    return table in tables or (table == "can_frames" and "signals" in tables)


def _reader_of(name: str) -> ModuleType:
    """Reader of a container, imported when it is first needed: some are heavy."""
    if name not in _MODULES:
        raise UnsupportedFormatError(f"format {name!r}")
    return importlib.import_module(_MODULES[name])  # type: ignore[index]
