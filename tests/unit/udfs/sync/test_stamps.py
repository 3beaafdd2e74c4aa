"""Steps found, useless stamps cut."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.sync.stamps import BACKWARD, OK, STUCK, WILD, ZERO, cut_stamps
from udfs.sync.time_scales import SECOND_NS, WEEK_NS

START_NS = 1_790_000_000_000_000_000
MS = 1_000_000


def arrivals(rng, *, seconds, rate_hz, drop=0.05, hole_s=0.0):
    """Times of messages and their log times: jitter, drops, a hole, latencies with a heavy tail."""
    t_s = np.arange(0.0, seconds, 1 / rate_hz) + rng.uniform(0, 0.1 / rate_hz)
    t_s = t_s[rng.random(len(t_s)) >= drop]
    t_s[t_s > seconds / 2] += hole_s
    true_ns = np.rint(t_s * 1e9).astype(np.int64)
    latency = np.minimum(2 * MS + 2 * MS * rng.pareto(2.5, len(t_s)), 300 * MS)
    return true_ns, START_NS + true_ns + latency.astype(np.int64)


def test_useless_stamps_are_cut_and_counted():
    """Zeros, repeats, lone wild stamps and steps back are each counted; the rest is one piece."""
    rng = np.random.default_rng(5)
    true_ns, log_ns = arrivals(rng, seconds=60, rate_hz=50, drop=0)
    stamp = START_NS + true_ns
    expected = np.zeros(len(stamp), dtype=np.uint8)
    stamp[100:105], expected[100:105] = 0, ZERO
    stamp[200:260], expected[201:260] = stamp[200], STUCK
    stamp[400], expected[400] = stamp[400] + 3600 * SECOND_NS, WILD
    stamp[500], expected[500] = 5, WILD
    stamp[600], expected[600] = stamp[590] + 1, BACKWARD
    cuts = cut_stamps(stamp, log_ns)
    assert np.array_equal(cuts.state, expected)
    assert cuts.steps == ()
    assert np.array_equal(cuts.segment, np.where(expected == OK, 0, -1))
    assert cuts.counts == {
        "ok": len(stamp) - 67, "zero": 5, "stuck": 59, "wild": 2, "backward": 1,
    }  # fmt: skip


def test_late_bursts_are_no_steps():
    """Messages that come five seconds late in a row, and then again in time, make no new piece."""
    rng = np.random.default_rng(6)
    true_ns, log_ns = arrivals(rng, seconds=60, rate_hz=50, drop=0)
    late = (true_ns > 20 * SECOND_NS) & (true_ns < 25 * SECOND_NS)
    log_ns[late] = START_NS + 25 * SECOND_NS + np.arange(np.count_nonzero(late)) * 10_000
    cuts = cut_stamps(START_NS + true_ns, log_ns)
    assert cuts.steps == ()
    assert cuts.counts == {"ok": len(true_ns)}
    log_ns[late] = START_NS + true_ns[late] + 5 * SECOND_NS
    assert cut_stamps(START_NS + true_ns, log_ns).steps == ()


def utc(text):
    """UTC in ns of an ISO date."""
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("start_ns", "size_ns", "cause"),
    [
        (START_NS, 12_345 * MS, "step"),
        (START_NS, -7_000 * MS, "step"),
        (START_NS, -18 * SECOND_NS, "gps_utc"),
        (START_NS, 18 * SECOND_NS, "gps_utc"),
        (START_NS, 1024 * WEEK_NS, "week_rollover"),
        (START_NS, -1024 * WEEK_NS, "week_rollover"),
        (START_NS, SECOND_NS * 3 // 2, "step"),
        (utc("2016-12-31T23:59:30"), -SECOND_NS, "leap_second"),
        (utc("2026-12-31T23:59:30"), -SECOND_NS, "step"),
        (9_000 * SECOND_NS, -9_029 * SECOND_NS, "reset"),
    ],
)
def test_steps_are_found_where_they_are_with_their_cause(start_ns, size_ns, cause):
    """A clock that is set makes a new piece at the first message behind it, and says why."""
    rng = np.random.default_rng(7)
    true_ns, log_ns = arrivals(rng, seconds=60, rate_hz=50)
    at = int(np.searchsorted(true_ns, 30 * SECOND_NS))
    stamp = start_ns + true_ns
    stamp[at:] += size_ns
    cuts = cut_stamps(stamp, log_ns, min_step_ns=SECOND_NS // 2)
    assert [(step.index, step.cause) for step in cuts.steps] == [(at, cause)]
    assert abs(cuts.steps[0].size_ns - size_ns) < 5 * MS
    assert np.array_equal(cuts.segment, np.arange(len(stamp)) >= at)


@given(st.lists(st.tuples(st.integers(-5, 2**62), st.integers(-5, 2**62)), max_size=40))
def test_any_stamps_end_in_states(pairs):
    """Whatever the numbers, every message has a state, and pieces rise in order of arrival."""
    stamp = np.array([a for a, _ in pairs], dtype=np.int64)
    log = np.array([b for _, b in pairs], dtype=np.int64)
    cuts = cut_stamps(stamp, log)
    assert sum(cuts.counts.values()) == len(pairs)
    assert np.array_equal(cuts.segment == -1, cuts.state != OK)
    kept = cuts.segment[cuts.segment >= 0]
    assert np.all(np.diff(kept) >= 0)
    for piece in set(kept.tolist()):
        assert np.all(np.diff(stamp[cuts.segment == piece]) >= 0)
