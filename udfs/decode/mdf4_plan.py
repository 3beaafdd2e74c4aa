"""What is to be made of the channel groups of an MDF 4 file: signals, CAN frames, or raw records.

Source: ASAM MDF 4.1 and its associated standard for bus logging.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from contracts.errors import DecodeError, UnsupportedFormatError
from contracts.ids import canonical_json, schema_hash
from contracts.recording import Channel, Finding, Schema, Source
from udfs.decode import mdf3_blocks, mdf4_blocks
from udfs.decode.mdf4_data import Fragment, Fragments
from udfs.decode.mdf4_formula import formula
from udfs.decode.mdf4_records import DataGroupReader, GroupRecords, check_layout
from udfs.decode.mdf4_types import (
    CG_BUS_EVENT,
    CN_MASTER,
    CN_VIRTUAL,
    CN_VIRTUAL_MASTER,
    SYNC_TIME,
    ArrayShape,
    ChannelGroup,
    Conversion,
    DataGroup,
    MdfChannel,
    MdfFile,
)

Kind = Literal["signals", "can_frames", "raw_messages"]

_FRAME_FIELD = re.compile(r"(?:^|\.)(CAN_(?:Data|Remote|Error)Frame|LIN_Frame)[^.]*\.(\w+)$")
_BUS_NUMBER = re.compile(r"(\d+)\D*$")
_COMPLEX = (15, 16)


@attrs.frozen
class Leaf:
    """A channel that gives samples: neither a structure nor a master; one element of an array."""

    name: str
    channel: MdfChannel
    element: int = 0


@attrs.frozen(eq=False)
class GroupPlan:
    """How the records of a channel group become rows.

    Attributes:
        channel: The group as a channel of the recording.
        layout: Where its records are.
        count: Records to read: what the group declares, as far as it is there.
        master: Channel of the times; None where there is none in the group.
        leaves: Channels that give samples.
        frame_fields: For CAN and LIN frames: the channel of each field, by its name (ID, DLC, …).
        frame_kind: CAN_DataFrame, CAN_RemoteFrame, CAN_ErrorFrame or LIN_Frame; else empty.
        bus: Bus number that the group's source names, -1 if none.
    """

    channel: Channel
    schema: Schema
    kind: Kind
    layout: GroupRecords
    count: int
    master: MdfChannel | None
    leaves: tuple[Leaf, ...]
    frame_fields: Mapping[str, MdfChannel] = attrs.field(factory=dict)
    frame_kind: str = ""
    bus: int = -1

    @property
    def group(self) -> ChannelGroup:
        """The channel group."""
        return self.layout.group


@attrs.frozen(eq=False)
class DataGroupPlan:
    """A data group with the plans of its channel groups."""

    data_group: DataGroup
    reader: DataGroupReader
    groups: tuple[GroupPlan, ...]


@attrs.frozen(eq=False)
class UnitPlan:
    """What decodes on its own: a data group, or some of the records of a large sorted one.

    Attributes:
        part: The data group.
        fragments: Data blocks, or pieces of them, whose fate the unit's ledger tells.
        ranges: Records [start, stop) to read of each group, by channel id.
        declared: Records that the file declares for it.
    """

    part: DataGroupPlan
    fragments: tuple[Fragment, ...]
    ranges: Mapping[int, tuple[int, int]]
    declared: int


@attrs.frozen(eq=False)
class FilePlan:
    """A file and what is to be made of it.

    Attributes:
        block_lengths: Bytes of each data block by its address; one that runs into the next, as
            only damage makes it, ends there.
    """

    file: MdfFile
    data_groups: tuple[DataGroupPlan, ...]
    block_lengths: Mapping[int, int]
    findings: tuple[Finding, ...]

    @property
    def units(self) -> tuple[UnitPlan, ...]:
        """The units in the order of the file; a data group that holds and owes nothing is none."""
        return tuple(unit for part in self.data_groups for unit in _units(part))

    def times_of(self, plan: GroupPlan) -> tuple[DataGroupReader, GroupPlan] | None:
        """Where the times of a group are: in itself, or in the group its master is in."""
        wanted = plan.group.master_address or plan.group.address
        for data_group in self.data_groups:
            for other in data_group.groups:
                if other.group.address == wanted and other.master is not None:
                    return data_group.reader, other
        return None


def _units(part: DataGroupPlan) -> Iterator[UnitPlan]:
    declared = sum(group.channel.message_count or 0 for group in part.groups)
    pieces = part.reader.pieces() if len(part.groups) == 1 else ()
    if len(pieces) < 2:
        ranges = {group.channel.id: (0, group.count) for group in part.groups}
        if declared or part.reader.fragments or any(group.count for group in part.groups):
            yield UnitPlan(part, part.reader.fragments, ranges, declared)
        return
    group = part.groups[0]
    others = part.reader.fragments[sum(len(fragments) for fragments, _, _ in pieces) :]
    for fragments, start, stop in pieces:
        is_first, is_last = start == 0, (fragments, start, stop) == pieces[-1]
        begin, end = min(start, group.count), min(stop, group.count)
        owed = declared - begin if is_last else min(stop, declared) - min(start, declared)
        mine = (*fragments, *others) if is_first else fragments
        yield UnitPlan(part, mine, {group.channel.id: (begin, end)}, max(owed, 0))


def is_mdf3(source: Source) -> bool:
    """Whether a file is of the version before MDF 4."""
    return source.size >= mdf3_blocks.HEADER and bytes(source.read_at(8, 1)) in (b"2", b"3")


def plan_file(source: Source) -> FilePlan:
    """Read a file's metadata, find its records and decide what they become.

    Raises:
        DecodeError: What `read_file` and `DataGroupReader` raise.
    """
    file = (mdf3_blocks if is_mdf3(source) else mdf4_blocks).read_file(source)
    unfinalised = file.unfinalised_flags != 0
    fragments = Fragments(
        source,
        unfinalised=unfinalised,
        known=file.known_addresses,
        lengths=file.data_lengths,
    )
    with_data = sum(1 for data_group in file.data_groups if data_group.data_link)
    findings = list(file.findings)
    plans = []
    next_id = 0
    for number, data_group in enumerate(file.data_groups):
        reader = DataGroupReader(source, data_group, fragments, is_only=with_data == 1)
        if reader.damage:
            what = f"data group {number}: {reader.damage}"
            lost = None if unfinalised else 0  # then the counts say how many
            where = data_group.address
            findings.append(Finding("RECORDS_DAMAGED", what, where, loses=True, lost_messages=lost))
        groups = []
        for layout in reader.groups:
            plan = _group_plan(layout, next_id, unfinalised=unfinalised, findings=findings)
            _check_count(plan, data_group, unfinalised=unfinalised, findings=findings)
            groups.append(plan)
            next_id += 1
        plans.append(DataGroupPlan(data_group, reader, tuple(groups)))
    findings += fragments.findings
    if unfinalised:
        what = f"the writer left the file unfinalised, flags {file.unfinalised_flags:#x}"
        findings.append(Finding("FINALISED_BY_US", what))
    lengths = _block_lengths(plans, findings)
    return FilePlan(file, tuple(plans), lengths, tuple(findings))


def _block_lengths(plans: Sequence[DataGroupPlan], findings: list[Finding]) -> dict[int, int]:
    fragments = sorted((f.address, f.length) for plan in plans for f in plan.reader.fragments)
    lengths = dict(fragments)
    for (address, length), (following, _) in itertools.pairwise(fragments):
        if address + length > following:
            what = f"the data block at {address} runs into the one at {following}"
            finding = Finding("MDF_OVERLAP", what, address, loses=True, lost_messages=None)
            findings.append(finding)
            lengths[address] = following - address
    return lengths


def _group_plan(
    layout: GroupRecords, channel_id: int, *, unfinalised: bool, findings: list[Finding]
) -> GroupPlan:
    group = layout.group
    name = group.acquisition_name or group.source.name or f"group_{channel_id}"
    place = group.source.path or group.source.name
    topic = f"{place}/{name}" if place and place != name else name
    master = next((c for c in group.channels if _is_time(c)), None)
    leaves = tuple(leaf for leaf in _leaves(group.channels, "") if leaf.channel is not master)
    fields, frame_kind = _frame_fields(leaves)
    kind: Kind = "signals"
    if frame_kind.startswith("CAN"):
        kind = "can_frames"
    elif frame_kind or group.flags & CG_BUS_EVENT:
        kind = "raw_messages"
    leaves = tuple(leaf for leaf in leaves if _is_readable(group, leaf, findings))
    readable = {leaf.channel.address for leaf in leaves}
    is_sound = master is None or _is_sound_master(group, master, findings)
    if frame_kind:
        fields = {name: field for name, field in fields.items() if field.address in readable}
        is_sound = is_sound and (kind != "can_frames" or _has_id(fields, frame_kind))
    definition = canonical_json([_described(channel) for channel in group.channels])
    digest = schema_hash(name, "mdf4", definition)
    known = layout.count if unfinalised or group.cycle_count > layout.count else group.cycle_count
    declared = None if unfinalised else min(group.cycle_count, (1 << 63) - 1)
    bus = _BUS_NUMBER.search(place) or _BUS_NUMBER.search(name)
    return GroupPlan(
        channel=Channel(
            id=channel_id,
            topic=topic,
            message_encoding="mdf4",
            schema_id=channel_id + 1,
            metadata={"kind": kind, "bus_type": group.source.bus_type, "comment": group.comment},
            message_count=known if declared is None else declared,
        ),
        schema=Schema(channel_id + 1, name, "mdf4", definition, digest),
        kind=kind,
        layout=layout,
        count=known if is_sound else 0,
        master=master,
        leaves=leaves,
        frame_fields=fields,
        frame_kind=frame_kind,
        bus=int(bus.group(1)) if bus and fields else -1,
    )


def _has_id(fields: Mapping[str, MdfChannel], frame_kind: str) -> bool:
    return frame_kind == "CAN_ErrorFrame" or "ID" in fields


def _is_time(channel: MdfChannel) -> bool:
    return channel.kind in (CN_MASTER, CN_VIRTUAL_MASTER) and channel.sync_kind == SYNC_TIME


def _leaves(channels: Sequence[MdfChannel], above: str) -> Iterator[Leaf]:
    """Members of structures and elements of arrays, with their whole names."""
    for channel in channels:
        name = channel.name if "." in channel.name or not above else f"{above}.{channel.name}"
        shape = channel.array
        if channel.data_type in _COMPLEX and not channel.parts:
            yield from _complex_parts(channel, name)
        elif shape is None and channel.parts:
            yield from _leaves(channel.parts, name)
        elif shape is None:
            yield Leaf(name, _as_bytes_if_odd(channel))
        elif not channel.parts:
            for element in range(math.prod(shape.dimensions)):
                yield Leaf(name + _subscript(element, shape), channel, element)
        else:
            for element in range(math.prod(shape.dimensions)):
                moved = tuple(
                    attrs.evolve(part, byte_offset=part.byte_offset + element * shape.stride_bytes)
                    for part in channel.parts
                )
                yield from _leaves(moved, name + _subscript(element, shape))


def _as_bytes_if_odd(channel: MdfChannel) -> MdfChannel:
    """Numbers of a size that no number here has are kept as bytes, so that none is lost."""
    is_float = channel.data_type in (4, 5)
    is_odd = channel.bit_count not in (16, 32, 64) if is_float else channel.bit_count > 64
    if channel.data_type > 5 or not is_odd or channel.kind in (CN_VIRTUAL, CN_VIRTUAL_MASTER):
        return channel
    return attrs.evolve(channel, data_type=10, conversion=None)


def _subscript(element: int, shape: ArrayShape) -> str:
    indexes: list[int] = []
    for size in reversed(shape.dimensions):
        element, index = divmod(element, size)
        indexes.insert(0, index)
    return "".join(f"[{index}]" for index in indexes)


def _complex_parts(channel: MdfChannel, name: str) -> Iterator[Leaf]:
    """Real and imaginary part of a complex number, as floats of half its size."""
    half = channel.bit_count // 2
    for position, part in enumerate(("re", "im")):
        yield Leaf(
            f"{name}.{part}",
            attrs.evolve(
                channel,
                data_type=4 if channel.data_type == 15 else 5,
                bit_count=half,
                byte_offset=channel.byte_offset + position * half // 8,
            ),
        )


def _frame_fields(leaves: Sequence[Leaf]) -> tuple[dict[str, MdfChannel], str]:
    """Fields of a CAN or LIN frame group and the kind of its frames; nothing for other groups."""
    fields: dict[str, MdfChannel] = {}
    kind = ""
    for leaf in leaves:
        found = _FRAME_FIELD.search(re.sub(r"\[\d+\]$", "", leaf.name))
        if found:
            kind = found.group(1)
            fields.setdefault(found.group(2), leaf.channel)
    return fields, kind


def _is_readable(group: ChannelGroup, leaf: Leaf, findings: list[Finding]) -> bool:
    """Whether a channel can be read; a finding says why not."""
    try:
        check_layout(group, leaf.channel)
        _check_rule(leaf.channel.conversion)
    except (DecodeError, UnsupportedFormatError) as error:
        lossy = error.code == "MDF_BAD_LAYOUT"
        what = f"signal {leaf.name}: {error.what}"
        finding = Finding(error.code, what, leaf.channel.address, loses=lossy, lost_messages=0)
        findings.append(finding)
        return not lossy
    return True


def _is_sound_master(group: ChannelGroup, master: MdfChannel, findings: list[Finding]) -> bool:
    """Whether the times of a group can be read: without them none of its records can be placed."""
    leaf = Leaf(master.name, master)
    rule = master.conversion.kind if master.conversion else 0
    if _as_bytes_if_odd(master) is master and master.data_type <= 5 and rule <= 6:
        return _is_readable(group, leaf, findings)
    what = f"the times of {group.acquisition_name} are no numbers"
    lost = group.cycle_count
    findings.append(Finding("MDF_BAD_LAYOUT", what, master.address, loses=True, lost_messages=lost))
    return False


def _check_rule(conversion: Conversion | None) -> None:
    """Raise UnsupportedFormatError for a formula that does not read, wherever it stands."""
    if conversion is None:
        return
    if conversion.kind == 3:
        formula(str(conversion.refs[0]) if conversion.refs else "")
    if conversion.kind > 11:
        what = f"conversion of type {conversion.kind}"
        raise UnsupportedFormatError(what, code="UNSUPPORTED_CONVERSION")
    for ref in conversion.refs:
        if isinstance(ref, Conversion):
            _check_rule(ref)


def _check_count(
    plan: GroupPlan, data_group: DataGroup, *, unfinalised: bool, findings: list[Finding]
) -> None:
    """Compare what a group declares with what is there."""
    declared, found = plan.group.cycle_count, plan.layout.count
    if unfinalised or declared == found:
        return
    where = plan.group.address
    if declared > found:
        code = "COUNT_MISMATCH" if data_group.data_link else "DATA_MISSING"
        what = f"{plan.channel.topic} declares {declared} records, {found} are there"
        finding = Finding(code, what, where, loses=True, lost_messages=declared - found)
    else:
        what = f"{plan.channel.topic} declares {declared} records, {found} would fit its data"
        finding = Finding("COUNT_MISMATCH", what, where)
    findings.append(finding)


def _described(channel: MdfChannel) -> dict[str, object]:
    """A channel as its definition goes into the schema: layout, unit and conversion."""
    described: dict[str, object] = {
        "name": channel.name,
        "kind": channel.kind,
        "data_type": channel.data_type,
        "byte_offset": channel.byte_offset,
        "bit_offset": channel.bit_offset,
        "bit_count": channel.bit_count,
        "unit": channel.unit,
    }
    if channel.conversion is not None:
        described["conversion"] = _described_rule(channel.conversion)
    if channel.array is not None:
        described["dimensions"] = list(channel.array.dimensions)
    if channel.parts:
        described["parts"] = [_described(part) for part in channel.parts]
    return described


def _described_rule(rule: Conversion) -> dict[str, object]:
    return {
        "kind": rule.kind,
        "values": [value if math.isfinite(value) else str(value) for value in rule.values],
        "refs": [_described_rule(r) if isinstance(r, Conversion) else r for r in rule.refs],
    }
