"""Numbers of many channels of a group at once, raw and by their linear rules, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from udfs.decode.mdf4_plan import Leaf
from udfs.decode.mdf4_records import Records
from udfs.decode.mdf4_types import CN_VIRTUAL, CN_VIRTUAL_MASTER, CN_VLSD, MdfChannel
from udfs.decode.mdf4_values import element_place
from udfs.encodings.fields import FIELD, FLOAT, SIGNED, UNSIGNED, Fields, read_fields
from udfs.encodings.samples import Samples, always, no_text
from udfs.memory.arena import new_array

_EXACT_BITS = 53
_PLAIN_RULES = (0, 1)
_KINDS = {0: UNSIGNED, 1: UNSIGNED, 2: SIGNED, 3: SIGNED, 4: FLOAT, 5: FLOAT}


def is_plain(channel: MdfChannel) -> bool:
    """Whether a float64 holds its numbers exactly and they have a linear rule, or none."""
    rule = 0 if channel.conversion is None else channel.conversion.kind
    if channel.kind in (CN_VLSD, CN_VIRTUAL, CN_VIRTUAL_MASTER) or rule not in _PLAIN_RULES:
        return False
    if channel.data_type in (4, 5):
        return not channel.bit_offset and channel.bit_count in (16, 32, 64)
    return channel.data_type in _KINDS and 0 < channel.bit_count <= _EXACT_BITS


def plain_samples(leaves: Sequence[Leaf], records: Records) -> Mapping[int, Samples]:
    """By position in `leaves`: samples of the plain ones of N records, their marks aside."""
    plain = [at for at, leaf in enumerate(leaves) if is_plain(leaf.channel)]
    rows = len(records.ordinal)
    fields = np.zeros(len(plain), FIELD)
    slots = 0
    for number, at in enumerate(plain):
        slots += _describe(fields[number : number + 1], leaves[at], slots)
    numbers = new_array(slots, rows)
    read_fields(records.matrix, fields, numbers)
    found: dict[int, Samples] = {}
    for at, raw, value in zip(plain, fields["raw_slot"], fields["value_slot"], strict=True):
        samples = Samples(numbers[raw if value < 0 else value], always(rows), no_text(rows))
        rule = leaves[at].channel.conversion
        found[at] = (
            attrs.evolve(samples, raw=numbers[raw]) if rule is not None and rule.kind else samples
        )
    return found


def _describe(field: Fields, leaf: Leaf, slot: int) -> int:
    """Fill in a field whose outputs begin at a slot; how many of them it has."""
    channel = leaf.channel
    field["byte_offset"], _ = element_place(channel, leaf.element)
    field["bit_offset"], field["bit_count"] = channel.bit_offset, channel.bit_count
    field["kind"] = _KINDS[channel.data_type]
    field["is_big_endian"] = channel.data_type in (1, 3, 5)
    field["raw_slot"], field["value_slot"] = slot, -1
    if channel.conversion is None or channel.conversion.kind == 0:
        return 1
    field["value_slot"] = slot + 1
    field["offset"], field["factor"] = channel.conversion.values[:2]
    return 2
