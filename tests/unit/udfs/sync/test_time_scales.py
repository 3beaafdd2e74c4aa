"""UTC, TAI and GPS time."""

from __future__ import annotations

import datetime as dt
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ClockError
from udfs.sync.time_scales import (
    LEAP_SECONDS_HOLD_UNTIL,
    SECOND_NS,
    WEEK_NS,
    gps_from_utc_ns,
    gps_time_ns,
    in_leap_second,
    tai_from_utc_ns,
    tai_minus_utc_ns,
    utc_from_gps_ns,
    utc_from_tai_ns,
)

UTC_1972 = 63_072_000 * SECOND_NS
UTC_2100 = 4_102_444_800 * SECOND_NS


def utc(text):
    """UTC in ns of an ISO date."""
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * SECOND_NS


def array(*values):
    """An int64 array."""
    return np.array(values, dtype=np.int64)


def published_leap_seconds():
    """Days whose last second was a leap second, and the date until which the list holds."""
    days, until = [], ""
    text = (resources.files("tzdata") / "zoneinfo" / "leapseconds").read_text("utf-8")
    for line in text.splitlines():
        if line.startswith("Leap"):
            _, year, month, day, *_ = line.split("\t")
            days.append(dt.datetime.strptime(f"{year} {month} {day}", "%Y %b %d").date())  # noqa: DTZ007
        if line.startswith("#expires"):
            until = line.split("(")[1][:10]
    return days, until


def test_the_table_is_that_of_the_time_zone_database():
    """Every leap second of the list that the time zone database ships is in the table, no other."""
    days, until = published_leap_seconds()
    assert len(days) >= 27
    for day in days:
        before = utc(day.isoformat()) + 86_399 * SECOND_NS
        ahead = tai_minus_utc_ns(array(before, before + SECOND_NS)) // SECOND_NS
        assert ahead[1] - ahead[0] == 1, day
    today = tai_minus_utc_ns(array(utc("2026-11-20")))[0] // SECOND_NS
    assert today == 10 + len(days) == 37
    assert until <= LEAP_SECONDS_HOLD_UNTIL


@given(st.lists(st.integers(UTC_1972, UTC_2100), min_size=1, max_size=20))
def test_utc_comes_back_from_tai_and_gps(times):
    """Any UTC survives the way to TAI and to GPS time and back."""
    times = np.array(times, dtype=np.int64)
    assert np.array_equal(utc_from_tai_ns(tai_from_utc_ns(times)), times)
    assert np.array_equal(utc_from_gps_ns(gps_from_utc_ns(times)), times)


def test_known_instants():
    """GPS time began at 0, was 13 s ahead in 1999's rollover, and is 18 s ahead since 2017."""
    assert gps_from_utc_ns(array(utc("1980-01-06"))).tolist() == [0]
    rollover = array(utc("1999-08-22"))
    assert gps_from_utc_ns(rollover).tolist() == [1024 * WEEK_NS + 13 * SECOND_NS]
    in_2026 = array(utc("2026-11-20"))
    days = (utc("2026-11-20") - utc("1980-01-06")) // SECOND_NS
    assert gps_from_utc_ns(in_2026).tolist() == [(days + 18) * SECOND_NS]


def test_a_leap_second_shares_its_count_and_is_said():
    """Within 2016-12-31T23:59:60 the UTC count repeats; TAI goes on, and only it is flagged."""
    new_year = utc("2017-01-01")
    half = SECOND_NS // 2
    tai = tai_from_utc_ns(array(new_year))[0]
    around = array(tai - SECOND_NS - half, tai - half, tai + half)
    assert utc_from_tai_ns(around).tolist() == [new_year - half, new_year + half, new_year + half]
    assert in_leap_second(around).tolist() == [False, True, False]


def test_before_1972_is_refused():
    """UTC before its whole seconds is an error, not an extrapolation."""
    with pytest.raises(ClockError, match="TIME_OUT_OF_RANGE"):
        tai_from_utc_ns(array(UTC_1972 - 1))


@given(
    st.lists(
        st.tuples(
            st.integers(utc("1990-01-01"), UTC_2100),
            st.integers(-WEEK_NS // 2 + SECOND_NS * 20, WEEK_NS // 2 - SECOND_NS * 20),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_a_time_of_week_needs_no_week(cases):
    """A time of week becomes GPS time with a log clock that is days off, whatever the order."""
    truth = np.array([each for each, _ in cases], dtype=np.int64)
    log = truth + np.array([each for _, each in cases], dtype=np.int64)
    gps = gps_from_utc_ns(truth)
    assert np.array_equal(gps_time_ns(gps % WEEK_NS, log), gps)


def test_a_time_of_week_outside_the_week_is_refused():
    """A receiver's -1 for no fix is an error, not a time."""
    with pytest.raises(ClockError, match="TIME_OUT_OF_RANGE"):
        gps_time_ns(array(-1), array(utc("2026-11-20")))
