"""Ingest days: the one partition, from bronze to silver. Recordings are rows, not partitions."""

from __future__ import annotations

import datetime as dt

import dagster as dg

FIRST_DAY = dt.date(2020, 1, 1)
ingest_days = dg.DailyPartitionsDefinition(
    start_date=FIRST_DAY.isoformat(),
    timezone="UTC",
    end_offset=1,  # today's uploads are taken today
)


def day_of(modified_ns: int, *, last: dt.date) -> dt.date:
    """Ingest day of an upload: the UTC day on which storage saw its last byte.

    Stamps outside of the partitions (archives unpacked with stamps of 1970, a clock that runs
    ahead) go to the nearest day there is.

    Args:
        modified_ns: UTC, as the storage lists it.
        last: The last day there is a partition for.
    """
    seconds = max(modified_ns // 1_000_000_000, 0)
    day = dt.datetime.fromtimestamp(min(seconds, 253_402_300_799), tz=dt.UTC).date()
    return min(max(day, FIRST_DAY), last)


def last_day() -> dt.date:
    """The last ingest day that has a partition."""
    return dt.date.fromisoformat(ingest_days.get_last_partition_key())
