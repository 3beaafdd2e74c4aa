"""CAN and LIN frames from the records of an MDF 4 bus logging group.

Source: ASAM MDF 4.1, associated standard for bus logging (CAN_DataFrame, CAN_RemoteFrame,
CAN_ErrorFrame, LIN_Frame).
"""

from __future__ import annotations

import numpy as np

from contracts.recording import Int64Array
from udfs.decode.mdf4_plan import GroupPlan
from udfs.decode.mdf4_records import DataGroupReader, Records, Variable
from udfs.decode.mdf4_types import CN_ALL_INVALID, CN_FIXED, CN_HAS_INVALID_BIT, MdfChannel
from udfs.decode.mdf4_values import blobs_of, samples_of
from udfs.encodings import can_kernels
from udfs.encodings.can import CanFrames
from udfs.encodings.fields import FIELD, SIGNED, UNSIGNED, read_integers
from udfs.encodings.samples import Mask

_LARGEST = 2.0**53
_LENGTH_FIELDS = ("DataLength", "ReceivedDataByteCount")
_READ = ("ID", "IDE", "EDL", "DLC", *_LENGTH_FIELDS, "Dir", "BusChannel")
_EXACT_BITS = 53
_WITH_DATA = ("CAN_DataFrame", "LIN_Frame")


def frames_of(
    plan: GroupPlan, reader: DataGroupReader, records: Records, *, log_time_ns: Int64Array
) -> tuple[CanFrames, Mask]:
    """The frames of N records whose payloads are there, and (N,) which records have none."""
    rows = len(records.ordinal)
    numbers = _Numbers(plan, reader, records)
    has_data = plan.frame_kind in _WITH_DATA and "DataBytes" in plan.frame_fields
    payload = Variable(np.empty(0, np.uint8), np.zeros(rows, np.int64), np.zeros(rows, np.int64))
    if has_data:
        payload = blobs_of(
            plan.group, plan.frame_fields["DataBytes"], records, variable=reader.variable
        )
    length = next((name for name in _LENGTH_FIELDS if name in plan.frame_fields), "")
    said = can_kernels.complete_frames(
        identity=numbers.of("ID", default=-1),
        extended=numbers.of("IDE", default=0) if "IDE" in plan.frame_fields else None,
        fd=numbers.of("EDL", default=0),
        dlc=numbers.of("DLC", default=-1),
        length=numbers.of(length, default=-1) if length else None,
        stored=payload.lengths if has_data else None,
        sent=numbers.of("Dir", default=-1),
    )
    bus = numbers.of("BusChannel", default=plan.bus)
    there = payload.starts >= 0
    kept = slice(None) if there.all() else there
    count = int(np.count_nonzero(there))
    frames = CanFrames(
        log_time_ns=log_time_ns[kept],
        sequence=records.ordinal[kept],
        bus=bus[kept],
        can_id=said.can_id[kept],
        is_extended=said.is_extended[kept],
        is_fd=said.is_fd[kept],
        is_remote=np.full(count, plan.frame_kind == "CAN_RemoteFrame"),
        is_error=np.full(count, plan.frame_kind == "CAN_ErrorFrame"),
        dlc=said.dlc[kept],
        arena=payload.arena,
        starts=payload.starts[kept],
        lengths=said.lengths[kept],
        is_transmitted=said.is_transmitted[kept],
    )
    return frames, ~there


class _Numbers:
    """Fields of the frames as whole numbers; the plain ones are read together."""

    def __init__(self, plan: GroupPlan, reader: DataGroupReader, records: Records) -> None:
        self._plan = plan
        self._reader = reader
        self._records = records
        plain = [name for name in _READ if _is_plain(plan.frame_fields.get(name))]
        fields = np.zeros(len(plain), FIELD)
        for field, name in zip(fields, plain, strict=True):
            channel = plan.frame_fields[name]
            field["byte_offset"], field["bit_offset"] = channel.byte_offset, channel.bit_offset
            field["bit_count"] = channel.bit_count
            field["kind"] = SIGNED if channel.data_type in (2, 3) else UNSIGNED
            field["is_big_endian"] = channel.data_type in (1, 3)
        numbers = read_integers(records.matrix, fields)
        self._read = dict(zip(plain, numbers, strict=True))

    def of(self, field: str, *, default: int) -> Int64Array:
        """(N,) int64; `default` where the group has no such field, or the sample no number."""
        if field in self._read:
            return self._read[field]
        channel = self._plan.frame_fields.get(field)
        if channel is None:
            return np.full(len(self._records.ordinal), default, np.int64)
        group = self._plan.group
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


def _is_plain(channel: MdfChannel | None) -> bool:
    """Whether it holds integers that a double holds, too, without a rule and without marks."""
    return (
        channel is not None
        and channel.kind == CN_FIXED
        and channel.data_type < 4
        and channel.bit_count <= _EXACT_BITS
        and channel.conversion is None
        and channel.array is None
        and not channel.flags & (CN_ALL_INVALID | CN_HAS_INVALID_BIT)
    )
