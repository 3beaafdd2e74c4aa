"""Sensors with a clock of their own, on their recorder's."""

from __future__ import annotations

import numpy as np
import pytest

from udfs.sync.sensor_clocks import fit_sensor_clock, on_recorder, sensor_rows, sensors_of

SECOND, MS = 1_000_000_000, 1_000_000
START_NS = 1_790_000_000 * SECOND


def messages(*, count=3000, drift_ppm=40.0, seed=1):
    """(true times, stamps since power-on, log times): 20 Hz, lognormal latencies of some ms."""
    rng = np.random.default_rng(seed)
    t_ns = START_NS + np.arange(count) * 50 * MS
    late = np.rint(8e6 * np.exp(0.7 * rng.normal(size=count))).astype(np.int64)
    stamp_ns = 7 * SECOND + np.rint((t_ns - START_NS) * (1 + drift_ppm * 1e-6)).astype(np.int64)
    return t_ns, stamp_ns, np.maximum.accumulate(t_ns + late)


def assert_placed(stamp_ns, log_ns, t_ns, *, least=0.99):
    """Nearly all are placed, as late as each other to 1.5 ms; log times scatter by 10 ms."""
    found, known = on_recorder(stamp_ns, log_ns, fit_sensor_clock(stamp_ns, log_ns))
    assert np.mean(known) >= least
    late = (found - t_ns)[known]
    assert np.ptp(late) < 1.5 * MS
    assert 0 < np.median(late) < np.median(log_ns - t_ns)
    assert np.std(log_ns - t_ns) > 5 * MS


def test_a_sensor_that_counts_from_its_start_is_placed():
    """Stamps of 2.5 minutes from another epoch, 40 ppm fast, in any order of the rows."""
    t_ns, stamp_ns, log_ns = messages()
    assert_placed(stamp_ns, log_ns, t_ns)
    order = np.random.default_rng(0).permutation(len(t_ns))
    assert fit_sensor_clock(stamp_ns[order], log_ns[order]) == fit_sensor_clock(stamp_ns, log_ns)


def test_a_sensor_that_starts_again_shows_the_same_stamps_twice():
    """Stamps of two instants each are told apart by their log times."""
    t_ns, stamp_ns, log_ns = messages()
    stamp_ns[1500:] -= stamp_ns[1500] - stamp_ns[0]
    assert_placed(stamp_ns, log_ns, t_ns)
    first, _ = on_recorder(stamp_ns[:1500], log_ns[:1500], fit_sensor_clock(stamp_ns, log_ns))
    assert np.all(np.abs(first - t_ns[:1500]) < 100 * MS)


@pytest.mark.parametrize("size_ns", [-700 * MS, 700 * MS, 20 * SECOND])
def test_a_recorder_that_is_set_has_pieces(size_ns):
    """The sensor counts on while its recorder is set: it follows the recorder's clock."""
    t_ns, stamp_ns, log_ns = messages()
    for each in (t_ns, log_ns):
        each[2000:] += size_ns
    assert len(fit_sensor_clock(stamp_ns, log_ns)) == 2
    assert_placed(stamp_ns, log_ns, t_ns)


@pytest.mark.parametrize("of", ["noise", "nothing", "microseconds", "few"])
def test_what_is_no_clock_is_none(of):
    """Noise, one value over and over, counts of another unit and a few stamps make no clock."""
    _, stamp_ns, log_ns = messages()
    given = {
        "noise": np.random.default_rng(1).integers(0, SECOND, len(stamp_ns)),
        "nothing": np.full(len(stamp_ns), 5),
        "microseconds": stamp_ns // 1000,
        "few": stamp_ns[:20],
    }[of]
    assert fit_sensor_clock(given, log_ns[: len(given)]) == ()


def test_rows_hold_what_was_found():
    """What `silver.clocks` keeps of sensors comes back from its rows, whatever repeats it."""
    _, stamp_ns, log_ns = messages()
    sensors = {("adas", "/imu"): fit_sensor_clock(stamp_ns, log_ns)}
    rows = [{"recording_id": name, "sensors": sensor_rows(sensors, "adas")} for name in "ab"]
    found = sensors_of(rows, recorders={"a": "adas", "b": "adas"})
    assert found.keys() == sensors.keys()
    ends = np.array([stamp_ns[0], stamp_ns[-1]])
    for mine, theirs in zip(found["adas", "/imu"], sensors["adas", "/imu"], strict=True):
        assert mine.offset_at(ends).tolist() == theirs.offset_at(ends).tolist()
    assert sensor_rows(sensors, "bus") == []
    assert sensors_of([{"recording_id": "a"}], recorders={"a": "adas"}) == {}
