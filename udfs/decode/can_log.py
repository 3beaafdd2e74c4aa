"""CAN logs: frames of all buses of a log, signals by the bus definitions that come with it.

A bus is a channel of the recording, and so is what a log holds beside frames: it is kept as it
stands, like the record that no reader makes anything of. Text is read in parts of a few megabytes
and has no checksums; a BLF by its containers.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType

import attrs
import numpy as np
import pyarrow as pa

from contracts.errors import DecodeError, ResourceLimitError
from contracts.recording import (
    BadMessage,
    Channel,
    Finding,
    Format,
    LedgerEntry,
    RecordingIndex,
    Source,
    TableGroup,
    TimeOrder,
    Unit,
)
from udfs.decode.can_log_part import EVENTS, UNIT_BYTES, BadRecord, Events, LogPart, Piece
from udfs.decode.can_log_rows import BusRows
from udfs.decode.context import DecodeContext
from udfs.decode.limits import FIRST_BYTES, MAX_BAD_ROWS
from udfs.decode.messages import DecodeStatus
from udfs.decode.signal_rows import CAN_FRAMES, RAW_MESSAGES
from udfs.decode.sniff import sniff
from udfs.decode.text_lines import Lines, lines_of
from udfs.decode.units import messages_by_channel, sequence_bases
from udfs.encodings.can import CanFrames

_PARSERS: Mapping[str, str] = {
    "asc": "udfs.decode.can_log_asc",
    "trc": "udfs.decode.can_log_trc",
    "candump": "udfs.decode.can_log_candump",
}
MAX_CHANNELS = 1000
_WHOLE_FRAME = re.compile(rb"(\s[0-9A-Fa-f]{2}|#[0-9A-Fa-f]{16})\s*$")
"""Ends with a byte of two digits, as many as the line has said, or with all that a frame holds."""
_Parse = Callable[[Lines, Mapping[str, str]], LogPart]
_STATES = "states"
"""Section of the index's metadata: by unit, what it must know of those before it."""


@attrs.define(eq=False)
class _Census:
    """Counts over all pieces: channels in the order in which they occur, units, and times."""

    kinds: dict[str, str] = attrs.field(factory=dict)
    units: list[Unit] = attrs.field(factory=list)
    states: dict[str, str] = attrs.field(factory=dict)
    last: Mapping[str, str] = attrs.field(factory=dict)
    damages: list[Finding] = attrs.field(factory=list)

    def add(self, piece: Piece) -> None:
        counts: dict[int, int] = {}
        part = piece.part
        for name, kind, count in _counts(part):
            self.kinds.setdefault(name, kind)
            if len(self.kinds) > MAX_CHANNELS:
                what = f"more than {MAX_CHANNELS} buses"
                raise ResourceLimitError(what, code="RESOURCE_LIMIT", offset=piece.offset)
            counts[self.id_of(name)] = count
        times = np.concatenate([part.frames.log_time_ns, part.events.log_time_ns])
        index = len(self.units)
        self.units.append(
            Unit(
                index=index,
                offset=piece.offset,
                length=piece.length,
                compression=piece.compression,
                start_ns=int(times.min()) if len(times) else None,
                end_ns=int(times.max()) if len(times) else None,
                message_count=sum(counts.values()),
                channel_counts=counts,
            )
        )
        self.states[str(index)] = json.dumps(dict(piece.state), sort_keys=True)
        self.last = part.state

    def id_of(self, name: str) -> int:
        return list(self.kinds).index(name) + 1

    def channels(self) -> tuple[Channel, ...]:
        totals = messages_by_channel(self.units)
        return tuple(
            Channel(number, name, "can", 0, {"kind": kind}, totals.get(number, 0))
            for number, (name, kind) in enumerate(self.kinds.items(), start=1)
        )


def index_recording(source: Source) -> RecordingIndex:
    """Read a log once and say what is in it.

    Raises:
        DecodeError: BAD_MAGIC, TRUNCATED where not even a BLF's header is there; NO_RECORDS.
        ResourceLimitError: BOMB, a container that grows beyond bounds; RESOURCE_LIMIT, more
            buses than any vehicle has.
    """
    name = sniff(source).format
    census = _Census()
    for piece in _pieces(source, name):
        census.add(piece)
    if not census.kinds:
        raise DecodeError("a log without any record", code="NO_RECORDS", uri=source.uri)
    starts = [unit.start_ns for unit in census.units if unit.start_ns is not None]
    ends = [unit.end_ns for unit in census.units if unit.end_ns is not None]
    about = _about(source, name, census)
    return RecordingIndex(
        format=_format(name),
        profile="can",
        library=about.library,
        start_ns=min(starts, default=None),
        end_ns=max(ends, default=None),
        schemas=(),
        channels=census.channels(),
        units=tuple(census.units),
        metadata={_STATES: census.states},
        messages_declared=None,
        findings=about.findings,
        structure=about.structure,
    )


def table_of_channel(
    index: RecordingIndex, channel: Channel
) -> tuple[str, pa.Schema | None, DecodeStatus]:
    """Silver table of a channel, its schema and status.

    The frames of a bus also give rows of `signals`, where a definition of the bus is there.
    """
    del index
    if channel.metadata["kind"] == "can_frames":
        return "can_frames", CAN_FRAMES, "DECODED"
    return "raw_messages", RAW_MESSAGES, "NO_DECODER"


def iter_table_groups(
    source: Source,
    index: RecordingIndex,
    *,
    context: DecodeContext,
    units: Sequence[Unit] | None = None,
) -> Iterator[TableGroup]:
    """Decode a log, or some of its units, to rows by table.

    Args:
        source: The log.
        index: Of the same log.
        context: Values that go into every row; its definitions `can:<bus>` and `can:*`.
        units: Units to decode; all by default.

    Yields:
        One group a unit.
    """
    rows = BusRows(context, encoding=index.format)
    bases = sequence_bases(index.units)
    channels = {channel.topic: channel for channel in index.channels}
    for unit in index.units if units is None else units:
        state = json.loads(index.metadata[_STATES][str(unit.index)])
        piece = _read_unit(source, index.format, unit, state)
        yield _table_group(piece, rows, channels, bases[unit.index])


@attrs.frozen
class _About:
    library: str
    findings: tuple[Finding, ...]
    structure: tuple[LedgerEntry, ...] = ()


def _about(source: Source, name: str, census: _Census) -> _About:
    """What the log says of itself."""
    if name == "blf":
        found = _blf().about(source, census.units, census.last)
        return _About(found.library, found.findings, found.structure)
    findings = []
    if census.last.get("dated"):
        what = "the start is local time of an unknown zone, taken as UTC"
        findings.append(Finding("LOCAL_TIME", what))
    elif name != "candump":
        findings.append(Finding("NO_TIME", "the log has no date, its times count from 1970"))
    if bytes(source.read_at(source.size - 1, 1)) != b"\n":
        findings.append(Finding("TRUNCATED", "the last line has no end", source.size))
    return _About("", tuple(findings))


def _pieces(source: Source, name: str) -> Iterator[Piece]:
    if name == "blf":
        yield from _blf().iter_pieces(source)
        return
    state: Mapping[str, str] = {}
    for offset, length in _text_parts(source):
        piece = _text_piece(source, name, offset, length, state)
        state = piece.part.state
        yield piece


def _read_unit(source: Source, name: str, unit: Unit, state: Mapping[str, str]) -> Piece:
    if name == "blf":
        piece: Piece = _blf().read_piece(source, unit, state)
        return piece
    return _text_piece(source, name, unit.offset, unit.length, state)


def _text_parts(source: Source) -> Iterator[tuple[int, int]]:
    """Ranges that end with a line; a line that is longer than a part may be is cut."""
    offset = 0
    while offset < source.size:
        length = min(UNIT_BYTES, source.size - offset)
        if offset + length < source.size:
            end = bytes(source.read_at(offset, length)).rfind(b"\n")
            length = end + 1 if end >= 0 else length
        yield offset, length
        offset += length


def _text_piece(
    source: Source, name: str, offset: int, length: int, state: Mapping[str, str]
) -> Piece:
    text = source.read_at(offset, length)
    parse: _Parse = importlib.import_module(_PARSERS[name]).parse_part
    part = parse(lines_of(np.frombuffer(text, np.uint8)), state)
    if offset + length == source.size and bytes(text[-1:]) != b"\n":
        part = _without_cut_line(part, bytes(text), parse, state)
    return Piece(offset, length, part, state)


def _without_cut_line(
    part: LogPart, text: bytes, parse: _Parse, state: Mapping[str, str]
) -> LogPart:
    """The last part of a log whose last line has no end, as where a logger lost its power.

    What is left of a frame may look like another one: shorter, or with half of its last byte. So
    the line is bad unless it ends with a frame that nothing can be missing of, or says nothing.
    """
    start = text.rfind(b"\n") + 1
    line = text[start:]
    head = parse(lines_of(np.frombuffer(text[:start], np.uint8)), state)
    last = parse(lines_of(np.frombuffer(line, np.uint8)), head.state)
    is_frame = len(last.frames.log_time_ns) > 0 and _WHOLE_FRAME.search(line)
    if last.bad or is_frame or not (len(last.frames.log_time_ns) or len(last.events.name)):
        return part
    bad = BadRecord(start, "the last line is cut", line[:FIRST_BYTES])
    return attrs.evolve(head, bad=(*head.bad, bad))


def _blf() -> ModuleType:
    return importlib.import_module("udfs.decode.can_log_blf")


def _format(name: str) -> Format:
    formats: Mapping[str, Format] = {"asc": "asc", "blf": "blf", "trc": "trc", "candump": "candump"}
    return formats[name]


def _counts(part: LogPart) -> Iterator[tuple[str, str, int]]:
    """Channels that occur in a part, and how many records of each; what is bad is an event."""
    found = np.bincount(part.bus, minlength=len(part.buses)).tolist()
    for name, count in zip(part.buses, found, strict=True):
        if count:
            yield name, "can_frames", count
    events = np.bincount(part.events.name, minlength=len(part.events.names)).tolist()
    counts = dict(zip(part.events.names, events, strict=True))
    if part.bad:
        counts[EVENTS] = counts.get(EVENTS, 0) + len(part.bad)
    for name, count in counts.items():
        if count:
            yield name, "raw_messages", count


def _table_group(
    piece: Piece, rows: BusRows, channels: Mapping[str, Channel], bases: Mapping[int, int]
) -> TableGroup:
    part = piece.part
    tables: list[tuple[str, pa.RecordBatch]] = []
    written: dict[int, int] = {}
    order: dict[int, TimeOrder] = {}
    rows.begin()
    for at, name in enumerate(part.buses):
        chosen = np.flatnonzero(part.bus == at)
        if len(chosen):
            frames = _of_bus(part.frames, chosen, channels[name], bases)
            tables += rows.of_frames(frames, channel=channels[name])
            written[channels[name].id] = len(frames.log_time_ns)
            order[channels[name].id] = TimeOrder.of(frames.log_time_ns, position=piece.offset)
    for at, name in enumerate(part.events.names):
        chosen = np.flatnonzero(part.events.name == at)
        if len(chosen):
            channel = channels[name]
            tables.append(("raw_messages", _event_rows(part.events, chosen, rows, channel, bases)))
            written[channel.id] = len(chosen)
    bad = tuple(_bad_messages(piece, channels))
    count = sum(written.values())
    reason, detail = rows.reason()
    if piece.damage:
        reason, detail = "CHUNK_DAMAGED", piece.damage
    entry = LedgerEntry(
        offset=piece.offset,
        length=piece.length,
        fate="quarantined" if piece.damage and not count else "decoded",
        reason_code=reason,
        detail=detail,
        messages_declared=None if piece.damage else count + len(part.bad),
        messages_written=count,
        messages_bad=len(part.bad),
        messages_lost=None if piece.damage else 0,
    )
    undecoded = {channels[EVENTS].id: len(part.bad)} if part.bad else {}
    return TableGroup(tuple(tables), (entry,), bad, written, undecoded, order)


def _of_bus(
    frames: CanFrames, chosen: np.ndarray, channel: Channel, bases: Mapping[int, int]
) -> CanFrames:
    """Frames of one bus, numbered within it."""
    same = len(chosen) == len(frames.log_time_ns)
    own = (
        {}
        if same
        else {
            name: getattr(frames, name)[chosen]
            for name in attrs.fields_dict(CanFrames)
            if name not in ("arena", "sequence")
        }
    )
    sequence = bases.get(channel.id, 0) + np.arange(len(chosen), dtype=np.int64)
    return attrs.evolve(frames, sequence=sequence, **own)


def _event_rows(
    events: Events,
    chosen: np.ndarray,
    rows: BusRows,
    channel: Channel,
    bases: Mapping[int, int],
) -> pa.RecordBatch:
    return rows.of_events(
        attrs.evolve(
            events,
            name=events.name[chosen],
            log_time_ns=events.log_time_ns[chosen],
            starts=events.starts[chosen],
            lengths=events.lengths[chosen],
        ),
        first=bases.get(channel.id, 0),
        channel=channel,
    )


def _bad_messages(piece: Piece, channels: Mapping[str, Channel]) -> Iterator[BadMessage]:
    for record in piece.part.bad[:MAX_BAD_ROWS]:
        yield BadMessage(
            channel_id=channels[EVENTS].id,
            topic=EVENTS,
            unit_offset=piece.offset if piece.compression else -1,
            offset=record.offset if piece.compression else piece.offset + record.offset,
            log_time_ns=None,
            error_class="BAD_RECORD",
            error=record.error,
            first_bytes=record.first_bytes[:FIRST_BYTES],
        )
