"""The blocks of an MDF 4 file: groups, channels, conversions and attachments as frozen values.

Every link is followed once. A link that leads back into its own chain is a cycle, and the error
says at which address; a link behind the end of the file is a cut, and what stands before it is
kept.

Source: ASAM MDF 4.1 and 4.2, clause 4 (block structure).
"""

from __future__ import annotations

import html
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from hashlib import md5
from typing import Any

import attrs

from contracts.errors import DecodeError, ResourceLimitError
from contracts.recording import Finding, Source
from udfs.decode.limits import MAX_STRUCTURE_RECORDS, MAX_UNIT_BYTES
from udfs.decode.mdf4_types import (
    BIT_FIELD,
    BUS_TYPES,
    CG_REMOTE_MASTER,
    CG_VLSD,
    CN_HAS_LIMITS,
    EVENT_TYPES,
    SYNC_TIME,
    UNREADABLE,
    ArrayShape,
    ChannelGroup,
    Conversion,
    DataGroup,
    FileAttachment,
    FileEvent,
    MdfChannel,
    MdfFile,
    SourceInfo,
)

_LEAST_NUMBERS = {1: 2, 2: 6}  # of linear and rational rules
HEAD_BYTES = 24
_MAX_TEXT_BYTES = 16 << 20
_MAX_DEPTH = 64
_LAST_NUMERIC = 6
"""The last of the kinds of conversion that give numbers alone."""
_MAX_SECONDS = 9e9
MAX_ATTACHMENT_BYTES = 64 << 20
_HEAD = struct.Struct("<4sIQQ")
_HD = struct.Struct("<QhhBBBBdd")
_CG = struct.Struct("<QQHHIII")
_CN = struct.Struct("<BBBBIIIIBBH6d")
_CC = struct.Struct("<BBHHHdd")
_CA = struct.Struct("<BBHIiI")
_EV = struct.Struct("<5B3xIHHqd")
_AT = struct.Struct("<HHI16sQQ")
_PROPERTY = re.compile(r'<e\s+name="([^"]*)"[^>]*>([^<]*)</e>')
_FEWEST_LINKS = {
    "HD": 6,
    "DG": 4,
    "CG": 6,
    "CN": 8,
    "CC": 4,
    "SI": 2,
    "AT": 4,
    "EV": 4,
    "CA": 1,
} | dict.fromkeys(("DL", "LD", "HL"), 1)
_TAG = re.compile(r"<TX[^>]*>(.*?)</TX>", re.DOTALL)


@attrs.frozen
class Block:
    """A block: its links and where its data is; the data itself is not read yet."""

    address: int
    kind: str
    length: int
    links: tuple[int, ...]
    data_address: int

    @property
    def data_length(self) -> int:
        """Bytes behind the links."""
        return self.length - (self.data_address - self.address)


class BlockReader:
    """Reads blocks of one file, remembers which it has seen."""

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        self._source = source
        self._size = source.size
        self._chained: set[int] = set()
        self._sources: dict[int, SourceInfo] = {}
        self._texts: dict[int, str] = {}
        self._conversions: dict[int, Conversion] = {}
        self.addresses: set[int] = set()
        self.findings: list[Finding] = []

    def block(self, address: int, *kinds: str) -> Block:
        """The block at `address`, which must be of one of `kinds`.

        Raises:
            DecodeError: MDF_TRUNCATED, it is not wholly in the file; MDF_BAD_BLOCK, it is
                something else.
        """
        if address + HEAD_BYTES > self._size:
            what = f"a link to byte {address} leads behind the end of the file"
            raise DecodeError(what, code="MDF_TRUNCATED", uri=self._source.uri, offset=address)
        name, _, length, count = _HEAD.unpack(self._source.read_at(address, HEAD_BYTES))
        kind = name[2:].decode("latin-1")
        data_address = address + HEAD_BYTES + 8 * count
        is_block = name[:2] == b"##" and kind in kinds and length >= HEAD_BYTES + 8 * count
        if not is_block or count < _FEWEST_LINKS.get(kind, 0):
            what = f"{'/'.join(kinds)} block wanted, found {name!r} with {count} links"
            raise DecodeError(what, code="MDF_BAD_BLOCK", uri=self._source.uri, offset=address)
        if data_address > self._size:
            what = "a block is cut by the end of the file"
            raise DecodeError(what, code="MDF_TRUNCATED", uri=self._source.uri, offset=address)
        links = struct.unpack(f"<{count}Q", self._source.read_at(address + HEAD_BYTES, 8 * count))
        self.addresses.add(address)
        if len(self.addresses) > MAX_STRUCTURE_RECORDS:
            what = f"more than {MAX_STRUCTURE_RECORDS} blocks"
            raise ResourceLimitError(what, uri=self._source.uri, offset=address)
        return Block(address, kind, length, links, data_address)

    def chain(self, address: int, kind: str, *, next_link: int = 0) -> Iterator[Block]:
        """Follow a linked list; DecodeError MDF_CYCLE where it comes back to itself."""
        while address:
            self.enter(address)
            block = self.block(address, kind)
            yield block
            address = block.links[next_link]

    def enter(self, address: int) -> None:
        """Note that a block takes its one place in the tree; MDF_CYCLE if it has one already."""
        if address in self._chained:
            what = f"the block at {address} is linked from two places: a cycle"
            raise DecodeError(what, code="MDF_CYCLE", uri=self._source.uri, offset=address)
        self._chained.add(address)

    def fields(self, block: Block, layout: struct.Struct) -> tuple[Any, ...]:
        """The fixed fields of a block's data."""
        return layout.unpack(self.data(block, layout.size))

    def data(self, block: Block, length: int | None = None) -> memoryview:
        """A block's data, or the first `length` bytes of it."""
        length = block.data_length if length is None else length
        if length > block.data_length or length > MAX_UNIT_BYTES:
            what = f"{block.kind} block of {block.data_length} data bytes"
            raise DecodeError(what, code="MDF_BAD_BLOCK", offset=block.address)
        if block.data_address + length > self._size:
            what = "a block is cut by the end of the file"
            raise DecodeError(what, code="MDF_TRUNCATED", offset=block.address)
        return self._source.read_at(block.data_address, length)

    def text(self, address: int) -> str:
        """Text of a TX block, or of the TX element of an MD block; empty for a null link.

        A text that can't be read is empty too, and a finding says so: it costs a word, no data.
        """
        if not address:
            return ""
        if address not in self._texts:
            try:
                self._texts[address] = self._read_text(address)
            except DecodeError as error:
                self._note("MDF_BAD_TEXT", error)
                self._texts[address] = ""
        return self._texts[address]

    def _read_text(self, address: int) -> str:
        block = self.block(address, "TX", "MD")
        raw = bytes(self.data(block, min(block.data_length, _MAX_TEXT_BYTES)))
        text = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
        if block.kind == "MD":
            found = _TAG.search(text)
            text = html.unescape(found.group(1)) if found else ""
        return text.strip()

    def _note(self, code: str, error: DecodeError) -> None:
        if error.code not in ("MDF_TRUNCATED", "MDF_BAD_BLOCK"):
            raise error
        self.findings.append(Finding(code, error.what, error.offset))

    def is_in_record(self, address: int) -> bool:
        """Whether a composition, if it is an array, has its elements in the record."""
        if not address or (block := self.block(address, "CA", "CN")).kind == "CN":
            return True
        return self.data(block, 2)[1] == 0

    def properties(self, address: int) -> dict[str, str]:
        """Common properties of an MD block; none for a null link or a TX block."""
        if not address or (block := self.block(address, "TX", "MD")).kind == "TX":
            return {}
        text = bytes(self.data(block, min(block.data_length, _MAX_TEXT_BYTES))).decode(
            "utf-8", "replace"
        )
        return {html.unescape(k): html.unescape(v) for k, v in _PROPERTY.findall(text)}

    def source_info(self, address: int) -> SourceInfo:
        """An SI block; an empty value for a null link, or for one that can't be read."""
        if not address:
            return SourceInfo()
        if address not in self._sources:
            try:
                block = self.block(address, "SI")
                bus = self.data(block, 2)[1]
            except DecodeError as error:
                self._note("MDF_BAD_TEXT", error)
                return SourceInfo()
            self._sources[address] = SourceInfo(
                name=self.text(block.links[0]),
                path=self.text(block.links[1]),
                bus_type=BUS_TYPES[bus] if bus < len(BUS_TYPES) else str(bus),
            )
        return self._sources[address]

    def conversion(self, address: int, *, above: tuple[int, ...] = ()) -> Conversion | None:
        """A CC block with what it refers to; None for a null link.

        One that can't be read is of kind `UNREADABLE`: it gives no physical value.
        """
        if not address:
            return None
        if address in above or len(above) > _MAX_DEPTH:
            what = f"the conversion at {address} refers to itself"
            raise DecodeError(what, code="MDF_CYCLE", offset=address)
        if address not in self._conversions:
            try:
                self._conversions[address] = self._read_conversion(address, above)
            except DecodeError as error:
                self._note("MDF_BAD_CONVERSION", error)
                self._conversions[address] = Conversion(UNREADABLE)
        return self._conversions[address]

    def _read_conversion(self, address: int, above: tuple[int, ...]) -> Conversion:
        block = self.block(address, "CC")
        kind, _, _, refs, values, _, _ = self.fields(block, _CC)
        if values < _LEAST_NUMBERS.get(kind, 0):
            what = f"a conversion of kind {kind} has {values} numbers"
            raise DecodeError(what, code="MDF_BAD_BLOCK", uri=self._source.uri, offset=address)
        numbers = self.data(block, _CC.size + 8 * values)[_CC.size :]
        return Conversion(
            kind=kind,
            values=struct.unpack(f"<{values}{'Q' if kind == BIT_FIELD else 'd'}", numbers),
            refs=tuple(
                self._reference(link, (*above, address)) for link in block.links[4 : 4 + refs]
            ),
            unit=self.text(block.links[1]),
        )

    def _reference(self, address: int, above: tuple[int, ...]) -> str | Conversion | None:
        if not address:
            return None
        if self.block(address, "TX", "MD", "CC").kind == "CC":
            return self.conversion(address, above=above)
        return self.text(address)


def read_file(source: Source) -> MdfFile:
    """Read all metadata of a file.

    Raises:
        DecodeError: BAD_MAGIC; MDF_CYCLE with the address; MDF_TRUNCATED or MDF_BAD_BLOCK where
            not one data group can be read.
        ResourceLimitError: More blocks than a file may have.
    """
    if source.size < 64:
        raise DecodeError("the file ends inside its head", code="MDF_TRUNCATED", offset=0)
    head = bytes(source.read_at(0, 64))
    if head[:8] not in (b"MDF     ", b"UnFinMF "):
        raise DecodeError(f"no MDF begins with {head[:16].hex(' ')}", code="BAD_MAGIC", offset=0)
    reader = BlockReader(source)
    header = reader.block(64, "HD")
    start_ns, zone, daylight, time_flags, *_ = reader.fields(header, _HD)
    findings: list[Finding] = []
    groups = tuple(_data_groups(reader, header.links[0], findings))
    attachments = tuple(_attachments(reader, header.links[3], findings))
    events = tuple(_events(reader, header.links[4], findings))
    findings += reader.findings
    if not groups and any(finding.loses for finding in findings):
        first = findings[0]
        what = f"{first.detail}; {source.size} bytes are present"
        raise DecodeError(what, code=first.code, uri=source.uri, offset=first.offset)
    return MdfFile(
        version=int.from_bytes(head[28:30], "little"),
        program=head[16:24].split(b"\0")[0].decode("latin-1").strip(),
        properties=_kept_properties(reader, header.links[5], findings),
        start_ns=start_ns,
        is_local_time=bool(time_flags & 1),
        time_zone_minutes=zone + daylight if time_flags & 2 else None,
        unfinalised_flags=int.from_bytes(head[60:62], "little") if head[:5] == b"UnFin" else 0,
        data_groups=groups,
        attachments=attachments,
        findings=tuple(findings),
        known_addresses=tuple(sorted(reader.addresses)),
        events=events,
    )


def _kept_properties(
    reader: BlockReader, address: int, findings: list[Finding]
) -> Mapping[str, str]:
    try:
        return reader.properties(address)
    except DecodeError as error:
        findings.append(attrs.evolve(_damage(error, "the comment"), loses=False, lost_messages=0))
        return {}


def _damage(error: DecodeError, what: str) -> Finding:
    """A finding for a part that can't be read; a cycle or a limit is raised instead."""
    if error.code not in ("MDF_TRUNCATED", "MDF_BAD_BLOCK"):
        raise error
    detail = f"{what}: {error.what}"
    return Finding(error.code, detail, error.offset, loses=True, lost_messages=None)


def _data_groups(reader: BlockReader, address: int, findings: list[Finding]) -> Iterator[DataGroup]:
    """The data groups that can be read whole; a finding for each that can't."""
    try:
        for block in reader.chain(address, "DG"):
            try:
                yield _data_group(reader, block)
            except DecodeError as error:
                findings.append(_damage(error, f"the data group at {block.address}"))
    except DecodeError as error:
        findings.append(_damage(error, "the list of data groups"))


def _data_group(reader: BlockReader, block: Block) -> DataGroup:
    return DataGroup(
        address=block.address,
        record_id_bytes=reader.data(block, 1)[0],
        data_link=block.links[2],
        groups=tuple(_channel_group(reader, cg) for cg in reader.chain(block.links[1], "CG")),
    )


def _channel_group(reader: BlockReader, block: Block) -> ChannelGroup:
    record_id, cycles, flags, _, _, data_bytes, invalid_bytes = reader.fields(block, _CG)
    if flags & CG_REMOTE_MASTER and len(block.links) < 7:
        what = "a group with a remote master that names none"
        raise DecodeError(what, code="MDF_BAD_BLOCK", offset=block.address)
    return ChannelGroup(
        address=block.address,
        record_id=record_id,
        cycle_count=cycles,
        flags=flags,
        data_bytes=data_bytes,
        invalid_bytes=0 if flags & CG_VLSD else invalid_bytes,
        acquisition_name=reader.text(block.links[2]),
        comment=reader.text(block.links[5]),
        source=reader.source_info(block.links[3]),
        channels=_channels(reader, block.links[1], depth=0),
        master_address=block.links[6] if flags & CG_REMOTE_MASTER else 0,
    )


def _channels(reader: BlockReader, address: int, *, depth: int) -> tuple[MdfChannel, ...]:
    if depth > _MAX_DEPTH:
        raise ResourceLimitError("channels nested too deep", offset=address)
    found = (_channel(reader, block, depth) for block in reader.chain(address, "CN"))
    return tuple(channel for channel in found if channel is not None)


def _channel(reader: BlockReader, block: Block, depth: int) -> MdfChannel | None:
    """A channel; None, and a finding, for an array whose elements are stored elsewhere."""
    fields = reader.fields(block, _CN)
    kind, sync, data_type, bit_offset, byte_offset, bits, flags, invalid_bit = fields[:8]
    conversion = reader.conversion(block.links[4])
    if not reader.is_in_record(block.links[1]):
        what = f"the elements of {reader.text(block.links[2])} are stored outside of its records"
        finding = Finding("UNSUPPORTED_ARRAY", what, block.address, loses=True, lost_messages=0)
        reader.findings.append(finding)
        return None
    array, parts = _composition(reader, block.links[1], depth)
    return MdfChannel(
        address=block.address,
        name=reader.text(block.links[2]) or f"channel_{block.address:#x}",
        kind=kind,
        sync_kind=sync,
        data_type=data_type,
        bit_offset=bit_offset,
        byte_offset=byte_offset,
        bit_count=bits,
        flags=flags,
        invalid_bit=invalid_bit,
        unit=reader.text(block.links[6]) or (conversion.unit if conversion else ""),
        conversion=conversion,
        data_link=block.links[5],
        source=reader.source_info(block.links[3]),
        attachments=block.links[8 : 8 + fields[10]],
        parts=parts,
        array=array,
        range=_limits(flags, conversion, fields[13], fields[14]),
    )


def _limits(
    flags: int, conversion: Conversion | None, low: float, high: float
) -> tuple[float, float] | None:
    """The limits of a channel, which are of physical values where a rule gives numbers."""
    is_numeric = conversion is None or conversion.kind <= _LAST_NUMERIC
    return (low, high) if flags & CN_HAS_LIMITS and is_numeric and low < high else None


def _composition(
    reader: BlockReader, address: int, depth: int
) -> tuple[ArrayShape | None, tuple[MdfChannel, ...]]:
    """Members of a structure, or the shape of an array (whose elements may be structures)."""
    if not address:
        return None, ()
    if reader.block(address, "CA", "CN").kind == "CN":
        return None, _channels(reader, address, depth=depth + 1)
    reader.enter(address)
    block = reader.block(address, "CA")
    _, _, dimensions, flags, stride, invalid_stride = reader.fields(block, _CA)
    sizes = reader.data(block, _CA.size + 8 * dimensions)[_CA.size :]
    shape = ArrayShape(
        dimensions=struct.unpack(f"<{dimensions}Q", sizes),
        stride_bytes=stride,
        invalid_bit_stride=invalid_stride,
        is_column_major=bool(flags & 0x40),
    )
    return shape, _composition(reader, block.links[0], depth + 1)[1]


def _events(reader: BlockReader, address: int, findings: list[Finding]) -> Iterator[FileEvent]:
    try:
        for block in reader.chain(address, "EV"):
            kind, sync, *_, base, factor = reader.fields(block, _EV)
            seconds = base * factor if sync == SYNC_TIME else math.nan
            is_time = math.isfinite(seconds) and abs(seconds) < _MAX_SECONDS
            yield FileEvent(
                name=reader.text(block.links[3]),
                kind=EVENT_TYPES[kind] if kind < len(EVENT_TYPES) else str(kind),
                time_ns=round(seconds * 1e9) if is_time else None,
            )
    except DecodeError as error:
        findings.append(attrs.evolve(_damage(error, "the list of events"), lost_messages=0))


def _attachments(
    reader: BlockReader, address: int, findings: list[Finding]
) -> Iterator[FileAttachment]:
    try:
        for block in reader.chain(address, "AT"):
            yield _attachment(reader, block)
    except DecodeError as error:
        finding = _damage(error, "the list of attachments")
        findings.append(attrs.evolve(finding, lost_messages=0))


def _attachment(reader: BlockReader, block: Block) -> FileAttachment:
    flags, _, _, digest, original, embedded = reader.fields(block, _AT)
    data: bytes | None = None
    if flags & 1 and original <= MAX_ATTACHMENT_BYTES:
        data = bytes(reader.data(block, _AT.size + embedded)[_AT.size :])
        if flags & 2:
            data = _inflated(data, original)
        if flags & 4 and data is not None and md5(data, usedforsecurity=False).digest() != digest:
            data = None
    return FileAttachment(
        address=block.address,
        length=block.length,
        name=reader.text(block.links[1]),
        media_type=reader.text(block.links[2]),
        data=data,
    )


def _inflated(data: bytes, size: int) -> bytes | None:
    """Inflate to exactly `size` bytes; None if the stream gives anything else."""
    try:
        out = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error:
        return None
    return out if len(out) == size else None
