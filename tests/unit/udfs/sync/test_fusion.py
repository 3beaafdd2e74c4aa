"""Independent evidence of one clock weighed."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from contracts.errors import ClockError
from udfs.sync.fusion import TRUST, Evidence, disagreement, fuse
from udfs.sync.segments import Segment

START_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
KINDS = ("gnss_time", "sensor", "shared_signal", "bus_frames")
RANKS = {"gnss_time": 0, "sensor": 1, "shared_signal": 2, "bus_frames": 2}


def measured(rng, *, offset_ns, drift_ppb, error_ns=50_000.0, drift_error_ppb=500.0, span=(0, 60)):
    """A line that errs as it says, known best at a random instant of its span."""
    start, end = (START_NS + round(each * SECOND) for each in span)
    at_ns = int(rng.integers(start, end))
    return Segment(
        start_ns=start,
        end_ns=end,
        anchor_ns=at_ns,
        offset_ns=round(
            offset_ns + drift_ppb * 1e-9 * (at_ns - START_NS) + rng.normal(0, error_ns)
        ),
        drift_ppb=drift_ppb + rng.normal(0, drift_error_ppb),
        offset_error_ns=error_ns,
        drift_error_ppb=drift_error_ppb,
        samples=60,
    )


def agreeing(rng, *, offset_ns=5_000_000, drift_ppb=20_000.0):
    """Evidence of all kinds for one clock, of various errors and spans."""
    found = []
    for kind in KINDS:
        start = rng.uniform(0, 25)
        line = measured(
            rng,
            offset_ns=offset_ns,
            drift_ppb=drift_ppb,
            error_ns=10 ** rng.uniform(3, 6),
            drift_error_ppb=10 ** rng.uniform(1, 4),
            span=(start, start + rng.uniform(10, 60)),
        )
        found.append(Evidence(kind, f"/{kind}", line))
    return found


def test_the_intervals_hold_the_truth():
    """Of 600 clocks with four sorts of evidence, 93 to 97 in 100 fused intervals hold the truth.

    Evidence that agrees is thrown out in less than 1 in 100 cases.
    """
    hits, alerts = [], 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        found = fuse(agreeing(rng), trust=RANKS)
        alerts += len(found.alerts)
        at = np.array([START_NS, found.segment.anchor_ns, START_NS + 90 * SECOND])
        true_ns = 5_000_000 + 20_000e-9 * (at - START_NS)
        error = found.segment.offset_at(at) - true_ns
        hits.append(np.abs(error) < 1.96 * found.segment.error_at(at))
        for each in found.used:
            at_best = np.array([each.segment.anchor_ns])
            assert found.segment.error_at(at_best)[0] <= each.segment.offset_error_ns * 1.001
    held = np.mean(hits, axis=0)
    assert np.all((held >= 0.93) & (held <= 0.97)), held
    assert alerts < 6


def test_the_order_of_evidence_does_not_matter():
    """Shuffled evidence gives the same line."""
    rng = np.random.default_rng(1)
    given = agreeing(rng)
    whole = fuse(given, trust=RANKS)
    for _ in range(5):
        assert fuse([given[i] for i in rng.permutation(len(given))], trust=RANKS) == whole
    assert [each.kind for each in whole.used][:2] == ["gnss_time", "sensor"]


@pytest.mark.parametrize("liar", KINDS[1:])
def test_a_contradiction_is_an_alert_and_never_an_average(liar):
    """Evidence that is 20 standard errors off is named; the rest is what it was without it."""
    rng = np.random.default_rng(2)
    given = [
        Evidence(kind, f"/{kind}", measured(rng, offset_ns=1_000, drift_ppb=5.0)) for kind in KINDS
    ]
    without = fuse([each for each in given if each.kind != liar], trust=RANKS)
    wrong = [
        attrs.evolve(
            each, segment=attrs.evolve(each.segment, offset_ns=each.segment.offset_ns + 1_500_000)
        )
        if each.kind == liar
        else each
        for each in given
    ]
    found = fuse(wrong, trust=RANKS)
    assert found.segment == without.segment
    assert [alert.evidence.kind for alert in found.alerts] == [liar]
    assert found.alerts[0].difference_ns == pytest.approx(1_500_000, abs=250_000)
    assert found.alerts[0].standard_errors > 15
    assert found.alerts[0].against[0] == "gnss_time /gnss_time"


def test_the_trusted_stands_against_two_that_agree():
    """Where GNSS says otherwise than two weaker sorts, it stands, and both are alerts."""
    rng = np.random.default_rng(3)
    given = [
        Evidence("gnss_time", "a", measured(rng, offset_ns=0, drift_ppb=0.0)),
        Evidence("bus_frames", "b", measured(rng, offset_ns=9_000_000, drift_ppb=0.0)),
        Evidence("shared_signal", "c", measured(rng, offset_ns=9_000_000, drift_ppb=0.0)),
    ]
    found = fuse(given, trust=RANKS)
    assert found.segment == given[0].segment
    assert {alert.evidence.source for alert in found.alerts} == {"b", "c"}


def test_a_drift_that_contradicts_is_an_alert():
    """Lines that cross in the middle but drift apart contradict each other."""
    rng = np.random.default_rng(4)
    left = measured(rng, offset_ns=0, drift_ppb=0.0, error_ns=1_000.0)
    right = attrs.evolve(left, drift_ppb=left.drift_ppb + 10_000.0)
    found = fuse([Evidence("gnss_time", "a", left), Evidence("shared_signal", "b", right)])
    assert [alert.evidence.source for alert in found.alerts] == ["b"]


def test_equals_that_contradict_leave_the_error_open():
    """Of two equals the surer stands; its interval reaches as far as the other one."""
    rng = np.random.default_rng(5)
    sure = measured(rng, offset_ns=0, drift_ppb=0.0, error_ns=1_000.0)
    other = measured(rng, offset_ns=8_000_000, drift_ppb=0.0)
    found = fuse([Evidence("shared_signal", "a", sure), Evidence("shared_signal", "b", other)])
    assert found.segment.offset_ns == sure.offset_ns
    assert 1.96 * found.segment.offset_error_ns == pytest.approx(8_000_000, rel=0.05)
    assert "shared_signal b differs by +8.0" in str(found.alerts[0])


def test_evidence_with_one_noise_in_it_is_compared_and_not_weighed():
    """Two comparisons with the same signal make no better error than the better of them."""
    rng = np.random.default_rng(8)
    pair = [measured(rng, offset_ns=0, drift_ppb=0.0, error_ns=error) for error in (1e4, 2e4)]
    found = fuse(
        [
            Evidence("shared_signal", name, each, "bus")
            for name, each in zip("ab", pair, strict=True)
        ]
    )
    assert found.segment == pair[0]
    assert found.alerts == ()


def test_evidence_of_another_time_is_kept_apart():
    """A line that covers another hour says nothing about this one."""
    rng = np.random.default_rng(6)
    here = measured(rng, offset_ns=0, drift_ppb=0.0)
    later = measured(rng, offset_ns=10**9, drift_ppb=0.0, span=(3_600, 3_700))
    found = fuse([Evidence("gnss_time", "a", here), Evidence("bus_frames", "b", later)])
    assert [each.source for each in found.apart] == ["b"]
    assert found.segment == here
    assert found.alerts == ()


def test_standard_errors_are_those_of_chance():
    """Lines that agree differ by more than two standard errors in 5 of 100 cases."""
    beyond = []
    for seed in range(2_000):
        rng = np.random.default_rng(seed)
        left, right = (measured(rng, offset_ns=7, drift_ppb=3.0) for _ in range(2))
        beyond.append(disagreement(left, right, at_ns=START_NS + 30 * SECOND)[1] > 1.96)
    assert 0.03 < np.mean(beyond) < 0.07


def test_nothing_and_strangers_are_refused():
    """No evidence, and a kind whose trust nobody stated, end in an error."""
    with pytest.raises(ClockError, match="NO_EVIDENCE"):
        fuse([])
    line = measured(np.random.default_rng(7), offset_ns=0, drift_ppb=0.0)
    with pytest.raises(ClockError, match="UNKNOWN_EVIDENCE"):
        fuse([Evidence("guess", "a", line)])
    assert fuse([Evidence("guess", "a", line)], trust={**TRUST, "guess": 9}).segment == line
