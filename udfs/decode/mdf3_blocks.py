"""The blocks of an MDF 3 file, as the groups, channels and conversions that MDF 4 has.

Links are 32 bits, texts are short fields, records lie in one stretch per data group: what is read
here is planned and decoded as MDF 4 is. Formulas of types that MDF 4 lacks are written out.

Source: MDF 3.3 format specification (Vector); ASAM MDF 4.1 for what they become.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from contracts.errors import DecodeError, ResourceLimitError
from contracts.recording import Finding, Source
from udfs.decode.limits import MAX_STRUCTURE_RECORDS
from udfs.decode.mdf4_types import (
    CN_FIXED,
    CN_MASTER,
    SYNC_TIME,
    ChannelGroup,
    Conversion,
    DataGroup,
    MdfChannel,
    MdfFile,
    SourceInfo,
)

HEADER = 64
_SHORT_HEADER = 164
_CN_LEAST = 218
_TYPES = {0: 0, 1: 2, 2: 4, 3: 4, 7: 6, 8: 10}
"""MDF 4 data type by the one of MDF 3, in the byte order of the file; 9 to 16 name theirs."""
_BIG, _LITTLE = {9: 1, 10: 3, 11: 5, 12: 5}, {13: 0, 14: 2, 15: 4, 16: 4}
_TEXT_BYTES, _FORMULA_BYTES = 32, 256
_MAX_TEXT = 1 << 16
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@attrs.frozen
class _Block:
    address: int
    data: memoryview

    def unpack(self, form: str, offset: int) -> tuple[Any, ...]:
        """Numbers at an offset; DecodeError where the block is too short."""
        try:
            return struct.unpack_from(form, self.data, offset)
        except struct.error as error:
            what = f"a block of {len(self.data)} bytes is too short"
            raise DecodeError(what, code="MDF_BAD_BLOCK", offset=self.address) from error

    def text(self, offset: int, size: int) -> str:
        """A text field."""
        return bytes(self.data[offset : offset + size]).split(b"\0")[0].decode("cp1252", "replace")


class _Blocks:
    """Reads blocks; each of a chain has its one place."""

    def __init__(self, source: Source, order: str) -> None:
        self.source = source
        self.order = order
        self.addresses: set[int] = set()
        self.findings: list[Finding] = []

    def block(self, address: int, kind: str) -> _Block:
        if address + 4 > self.source.size:
            what = f"a link to byte {address} leads behind the end of the file"
            raise DecodeError(what, code="MDF_TRUNCATED", offset=address)
        head = bytes(self.source.read_at(address, 4))
        (size,) = struct.unpack_from(self.order + "H", head, 2)
        if head[:2] != kind.encode() or size < 4:
            what = f"{kind} block wanted, found {head[:2]!r}"
            raise DecodeError(what, code="MDF_BAD_BLOCK", offset=address)
        if address + size > self.source.size:
            what = "a block is cut by the end of the file"
            raise DecodeError(what, code="MDF_TRUNCATED", offset=address)
        self.addresses.add(address)
        if len(self.addresses) > MAX_STRUCTURE_RECORDS:
            raise ResourceLimitError(f"more than {MAX_STRUCTURE_RECORDS} blocks", offset=address)
        return _Block(address, self.source.read_at(address, size))

    def chain(self, address: int, kind: str) -> Iterator[_Block]:
        """Follow a linked list; DecodeError MDF_CYCLE where it comes back to a block."""
        while address:
            if address in self.addresses:
                what = f"the block at {address} is linked from two places: a cycle"
                raise DecodeError(what, code="MDF_CYCLE", uri=self.source.uri, offset=address)
            block = self.block(address, kind)
            yield block
            (address,) = block.unpack(self.order + "I", 4)

    def text(self, address: int) -> str:
        """Text of a TX block; empty for a null link, or for one that can't be read."""
        if not address:
            return ""
        try:
            block = self.block(address, "TX")
        except DecodeError as error:
            self.findings.append(Finding("MDF_BAD_TEXT", error.what, error.offset))
            return ""
        return block.text(4, min(len(block.data), _MAX_TEXT)).strip()


def read_file(source: Source) -> MdfFile:
    """Read all metadata of an MDF 3 file.

    Raises:
        DecodeError: MDF_CYCLE with the address; MDF_TRUNCATED or MDF_BAD_BLOCK where not one data
            group can be read.
        ResourceLimitError: More blocks than a file may have.
    """
    head = bytes(source.read_at(0, HEADER))
    order = ">" if head[24:26] != b"\0\0" else "<"
    blocks = _Blocks(source, order)
    header = blocks.block(HEADER, "HD")
    first, comment = header.unpack(order + "II", 4)
    start_ns, zone = _start(header, order)
    lengths: dict[int, int] = {}
    groups = tuple(_data_groups(blocks, first, lengths))
    fields = {"author": 36, "department": 68, "project": 100, "subject": 132}
    named = {name: header.text(at, 32).strip() for name, at in fields.items()}
    (version,) = struct.unpack_from(order + "H", head, 28)
    if not groups and any(finding.loses for finding in blocks.findings):
        found = blocks.findings[0]
        what = f"{found.detail}; {source.size} bytes are present"
        raise DecodeError(what, code=found.code, uri=source.uri, offset=found.offset)
    return MdfFile(
        version=version,
        program=head[16:24].split(b"\0")[0].decode("latin-1").strip(),
        properties={k: v for k, v in {**named, "comment": blocks.text(comment)}.items() if v},
        start_ns=start_ns,
        is_local_time=True,
        time_zone_minutes=zone,
        unfinalised_flags=0,
        data_groups=groups,
        attachments=(),
        findings=tuple(blocks.findings),
        known_addresses=tuple(sorted(blocks.addresses)),
        data_lengths=lengths,
    )


def _start(header: _Block, order: str) -> tuple[int, int | None]:
    """Start in local time, and minutes that it is ahead of UTC; None where the file is silent."""
    if len(header.data) > _SHORT_HEADER:
        start_ns, hours = header.unpack(order + "Qh", 164)
        if start_ns:
            return start_ns, 60 * hours
    try:
        text = f"{header.text(18, 10)} {header.text(28, 8)}"
        start = dt.datetime.strptime(text, "%d:%m:%Y %H:%M:%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return 0, None
    return round((start - _EPOCH).total_seconds()) * 1_000_000_000, None


def _data_groups(blocks: _Blocks, address: int, lengths: dict[int, int]) -> Iterator[DataGroup]:
    """The data groups that can be read whole; a finding for each that can't."""
    try:
        for block in blocks.chain(address, "DG"):
            try:
                yield _data_group(blocks, block, lengths)
            except DecodeError as error:
                _damage(blocks, error, f"the data group at {block.address}")
    except DecodeError as error:
        _damage(blocks, error, "the list of data groups")


def _damage(blocks: _Blocks, error: DecodeError, what: str) -> None:
    if error.code not in ("MDF_TRUNCATED", "MDF_BAD_BLOCK"):
        raise error
    detail = f"{what}: {error.what}"
    finding = Finding(error.code, detail, error.offset, loses=True, lost_messages=None)
    blocks.findings.append(finding)


def _data_group(blocks: _Blocks, block: _Block, lengths: dict[int, int]) -> DataGroup:
    _, first, _, data = block.unpack(blocks.order + "4I", 4)
    _, id_bytes = block.unpack(blocks.order + "HH", 20)
    groups = tuple(
        _channel_group(blocks, one, trailing=id_bytes == 2) for one in blocks.chain(first, "CG")
    )
    if data:
        before = min(id_bytes, 1)
        lengths[data] = sum(one.cycle_count * (one.data_bytes + before) for one in groups)
    return DataGroup(block.address, min(id_bytes, 1), data, groups)


def _channel_group(blocks: _Blocks, block: _Block, *, trailing: bool) -> ChannelGroup:
    _, first, comment = block.unpack(blocks.order + "3I", 4)
    record_id, _, size = block.unpack(blocks.order + "HHH", 16)
    (cycles,) = block.unpack(blocks.order + "I", 22)
    return ChannelGroup(
        address=block.address,
        record_id=record_id,
        cycle_count=cycles,
        flags=0,
        data_bytes=size + trailing,  # an id behind the record, too
        invalid_bytes=0,
        acquisition_name=blocks.text(comment),
        comment="",
        source=SourceInfo(),
        channels=tuple(_channel(blocks, one) for one in blocks.chain(first, "CN")),
    )


def _channel(blocks: _Blocks, block: _Block) -> MdfChannel:
    _, conversion_link, _, _, _ = block.unpack(blocks.order + "5I", 4)
    kind, start_bit, bits, data_type = _layout(block, blocks.order)
    big = blocks.order == ">"
    if data_type in _TYPES:
        kind_in_4 = _TYPES[data_type] + (big and data_type < 4)
    else:
        kind_in_4 = {**_BIG, **_LITTLE}.get(data_type, 10)
    conversion = _conversion(blocks, conversion_link)
    return MdfChannel(
        address=block.address,
        name=_name(blocks, block),
        kind=CN_MASTER if kind == 1 else CN_FIXED,
        sync_kind=SYNC_TIME if kind == 1 else 0,
        data_type=kind_in_4,
        bit_offset=start_bit % 8,
        byte_offset=start_bit // 8,
        bit_count=bits,
        flags=0,
        invalid_bit=0,
        unit=conversion.unit if conversion else "",
        conversion=conversion if conversion and conversion.kind else None,
        data_link=0,
        source=SourceInfo(),
    )


def _layout(block: _Block, order: str) -> tuple[int, int, int, int]:
    """Channel type, first bit in the record, bits, and data type."""
    (kind,) = block.unpack(order + "H", 24)
    start, bits, data_type = block.unpack(order + "HHH", 186)
    more = block.unpack(order + "H", 226)[0] if len(block.data) >= 228 else 0
    return kind, start + 8 * more, bits, data_type


def _name(blocks: _Blocks, block: _Block) -> str:
    """The long name where there is one; a device behind a backslash is no part of it."""
    long = block.unpack(blocks.order + "I", _CN_LEAST)[0] if len(block.data) >= 222 else 0
    name = blocks.text(long) or block.text(26, 32).strip()
    return name.split("\\")[0] or f"channel_{block.address:#x}"


def _conversion(blocks: _Blocks, address: int) -> Conversion | None:
    if not address:
        return None
    try:
        return _read_conversion(blocks, blocks.block(address, "CC"))
    except DecodeError as error:
        blocks.findings.append(Finding("MDF_BAD_CONVERSION", error.what, error.offset))
        return Conversion(255)


def _read_conversion(blocks: _Blocks, block: _Block) -> Conversion:
    """A conversion as MDF 4 has it; kind 0 where the raw value is the physical one."""
    order = blocks.order
    unit = block.text(22, 20).strip()
    kind, count = block.unpack(order + "HH", 42)
    if kind in _NUMBERS:
        size = 2 * count if kind in (1, 2) else _NUMBERS[kind]
        values = tuple(float(v) for v in block.unpack(f"{order}{size}d", 46))
        if kind == 0:
            plain = values == (0.0, 1.0)
            return Conversion(0 if plain else 1, () if plain else values, unit=unit)
        if kind in _FORMULAS:
            names = {f"P{i + 1}": repr(value) for i, value in enumerate(values)}
            return Conversion(3, refs=(_formula(kind, values).format_map(names),), unit=unit)
        return Conversion({1: 4, 2: 5, 9: 2}[kind], values, unit=unit)
    if kind == 10:
        return Conversion(3, refs=(block.text(46, _FORMULA_BYTES),), unit=unit)
    if kind == 11:
        return _texts(block, order, count, unit)
    if kind == 12:
        return _text_ranges(blocks, block, count, unit)
    return Conversion(0 if kind == 65535 else 254, unit=unit)


_NUMBERS: Mapping[int, int] = {0: 2, 1: 0, 2: 0, 6: 6, 7: 7, 8: 7, 9: 6}
"""Parameters by the types that have numbers alone; tables have two for each of theirs."""
_FORMULAS: Mapping[int, tuple[str, ...]] = {
    6: ("(({P2}) - ({P4})*(X - ({P5}) - ({P6}))) / (({P3})*(X - ({P5}) - ({P6})) - ({P1}))",),
    7: (
        "exp(((X - ({P7}))*({P6}) - ({P3})) / ({P1})) / ({P2})",
        "exp((({P3}) / (X - ({P7})) - ({P6})) / ({P4})) / ({P5})",
    ),
    8: (
        "log(((X - ({P7}))*({P6}) - ({P3})) / ({P1})) / ({P2})",
        "log((({P3}) / (X - ({P7})) - ({P6})) / ({P4})) / ({P5})",
    ),
}


def _formula(kind: int, values: tuple[float, ...]) -> str:
    """Polynomial; exponential and logarithmic have two forms, by which parameter is zero."""
    forms = _FORMULAS[kind]
    return forms[0] if kind == 6 or values[3] == 0 else forms[1]


def _texts(block: _Block, order: str, count: int, unit: str) -> Conversion:
    step = 8 + _TEXT_BYTES
    keys = [float(block.unpack(order + "d", 46 + i * step)[0]) for i in range(count)]
    words = [block.text(54 + i * step, _TEXT_BYTES) for i in range(count)]
    return Conversion(7, tuple(keys), (*words, None), unit)


def _text_ranges(blocks: _Blocks, block: _Block, count: int, unit: str) -> Conversion:
    """The first entry has the text of what is in no range."""
    entries = [block.unpack(blocks.order + "ddI", 46 + i * 20) for i in range(count)]
    limits = tuple(float(v) for low, high, _ in entries[1:] for v in (low, high))
    default = blocks.text(int(entries[0][2])) if entries else ""
    words = [blocks.text(int(link)) for _, _, link in entries[1:]]
    return Conversion(8, limits, (*words, default or None), unit)
