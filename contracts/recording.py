"""What a reader says of a recording: its channels, its split units, its bytes and their fates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

Format = Literal["mcap", "ros1bag", "rosbag2_db3", "mdf3", "mdf4", "asc", "blf", "trc", "candump"]
Fate = Literal["decoded", "quarantined", "skipped"]


class Source(Protocol):
    """Random access to the bytes of one object on any storage."""

    uri: str
    size: int

    def read_at(self, offset: int, length: int) -> memoryview:
        """Read exactly `length` bytes at `offset`; raises DecodeError TRUNCATED past the end."""
        ...

    def local_path(self) -> str:
        """Path of a local copy, for libraries that open files themselves."""
        ...


@attrs.frozen
class Schema:
    """A message definition as it stands in the file; `hash` is over name, encoding and data."""

    id: int
    name: str
    encoding: str
    data: bytes
    hash: str


@attrs.frozen
class Channel:
    """A (topic, schema, encoding) of a recording, or a channel group of an MDF file.

    `message_count` is what the file declares; None where it declares nothing.
    """

    id: int
    topic: str
    message_encoding: str
    schema_id: int
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    message_count: int | None = None


@attrs.frozen
class Unit:
    """A byte range that decodes on its own: an MCAP or bag chunk, a data block, a row range.

    `offset` and `length` are bytes in the file (for db3: first rowid and number of rows), in the
    unpacked one where the recording is packed as a whole.
    `start_ns`/`end_ns` are log times of the recorder's clock, both inclusive.
    """

    index: int
    offset: int
    length: int
    compression: str = ""
    uncompressed_size: int | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    message_count: int | None = None
    channel_counts: Mapping[int, int] = attrs.field(factory=dict)


@attrs.frozen
class Attachment:
    """A file inside the recording. The name is shown escaped and never becomes a path."""

    name: str
    media_type: str
    offset: int
    length: int
    log_time_ns: int | None = None


@attrs.frozen
class Finding:
    """Something a reader must say of a file: a flag, a loss, a damage.

    `lost_messages` None with `loses=True` means lost but unknown how many.
    """

    code: str
    detail: str
    offset: int | None = None
    loses: bool = False
    lost_messages: int | None = 0


@attrs.frozen
class LedgerEntry:
    """The fate of a byte range [offset, offset + length) of a recording, as it is stored.

    Of one that is packed as a whole it is the range that the bytes were unpacked from, to 64 KB.
    """

    offset: int
    length: int
    fate: Fate
    reason_code: str = ""
    detail: str = ""
    messages_declared: int | None = 0
    messages_written: int = 0
    messages_bad: int = 0
    messages_lost: int | None = 0

    @property
    def is_damaged(self) -> bool:
        """Whether something of the range is not there, or may not be."""
        return self.fate == "quarantined" or self.messages_lost != 0


@attrs.frozen
class BadMessage:
    """A message that would not decode; `first_bytes` holds at most 1,024 bytes of it."""

    channel_id: int
    topic: str
    unit_offset: int
    offset: int
    log_time_ns: int | None
    error_class: str
    error: str
    first_bytes: bytes


@attrs.frozen
class RecordingIndex:
    """Everything a reader knows of a recording before it decodes a payload.

    Attributes:
        format: The container.
        profile: As the file states it, e.g. "ros2".
        library: The writer, as the file states it.
        start_ns: First log time, recorder's clock; None when there is no message.
        end_ns: Last log time, recorder's clock, inclusive.
        structure: Fates of the bytes outside the units (header, summary, index, footer).
        integrity: "CRC" where the format's checksums cover the messages, else "NONE".
        messages_declared: What the file's own statistics say; None where it has none.
        conflicts: By channel, the file offset behind which its definition is another one: no
            message of a unit that starts beyond it is decoded (SCHEMA_CONFLICT).
    """

    format: Format
    profile: str
    library: str
    start_ns: int | None
    end_ns: int | None
    schemas: tuple[Schema, ...]
    channels: tuple[Channel, ...]
    units: tuple[Unit, ...]
    attachments: tuple[Attachment, ...] = ()
    metadata: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    messages_declared: int | None = None
    integrity: str = "NONE"
    findings: tuple[Finding, ...] = ()
    structure: tuple[LedgerEntry, ...] = ()
    conflicts: Mapping[int, int] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class MessageBatch:
    """Messages of one channel whose payloads stay in one shared byte arena.

    Attributes:
        channel_id: The channel.
        arena: (B,) uint8; valid only until the next batch is asked for (it is reused).
        starts: (N,) int64, start of each payload in the arena.
        lengths: (N,) int64, bytes of each payload.
        log_time_ns: (N,) int64, recorder's clock.
        publish_time_ns: (N,) int64, publisher's clock (equal to log time where not recorded).
        sequence: (N,) int64, as recorded, or the ordinal within the channel.
        unit_offset: (N,) int64, file offset of the compressed unit (chunk record) the message is
            in, -1 where it stands in the file itself; for db3 the rowid.
        payload_offset: (N,) int64, start of the payload within the uncompressed unit, or in the
            file where unit_offset is -1; for db3 0.
    """

    channel_id: int
    arena: UInt8Array
    starts: Int64Array
    lengths: Int64Array
    log_time_ns: Int64Array
    publish_time_ns: Int64Array
    sequence: Int64Array
    unit_offset: Int64Array
    payload_offset: Int64Array

    def columns(self) -> dict[str, Int64Array]:
        """What there is of each message, (N,) arrays by name."""
        return {
            field.name: getattr(self, field.name)
            for field in attrs.fields(MessageBatch)
            if field.name not in {"channel_id", "arena"}
        }

    def where(self, chosen: npt.NDArray[np.bool_] | Int64Array) -> MessageBatch:
        """The messages of a (N,) mask, or at (M,) positions, in the same arena."""
        own = {name: one[chosen] for name, one in self.columns().items()}
        return MessageBatch(self.channel_id, self.arena, **own)


@attrs.frozen(eq=False)
class MessageGroup:
    """What a container reader yields: the messages of some consecutive units, and their fates.

    `conflicts` are those of `RecordingIndex` that the units themselves have shown.
    """

    batches: tuple[MessageBatch, ...]
    ledger: tuple[LedgerEntry, ...]
    bad: tuple[BadMessage, ...] = ()
    conflicts: Mapping[int, int] = attrs.field(factory=dict)


@attrs.frozen
class TimeOrder:
    """Log times of one channel in some consecutive units, in file order.

    Attributes:
        position: Where the first of the units is, to put the parts of a recording in order.
        backward: Messages whose log time lies before that of the one before.
        largest_step_ns: How far the farthest of them lies before it.
    """

    position: int
    first_ns: int
    last_ns: int
    backward: int
    largest_step_ns: int

    @classmethod
    def of(cls, log_time_ns: Int64Array, *, position: int) -> TimeOrder:
        """From the (N,) log times of at least one message."""
        steps = log_time_ns[:-1] - log_time_ns[1:]
        return cls(
            position=position,
            first_ns=int(log_time_ns[0]),
            last_ns=int(log_time_ns[-1]),
            backward=int(np.count_nonzero(steps > 0)),
            largest_step_ns=max(int(steps.max(initial=0)), 0),
        )


@attrs.frozen(eq=False)
class TableGroup:
    """What decode yields: rows by table (without `silver.`), the ledger, and the bad messages.

    `rows_by_channel` counts the *messages* that were written, for the balance of the ledger (one
    message may give several rows, as a TFMessage does); `undecoded_by_channel` those whose payload
    would not decode, all of them, where `bad` names the first. `conflicts` as in `MessageGroup`.
    """

    tables: tuple[tuple[str, pa.RecordBatch], ...]
    ledger: tuple[LedgerEntry, ...]
    bad: tuple[BadMessage, ...] = ()
    rows_by_channel: Mapping[int, int] = attrs.field(factory=dict)
    undecoded_by_channel: Mapping[int, int] = attrs.field(factory=dict)
    order_by_channel: Mapping[int, TimeOrder] = attrs.field(factory=dict)
    conflicts: Mapping[int, int] = attrs.field(factory=dict)
