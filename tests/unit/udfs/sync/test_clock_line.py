"""Lines through offsets, and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from contracts.errors import ClockError
from udfs.sync.clock_line import fit_line

START_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(("count", "alike"), [(12, 0.0), (60, 0.0), (200, 0.5)])
def test_the_intervals_hold_the_truth(count, alike):
    """In 93 to 97 of 100 cases the truth is inside; alike errors widen it, few points do too."""
    hits = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        drift, offset = rng.uniform(-50_000, 50_000), int(rng.integers(-(10**10), 10**10))
        t_ns = START_NS + np.sort(rng.integers(0, 60 * SECOND, count))
        noise = rng.normal(0, 1e5, count)
        for i in range(1, count):
            noise[i] = alike * noise[i - 1] + math.sqrt(1 - alike**2) * noise[i]
        true_ns = offset + drift * 1e-9 * (t_ns - START_NS)
        line = fit_line(t_ns, np.rint(true_ns + noise).astype(np.int64)).line
        at_ns = line.start_ns
        error = line.offset_at(np.array([at_ns]))[0] - offset - drift * 1e-9 * (at_ns - START_NS)
        hits.append(
            [
                abs(line.drift_ppb - drift) < 1.96 * line.drift_error_ppb,
                abs(error) < 1.96 * line.error_at(np.array([at_ns]))[0],
            ]
        )
    held = np.mean(hits, axis=0)
    assert np.all((held >= 0.93) & (held <= (0.97 if count > 12 else 0.99))), held


def test_a_tenth_of_false_points_does_not_bend_the_line():
    """Points that are seconds off are left out and said; the line stays within its errors."""
    rng = np.random.default_rng(1)
    t_ns = START_NS + np.arange(60) * SECOND
    offset = np.rint(7e6 + 30e-6 * (t_ns - START_NS) + rng.normal(0, 1e5, 60)).astype(np.int64)
    false = np.arange(20, 26)
    offset[false] += 2 * SECOND
    fit = fit_line(t_ns, offset, spread=10.0)
    assert np.flatnonzero(~fit.is_kept).tolist() == false.tolist()
    assert abs(fit.line.drift_ppb - 30_000) < 3 * fit.line.drift_error_ppb


def test_too_few_points_make_no_line():
    """Five points, and points at one instant, end in an error."""
    t_ns = START_NS + np.arange(5) * SECOND
    with pytest.raises(ClockError, match="TOO_FEW"):
        fit_line(t_ns, t_ns)
    with pytest.raises(ClockError, match="TOO_FEW"):
        fit_line(np.full(9, START_NS), np.arange(9))
