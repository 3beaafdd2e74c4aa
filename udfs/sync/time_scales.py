"""UTC, TAI and GPS time as int64 nanoseconds, both ways, with the leap seconds between them.

UTC is counted as POSIX does it: every day has 86400 s, so a leap second shares its count with the
second behind it. Conversions from UTC are exact outside of leap seconds, those to UTC everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from contracts.errors import ClockError
from contracts.recording import Int64Array

BoolArray = npt.NDArray[np.bool_]

SECOND_NS = 1_000_000_000
WEEK_NS = 7 * 86_400 * SECOND_NS
LEAP_SECONDS_HOLD_UNTIL = "2027-06-28"
"""Before this date no leap second can come that the table lacks."""

_LEAP_SECONDS = (
    ("1972-01-01", 10), ("1972-07-01", 11), ("1973-01-01", 12), ("1974-01-01", 13),
    ("1975-01-01", 14), ("1976-01-01", 15), ("1977-01-01", 16), ("1978-01-01", 17),
    ("1979-01-01", 18), ("1980-01-01", 19), ("1981-07-01", 20), ("1982-07-01", 21),
    ("1983-07-01", 22), ("1985-07-01", 23), ("1988-01-01", 24), ("1990-01-01", 25),
    ("1991-01-01", 26), ("1992-07-01", 27), ("1993-07-01", 28), ("1994-07-01", 29),
    ("1996-01-01", 30), ("1997-07-01", 31), ("1999-01-01", 32), ("2006-01-01", 33),
    ("2009-01-01", 34), ("2012-07-01", 35), ("2015-07-01", 36), ("2017-01-01", 37),
)  # fmt: skip
# Source: IERS Bulletin C, "Relationship between TAI and UTC": first day, TAI minus UTC in s.
_GPS_BEHIND_TAI_S = 19
# Source: IS-GPS-200, 3.3.4: GPS time began at 1980-01-06 00:00 UTC and knows no leap seconds.
_GPS_EPOCH = "1980-01-06"


def _utc_ns(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * SECOND_NS


GPS_EPOCH_NS = _utc_ns(_GPS_EPOCH)
_FROM_UTC_NS = np.array([_utc_ns(date) for date, _ in _LEAP_SECONDS], dtype=np.int64)
_TAI_AHEAD_NS = np.array([count for _, count in _LEAP_SECONDS], dtype=np.int64) * SECOND_NS
_FROM_TAI_NS = _FROM_UTC_NS + _TAI_AHEAD_NS


def tai_minus_utc_ns(utc_ns: Int64Array) -> Int64Array:
    """(N,) int64 how far TAI is ahead of UTC.

    Args:
        utc_ns: (N,) int64 UTC.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, before 1972, when UTC had no whole seconds from TAI.
    """
    return _TAI_AHEAD_NS[_entry(_FROM_UTC_NS, np.asarray(utc_ns, dtype=np.int64))]


def tai_from_utc_ns(utc_ns: Int64Array) -> Int64Array:
    """(N,) int64 TAI of UTC, both counted from 1970-01-01 of their own scale.

    Args:
        utc_ns: (N,) int64 UTC.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, before 1972.
    """
    return np.asarray(utc_ns, dtype=np.int64) + tai_minus_utc_ns(utc_ns)


def utc_from_tai_ns(tai_ns: Int64Array) -> Int64Array:
    """(N,) int64 UTC of TAI; within a leap second the count of the second behind it.

    Args:
        tai_ns: (N,) int64 TAI.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, before 1972.
    """
    tai = np.asarray(tai_ns, dtype=np.int64)
    # The former difference holds through the leap second.
    return tai - _TAI_AHEAD_NS[_entry(_FROM_TAI_NS, tai)]


def in_leap_second(tai_ns: Int64Array) -> BoolArray:
    """(N,) whether an instant is in a leap second, so that its UTC count is not unique.

    Args:
        tai_ns: (N,) int64 TAI.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, before 1972.
    """
    tai = np.asarray(tai_ns, dtype=np.int64)
    entry = _entry(_FROM_TAI_NS - SECOND_NS, tai)
    # The first entry is where the scale begins, not a leap second.
    return np.asarray((entry > 0) & (tai < _FROM_TAI_NS[entry]))


def gps_from_utc_ns(utc_ns: Int64Array) -> Int64Array:
    """(N,) int64 GPS time since its epoch, 1980-01-06.

    Args:
        utc_ns: (N,) int64 UTC.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, before 1972.
    """
    return tai_from_utc_ns(utc_ns) - _GPS_BEHIND_TAI_S * SECOND_NS - GPS_EPOCH_NS


def utc_from_gps_ns(gps_ns: Int64Array) -> Int64Array:
    """(N,) int64 UTC of GPS time.

    Args:
        gps_ns: (N,) int64 since the GPS epoch.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, before 1972.
    """
    gps = np.asarray(gps_ns, dtype=np.int64)
    return utc_from_tai_ns(gps + GPS_EPOCH_NS + _GPS_BEHIND_TAI_S * SECOND_NS)


def gps_time_ns(tow_ns: Int64Array, log_utc_ns: Int64Array) -> Int64Array:
    """(N,) int64 GPS time of times of week: the one nearest to the log time.

    Neither the week that a receiver tells nor the order of the messages is needed, so neither a
    week that is updated late nor a lost message makes an error of a week.

    Args:
        tow_ns: (N,) int64 within the week.
        log_utc_ns: (N,) int64 UTC within half a week of the truth.

    Raises:
        ClockError: TIME_OUT_OF_RANGE, a time of week that is none, or a log time before 1972.
    """
    tow = np.asarray(tow_ns, dtype=np.int64)
    if np.any((tow < 0) | (tow > WEEK_NS)):
        raise ClockError("a time of week outside of the week", code="TIME_OUT_OF_RANGE")
    around = gps_from_utc_ns(log_utc_ns)
    weeks = (around - tow + WEEK_NS // 2) // WEEK_NS
    return np.asarray(tow + weeks * WEEK_NS, dtype=np.int64)


def _entry(starts_ns: Int64Array, t_ns: Int64Array) -> Int64Array:
    """(N,) which entry of the table holds."""
    entry = np.searchsorted(starts_ns, t_ns, side="right") - 1
    if np.any(entry < 0):
        raise ClockError("no leap seconds are known before 1972", code="TIME_OUT_OF_RANGE")
    return np.asarray(entry, dtype=np.int64)
