"""Where a clock was set, from the hole that it left or from what it showed twice."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.sync.placing import place_by_stamps
from udfs.sync.segments import Segment

MS, SECOND = 1_000_000, 1_000_000_000
START_NS = 1_790_000_000 * SECOND
AT_NS = START_NS + 30 * SECOND + 4_321_987


def stamps(size_ns, *, period_ns, seed=0, jitter_ns=200_000, lost=0.05):
    """Readings of a clock that is set after 30 s of 60, of what comes at a steady rate."""
    rng = np.random.default_rng(seed)
    t_ns = np.arange(START_NS + int(rng.integers(period_ns)), START_NS + 60 * SECOND, period_ns)
    t_ns = t_ns[rng.random(len(t_ns)) >= lost]
    noise = np.rint(rng.normal(0, jitter_ns, len(t_ns))).astype(np.int64)
    return np.sort(t_ns + noise + np.where(t_ns >= AT_NS, size_ns, 0))


def around(size_ns, *, early_ns=900 * MS, late_ns=700 * MS, error_ns=200_000.0):
    """Segments on either side of the jump, known to be within so much of it."""
    old = Segment(START_NS, AT_NS - early_ns, START_NS, 0, 0.0, error_ns, 100.0, 1000)
    new_ns = AT_NS + late_ns + size_ns
    end_ns = START_NS + 60 * SECOND + size_ns
    return old, Segment(new_ns, end_ns, new_ns, size_ns, 0.0, error_ns, 100.0, 1000)


def placed(segments, *streams):
    """Instants between which the jump is, relative to it, in ms."""
    old, new = place_by_stamps(segments, streams)
    return (old.reference_at(old.end_ns) - AT_NS) / MS, (
        new.reference_at(new.start_ns) - AT_NS
    ) / MS


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    size_ms=st.floats(5, 2_000),
    forward=st.booleans(),
    period_ms=st.sampled_from([10, 20, 50]),
)
def test_a_jump_is_placed_within_a_few_samples(seed, size_ms, forward, period_ms):
    """Any jump of three periods and more, whole numbers of them included, to 50 ms; always held."""
    size_ns = round(max(size_ms, 3 * period_ms) * MS) * (1 if forward else -1)
    streams = [stamps(size_ns, period_ns=period_ms * MS, seed=seed + i) for i in range(2)]
    low, high = placed(around(size_ns), *streams)
    assert low - 2 <= 0 <= high + 2
    assert abs(low + high) / 2 < 50
    whole = round(size_ns / (period_ms * MS)) * period_ms * MS
    low, high = placed(around(whole), stamps(whole, period_ns=period_ms * MS, seed=seed))
    assert low - 2 <= 0 <= high + 2
    assert abs(low + high) / 2 < 75


def test_a_hole_of_lost_messages_is_no_jump():
    """Of holes as wide, that one counts on both sides of which the stamps are on their grids.

    The stamps beside it belong to the two sides, to the last one and from the first one on.
    """
    size_ns = 12 * MS
    t_ns = stamps(size_ns, period_ns=10 * MS)
    low, high = placed(around(size_ns), t_ns)
    assert -40 < low <= 0 <= high < 40
    old, new = place_by_stamps(around(size_ns), [t_ns])
    assert {old.end_ns, new.start_ns} <= set(t_ns.tolist())


def test_what_does_not_tell_changes_nothing():
    """Stamps on no grid, few of them, none, and a clock of one piece leave all as it was."""
    rng = np.random.default_rng(1)
    loose = np.sort(START_NS + rng.integers(0, 60 * SECOND, 3000))
    segments = around(40 * MS)
    few = loose[:10]
    assert place_by_stamps(segments, [loose, few, loose[:0]]) == segments
    assert place_by_stamps(segments[:1], [stamps(0, period_ns=10 * MS)]) == segments[:1]
    backward = around(-40 * MS)
    # Nothing was shown twice: the clock was not set back here.
    assert place_by_stamps(backward, [stamps(0, period_ns=10 * MS)]) == backward


@pytest.mark.parametrize("size_ns", [300 * MS, -300 * MS])
def test_an_uncertain_size_widens_the_place(size_ns):
    """Segments that are milliseconds off still hold the jump between them."""
    old, new = around(size_ns, error_ns=3.0 * MS)
    wrong = attrs.evolve(new, offset_ns=new.offset_ns + 6 * MS)
    found = place_by_stamps((old, wrong), [stamps(size_ns, period_ns=10 * MS)])
    low = (found[0].reference_at(found[0].end_ns) - AT_NS) / MS
    high = (found[1].start_ns - size_ns - AT_NS) / MS
    assert low - 15 <= 0 <= high + 15
    assert high - low < 120
