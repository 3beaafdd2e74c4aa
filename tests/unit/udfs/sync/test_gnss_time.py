"""UTC as receivers tell it."""

from __future__ import annotations

import numpy as np
import pytest

from udfs.sync.gnss_time import utc_of_receiver, utc_of_week_time
from udfs.sync.segments import fit_segments
from udfs.sync.time_scales import SECOND_NS, WEEK_NS, gps_from_utc_ns

START_NS = 1_790_000_000_000_000_000
OFFSET_NS = 80_000_000
UTC = START_NS + np.arange(60) * SECOND_NS
STAMP = UTC + OFFSET_NS
LOG = STAMP + 3_000_000
LEAP_NS = 18 * SECOND_NS
ROLLOVER_NS = 1024 * WEEK_NS


@pytest.mark.parametrize("rollovers", [1, 2])
@pytest.mark.parametrize("rolled", [slice(None), slice(30, None)])
def test_a_week_that_rolled_over_is_put_right(rollovers, rolled):
    """A receiver that is 1024 or 2048 weeks behind, all the time or from some time on."""
    sent = UTC.copy()
    sent[rolled] -= rollovers * ROLLOVER_NS
    utc, usable = utc_of_receiver(sent, STAMP, LOG)
    assert usable.all()
    assert np.array_equal(utc, UTC)


@pytest.mark.parametrize("gps", [slice(0, 20), slice(40, None)])
def test_gps_time_before_the_leap_seconds_are_known_is_no_jump(gps):
    """A stretch that is 18 s ahead of the rest becomes UTC, and the clock has one segment."""
    sent = UTC.copy()
    sent[gps] += LEAP_NS
    shuffled = np.random.default_rng(1).permutation(len(sent))
    utc, usable = utc_of_receiver(sent[shuffled], STAMP[shuffled], LOG[shuffled])
    assert usable.all()
    assert np.array_equal(utc, UTC[shuffled])


def test_a_recorder_that_is_set_by_18_seconds_did_jump():
    """The same step in the recorder's own stamps is left for the clock's segments."""
    moved = np.where(np.arange(60) < 30, 0, LEAP_NS)
    utc, usable = utc_of_receiver(UTC, STAMP + moved, LOG + moved)
    assert usable.all()
    assert np.array_equal(utc, UTC)
    assert len(fit_segments(utc, STAMP + moved - utc, max_drift_ppm=50.0)) == 2


def test_what_is_no_utc_is_of_no_use():
    """Zeros, time since power-on, a repeat and a lone wild time count for nothing."""
    sent = UTC.copy()
    sent[3] = 0
    sent[10] = sent[9]
    sent[20] += 5_000 * SECOND_NS
    _, usable = utc_of_receiver(sent, STAMP, LOG)
    assert np.flatnonzero(~usable).tolist() == [3, 10, 20]
    counter = (UTC - START_NS) % 2**32
    assert not utc_of_receiver(counter, STAMP, LOG)[1].any()
    assert len(utc_of_receiver(UTC[:0], UTC[:0], UTC[:0])[0]) == 0


def test_times_of_week_become_utc_over_the_end_of_the_week():
    """Time of week wraps on Saturday night; a recorder hours off tells the week all the same."""
    gps = gps_from_utc_ns(UTC)
    gps += WEEK_NS - gps[30] % WEEK_NS
    utc = UTC + int(gps[0] - gps_from_utc_ns(UTC)[0])
    found, usable = utc_of_week_time(gps % WEEK_NS, utc + 5 * 3600 * SECOND_NS)
    assert usable.all()
    assert np.array_equal(found, utc)
    _, usable = utc_of_week_time(np.array([-1, 8 * 86400 * SECOND_NS, 5]), np.array([*UTC[:2], 9]))
    assert not usable.any()
