"""What is in a ROS 1 bag: a walk over all record heads, checked against the index section.

The index section at the end of a bag is a claim that is checked, never the way in: a recorder
that lost power leaves a bag without one, and its chunks are all there.

Source: ROS bag format 2.0, http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from contracts.errors import DecodeError, UnsupportedFormatError
from contracts.ids import schema_hash
from contracts.recording import (
    Channel,
    Finding,
    LedgerEntry,
    RecordingIndex,
    Schema,
    Source,
    Unit,
)
from udfs.decode import ros1bag_records as rec
from udfs.decode.ros1bag_chunk import (
    ChunkMessages,
    chunk_messages,
    connection_records,
    load_chunk,
)

MAGIC = b"#ROSBAG V2.0\n"
_COMPRESSIONS = ("none", "bz2", "lz4")
_SEARCH_BYTES = 1 << 20
_CHUNK_OP = b"\x04\0\0\0op=\x05"
_MOST_BEFORE_OP = 64
"""Bytes of a chunk record's header that may stand before its op: length, compression and size."""


@attrs.define
class _Scan:
    """What the walk over the record heads has found so far.

    Attributes:
        claims: Messages by connection for each chunk offset, as the index section has it.
        chunk_count: Chunks that the bag header counts; None in a bag that was never closed.
    """

    connections: dict[int, Channel] = attrs.field(factory=dict)
    schemas: dict[str, Schema] = attrs.field(factory=dict)
    units: list[Unit] = attrs.field(factory=list)
    claims: dict[int, dict[int, int]] = attrs.field(factory=dict)
    findings: list[Finding] = attrs.field(factory=list)
    damaged: list[LedgerEntry] = attrs.field(factory=list)
    chunk_count: int | None = None


def scan_file(source: Source) -> RecordingIndex:
    """Walk all record heads and check the index section against them.

    Raises:
        DecodeError: BAD_MAGIC, BAD_RECORD or TRUNCATED where not even the bag header is there.
        ResourceLimitError: BOMB where a chunk declares more than it may hold.
        UnsupportedFormatError: ENCRYPTED, or UNSUPPORTED_COMPRESSION:<name>.
    """
    header = _bag_header(source)
    scan = _Scan()
    index_at = header.number(b"index_pos")
    scan.chunk_count = header.number(b"chunk_count") if index_at else None
    _read_index_section(source, scan, index_at)
    _walk(source, scan, header.end)
    _inspect_chunks(source, scan)
    _check_claims(scan)
    if not index_at:
        what = "the bag was never closed: it has no index section"
        scan.findings.append(Finding("NO_INDEX", what, loses=True, lost_messages=None))
    return _index_of(source, scan)


def _bag_header(source: Source) -> rec.Record:
    start = bytes(source.read_at(0, min(len(MAGIC), source.size)))
    if start != MAGIC:
        raise DecodeError(f"no ROS 1 bag begins with {start.hex(' ')}", code="BAD_MAGIC", offset=0)
    header = rec.read_record(source, len(MAGIC))
    if header.op != rec.OP_BAG_HEADER or header.end > source.size:
        raise DecodeError("the bag header is not whole", code="TRUNCATED", offset=len(MAGIC))
    if header.fields.get(b"encryptor"):
        name = header.fields[b"encryptor"].decode("utf-8", "backslashreplace")
        raise UnsupportedFormatError(f"bag encrypted by {name}", code="ENCRYPTED", uri=source.uri)
    return header


def _read_index_section(source: Source, scan: _Scan, index_at: int) -> None:
    """Take connections and chunk claims from the index section, as far as it reads."""
    if not 0 < index_at < source.size:
        return
    try:
        for record in rec.iter_records(source, index_at, source.size):
            data = source.read_at(record.data_offset, record.data_length)
            if record.op == rec.OP_CONNECTION:
                _add_connection(scan, record.fields, data, offset=record.offset)
            elif record.op == rec.OP_CHUNK_INFO:
                counts = np.frombuffer(data[: len(data) // 8 * 8], "<u4").reshape(-1, 2).tolist()
                scan.claims[record.number(b"chunk_pos")] = dict(counts)
    except DecodeError:
        return  # the walk over the whole file meets the same bytes and says so


def _add_connection(
    scan: _Scan, fields: Mapping[bytes, bytes], header: memoryview | bytes, *, offset: int
) -> None:
    """Register a connection record as a channel; the same one again changes nothing."""
    try:
        channel = connection_of(fields, header, scan.schemas)
    except DecodeError as error:
        scan.findings.append(Finding("BAD_CONNECTION", error.what, offset=offset))
        return
    first = scan.connections.setdefault(channel.id, channel)
    if (first.topic, first.schema_id) != (channel.topic, channel.schema_id):
        what = f"connection {channel.id} is defined twice, differently; the first is kept"
        scan.findings.append(Finding("SCHEMA_CONFLICT", what, offset=offset))


def connection_of(
    fields: Mapping[bytes, bytes], header: memoryview | bytes, schemas: dict[str, Schema]
) -> Channel:
    """The channel that a connection record defines; its definition goes to `schemas`, by hash.

    Raises:
        DecodeError: BAD_CONNECTION, the record does not read.
    """
    try:
        about = rec.header_fields(header)
        channel_id = int.from_bytes(fields[b"conn"], "little")
    except (ValueError, KeyError) as error:
        what = "a connection record does not read"
        raise DecodeError(what, code="BAD_CONNECTION") from error
    name = about.get(b"type", b"").decode("utf-8", "replace")
    definition = about.get(b"message_definition", b"")
    digest = schema_hash(name, "ros1msg", definition)
    schema = schemas.setdefault(
        digest, Schema(len(schemas) + 1, name, "ros1msg", definition, digest)
    )
    return Channel(
        id=channel_id,
        topic=fields.get(b"topic", about.get(b"topic", b"")).decode("utf-8", "replace"),
        message_encoding="ros1",
        schema_id=schema.id,
        metadata={
            key.decode(): about[key].decode("utf-8", "replace")
            for key in (b"callerid", b"latching", b"md5sum")
            if key in about
        },
    )


def _walk(source: Source, scan: _Scan, at: int) -> None:
    """Visit every record from `at` to the end of the file."""
    while at < source.size:
        try:
            record = rec.read_record(source, at)
            if record.op in (rec.OP_CHUNK, rec.OP_MESSAGE):
                chunk = rec.chunk_at(source, at)
                _add_unit(scan, chunk)
                if not chunk.is_whole:
                    _add_truncation(scan, at)
                at = chunk.end
                continue
            if record.end > source.size:
                what = "the file ends inside a record"
                raise DecodeError(what, code="TRUNCATED", offset=at)  # noqa: TRY301
        except DecodeError as error:
            if error.code == "BOMB":
                raise
            at = _skip_damage(source, scan, at, error)
            continue
        if record.op == rec.OP_CONNECTION:
            data = source.read_at(record.data_offset, record.data_length)
            _add_connection(scan, record.fields, data, offset=at)
        at = record.end


def _add_unit(scan: _Scan, chunk: rec.Chunk) -> None:
    if chunk.compression not in _COMPRESSIONS:
        name = chunk.compression
        raise UnsupportedFormatError(
            f"chunk compression {name!r}",
            code=f"UNSUPPORTED_COMPRESSION:{name}",
            offset=chunk.offset,
        )
    times = chunk.times_ns
    scan.units.append(
        Unit(
            index=len(scan.units),
            offset=chunk.offset,
            length=chunk.end - chunk.offset,
            compression="" if chunk.compression == "none" else chunk.compression,
            uncompressed_size=chunk.size,
            start_ns=int(times.min()) if times is not None and len(times) else None,
            end_ns=int(times.max()) if times is not None and len(times) else None,
            message_count=sum(chunk.counts.values()) if times is not None else None,
            channel_counts=dict(chunk.counts),
        )
    )


def _skip_damage(source: Source, scan: _Scan, at: int, error: DecodeError) -> int:
    """Quarantine the bytes from `at` to the next chunk, claimed or found, or to the end."""
    claimed = min((claim for claim in scan.claims if at < claim < source.size), default=source.size)
    end = claimed if scan.claims else _next_chunk(source, at + 1)
    if error.code == "TRUNCATED" and end == source.size:
        _add_truncation(scan, at)
    else:
        what = f"bytes {at} to {end} are no records"
        finding = Finding("BAD_RECORD", what, offset=at, loses=True, lost_messages=None)
        scan.findings.append(finding)
    scan.damaged.append(LedgerEntry(at, end - at, "quarantined", error.code, error.what))
    return end


def _next_chunk(source: Source, at: int) -> int:
    """Where the next record begins that reads as a chunk; the size of the file if none does."""
    while at < source.size:
        block = bytes(source.read_at(at, min(_SEARCH_BYTES, source.size - at)))
        found = block.find(_CHUNK_OP)
        while found >= 0:
            for start in range(max(at + found - _MOST_BEFORE_OP, at), at + found - 3):
                if _is_chunk(source, start):
                    return start
            found = block.find(_CHUNK_OP, found + 1)
        if at + len(block) == source.size:
            break
        at += max(len(block) - _MOST_BEFORE_OP - len(_CHUNK_OP), 1)
    return source.size


def _is_chunk(source: Source, offset: int) -> bool:
    try:
        record = rec.read_record(source, offset)
    except DecodeError:
        return False
    return record.op == rec.OP_CHUNK and {b"compression", b"size"} <= record.fields.keys()


def _add_truncation(scan: _Scan, at: int) -> None:
    """Say that the file ends early; nothing is lost if every chunk it counts stands before."""
    whole = sum(1 for unit in scan.units if unit.offset < at)
    complete = scan.chunk_count is not None and whole >= scan.chunk_count
    scan.findings.append(
        Finding(
            "TRUNCATED",
            "the file ends inside a record",
            offset=at,
            loses=not complete,
            lost_messages=0 if complete else None,
        )
    )


def _inspect_chunks(source: Source, scan: _Scan) -> None:
    """Decompress the chunks that must be: those without index, those that define connections."""
    for position, unit in enumerate(scan.units):
        unknown = unit.channel_counts.keys() - scan.connections.keys()
        if unit.message_count is not None and not unknown:
            continue
        chunk = rec.chunk_at(source, unit.offset)
        data, _ = load_chunk(source, chunk, np.empty(chunk.size, np.uint8))
        for fields, header in connection_records(data):
            _add_connection(scan, fields, header, offset=unit.offset)
        if unit.message_count is None:
            found = chunk_messages(data)
            scan.units[position] = _unit_with_messages(unit, found, is_whole=chunk.is_whole)


def _unit_with_messages(unit: Unit, found: ChunkMessages, *, is_whole: bool) -> Unit:
    ids, counts = np.unique(found.connection, return_counts=True)
    known = is_whole and not found.damage
    return attrs.evolve(
        unit,
        start_ns=int(found.time_ns.min()) if len(found.time_ns) else None,
        end_ns=int(found.time_ns.max()) if len(found.time_ns) else None,
        message_count=len(found.starts) if known else None,
        channel_counts=dict(zip(ids.tolist(), counts.tolist(), strict=True)),
    )


def _check_claims(scan: _Scan) -> None:
    """Compare the index section with the chunks; where they differ the claim is what is owed."""
    at = {unit.offset: position for position, unit in enumerate(scan.units)}
    for offset, claim in scan.claims.items():
        declared = sum(claim.values())
        if offset not in at:
            what = f"the index section names a chunk that is not there, with {declared} messages"
            finding = Finding("MISSING_CHUNK", what, offset, loses=True, lost_messages=declared)
            scan.findings.append(finding)
            continue
        unit = scan.units[at[offset]]
        if dict(unit.channel_counts) != claim:
            counted = sum(unit.channel_counts.values())
            what = f"the index section claims {declared} messages, the chunk's index {counted}"
            scan.findings.append(Finding("COUNT_MISMATCH", what, offset))
            scan.units[at[offset]] = attrs.evolve(unit, message_count=max(declared, counted))
    if scan.chunk_count is not None and not scan.findings:
        chunks = len(scan.units)
        if chunks < scan.chunk_count:
            what = f"the bag header counts {scan.chunk_count} chunks, {chunks} are there"
            finding = Finding("MISSING_CHUNK", what, loses=True, lost_messages=None)
            scan.findings.append(finding)


def _index_of(source: Source, scan: _Scan) -> RecordingIndex:
    counts: dict[int, int] = {}
    for unit in scan.units:
        for channel, count in unit.channel_counts.items():
            counts[channel] = counts.get(channel, 0) + count
    orphans = sum(count for channel, count in counts.items() if channel not in scan.connections)
    if orphans:
        what = f"{orphans} messages name a connection that is not defined"
        finding = Finding("ORPHAN_MESSAGES", what, loses=True, lost_messages=orphans)
        scan.findings.append(finding)
    starts = [unit.start_ns for unit in scan.units if unit.start_ns is not None]
    ends = [unit.end_ns for unit in scan.units if unit.end_ns is not None]
    claimed = scan.chunk_count is not None and len(scan.claims) == scan.chunk_count
    return RecordingIndex(
        format="ros1bag",
        profile="ros1",
        library="",
        start_ns=min(starts, default=None),
        end_ns=max(ends, default=None),
        schemas=tuple(scan.schemas.values()),
        channels=tuple(
            attrs.evolve(channel, message_count=counts.get(channel.id, 0))
            for _, channel in sorted(scan.connections.items())
        ),
        units=tuple(scan.units),
        messages_declared=sum(sum(c.values()) for c in scan.claims.values()) if claimed else None,
        findings=tuple(scan.findings),
        structure=_structure(source, scan),
    )


def _structure(source: Source, scan: _Scan) -> tuple[LedgerEntry, ...]:
    """Fates of all bytes outside the units: damaged ones as found, the rest is structure."""
    taken = [(unit.offset, unit.length) for unit in scan.units]
    taken += [(entry.offset, entry.length) for entry in scan.damaged]
    entries = list(scan.damaged)
    at = 0
    for offset, length in sorted([*taken, (source.size, 0)]):
        if offset > at:
            entries.append(LedgerEntry(at, offset - at, "skipped", "STRUCTURE", "bag records"))
        at = offset + length
    return tuple(sorted(entries, key=lambda entry: entry.offset))
