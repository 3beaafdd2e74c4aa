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
from udfs.decode.mdf4_values import blobs_of, numbers_of, samples_of
from udfs.encodings.can import DATA_LENGTHS, CanFrames
from udfs.encodings.samples import Mask

_ID_BITS = 0x1FFFFFFF
_EXTENDED_FLAG = 31
_MAX_STANDARD_ID = 0x7FF
_LARGEST = 2.0**53
_LENGTH_FIELDS = ("DataLength", "ReceivedDataByteCount")
_WITH_DATA = ("CAN_DataFrame", "LIN_Frame")


def frames_of(
    plan: GroupPlan, reader: DataGroupReader, records: Records, *, log_time_ns: Int64Array
) -> tuple[CanFrames, Mask]:
    """The frames of N records whose payloads are there, and (N,) which records have none."""
    rows = len(records.ordinal)
    numbers = _Numbers(plan, reader, records)
    identity = numbers.of("ID", default=-1)
    extended = numbers.of("IDE", default=0) != 0
    if "IDE" not in plan.frame_fields:
        extended = (identity >> _EXTENDED_FLAG & 1 != 0) | (identity & _ID_BITS > _MAX_STANDARD_ID)
    is_fd = numbers.of("EDL", default=0) != 0
    dlc = numbers.of("DLC", default=-1)
    field = next((name for name in _LENGTH_FIELDS if name in plan.frame_fields), "")
    length = numbers.of(field, default=-1)
    if not field:
        length = np.where(dlc >= 0, DATA_LENGTHS[np.clip(dlc, 0, 15)], -1)
        length = np.where(is_fd, length, np.minimum(length, 8))
    if plan.frame_kind in _WITH_DATA and "DataBytes" in plan.frame_fields:
        payload = blobs_of(
            plan.group, plan.frame_fields["DataBytes"], records, variable=reader.variable
        )
        there = payload.starts >= 0
        lengths = np.minimum(payload.lengths, length) if (length >= 0).all() else payload.lengths
        arena, starts = payload.arena, payload.starts
    else:
        arena, there = np.empty(0, np.uint8), np.ones(rows, bool)
        starts, lengths = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    kept = slice(None) if there.all() else there
    sent = numbers.of("Dir", default=-1)
    bus = numbers.of("BusChannel", default=plan.bus)
    frames = CanFrames(
        log_time_ns=log_time_ns[kept],
        sequence=records.ordinal[kept],
        bus=bus[kept],
        can_id=np.where(identity < 0, -1, identity & _ID_BITS)[kept],
        is_extended=extended[kept],
        is_fd=is_fd[kept],
        is_remote=np.full(int(np.count_nonzero(there)), plan.frame_kind == "CAN_RemoteFrame"),
        is_error=np.full(int(np.count_nonzero(there)), plan.frame_kind == "CAN_ErrorFrame"),
        dlc=np.where(dlc < 0, length, dlc)[kept],
        arena=arena,
        starts=starts[kept],
        lengths=lengths[kept],
        is_transmitted=np.clip(sent, -1, 1)[kept],
    )
    return frames, ~there


class _Numbers:
    """Fields of the frames as whole numbers."""

    def __init__(self, plan: GroupPlan, reader: DataGroupReader, records: Records) -> None:
        self._plan = plan
        self._reader = reader
        self._records = records

    def of(self, field: str, *, default: int) -> Int64Array:
        """(N,) int64; `default` where the group has no such field, or the sample no number."""
        channel = self._plan.frame_fields.get(field)
        if channel is None:
            return np.full(len(self._records.ordinal), default, np.int64)
        group = self._plan.group
        is_marked = channel.flags & (CN_ALL_INVALID | CN_HAS_INVALID_BIT)
        if channel.conversion is None and is_plain_integer(channel) and not is_marked:
            return numbers_of(channel, self._records).astype(np.int64, copy=False)
        samples = samples_of(group, channel, self._records, variable=self._reader.variable)
        values, there = samples.value, samples.is_value
        if field == "Dir" and samples.texts:
            is_sent = np.array([text.lower().startswith("t") for text in samples.texts], np.float64)
            values = np.where(samples.text >= 0, is_sent[samples.text], values)
            there = there | (samples.text >= 0)
        elif samples.raw is not None:  # an enumerated field: its number is what is meant
            values, there = np.where(there, values, samples.raw), np.ones(len(values), bool)
        there = there & (np.abs(values) <= _LARGEST)
        return np.where(there, values, default).astype(np.int64)


def is_plain_integer(channel: MdfChannel) -> bool:
    """Whether it holds integers that a double holds, too."""
    return channel.kind == CN_FIXED and channel.data_type < 4 and channel.bit_count <= 53
