"""Raw numbers of many channels of a group at once, record block by record block.

The records of a wide group do not fit the cache: read channel by channel, every record comes from
memory once for each of them (3 ns a sample, 1 ns if its block is still there).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from udfs.decode.mdf4_records import Records
from udfs.decode.mdf4_types import CN_VIRTUAL, CN_VIRTUAL_MASTER, CN_VLSD, MdfChannel
from udfs.encodings.samples import room_for

_BLOCK_BYTES = 256 << 10
_KINDS = {0: "<u", 1: ">u", 2: "<i", 3: ">i", 4: "<f", 5: ">f"}
_PLAIN_RULES = (0, 1)


def is_plain(channel: MdfChannel) -> bool:
    """Whether a float64 holds its numbers exactly, they fill whole bytes and have a simple rule."""
    rule = 0 if channel.conversion is None else channel.conversion.kind
    return (
        channel.kind not in (CN_VLSD, CN_VIRTUAL, CN_VIRTUAL_MASTER)
        and rule in _PLAIN_RULES
        and not channel.bit_offset
        and channel.array is None
        and channel.bit_count in ((32, 64) if channel.data_type in (4, 5) else (8, 16, 32))
        and channel.data_type in _KINDS
    )


def plain_numbers(channels: Sequence[MdfChannel], records: Records) -> npt.NDArray[np.float64]:
    """(C, N) float64, raw numbers of plain channels of N records."""
    rows, width = records.matrix.shape
    out = room_for(len(channels), rows)
    if not rows or not channels:
        return out
    layout = np.dtype(
        {
            "names": [str(i) for i in range(len(channels))],
            "formats": [f"{_KINDS[c.data_type]}{c.bit_count // 8}" for c in channels],
            "offsets": [c.byte_offset for c in channels],
            "itemsize": width,
        }
    )
    table = records.matrix.view(layout)[:, 0]
    columns = [table[name] for name in layout.names or ()]
    step = max(_BLOCK_BYTES // width, 64)
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
        for start in range(0, rows, step):
            stop = start + step
            for number, column in zip(out, columns, strict=True):
                number[start:stop] = column[start:stop]
    return out
