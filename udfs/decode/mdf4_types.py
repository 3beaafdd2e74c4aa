"""What an MDF 4 file says of itself, as frozen values: groups, channels, conversions, attachments.

Source: ASAM MDF 4.1 and 4.2, clause 4 (block structure).
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from contracts.recording import Finding

CG_VLSD = 0x1
CG_BUS_EVENT = 0x2
CG_REMOTE_MASTER = 0x8
CN_FIXED, CN_VLSD, CN_MASTER, CN_VIRTUAL_MASTER, CN_SYNC, CN_MLSD, CN_VIRTUAL = range(7)
UNREADABLE = 255
BIT_FIELD = 11
CN_ALL_INVALID = 0x1
CN_HAS_INVALID_BIT = 0x2
CN_HAS_LIMITS = 0x10
SYNC_TIME = 1
EVENT_TYPES = (
    "recording",
    "recording_interrupt",
    "acquisition_interrupt",
    "trigger_start",
    "trigger_stop",
    "trigger",
    "marker",
)
BUS_TYPES = ("", "other", "CAN", "LIN", "MOST", "FlexRay", "K_LINE", "ETHERNET", "USB")


@attrs.frozen
class SourceInfo:
    """Where a group or channel comes from, e.g. bus type CAN, path `CAN1`."""

    name: str = ""
    path: str = ""
    bus_type: str = ""


@attrs.frozen
class Conversion:
    """A conversion rule; `refs` are texts or conversions, None where the link is null.

    `values` are integers for a bit field: its masks.
    """

    kind: int
    values: tuple[float, ...] = ()
    refs: tuple[str | Conversion | None, ...] = ()
    unit: str = ""


@attrs.frozen
class ArrayShape:
    """Elements of a channel array: its dimensions and the bytes between neighbours."""

    dimensions: tuple[int, ...]
    stride_bytes: int
    invalid_bit_stride: int
    is_column_major: bool


@attrs.frozen
class MdfChannel:
    """A channel of a group (a *signal* in the language of this project).

    Attributes:
        data_link: VLSD: its SD blocks or VLSD group; MLSD: the channel with the length.
        attachments: Addresses of attachments it refers to.
        parts: Members, where the channel is a structure.
        array: Its elements, where it is an array.
        range: Lowest and highest physical value, None where none is stated.
    """

    address: int
    name: str
    kind: int
    sync_kind: int
    data_type: int
    bit_offset: int
    byte_offset: int
    bit_count: int
    flags: int
    invalid_bit: int
    unit: str
    conversion: Conversion | None
    data_link: int
    source: SourceInfo
    attachments: tuple[int, ...] = ()
    parts: tuple[MdfChannel, ...] = ()
    array: ArrayShape | None = None
    range: tuple[float, float] | None = None


@attrs.frozen
class ChannelGroup:
    """A channel group: one record layout and how often it occurs.

    `master_address` is the group whose master channel gives its times, 0 if it has its own.
    """

    address: int
    record_id: int
    cycle_count: int
    flags: int
    data_bytes: int
    invalid_bytes: int
    acquisition_name: str
    comment: str
    source: SourceInfo
    channels: tuple[MdfChannel, ...]
    master_address: int = 0

    @property
    def is_vlsd(self) -> bool:
        """Whether its records are the variable-length values of a channel of another group."""
        return bool(self.flags & CG_VLSD)


@attrs.frozen
class DataGroup:
    """A data group: the channel groups that share one stream of records."""

    address: int
    record_id_bytes: int
    data_link: int
    groups: tuple[ChannelGroup, ...]


@attrs.frozen
class FileAttachment:
    """An attachment; `data` is None where it lies outside the file or does not read."""

    address: int
    length: int
    name: str
    media_type: str
    data: bytes | None


@attrs.frozen
class FileEvent:
    """An event; `time_ns` counts from the start of the measurement, None where it has no time."""

    name: str
    kind: str
    time_ns: int | None


@attrs.frozen
class MdfFile:
    """All metadata of a file.

    Attributes:
        properties: Common properties in the comment of the header.
        start_ns: Start of the measurement as the header has it, UTC unless `is_local_time`.
        unfinalised_flags: What the writer left undone; 0 in a finalised file.
        data_lengths: MDF 3: bytes of each data block, which does not tell its own, by address.
    """

    version: int
    program: str
    properties: Mapping[str, str]
    start_ns: int
    is_local_time: bool
    time_zone_minutes: int | None
    unfinalised_flags: int
    data_groups: tuple[DataGroup, ...]
    attachments: tuple[FileAttachment, ...]
    findings: tuple[Finding, ...]
    known_addresses: tuple[int, ...]
    data_lengths: Mapping[int, int] = attrs.field(factory=dict)
    events: tuple[FileEvent, ...] = ()
