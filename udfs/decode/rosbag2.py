"""rosbag2 recordings in SQLite (`.db3`): row ranges as units, rows as messages.

The file is read as the immutable object that it is: a write-ahead log beside it is another
object. Where an old file holds no message definitions they are taken by type name from the
definitions of the ROS distributions that ship with rosbags, and the channel says so.

Source: rosbag2_storage_sqlite3, schema versions 1 to 4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs
import numpy as np
import zstandard
from rosbags.typesys import Stores, TypesysError, get_typestore

from contracts.errors import DecodeError, ResourceLimitError
from contracts.ids import schema_hash
from contracts.recording import (
    BadMessage,
    Channel,
    Finding,
    Int64Array,
    LedgerEntry,
    MessageBatch,
    MessageGroup,
    RecordingIndex,
    Schema,
    Source,
    UInt8Array,
    Unit,
)
from udfs.decode.compression import decompress_into
from udfs.decode.limits import FIRST_BYTES, GROUP_BYTES, MAX_UNIT_BYTES, check_unit_size
from udfs.decode.rosbag2_pages import ZSTD_MAGIC, Cells
from udfs.decode.rosbag2_store import Definition, Rows, Store, Topic
from udfs.decode.units import iter_unit_groups, rows_by_channel, sequence_bases

_DEFAULT_STORE = Stores.ROS2_HUMBLE


def index_recording(source: Source) -> RecordingIndex:
    """Read topics, definitions and the rows' times and sizes; no payload is touched.

    Units are row ranges of about 32 MB: `offset` is the first rowid, `length` the number of rows.

    Raises:
        DecodeError: NOT_A_DATABASE or DB_MALFORMED where SQLite can't open the file, NO_TABLES
            where it is no bag.
    """
    with Store(source) as store:
        if not {"topics", "messages"} <= store.tables:
            raise DecodeError("no topics and messages", code="NO_TABLES", uri=source.uri)
        version, distribution = store.schema_version()
        topics = store.topics()
        rows = store.rows()
        declared = store.declared_count()
        findings = [*_findings(rows, declared, topics), *_around(store, source.size)]
        schemas, channels = _channels(topics, _definitions(store, findings), distribution)
    counts = dict(
        zip(*(a.tolist() for a in np.unique(rows.topic, return_counts=True)), strict=True)
    )
    return RecordingIndex(
        format="rosbag2_db3",
        profile="ros2",
        library=f"rosbag2_storage_sqlite3 schema {version} {distribution}".strip(),
        start_ns=int(rows.time_ns.min()) if len(rows.id) else None,
        end_ns=int(rows.time_ns.max()) if len(rows.id) else None,
        schemas=schemas,
        channels=tuple(attrs.evolve(c, message_count=counts.get(c.id, 0)) for c in channels),
        units=_units(rows),
        messages_declared=declared,
        findings=tuple(findings),
        structure=tuple(_gap_entry(first, last) for first, last in rows.gaps),
    )


def iter_message_groups(
    source: Source,
    index: RecordingIndex,
    *,
    units: Sequence[Unit] | None = None,
    channels: Collection[int] | None = None,
) -> Iterator[MessageGroup]:
    """Yield the messages of row ranges, about 32 MB at a time, in the order of their rowids.

    Args:
        source: The recording.
        index: Of the same recording.
        units: Row ranges to read; all by default.
        channels: Channel ids to yield; all by default. The ledger speaks of all of them.

    Yields:
        Groups whose rows that can't be read, or not be decompressed, are bad messages.
    """
    bases = sequence_bases(index.units)
    with Store(source) as store:
        for group in iter_unit_groups(index.units if units is None else units):
            yield _read_group(store, group, index, channels, bases)


def read_units(source: Source, unit_offsets: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield (rowid, payload) in the order asked for; DecodeError if a row can't be read."""
    with Store(source) as store:
        for rowid, data in store.blobs(unit_offsets):
            yield rowid, _uncompressed(data)


def _definitions(store: Store, findings: list[Finding]) -> list[Definition]:
    """Definitions of the file; none, and a finding, where they can't be read."""
    try:
        return store.definitions()
    except DecodeError as error:
        findings.append(Finding("NO_DEFINITION", f"the definitions can't be read: {error.what}"))
        return []


def _channels(
    topics: Sequence[Topic], definitions: Sequence[Definition], distribution: str
) -> tuple[tuple[Schema, ...], tuple[Channel, ...]]:
    """Channels with the definition of the file, or else of a ROS distribution, or else none."""
    own = {row.type: row for row in definitions}
    schemas: dict[str, Schema] = {}
    channels = []
    for topic in topics:
        metadata = {"offered_qos_profiles": topic.qos, "type_description_hash": topic.type_hash}
        found, origin = own.get(topic.type), ""
        if found is None and topic.encoding == "cdr":
            found, origin = _definition_by_name(topic.type, distribution)
        if origin:
            metadata["definition_source"] = origin
        encoding, text = (found.encoding, found.text.encode()) if found else ("", b"")
        digest = schema_hash(topic.type, encoding, text)
        schema = schemas.setdefault(
            digest, Schema(len(schemas) + 1, topic.type, encoding, text, digest)
        )
        about = {key: value for key, value in metadata.items() if value}
        channels.append(Channel(topic.id, topic.name, topic.encoding, schema.id, about))
    return tuple(schemas.values()), tuple(channels)


def _definition_by_name(name: str, distribution: str) -> tuple[Definition | None, str]:
    """Definition of a type as a ROS distribution has it, and which one; (None, "") if none has."""
    store = _DEFAULT_STORE
    for candidate in Stores:
        if candidate.value == f"ros2_{distribution}":
            store = candidate
    try:
        text, _ = get_typestore(store).generate_msgdef(name, ros_version=2)
    except (TypesysError, KeyError):
        return None, ""
    return Definition(name, "ros2msg", text), f"rosbags/{store.name}"


def _findings(rows: Rows, declared: int | None, topics: Sequence[Topic]) -> Iterator[Finding]:
    for first, last in rows.gaps:
        what = f"rows from {first} {'on' if last is None else f'to {last}'} can't be read"
        lost = None if last is None else last - first + 1
        yield Finding("DB_MALFORMED", what, loses=True, lost_messages=lost)
    if rows.disordered:
        what = f"{rows.disordered} rows have rowids out of order"
        yield Finding("DB_MALFORMED", what, loses=True, lost_messages=rows.disordered)
    orphans = int(np.count_nonzero(~np.isin(rows.topic, [topic.id for topic in topics])))
    if orphans:
        what = f"{orphans} messages name a topic that is not there"
        yield Finding("ORPHAN_MESSAGES", what, loses=True, lost_messages=orphans)
    if declared is None or any(last is None for _, last in rows.gaps):
        return
    in_gaps = sum(last - first + 1 for first, last in rows.gaps if last is not None)
    missing = declared - len(rows.id) - in_gaps - rows.disordered
    if missing:
        what = f"the metadata declares {declared} messages, {len(rows.id)} are there"
        yield Finding("COUNT_MISMATCH", what, loses=missing > 0, lost_messages=max(missing, 0))


def _around(store: Store, size: int) -> Iterator[Finding]:
    """What the file's surroundings say: it is cut, or a write-ahead log belongs to it."""
    if store.missing_bytes:
        what = f"the file ends {store.missing_bytes} bytes before its last page"
        yield Finding("TRUNCATED", what, size)
    log_bytes = store.wal_bytes()
    if log_bytes:
        what = (
            f"a write-ahead log of {log_bytes} bytes lies beside; its rows are not in this object"
        )
        yield Finding("WAL_NOT_READ", what, loses=True, lost_messages=None)


def _gap_entry(first: int, last: int | None) -> LedgerEntry:
    """Fate of rows that can't be read; like those of units it speaks of rows, not bytes."""
    count = None if last is None else last - first + 1
    return LedgerEntry(
        offset=first,
        length=count or 0,
        fate="quarantined",
        reason_code="DB_MALFORMED",
        detail="rows that can't be read",
        messages_declared=count,
        messages_lost=count,
    )


def _units(rows: Rows) -> tuple[Unit, ...]:
    """Cut the rows where the sizes have added up to about 32 MB, and at gaps."""
    if not len(rows.id):
        return ()
    part = np.cumsum(rows.size) // GROUP_BYTES
    gap_after = np.array([first - 1 for first, _ in rows.gaps], np.int64)
    part = part + np.searchsorted(gap_after, rows.id, side="left")
    cuts = np.flatnonzero(np.diff(part)) + 1
    units = []
    for index, (start, stop) in enumerate(
        zip([0, *cuts.tolist()], [*cuts.tolist(), len(part)], strict=True)
    ):
        some = slice(start, stop)
        ids, counts = np.unique(rows.topic[some], return_counts=True)
        units.append(
            Unit(
                index=index,
                offset=int(rows.id[start]),
                length=stop - start,
                uncompressed_size=int(rows.size[some].sum()),
                start_ns=int(rows.time_ns[some].min()),
                end_ns=int(rows.time_ns[some].max()),
                message_count=stop - start,
                channel_counts=dict(zip(ids.tolist(), counts.tolist(), strict=True)),
            )
        )
    return tuple(units)


def _uncompressed(data: bytes) -> memoryview:
    """A payload as it was published: a recorder may compress each by itself.

    No CDR payload begins with zstd's magic number: its first byte is 0.
    """
    if data[:4] != ZSTD_MAGIC:
        return memoryview(data)
    try:
        size = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise DecodeError(f"zstd: {error}", code="CHUNK_DAMAGED") from error
    if size < 0:
        raise DecodeError("zstd frame of unknown size", code="CHUNK_DAMAGED")
    check_unit_size(len(data), declared=size, offset=0)
    out = np.empty(size, np.uint8)
    decompress_into(out, data=memoryview(data), compression="zstd")
    return out.data


def _read_group(
    store: Store,
    units: Sequence[Unit],
    index: RecordingIndex,
    channels: Collection[int] | None,
    bases: Mapping[int, Mapping[int, int]],
) -> MessageGroup:
    topics = {channel.id: channel.topic for channel in index.channels}
    wanted = set(topics) if channels is None else set(topics) & set(channels)
    plain = _read_plain(store, units, set(topics), wanted, bases)
    if plain is not None:
        return plain
    rows: list[tuple[int, int, int, memoryview]] = []
    bad: list[BadMessage] = []
    ledger = []
    held = 0
    for unit in units:
        found = store.data(unit.offset, unit.length)
        before = len(bad)
        for row in found:
            if row[1] not in topics:
                continue
            try:
                payload = _payload(row[3], room=MAX_UNIT_BYTES - held)
                rows.append((*row[:3], payload))
                held += len(payload)
            except DecodeError as error:
                bad.append(_bad_row(row, topic=topics[row[1]], error=error))
        orphans = sum(1 for row in found if row[1] not in topics)
        ledger.append(_ledger_entry(unit, found=len(found), orphans=orphans, bad=len(bad) - before))
    bad = [message for message in bad if message.channel_id in wanted]
    return MessageGroup(tuple(_batches(rows, units, wanted, bases)), tuple(ledger), tuple(bad))


def _read_plain(
    store: Store,
    units: Sequence[Unit],
    topics: Collection[int],
    wanted: Collection[int],
    bases: Mapping[int, Mapping[int, int]],
) -> MessageGroup | None:
    """A group straight from the pages; None where a row is compressed or needs a closer look."""
    pages = store.pages
    if pages is None:
        return None
    parts: list[Cells] = []
    ledger: list[LedgerEntry] = []
    for unit in units:
        found = pages.rows_from(unit.offset, count=unit.length)
        if found is None or found.zstd:
            return None
        orphans = int(np.count_nonzero(~np.isin(found.topic, list(topics))))
        ledger.append(_ledger_entry(unit, found=len(found), orphans=orphans, bad=0))
        parts.append(found)
    batches = []
    for channel, rows in _cells_by_channel(parts):
        if channel in wanted:
            located = pages.payloads(rows)
            if located is None:
                return None
            base = _base(channel, units, bases)
            batches.append(_batch(channel, *located, rows, base))
    return MessageGroup(tuple(batches), tuple(ledger))


def _cells_by_channel(parts: Sequence[Cells]) -> Iterator[tuple[int, Cells]]:
    """Yield each topic id that occurs, with its rows in their order."""
    if not parts:
        return
    columns = [np.concatenate(same) for same in zip(*(one.arrays() for one in parts), strict=True)]
    cells = Cells.of(columns)
    for channel, rows in rows_by_channel(cells.topic):
        yield channel, cells.where(rows)


def _base(channel: int, units: Sequence[Unit], bases: Mapping[int, Mapping[int, int]]) -> int:
    """How many messages of the channel the units before hold."""
    return next((bases[u.index][channel] for u in units if channel in bases[u.index]), 0)


def _batch(
    channel: int, arena: UInt8Array, starts: Int64Array, cells: Cells, base: int
) -> MessageBatch:
    return MessageBatch(
        channel_id=channel,
        arena=arena,
        starts=starts,
        lengths=cells.size,
        log_time_ns=cells.time_ns,
        publish_time_ns=cells.time_ns,
        sequence=base + np.arange(len(cells), dtype=np.int64),
        unit_offset=cells.id,
        payload_offset=np.zeros(len(cells), np.int64),
    )


def _payload(data: bytes | None, *, room: int) -> memoryview:
    """A payload, if there is room for it: of a damaged file only the packed sizes are known."""
    if data is None:
        raise DecodeError("the row's data can't be read", code="DB_MALFORMED")
    if room <= 0 and data[:4] == ZSTD_MAGIC:
        what = f"the messages of a row range unpack to more than {MAX_UNIT_BYTES} bytes"
        raise ResourceLimitError(what)
    return _uncompressed(data)


def _bad_row(
    row: tuple[int, int, int, bytes | None], *, topic: str, error: DecodeError
) -> BadMessage:
    rowid, channel, time_ns, data = row
    return BadMessage(
        channel_id=channel,
        topic=topic,
        unit_offset=rowid,
        offset=0,
        log_time_ns=time_ns,
        error_class=error.code,
        error=error.what,
        first_bytes=(data or b"")[:FIRST_BYTES],
    )


def _ledger_entry(unit: Unit, *, found: int, orphans: int, bad: int) -> LedgerEntry:
    missing = unit.length - found
    reason = "COUNT_MISMATCH" if missing else "ORPHAN_MESSAGES" if orphans else ""
    return LedgerEntry(
        offset=unit.offset,
        length=unit.length,
        fate="decoded",
        reason_code=reason,
        detail=f"{unit.length} rows from rowid {unit.offset}",
        messages_declared=unit.length,
        messages_bad=bad,
        messages_lost=orphans + missing,
    )


def _batches(
    rows: Sequence[tuple[int, int, int, memoryview]],
    units: Sequence[Unit],
    wanted: Collection[int],
    bases: Mapping[int, Mapping[int, int]],
) -> Iterator[MessageBatch]:
    payloads = [row[3] for row in rows]
    arena = np.frombuffer(b"".join(payloads), np.uint8)
    lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
    starts = np.cumsum(lengths) - lengths
    head = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3)
    for channel, chosen in rows_by_channel(head[:, 1]):
        if channel not in wanted:
            continue
        base = _base(channel, units, bases)
        yield MessageBatch(
            channel_id=channel,
            arena=arena,
            starts=starts[chosen],
            lengths=lengths[chosen],
            log_time_ns=head[chosen, 2],
            publish_time_ns=head[chosen, 2],
            sequence=base + np.arange(len(chosen), dtype=np.int64),
            unit_offset=head[chosen, 0],
            payload_offset=np.zeros(len(chosen), np.int64),
        )
