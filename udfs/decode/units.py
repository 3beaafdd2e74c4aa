"""Units of a recording taken together: groups of a size that vectorises, ordinals across them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from contracts.recording import Int64Array, Unit
from udfs.decode.limits import GROUP_BYTES


def iter_unit_groups(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Yield consecutive units whose uncompressed sizes add up to at most `GROUP_BYTES`.

    A unit that is larger by itself stands alone.
    """
    group: list[Unit] = []
    held = 0
    for unit in units:
        size = unit.uncompressed_size or 0
        if group and held + size > GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(unit)
        held += size
    if group:
        yield group


def messages_by_channel(units: Iterable[Unit]) -> dict[int, int]:
    """How many messages of each channel the units hold, as far as they say."""
    totals: dict[int, int] = {}
    for unit in units:
        for channel, count in unit.channel_counts.items():
            totals[channel] = totals.get(channel, 0) + count
    return totals


def sequence_bases(units: Sequence[Unit]) -> Mapping[int, Mapping[int, int]]:
    """By unit index and channel: how many messages of the channel the units before it hold.

    A reader of some units alone numbers their messages as a reader of all units does.
    """
    bases: dict[int, dict[int, int]] = {}
    seen: dict[int, int] = {}
    for unit in units:
        bases[unit.index] = {channel: seen.get(channel, 0) for channel in unit.channel_counts}
        for channel, count in unit.channel_counts.items():
            seen[channel] = seen.get(channel, 0) + count
    return bases


def rows_by_channel(channel_of_row: Int64Array) -> Iterator[tuple[int, Int64Array]]:
    """Yield each channel that occurs, with its rows in their order."""
    if not len(channel_of_row):
        return
    # NumPy sorts 16 bits by counting, in a fifth of the time.
    is_small = channel_of_row.min() >= 0 and channel_of_row.max() <= np.iinfo(np.uint16).max
    key = channel_of_row.astype(np.uint16) if is_small else channel_of_row
    order = np.argsort(key, kind="stable")
    ids = channel_of_row[order]
    firsts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    yield from zip(ids[firsts].tolist(), np.split(order, firsts[1:]), strict=True)
