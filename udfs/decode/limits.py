"""What a reader grants to an input that may be hostile: sizes, ratios and counts."""

from __future__ import annotations

from contracts.errors import ResourceLimitError

MAX_UNIT_BYTES = 256 << 20
"""Largest chunk or data block when decompressed."""
MAX_RATIO = 200
"""Largest growth by decompression of a unit above `RATIO_FREE_BYTES`."""
RATIO_FREE_BYTES = 1 << 20
"""A unit this small can't do harm: a constant topic or a black image grows by thousands."""
MAX_UNPACKED_BYTES = 64 << 30
"""Largest recording that was stored packed as a whole: it is unpacked to a file, not to memory."""
MAX_WINDOW_BYTES = 256 << 20
"""Most memory that a packed stream may ask of its decoder."""
MAX_ARCHIVE_MEMBERS = 1000
MAX_RECORD_BYTES = 64 << 20
"""Largest record that is neither an attachment nor a chunk."""
MAX_STRUCTURE_RECORDS = 1_000_000
"""Most records of a unit that are no messages."""
MAX_BAD_ROWS = 10_000
"""Most bad messages of a channel and group that become rows; the rest is counted only."""
GROUP_BYTES = 32 << 20
"""Bytes decoded at a time: large enough to vectorise, small enough for the cache and memory."""
FIRST_BYTES = 1024
"""Bytes of a bad message that are kept beside its error."""


def check_unit_size(stored: int, *, declared: int, offset: int) -> None:
    """Refuse a unit whose declared size is out of bounds, before a byte of it is decompressed.

    Args:
        stored: Compressed bytes in the file.
        declared: Bytes that the file says it decompresses to.
        offset: Where the unit is, for the message.

    Raises:
        ResourceLimitError: BOMB.
    """
    if declared > MAX_UNIT_BYTES:
        what = f"unit declares {declared} bytes, the limit is {MAX_UNIT_BYTES}"
        raise ResourceLimitError(what, code="BOMB", offset=offset)
    if declared > RATIO_FREE_BYTES and declared > MAX_RATIO * max(stored, 1):
        what = f"unit declares {declared} bytes from {stored}, the limit is {MAX_RATIO} to 1"
        raise ResourceLimitError(what, code="BOMB", offset=offset)
