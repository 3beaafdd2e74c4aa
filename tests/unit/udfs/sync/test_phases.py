"""Steps of stamps out of their grid, and what they say of a clock's jumps."""

from __future__ import annotations

import numpy as np
import pytest

from udfs.sync.mapping import NO_PIECE, place
from udfs.sync.phases import PhaseStep, phase_steps
from udfs.sync.segments import Segment
from udfs.sync.shared import find_jumps

START_NS = 1_790_000_000_000_000_000
MS = 1_000_000


def stamps(rng, *, period_s, seconds=60.0, at_s=1e9, size_s=0.0, jitter_ns=200_000):
    """Stamps of a steady stream that lost 5 %, by a clock that drifts and is set once."""
    t_s = np.arange(rng.uniform(0, period_s), seconds, period_s)
    t_s = t_s[rng.random(len(t_s)) >= 0.05]
    shown = 1e9 * (t_s * (1 + 30e-6) + size_s * (t_s >= at_s)) + rng.normal(0, jitter_ns, len(t_s))
    return START_NS + np.sort(np.rint(shown).astype(np.int64))


@pytest.mark.parametrize("size_s", [0.0052, -0.0052, 0.4137, -0.4137, 1.7341, -1.7341])
def test_a_jump_shows_as_its_size_but_for_whole_periods(size_s):
    """One step is found, within two samples of the jump, and the jump explains it."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        at_s = rng.uniform(10, 50)
        for period_s in (0.02, 0.1):
            (step,) = phase_steps(stamps(rng, period_s=period_s, at_s=at_s, size_s=size_s))
            assert step.explains(1e9 * size_s, error_ns=100_000)
            assert not step.explains(1e9 * size_s + 3 * MS, error_ns=100_000)
            at_ns = START_NS + 1e9 * at_s * (1 + 30e-6)
            assert -6 * period_s < (step.last_ns - at_ns) / 1e9 < 0.002
            assert -0.002 < (step.first_ns - at_ns) / 1e9 - size_s < 6 * period_s


def test_steady_and_loose_stamps_do_not_step():
    """Jitter, losses and a hole are no step; stamps without a grid show none either."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        t_ns = stamps(rng, period_s=0.01, jitter_ns=400_000)
        away = (t_ns > START_NS + 20_000 * MS) & (t_ns < START_NS + 23_000 * MS)
        assert phase_steps(t_ns) == phase_steps(t_ns[~away]) == []
        loose = np.sort(rng.integers(0, 60_000 * MS, 3_000))
        assert phase_steps(loose) == []
    assert phase_steps(t_ns[:10]) == []


def test_streams_that_step_together_leave_few_sizes():
    """Two grids allow only the jumps that both explain; one alone may have been restarted."""
    step = PhaseStep(100 * MS, 110 * MS, 7.0 * MS, 10_000.0, 20.0 * MS)
    other = PhaseStep(90 * MS, 190 * MS, -33.0 * MS, 10_000.0, 100.0 * MS)
    (both,) = find_jumps([[step], [other]])
    assert 67.0 * MS in both.sizes_ns
    assert 7.0 * MS not in both.sizes_ns
    assert (both.last_ns, both.first_ns) == (100 * MS, 110 * MS)
    (alone,) = find_jumps([[step], []])
    assert {0.0, 7.0 * MS, 27.0 * MS} <= set(alone.sizes_ns)
    assert find_jumps([[], []]) == []


def test_readings_are_placed_by_the_segment_that_they_are_in():
    """Between two segments there is no time; one alone, and the outer ends, hold beyond them."""
    first = Segment(1_000, 2_000, 1_500, 100, 0.0, 3.0, 0.0, 10)
    second = Segment(3_000, 4_000, 3_500, 600, 1e6, 5.0, 0.0, 10)
    readings = np.array([900, 1_500, 2_400, 2_600, 3_500, 4_600, 100], np.int64)
    placed = place(readings, (second, first), slack_ns=200)
    assert placed.piece.tolist() == [1, 1, NO_PIECE, NO_PIECE, 0, NO_PIECE, NO_PIECE]
    assert placed.t_ns[[0, 1, 4]].tolist() == [800, 1_400, 2_900]
    assert placed.error_ns[[1, 4]].tolist() == [3.0, 5.0]
    assert np.all(np.isinf(placed.error_ns[placed.piece == NO_PIECE]))
    assert np.all(place(readings, (first,), slack_ns=0).piece == 0)
