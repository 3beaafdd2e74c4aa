"""Offsets between clocks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from contracts.errors import ClockError
from udfs.sync.clocks import (
    OffsetEstimate,
    combine_offsets,
    estimate_offset,
)
from udfs.sync.signals import Signal

START_NS = 1_790_000_000_000_000_000
REACH_NS = 40_000_000_000


def motion(rng, *, seconds=20.0, width_s=0.6, scale=10.0):
    """A smooth random motion at 100 Hz, with two seconds before and after."""
    t_s = np.arange(-2.0, seconds + 2.0, 0.01)
    return t_s, scale * gaussian_filter1d(rng.normal(size=len(t_s)), width_s * 100)


def recorded(rng, truth, *, rate_hz, noise, offset_ns=0, jitter_ns=200_000, drop=0.02, hole=()):
    """What a recorder with a clock of its own keeps of a motion."""
    t_s = np.arange(0.0, truth[0][-1] - 2.0, 1 / rate_hz)
    t_s = t_s[rng.random(len(t_s)) >= drop]
    if hole:
        t_s = t_s[(t_s < hole[0]) | (t_s > hole[1])]
    value = np.interp(t_s, *truth) + rng.normal(0.0, noise, len(t_s))
    stamps = START_NS + np.rint(t_s * 1e9).astype(np.int64) + offset_ns
    stamps += rng.normal(0.0, jitter_ns, len(t_s)).astype(np.int64)
    order = np.argsort(stamps)
    return Signal(stamps[order], value[order])


@pytest.mark.parametrize("offset_s", [0.0, 0.3713, -4.8, 12.5])
def test_offset_is_found_far_below_the_sample_period(offset_s):
    """Two noisy recordings at other rates, with drops and jitter, give the offset within 2 ms."""
    rng = np.random.default_rng(5)
    truth = motion(rng, seconds=40.0)
    offset_ns = round(offset_s * 1e9)
    reference = recorded(rng, truth, rate_hz=100, noise=0.02)
    other = recorded(rng, truth, rate_hz=50, noise=0.02, offset_ns=offset_ns)
    found = estimate_offset(reference, other, max_offset_ns=REACH_NS)
    assert abs(found.offset_ns - offset_ns) < 2_000_000
    assert found.correlation > 0.99


@pytest.mark.parametrize("is_turned", [False, True])
def test_ties_show_how_a_clock_wanders_around_its_line(is_turned):
    """Each span with motion enough says what the offset was there, whichever clock is the other."""
    rng = np.random.default_rng(4)
    t_s, value = motion(rng, seconds=80.0)
    reference = recorded(rng, (t_s, value), rate_hz=100, noise=0.005, jitter_ns=0)
    plain = recorded(rng, (t_s, value), rate_hz=100, noise=0.005, jitter_ns=0)

    def wander_ns(elapsed_s):
        return 3_000_000_000 + np.rint(8e6 * np.sin(elapsed_s / 9)).astype(np.int64)

    moved = plain.t_ns + wander_ns((plain.t_ns - START_NS) / 1e9)
    pair = (reference, Signal(moved, plain.value))
    found = estimate_offset(*(pair[::-1] if is_turned else pair), max_offset_ns=REACH_NS)
    clock_ns, offset_ns = np.array(found.ties).T
    at_s = (clock_ns - (0 if is_turned else offset_ns) - START_NS) / 1e9
    away = (-offset_ns if is_turned else offset_ns) - wander_ns(at_s)
    assert 10 < len(found.ties) <= 64
    assert np.median(np.abs(away)) < 1_000_000


def test_scale_and_bias_do_not_matter():
    """Degrees with a bias against radians: the same offset."""
    rng = np.random.default_rng(6)
    truth = motion(rng)
    reference = recorded(rng, truth, rate_hz=100, noise=0.01)
    other = recorded(rng, truth, rate_hz=100, noise=0.01, offset_ns=1_234_567_890)
    scaled = Signal(other.t_ns, other.value * 57.3 - 400.0)
    plain = estimate_offset(reference, other, max_offset_ns=REACH_NS)
    assert estimate_offset(reference, scaled, max_offset_ns=REACH_NS).offset_ns == pytest.approx(
        plain.offset_ns, abs=1_000
    )


def test_a_hole_does_not_shift_the_offset():
    """Three seconds lost in one recording leave the offset within 2 ms."""
    rng = np.random.default_rng(7)
    truth = motion(rng, seconds=30.0)
    reference = recorded(rng, truth, rate_hz=100, noise=0.01)
    other = recorded(rng, truth, rate_hz=50, noise=0.01, offset_ns=-2_000_000_000, hole=(11, 14))
    found = estimate_offset(reference, other, max_offset_ns=REACH_NS)
    assert abs(found.offset_ns + 2_000_000_000) < 2_000_000


def test_recordings_that_overlap_in_part_are_placed_right():
    """A recording that begins ten seconds later than the other is placed by what both saw."""
    rng = np.random.default_rng(8)
    truth = motion(rng, seconds=40.0)
    whole = recorded(rng, truth, rate_hz=100, noise=0.01)
    other = recorded(rng, truth, rate_hz=50, noise=0.01, offset_ns=3_000_000_000)
    late = other.t_ns > START_NS + 20_000_000_000
    found = estimate_offset(
        whole, Signal(other.t_ns[late], other.value[late]), max_offset_ns=REACH_NS
    )
    assert abs(found.offset_ns - 3_000_000_000) < 2_000_000


def test_the_uncertainties_cover_the_errors():
    """Over 60 random drives 95 % intervals of offset and drift hold the truth in 88 % or more."""
    scores, drift_scores = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = motion(rng, seconds=60.0)
        offset_ns = int(rng.integers(-5_000_000_000, 5_000_000_000))
        drift = rng.uniform(-50e-6, 50e-6)
        other = recorded(rng, truth, rate_hz=50, noise=0.03, offset_ns=offset_ns)
        drifted = other.t_ns + np.rint(drift * (other.t_ns - START_NS)).astype(np.int64)
        found = estimate_offset(
            recorded(rng, truth, rate_hz=100, noise=0.05),
            Signal(drifted, other.value),
            max_offset_ns=REACH_NS,
        )
        true_ns = offset_ns + drift * (found.anchor_ns - offset_ns - START_NS)
        scores.append((found.offset_ns - true_ns) / found.uncertainty_ns)
        drift_scores.append((found.drift_ppb - 1e9 * drift) / found.drift_uncertainty_ppb)
    for each in (scores, drift_scores):
        assert 0.5 < np.sqrt(np.mean(np.square(each))) < 1.5
        assert np.mean(np.abs(each) < 1.96) >= 0.88


@pytest.mark.parametrize(
    ("rate_hz", "alike", "within_ms"), [(50, 0.0, 10), (50, 0.6, 40), (1, 0, 40)]
)
def test_the_speed_of_a_receiver_at_1_hz_is_evidence(rate_hz, alike, within_ms):
    """Speed once a second ties a clock, by that of a bus to 10 ms and by another such to 40 ms.

    The stated errors hold, also where those of the samples are alike over seconds, as the filter of
    a receiver makes them: 95 % intervals contain the truth in 90 % or more of 20 drives.
    """
    scores = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = motion(rng, seconds=120.0, width_s=2.0, scale=50.0)
        offset_ns = int(rng.integers(-20_000_000_000, 20_000_000_000))
        pair = [
            recorded(rng, truth, rate_hz=rate_hz, noise=0.03, drop=0.05),
            recorded(rng, truth, rate_hz=1, noise=0.02, drop=0.05, offset_ns=offset_ns),
        ]
        noise = rng.normal(0.0, 0.04, len(pair[1].value)) * (alike > 0)
        for i in range(1, len(noise)):
            noise[i] = alike * noise[i - 1] + (1 - alike**2) ** 0.5 * noise[i]
        pair[1] = Signal(pair[1].t_ns, pair[1].value + noise)
        found = estimate_offset(*pair, max_offset_ns=REACH_NS)
        assert abs(found.offset_ns - offset_ns) < within_ms * 1_000_000
        back = estimate_offset(*pair[::-1], max_offset_ns=REACH_NS)
        assert abs(back.moved(found.anchor_ns - offset_ns).offset_ns + found.offset_ns) < 20_000_000
        scores.append((found.offset_ns - offset_ns) / found.uncertainty_ns)
    assert np.mean(np.abs(scores) < 1.96) >= 0.9


def test_standing_still_is_no_evidence():
    """Noise without motion gives no offset instead of a random one."""
    rng = np.random.default_rng(9)
    t_s = np.arange(-2.0, 22.0, 0.01)
    still = (t_s, np.zeros(len(t_s)))
    pair = [recorded(rng, still, rate_hz=rate, noise=0.05) for rate in (100, 50)]
    with pytest.raises(ClockError):
        estimate_offset(*pair, max_offset_ns=REACH_NS)


def test_a_periodic_motion_is_ambiguous():
    """A pure oscillation fits at every period: no offset is claimed."""
    rng = np.random.default_rng(10)
    t_s = np.arange(-2.0, 42.0, 0.01)
    wave = (t_s, np.sin(2 * np.pi * t_s / 2.0))
    pair = [recorded(rng, wave, rate_hz=rate, noise=0.01) for rate in (100, 50)]
    with pytest.raises(ClockError, match="AMBIGUOUS"):
        estimate_offset(*pair, max_offset_ns=REACH_NS)


def test_a_wild_stamp_does_not_fill_memory():
    """One stamp years away ends in an error, not in a grid of a billion points."""
    rng = np.random.default_rng(11)
    good = recorded(rng, motion(rng), rate_hz=50, noise=0.01)
    wild = Signal(np.r_[np.int64(5), good.t_ns], np.r_[0.0, good.value])
    with pytest.raises(ClockError, match="TIME_OUT_OF_RANGE"):
        estimate_offset(good, wild, max_offset_ns=REACH_NS)


def test_estimates_that_agree_are_weighed():
    """Two estimates within their errors make a better one, and no alert."""
    found = combine_offsets(
        {
            "speed": OffsetEstimate(0, 1_000, 0.9, 10, 0, 0.0, 100.0),
            "yaw rate": OffsetEstimate(2_000, 2_000, 0.8, 20, 0, 10.0, 100.0),
        }
    )
    assert (found.offset_ns, found.uncertainty_ns) == (400, 894)
    assert (found.drift_ppb, found.correlation, found.samples) == (5.0, 0.9, 30)
    assert found.alerts == ()


def test_a_quantity_that_contradicts_is_an_alert_and_no_average():
    """Of two that exclude each other the surer stands, is unsure by as much, and says so."""
    found = combine_offsets(
        {
            "speed": OffsetEstimate(0, 1_000, 0.9, 10),
            "yaw rate": OffsetEstimate(100_000, 2_000, 0.95, 20),
        }
    )
    assert found.offset_ns == 0
    assert 1.96 * found.uncertainty_ns == pytest.approx(100_000, rel=0.01)
    assert (found.correlation, found.samples) == (0.9, 10)
    assert "yaw rate differs by +0.100 ms" in found.alerts[0]
