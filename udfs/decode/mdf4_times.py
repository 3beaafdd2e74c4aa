"""Log times of MDF 4 records: seconds of a master channel behind the start of the file."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array
from udfs.decode.mdf4_plan import FilePlan, GroupPlan
from udfs.decode.mdf4_records import Records
from udfs.decode.mdf4_types import CN_MASTER, MdfChannel
from udfs.decode.mdf4_values import convert, numbers_of
from udfs.encodings.fields import nanoseconds
from udfs.encodings.samples import Mask

_TIME_LIMIT = 9.2e18


def times_ns(plan: FilePlan, group: GroupPlan, records: Records) -> tuple[Int64Array, Mask]:
    """Log times of records, and which of them fit: seconds become nanoseconds here, once."""
    rows = len(records.ordinal)
    start = plan.file.start_ns - zone_ns(plan)
    found = plan.times_of(group)
    if abs(start) > _TIME_LIMIT:
        return np.zeros(rows, np.int64), np.zeros(rows, bool)
    if found is None or not rows:
        return np.full(rows, start, np.int64), np.ones(rows, bool)
    home, owner = found
    if owner is not group:
        first, last = int(records.ordinal[0]), int(records.ordinal[-1]) + 1
        theirs = home.records(owner.layout, first, last)
        records = attrs.evolve(theirs, matrix=theirs.matrix[records.ordinal - first])
    assert owner.master is not None
    seconds = _plain_seconds(owner.master, records)
    if seconds is None:
        numbers = numbers_of(owner.master, records)
        seconds = convert(numbers, owner.master.conversion).value
    return nanoseconds(seconds, start_ns=start, limit=_TIME_LIMIT)


def _plain_seconds(master: MdfChannel, records: Records) -> npt.NDArray[np.float64] | None:
    """(N,) seconds where they are in the records; None where they must be made first."""
    first = master.byte_offset
    is_double = master.data_type == 4 and master.bit_count == 64 and not master.bit_offset
    if master.kind != CN_MASTER or not is_double or master.conversion is not None:
        return None
    return records.matrix[:, first : first + 8].view("<f8")[:, 0]


def zone_ns(plan: FilePlan) -> int:
    """What a local start time is ahead of UTC, as far as the file says."""
    file = plan.file
    return (file.time_zone_minutes or 0) * 60_000_000_000 if file.is_local_time else 0
