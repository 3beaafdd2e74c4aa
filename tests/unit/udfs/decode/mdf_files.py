"""MDF 4 files made block by block: mixed records, cycles and cuts, which no writer makes."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence

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
    ) -> int:
        """A CN block."""
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
            *[0.0] * 6,
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
