"""How clocks ran, from their pieces."""

from __future__ import annotations

import numpy as np

from quality.courses import courses_of

S, MS = 10**9, 10**6
START_NS = 1_790_000_000 * S


def piece(begin_s, end_s, offset_ns, **more):
    """A row of `silver.clocks`, anchored in its middle."""
    begin, end = (START_NS + int(second * S) + offset_ns for second in (begin_s, end_s))
    given = {
        "recorder": "bus", "recording_id": "r" * 64, "valid_from_ns": begin, "valid_to_ns": end,
        "anchor_ns": (begin + end) // 2, "offset_ns": offset_ns, "drift_ppb": 0.0,
        "uncertainty_ns": MS, "drift_uncertainty_ppb": 0.0,
    }  # fmt: skip
    return given | more


def test_a_course_drifts_and_jumps_as_the_clock_did():
    """Offsets grow by the drift, leave out the jump's own time, and go on behind it."""
    tie = {"clock_ns": START_NS + 12 * S, "residual_ns": -MS}
    rows = [
        piece(0, 10, 7 * S, drift_ppb=50_000.0, residuals=[tie]),
        piece(12, 20, 7 * S + 100 * MS),
        piece(12, 20, 7 * S + 100 * MS),  # another recording of the same recorder
    ]
    (course,) = courses_of(rows, points=21)
    assert course.recorder == "bus"
    np.testing.assert_allclose(course.seconds, np.arange(21), atol=1e-3)
    np.testing.assert_allclose(course.offset_ms[:10], 0.05 * np.arange(10), atol=1e-3)
    assert np.isnan(course.offset_ms[11])
    np.testing.assert_allclose(course.offset_ms[13:], 100.25, atol=1e-3)
    np.testing.assert_allclose(course.tie_seconds, [5], atol=1e-3)
    assert course.residual_ms.tolist() == [-1.0]


def test_the_interval_is_narrow_at_the_anchor():
    """Standard errors of offset and drift make the half width, wider the farther away."""
    (course,) = courses_of([piece(0, 10, 0, drift_uncertainty_ppb=200_000.0)], points=11)
    np.testing.assert_allclose(
        course.half_width_ms, 1.96 * np.hypot(1, 0.2 * np.arange(-5, 6)), rtol=1e-6
    )


def test_what_is_not_known_has_no_course():
    """A clock that nothing ties is left out; nothing at all gives nothing."""
    rows = [piece(0, 10, 0), piece(0, 10, 0, recorder=None, uncertainty_ns=None)]
    assert [course.recorder for course in courses_of(rows, points=5)] == ["bus"]
    assert courses_of(rows[1:], points=5) == []
    (short,) = courses_of([piece(0, 10, 0, recorder=None)], points=5)
    assert short.recorder == "r" * 12
