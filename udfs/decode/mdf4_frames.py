"""CAN and LIN frames from the records of an MDF 4 bus logging group.

Source: ASAM MDF 4.1, associated standard for bus logging (CAN_DataFrame, CAN_RemoteFrame,
CAN_ErrorFrame, LIN_Frame).
"""

from __future__ import annotations

import numpy as np

from contracts.recording import Int64Array
from udfs.decode.mdf4_plan import GroupPlan
from udfs.decode.mdf4_records import DataGroupReader, Records
from udfs.decode.mdf4_types import CN_ALL_INVALID, CN_FIXED, CN_HAS_INVALID_BIT, MdfChannel
from udfs.decode.mdf4_values import blobs_of, samples_of
from udfs.encodings.can_columns import (
    PackedFrames,
    Payloads,
    PlacedPayloads,
    Said,
    pack_frames,
)
from udfs.encodings.fields import FIELD, SIGNED, UNSIGNED
from udfs.encodings.samples import Mask

_LARGEST = 2.0**53
_LENGTH_FIELDS = ("DataLength", "ReceivedDataByteCount")
_EXACT_BITS = 53
_WITH_DATA = ("CAN_DataFrame", "LIN_Frame")


def frames_of(
    plan: GroupPlan, reader: DataGroupReader, records: Records, *, log_time_ns: Int64Array
) -> tuple[PackedFrames, Mask | None]:
    """The frames of N records whose payloads are there, and (N,) which have none; None: all do."""
    payloads = _payloads(plan, reader, records)
    missing = None
    if isinstance(payloads, Payloads) and bool((payloads.starts < 0).any()):
        missing = payloads.starts < 0
        there = ~missing
        records, log_time_ns = records.where(there), log_time_ns[there]
        payloads = Payloads(payloads.arena, payloads.starts[there], payloads.lengths[there])
    said: dict[str, Said] = {
        "remote": plan.frame_kind == "CAN_RemoteFrame",
        "error": plan.frame_kind == "CAN_ErrorFrame",
    }
    length = next((name for name in _LENGTH_FIELDS if name in plan.frame_fields), "")
    for name, field, default in (
        ("id", "ID", -1),
        ("fd", "EDL", 0),
        ("dlc", "DLC", -1),
        ("sent", "Dir", -1),
        ("bus", "BusChannel", plan.bus),
    ):
        said[name] = _said(plan, reader, records, field, default=default)
    if "IDE" in plan.frame_fields:
        said["extended"] = _said(plan, reader, records, "IDE", default=0)
    if length:
        said["length"] = _said(plan, reader, records, length, default=-1)
    frames = pack_frames(
        said,
        payloads,
        log_time_ns=log_time_ns,
        sequence=records.ordinal,
        records=records.matrix,
        is_raw=True,
    )
    return frames, missing


def _payloads(
    plan: GroupPlan, reader: DataGroupReader, records: Records
) -> Payloads | PlacedPayloads:
    channel = plan.frame_fields.get("DataBytes")
    if plan.frame_kind not in _WITH_DATA or channel is None:
        return PlacedPayloads(0, 0)
    if channel.kind == CN_FIXED and channel.array is None:
        return PlacedPayloads(channel.byte_offset, channel.bit_count // 8)
    found = blobs_of(plan.group, channel, records, variable=reader.variable)
    return Payloads(found.arena, found.starts, found.lengths)


def _said(
    plan: GroupPlan, reader: DataGroupReader, records: Records, name: str, *, default: int
) -> Said:
    """Whole numbers of a field; `default` where the group has none, or the sample no number."""
    channel = plan.frame_fields.get(name)
    if channel is None:
        return default
    if _is_plain(channel):
        field = np.zeros(1, FIELD)[0]
        field["byte_offset"], field["bit_offset"] = channel.byte_offset, channel.bit_offset
        field["bit_count"] = channel.bit_count
        field["kind"] = SIGNED if channel.data_type in (2, 3) else UNSIGNED
        field["is_big_endian"] = channel.data_type in (1, 3)
        return field
    samples = samples_of(plan.group, channel, records, variable=reader.variable)
    values, there = samples.value, samples.is_value
    if name == "Dir" and samples.texts:
        is_sent = np.array([text.lower().startswith("t") for text in samples.texts], np.float64)
        values = np.where(samples.text >= 0, is_sent[samples.text], values)
        there = there | (samples.text >= 0)
    elif samples.raw is not None:  # an enumerated field: its number is what is meant
        values, there = np.where(there, values, samples.raw), np.ones(len(values), bool)
    there = there & (np.abs(values) <= _LARGEST)
    return np.where(there, values, default).astype(np.int64)


def _is_plain(channel: MdfChannel) -> bool:
    """Whether it holds integers that a double holds, too, without a rule and without marks."""
    return (
        channel.kind == CN_FIXED
        and channel.data_type < 4
        and channel.bit_count <= _EXACT_BITS
        and channel.conversion is None
        and channel.array is None
        and not channel.flags & (CN_ALL_INVALID | CN_HAS_INVALID_BIT)
    )
