"""Piecewise clocks from offsets: drift, jumps, and how sure of them one is."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from scipy.signal import lfilter

from contracts.errors import ClockError
from udfs.sync.segments import Segment, disjoint, fit_segments

START_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
MS = 1_000_000


def offsets(rng, *, seconds=120, drift_ppm=0.0, jump=(1e9, 0.0), noise_ns=200_000, drop=0.05):
    """One offset a second: instants of the reference, and 1.5 s, a drift and a jump, with noise."""
    at_s = np.arange(seconds, dtype=np.float64)
    at_s = at_s[rng.random(seconds) >= drop]
    true = 1.5e9 + 1e3 * drift_ppm * at_s + 1e9 * jump[1] * (at_s >= jump[0])
    noisy = true + rng.normal(0.0, noise_ns, len(at_s))
    return START_NS + np.rint(1e9 * at_s).astype(np.int64), np.rint(noisy).astype(np.int64)


def fit(instants, values, **options):
    """Segments with a drift of up to 50 ppm."""
    return fit_segments(instants, values, max_drift_ppm=50, **options)


def test_offset_and_drift_are_found_and_their_errors_hold():
    """Over 200 clocks, 95 % intervals of offset and drift hold the truth in 90 to 99 % of them."""
    offset_scores, drift_scores = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        drift_ppm = rng.uniform(-50, 50)
        (found,) = fit(*offsets(rng, drift_ppm=drift_ppm, seconds=int(rng.integers(15, 200))))
        for clock_ns in (found.start_ns, found.anchor_ns, found.end_ns):
            at_s = (found.reference_at(clock_ns) - START_NS) / 1e9
            here = np.array([clock_ns])
            error = found.offset_at(here)[0] - 1.5e9 - 1e3 * drift_ppm * at_s
            offset_scores.append(error / found.error_at(here)[0])
        drift_scores.append((found.drift_ppb - 1e3 * drift_ppm) / found.drift_error_ppb)
    for scores in (offset_scores, drift_scores):
        assert 0.90 < np.mean(np.abs(scores) < 1.96) < 0.99


def test_what_it_was_fitted_to_scatters_around_a_segment():
    """A segment keeps at most 64 of its ties, in order; what they are off is their noise."""
    (found,) = fit(*offsets(np.random.default_rng(2), drift_ppm=30.0, seconds=400))
    clock_ns, away_ns = np.array(found.residuals()).T
    assert len(clock_ns) == 64
    assert (clock_ns[0], clock_ns[-1]) == (found.start_ns, found.end_ns)
    assert np.all(np.diff(clock_ns) > 0)
    assert 150_000 < np.std(away_ns) < 250_000


@pytest.mark.parametrize("size_s", [0.005, -0.005, 0.4, -0.4, 2.0, -2.0])
def test_a_jump_is_found_between_the_samples_around_it(size_s):
    """One jump gives two segments that enclose it, with the offsets of either side."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        jump_s = rng.uniform(10, 110)
        before, after = fit(*offsets(rng, drift_ppm=30, jump=(jump_s, size_s)))
        last = (before.reference_at(before.end_ns) - START_NS) / 1e9
        first = (after.reference_at(after.start_ns) - START_NS) / 1e9
        assert last - 0.001 <= jump_s <= first + 0.001
        assert first - last < 6
        step = after.reference_at(after.end_ns) - before.reference_at(before.start_ns)
        grown = (after.end_ns - before.start_ns) - step
        assert grown == pytest.approx(1e9 * size_s + 3e4 * step / 1e9, abs=2 * MS)
        assert before.drift_ppb == after.drift_ppb


def test_noise_and_false_samples_are_no_jump():
    """Over 300 drives without a jump, with one sample in 30 an hour or 20 ms off, none is found."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        instants, values = offsets(rng, drift_ppm=rng.uniform(-50, 50))
        wrong = rng.random(len(values)) < 1 / 30
        values = values + wrong * rng.choice([20 * MS, 3600 * SECOND], len(values))
        found = fit(instants, values)
        assert len(found) == 1
        assert found[0].samples <= len(values) - np.count_nonzero(wrong)


def test_a_clock_that_warms_up_does_not_jump():
    """An offset that bends by 3 ms over ten minutes is one segment, and its error grows."""
    rng = np.random.default_rng(1)
    instants, values = offsets(rng, seconds=600)
    bend = 3 * MS * np.sin(np.linspace(0.0, np.pi, len(values)))
    (straight,) = fit(instants, values)
    (bent,) = fit(instants, values + np.rint(bend).astype(np.int64))
    assert bent.offset_error_ns > 5 * straight.offset_error_ns


def test_noise_that_comes_in_waves_widens_the_error():
    """The mean of samples that err together is not as sure as their number would make it."""
    scores = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        instants, values = offsets(rng, seconds=400, noise_ns=100_000)
        waves = lfilter([1.0], [1.0, -0.8], rng.normal(0.0, 120_000, len(values)))
        (found,) = fit(instants, values + np.rint(waves).astype(np.int64))
        at_anchor = 1.5e9
        scores.append((found.offset_ns - at_anchor) / found.offset_error_ns)
    assert np.mean(np.abs(scores) < 1.96) > 0.8


def test_samples_of_little_weight_count_little():
    """Offsets that are stated to be ten times worse hardly move the fit."""
    rng = np.random.default_rng(2)
    instants, values = offsets(rng, noise_ns=100_000)
    bad = np.arange(len(values)) % 2 == 1
    values = values + np.rint(bad * rng.normal(0.0, 2 * MS, len(values))).astype(np.int64)
    (plain,) = fit(instants, values)
    (weighed,) = fit(instants, values, error_ns=np.where(bad, 2e6, 1e5))
    assert abs(weighed.offset_ns - 1.5e9) < 3 * weighed.offset_error_ns
    assert weighed.offset_error_ns < 0.3 * plain.offset_error_ns


def test_few_samples_leave_the_drift_to_the_prior():
    """Three offsets within two seconds give an offset, and a drift that may be anything allowed."""
    instants = START_NS + np.arange(3, dtype=np.int64) * SECOND
    (found,) = fit(instants, np.array([0, 300_000, 100_000], np.int64))
    assert abs(found.drift_ppb) < 50_000
    assert 20_000 < found.drift_error_ppb <= 50_000 / np.sqrt(3)
    with pytest.raises(ClockError, match="NO_TIME_REFERENCE"):
        fit(instants[:2], np.zeros(2, np.int64))


def test_the_order_of_the_samples_does_not_matter():
    """Samples are taken in the order of the reference, however they are stored."""
    rng = np.random.default_rng(3)
    instants, values = offsets(rng, jump=(60, -3.0))
    mixed = rng.permutation(len(values))
    assert fit(instants[mixed], values[mixed]) == fit(instants, values)


def test_readings_that_a_clock_showed_twice_belong_to_no_segment():
    """Behind a step back by 3 s, readings from either side are cut out, and only those."""
    rng = np.random.default_rng(4)
    instants, values = offsets(rng, jump=(60.5, -3.0), drop=0.0)
    before, after = disjoint(fit(instants, values))
    readings = instants + values
    claims = [(readings >= each.start_ns) & (readings <= each.end_ns) for each in (before, after)]
    assert not np.any(claims[0] & claims[1])
    assert np.all(claims[0] <= (instants < START_NS + 60_500_000_000))
    assert np.all(claims[1] <= (instants >= START_NS + 60_500_000_000))
    assert np.count_nonzero(~claims[0] & ~claims[1]) <= 8


def test_a_step_forwards_costs_no_reading():
    """Segments around a step forwards stay as they are."""
    rng = np.random.default_rng(5)
    found = fit(*offsets(rng, jump=(60, 0.2)))
    assert disjoint(found) == found


def test_readings_around_what_was_not_seen_count_as_shown_twice():
    """The clock may have run on behind its last sample, so that much more is cut on both sides."""
    first = Segment(1_000, 2_000, 1_500, 0, 0.0, 1.0, 1.0, 10)
    again = Segment(1_900, 2_900, 2_400, -200, 0.0, 1.0, 1.0, 10)
    assert disjoint([first, again]) == (
        attrs.evolve(first, end_ns=1_799),
        attrs.evolve(again, start_ns=2_101),
    )


def test_segments_that_were_lived_twice_are_dropped():
    """A clock that is set back behind where it began leaves no reading that is certain."""
    first = Segment(1_000, 2_000, 1_500, 0, 0.0, 1.0, 1.0, 10)
    again = Segment(900, 2_000, 1_500, -1_200, 0.0, 1.0, 1.0, 10)
    assert disjoint([first, again]) == ()
