"""MDF 4 files made block by block: mixed records, cycles and cuts, which no writer makes."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence

import numpy as np

START_NS = 1_700_000_000_000_000_000
HD_ADDRESS = 64
DATA_LINK = 2


class MdfBuilder:
    """Appends blocks; a link to a later block is set with `link`."""

    def __init__(self, *, unfinalised_flags: int = 0) -> None:
        magic = b"UnFinMF " if unfinalised_flags else b"MDF     "
        head = magic + b"4.10    " + b"builder " + bytes(4) + struct.pack("<H", 410) + bytes(30)
        self.out = bytearray(head + struct.pack("<HH", unfinalised_flags, 0))
        hd = struct.pack("<QhhBBBBdd", START_NS, 0, 0, 2, 0, 0, 0, 0.0, 0.0)
        assert self.block("HD", [0] * 6, hd) == HD_ADDRESS
        self._last_dg = 0

    def block(self, kind: str, links: Sequence[int] = (), data: bytes = b"") -> int:
        """Append a block; its address."""
        self.out += bytes(-len(self.out) % 8)
        address = len(self.out)
        length = 24 + 8 * len(links) + len(data)
        self.out += struct.pack("<4sIQQ", b"##" + kind.encode(), 0, length, len(links))
        self.out += struct.pack(f"<{len(links)}Q", *links) + data
        return address

    def link(self, address: int, index: int, target: int) -> None:
        """Set a link of a block."""
        struct.pack_into("<Q", self.out, address + 24 + 8 * index, target)

    def text(self, words: str) -> int:
        """A TX block."""
        return self.block("TX", (), words.encode() + b"\0")

    def source(self, name: str, bus: int) -> int:
        """An SI block."""
        return self.block(
            "SI", [self.text(name), self.text(name), 0], bytes([2, bus, 0]) + bytes(5)
        )

    def channel(
        self,
        name: str,
        *,
        kind: int = 0,
        sync: int = 0,
        data_type: int = 0,
        byte: int = 0,
        bit: int = 0,
        bits: int = 8,
        flags: int = 0,
        invalid_bit: int = 0,
        composition: int = 0,
        conversion: int = 0,
        data_link: int = 0,
        attachments: Sequence[int] = (),
        limits: tuple[float, float] = (0.0, 0.0),
    ) -> int:
        """A CN block; flag 0x10 says that the limits hold."""
        data = struct.pack(
            "<BBBBIIIIBBH6d",
            kind,
            sync,
            data_type,
            bit,
            byte,
            bits,
            flags,
            invalid_bit,
            0,
            0,
            len(attachments),
            *(0.0, 0.0, *limits, 0.0, 0.0),
        )
        links = [0, composition, self.text(name), 0, conversion, data_link, 0, 0, *attachments]
        return self.block("CN", links, data)

    def time(self, *, byte: int = 0) -> int:
        """The master channel: seconds as float64."""
        return self.channel("t", kind=2, sync=1, data_type=4, byte=byte, bits=64)

    def chain(self, blocks: Sequence[int]) -> int:
        """Link blocks one behind the other; the first."""
        for one, following in itertools.pairwise(blocks):
            self.link(one, 0, following)
        return blocks[0] if blocks else 0

    def group(
        self,
        channels: Sequence[int],
        *,
        cycles: int,
        size: int,
        invalid: int = 0,
        record_id: int = 0,
        flags: int = 0,
        name: str = "group",
        source: int = 0,
        master: int = 0,
    ) -> int:
        """A CG block over its channels."""
        data = struct.pack("<QQHHIII", record_id, cycles, flags, 0, 0, size, invalid)
        links = [0, self.chain(channels), self.text(name), source, 0, 0]
        return self.block("CG", links + ([master] if flags & 8 else []), data)

    def data_group(self, groups: Sequence[int], data: int, *, id_bytes: int = 0) -> int:
        """A DG block, linked behind the ones before."""
        address = self.block("DG", [0, self.chain(groups), data, 0], bytes([id_bytes]) + bytes(7))
        if self._last_dg:
            self.link(self._last_dg, 0, address)
        else:
            self.link(HD_ADDRESS, 0, address)
        self._last_dg = address
        return address

    def data(self, content: bytes, kind: str = "DT") -> int:
        """A data block."""
        return self.block(kind, (), content)

    def zipped(self, content: bytes, *, columns: int = 0, kind: str = "DT") -> int:
        """A DZ block, transposed if `columns` are given."""
        plain = content
        if columns:
            rows = len(content) // columns
            body = content[: rows * columns]
            plain = b"".join(body[c::columns] for c in range(columns)) + content[rows * columns :]
        packed = zlib.compress(plain)
        head = struct.pack(
            "<2sBBIQQ", kind.encode(), bool(columns), 0, columns, len(content), len(packed)
        )
        return self.block("DZ", (), head + packed)

    def data_list(self, blocks: Sequence[int], *, following: int = 0) -> int:
        """A DL block."""
        data = struct.pack("<B3xI", 0, len(blocks)) + struct.pack(
            f"<{len(blocks)}Q", *[0] * len(blocks)
        )
        return self.block("DL", [following, *blocks], data)

    def attachment(self, content: bytes, name: str, *, packed: bool = False) -> int:
        """An AT block, linked from the header."""
        stored = zlib.compress(content) if packed else content
        flags = 3 if packed else 1
        data = struct.pack("<HHI16sQQ", flags, 0, 0, bytes(16), len(content), len(stored))
        address = self.block("AT", [0, self.text(name), self.text("text/plain"), 0], data + stored)
        self.link(HD_ADDRESS, 3, address)
        return address

    def bytes(self) -> bytes:
        """The file."""
        return bytes(self.out)


def numbered_records(count: int, *, start: int = 0) -> list[bytes]:
    """Records of a time in seconds, 10 ms apart, and the int32 1000 + i."""
    return [struct.pack("<di", i / 100, 1000 + i) for i in range(start, start + count)]


def plain_file(*, count: int = 200, cycles: int | None = None, blocks: int = 1, **options) -> bytes:
    """One sorted group of `numbered_records`, its data in one DT block or a list of them."""
    builder = MdfBuilder(unfinalised_flags=options.get("unfinalised_flags", 0))
    channels = [builder.time(), builder.channel("number", data_type=2, byte=8, bits=32)]
    content = b"".join(numbered_records(count))
    group = builder.group(channels, cycles=count if cycles is None else cycles, size=12)
    data_group = builder.data_group([group], 0)
    if blocks == 1:
        builder.link(data_group, DATA_LINK, builder.data(content))
    elif blocks:
        step = -(-len(content) // blocks)
        parts = [content[i : i + step] for i in range(0, len(content), step)]
        listed = builder.data_list([builder.data(part) for part in parts])
        builder.link(data_group, DATA_LINK, listed)
    return builder.bytes()


NUMBER_TYPES = (
    "u1",
    "u2",
    "u4",
    "u8",
    "i1",
    "i2",
    "i4",
    "i8",
    "f2",
    "f4",
    "f8",
    ">u2",
    ">i4",
    ">f8",
)


DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 256 Motion: 8 ECU
 SG_ Speed : 0|16@1+ (0.01,0) [0|655.35] "km/h" ECU
 SG_ Gear : 16|4@1+ (1,0) [0|15] "" ECU
BO_ 512 Wide: 64 ECU
 SG_ Last : 504|8@1+ (1,0) [0|255] "" ECU
VAL_ 256 Gear 1 "first" 2 "second" ;
"""


FRAMES = [
    (256, 0, 0, struct.pack("<HB5x", 1234, 1)),
    (256, 0, 0, struct.pack("<HB5x", 5000, 9)),
    (512, 0, 1, bytes(63) + b"\x2a"),
    (256, 1, 0, bytes(8)),
    (256, 0, 0, b"\x10"),
]


def signals(account, name: str) -> list[dict]:
    """Rows of a signal in order of its records."""
    rows = account.tables["signals"].to_pylist()
    return sorted((row for row in rows if row["signal"] == name), key=lambda row: row["sequence"])


def numbers(account, name: str = "number") -> list[float]:
    return [row["value"] for row in signals(account, name)]


def frame_rows(account) -> list[dict]:
    rows = account.tables["can_frames"].to_pylist()
    return sorted(rows, key=lambda row: (row["channel_id"], row["sequence"]))


def make_every_kind(folder, version: str, compression: int) -> bytes:
    """All number types and conversions, as asammdf writes them."""
    from asammdf import MDF, Signal

    random = np.random.default_rng(1)
    count = 300
    times = np.arange(count) * 0.01
    found = []
    for code in NUMBER_TYPES:
        kind = np.dtype(code)
        if kind.kind == "f":
            values = random.normal(0, 1e3, count).astype(kind)
        else:
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            plain = kind.newbyteorder("=")
            values = random.integers(low, high, count, dtype=plain, endpoint=True).astype(kind)
        found.append(Signal(values, times, name=f"s_{kind.name}_{kind.byteorder}", unit="V"))
    raw = random.integers(0, 8, count).astype("u1")
    texts = {"val_0": 0, "text_0": b"zero", "val_1": 3, "text_1": b"three", "default_addr": b"none"}
    ranges = {"lower_0": 0, "upper_0": 3, "text_0": b"low", "lower_1": 4, "upper_1": 6}
    table = {"raw_0": 0.0, "phys_0": 1.0, "raw_1": 5.0, "phys_1": 100.0}
    for name, rule in {
        "linear": {"a": 0.5, "b": -3.0},
        "rational": dict(
            zip(("P1", "P2", "P3", "P4", "P5", "P6"), (1.0, 2, 3, 0, 1, 4), strict=True)
        ),
        "formula": {"formula": "X*X+sqrt(X)-1"},
        "interpolated": {**table, "interpolation": True},
        "nearest": {**table, "interpolation": False},
        "value_to_text": texts,
        "range_to_text": {**ranges, "text_1": b"middle", "default_addr": b"high"},
    }.items():
        found.append(Signal(raw, times, name=name, conversion=rule))
    words = np.array([b"alpha", b"be", b"gamma gamma", b""], "S12")
    found.append(Signal(words[random.integers(0, 4, count)], times, name="words", encoding="utf-8"))
    found.append(Signal(random.integers(0, 255, (count, 8)).astype("u1"), times, name="bytes8"))
    invalid = random.integers(0, 2, count).astype(bool)
    found.append(Signal(random.normal(0, 1, count), times, name="gaps", invalidation_bits=invalid))
    path = folder / f"{version}_{compression}.mf4"
    with MDF(version=version) as mdf:
        mdf.append(found, acq_name="first", common_timebase=True)
        mdf.append(
            [Signal(random.normal(0, 1, 50), times[:50] * 2, name="other")], acq_name="second"
        )
        saved = mdf.save(path, overwrite=True, compression=compression)
    return saved.read_bytes()


def mixed_file(
    count: int = 300, *, cycles: bool = True, tail: bytes = b"", shortest: int = 0, flags: int = 0
) -> bytes:
    """Two groups and a VLSD group whose records stand mixed in one data group."""
    builder = MdfBuilder(unfinalised_flags=flags)
    words = [f"word {i}".encode() * (i % 3 + shortest) for i in range(count)]
    total = sum(len(word) + 4 for word in words)
    values = builder.group([], cycles=count * cycles, size=total, record_id=3, flags=1)
    fast = builder.group(
        [
            builder.time(),
            builder.channel("number", data_type=2, byte=8, bits=32),
            builder.channel("words", kind=1, data_type=7, byte=12, bits=64, data_link=values),
        ],
        cycles=count * cycles,
        size=20,
        record_id=1,
        name="fast",
    )
    slow = builder.group(
        [builder.time(), builder.channel("slow", data_type=0, byte=8, bits=16)],
        cycles=count // 10 * cycles,
        size=10,
        record_id=2,
        name="slow",
    )
    content, offset = [], 0
    for i, word in enumerate(words):
        content.append(b"\x01" + numbered_records(1, start=i)[0] + struct.pack("<Q", offset))
        content.append(b"\x03" + struct.pack("<I", len(word)) + word)
        offset += 4 + len(word)
        if i % 10 == 0:
            content.append(b"\x02" + struct.pack("<dH", i / 100, i))
    data_group = builder.data_group([values, fast, slow], 0, id_bytes=1)
    builder.link(data_group, DATA_LINK, builder.data(b"".join(content) + tail))
    return builder.bytes()


def zipped_file(*, count: int = 3000, blocks: int = 6) -> bytes:
    builder = MdfBuilder()
    channels = [builder.time(), builder.channel("number", data_type=2, byte=8, bits=32)]
    group = builder.group(channels, cycles=count, size=12)
    content = b"".join(numbered_records(count))
    step = len(content) // blocks
    parts = [content[i : i + step] for i in range(0, len(content), step)]
    packed = [builder.zipped(part, columns=12 * (i % 2)) for i, part in enumerate(parts)]
    builder.data_group([group], builder.data_list(packed))
    return builder.bytes()


def bus_file(
    *,
    prefix: str = "CAN_DataFrame",
    attached: bytes = b"",
    frames=None,
    bus: int = 2,
    bus_kind: int = 2,
):
    """A bus logging group with fields at fixed places and variable-length payloads."""
    builder = MdfBuilder()
    fields = {
        "BusChannel": (8, 0, 8),
        "ID": (9, 0, 32),
        "IDE": (13, 0, 1),
        "EDL": (13, 1, 1),
        "Dir": (13, 2, 1),
        "DLC": (14, 0, 4),
        "DataLength": (15, 0, 8),
    }
    parts = [
        builder.channel(f"{prefix}.{name}", byte=byte, bit=bit, bits=bits)
        for name, (byte, bit, bits) in fields.items()
    ]
    store, content = b"", []
    for i, (can_id, extended, fd, data) in enumerate(frames):
        flags = extended | fd << 1 | (i % 2) << 2
        dlc = len(data) if len(data) <= 8 else 15
        content.append(
            struct.pack("<dBIBBBQ", i / 100, bus, can_id, flags, dlc, len(data), len(store))
        )
        store += struct.pack("<I", len(data)) + data
    parts.append(
        builder.channel(
            f"{prefix}.DataBytes",
            kind=1,
            data_type=10,
            byte=16,
            bits=64,
            data_link=builder.data(store, "SD"),
        )
    )
    root = builder.channel(prefix, data_type=10, byte=8, bits=128, composition=builder.chain(parts))
    group = builder.group(
        [builder.time(), root],
        cycles=len(content),
        size=24,
        flags=2,
        name="CAN2",
        source=builder.source("CAN2", bus_kind),
    )
    builder.data_group([group], builder.data(b"".join(content)))
    if attached:
        builder.attachment(attached, "vehicle.dbc", packed=True)
    return builder.bytes()
