"""The same bus frames seen by two loggers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from contracts.errors import ClockError
from udfs.sync import bus_frames
from udfs.sync.bus_frames import match_frames
from udfs.sync.frame_keys import BusFrames, bus_frames_from, frame_keys, mixed

START_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
MS = 1_000_000
REACH_NS = 40 * SECOND


def bus(rng, *, seconds=60.0, constant=4, counters=4, moving=4, coarse=4):
    """True frames of a bus as (times, ids, payloads): most of them say little or repeat."""
    parts = []
    for can_id in range(constant + counters + moving + coarse):
        period = int(rng.choice([10, 20, 50, 100])) * MS
        t_ns = np.arange(rng.integers(0, period), round(seconds * SECOND), period)
        t_ns = t_ns + rng.normal(0, period * 0.02, len(t_ns)).astype(np.int64)
        walk = np.cumsum(rng.normal(0, 1.0, len(t_ns)))
        if can_id < constant:
            payload = np.full(len(t_ns), 7)
        elif can_id < constant + counters:
            payload = np.arange(len(t_ns)) % 16
        elif can_id < constant + counters + moving:
            payload = np.rint(walk * 5).astype(np.int64) * 16 + np.arange(len(t_ns)) % 16
        else:
            payload = np.rint(walk).astype(np.int64)
        parts.append((t_ns, np.full(len(t_ns), can_id), payload))
    t_ns, stream, payload = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(t_ns, kind="stable")
    return t_ns[order], stream[order], payload[order]


def logged(rng, frames, *, offset_ns=0, drift_ppm=0.0, drop=0.05, jitter_ns=100_000, ids=None):
    """What a logger writes of it: drops, repeats, jitter, and its own idea of the time."""
    t_ns, stream, payload = frames
    kept = np.flatnonzero(rng.random(len(t_ns)) >= drop)
    if ids is not None:
        kept = kept[np.isin(stream[kept], ids)]
    kept = np.sort(np.concatenate([kept, kept[rng.random(len(kept)) < 0.01]]))
    stamps = START_NS + t_ns[kept] + offset_ns + np.rint(t_ns[kept] * drift_ppm * 1e-6)
    stamps = (stamps.astype(np.int64) - START_NS) + START_NS
    stamps += rng.normal(0, jitter_ns, len(kept)).astype(np.int64)
    key = mixed(payload[kept].astype(np.uint64) ^ mixed(stream[kept].astype(np.uint64)))
    return BusFrames(stamps, stream[kept].astype(np.int64), key)


def test_the_intervals_hold_the_truth():
    """Of 200 drives with offsets to 30 s, drifts and drops, 93 to 97 in 100 intervals hold it."""
    samples, lines = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        frames = bus(rng, seconds=30.0, constant=1, counters=1, moving=2, coarse=1)
        offset_ns, drift_ppm = int(rng.integers(-30 * SECOND, 30 * SECOND)), rng.uniform(-50, 50)
        found = match_frames(
            logged(rng, frames),
            logged(rng, frames, offset_ns=offset_ns, drift_ppm=drift_ppm),
            max_offset_ns=REACH_NS,
        )
        true_ns = (found.t_ns - START_NS - offset_ns) * drift_ppm * 1e-6
        samples.append((found.offset_ns - offset_ns - true_ns) / found.error_ns)
        line = found.segments(max_drift_ppm=100.0)[0]
        true_ns = offset_ns + (line.anchor_ns - START_NS - offset_ns) * drift_ppm * 1e-6
        lines.append(
            [
                (line.offset_ns - true_ns) / line.offset_error_ns,
                (line.drift_ppb - drift_ppm * 1e3) / line.drift_error_ppb,
            ]
        )
        assert abs(line.offset_ns - true_ns) < 0.1 * MS
    held = np.mean(np.abs(lines) < 1.96, axis=0)
    assert np.all((held >= 0.93) & (held <= 0.98)), held
    assert 0.93 <= np.mean(np.abs(np.concatenate(samples)) < 1.96) <= 0.97


def test_a_jump_is_left_in_the_offsets():
    """A clock that is set by 250 ms gives offsets of before and of after, and none in between."""
    rng = np.random.default_rng(1)
    frames = bus(rng)
    reference, other = logged(rng, frames), logged(rng, frames, offset_ns=3 * SECOND)
    late = np.arange(len(other)) >= len(other) // 2
    at = other.t_ns[late][0]
    other = BusFrames(other.t_ns + np.where(late, 250 * MS, 0), other.stream, other.key)
    found = match_frames(reference, other, max_offset_ns=REACH_NS)
    expected = 3 * SECOND + np.where(found.t_ns > at, 250 * MS, 0)
    assert np.abs(found.offset_ns - expected).max() < MS
    assert len(found.t_ns) >= 55


def test_coarse_values_are_told_apart_by_their_runs():
    """Values of a few steps, each one common, give the offset by several of them in a row."""
    rng = np.random.default_rng(2)
    frames = bus(rng, seconds=120, constant=3, counters=3, moving=0, coarse=3)
    found = match_frames(
        logged(rng, frames), logged(rng, frames, offset_ns=-7 * SECOND), max_offset_ns=REACH_NS
    )
    assert np.abs(found.offset_ns + 7 * SECOND).max() < MS
    assert found.matched > 0.5 * found.changed


def test_a_constant_bus_has_nothing_in_common():
    """Payloads that never change say nothing."""
    rng = np.random.default_rng(3)
    frames = bus(rng, counters=0, moving=0, coarse=0)
    with pytest.raises(ClockError, match="NO_COMMON_FRAMES"):
        match_frames(logged(rng, frames), logged(rng, frames), max_offset_ns=REACH_NS)


def test_counters_alone_are_ambiguous():
    """Counters that repeat every 160 ms fit at many offsets: none is claimed."""
    rng = np.random.default_rng(4)
    frames = bus(rng, constant=2, counters=4, moving=0, coarse=0)
    with pytest.raises(ClockError, match=r"AMBIGUOUS|NO_COMMON_FRAMES"):
        match_frames(
            logged(rng, frames), logged(rng, frames, offset_ns=SECOND), max_offset_ns=REACH_NS
        )


def test_two_drives_have_nothing_in_common():
    """Frames of the same kinds from different drives give an error, in each of 20 pairs."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        with pytest.raises(ClockError):
            match_frames(logged(rng, bus(rng)), logged(rng, bus(rng)), max_offset_ns=REACH_NS)


def test_ids_of_one_logger_only_do_no_harm():
    """Two loggers that share three ids of sixteen are placed by these."""
    rng = np.random.default_rng(6)
    frames = bus(rng)
    found = match_frames(
        logged(rng, frames, ids=range(11)),
        logged(rng, frames, offset_ns=12 * SECOND, ids=range(9, 16)),
        max_offset_ns=REACH_NS,
    )
    assert np.abs(found.offset_ns - 12 * SECOND).max() < MS


def test_chunks_leave_no_seam(monkeypatch):
    """Cut into chunks of a few seconds, the same offsets come out, but for spans at the seams."""
    rng = np.random.default_rng(7)
    frames = bus(rng)
    pair = logged(rng, frames), logged(rng, frames, offset_ns=-2 * SECOND, drift_ppm=30)
    whole = match_frames(*pair, max_offset_ns=REACH_NS)
    monkeypatch.setattr(bus_frames, "_CHUNK_FRAMES", 3_000)
    cut = match_frames(*pair, max_offset_ns=REACH_NS)
    assert (
        abs(
            cut.segments(max_drift_ppm=100.0)[0].drift_ppb
            - whole.segments(max_drift_ppm=100.0)[0].drift_ppb
        )
        < 200
    )
    assert cut.matched > 0.98 * whole.matched


def test_a_logger_that_was_set_back_is_matched_on_both_sides():
    """Stamps that run back by two seconds are matched before and after."""
    rng = np.random.default_rng(8)
    frames = bus(rng)
    reference, other = logged(rng, frames), logged(rng, frames)
    back = np.arange(len(reference)) >= len(reference) // 2
    shifted = reference.t_ns - np.where(back, 2 * SECOND, 0)
    found = match_frames(
        BusFrames(shifted, reference.stream, reference.key), other, max_offset_ns=REACH_NS
    )
    near = np.abs(found.offset_ns[:, None] - np.array([0, 2 * SECOND])).min(axis=1)
    assert near.max() < MS
    assert np.count_nonzero(found.offset_ns > SECOND) >= 25


def test_keys_follow_id_and_payload():
    """Equal frames have equal keys in any chunking; any other id, byte or length has another."""
    rng = np.random.default_rng(9)
    payloads = [rng.bytes(int(length)) for length in rng.integers(0, 65, 500)]
    payloads += [b"", b"\0", b"\0\0", b"\1\0", b"\0\1", None]
    stream = np.arange(len(payloads)) % 3
    whole = frame_keys(stream, pa.chunked_array([payloads], pa.binary()))
    parts = pa.chunked_array([payloads[:100], [], payloads[100:]], pa.binary())
    assert np.array_equal(frame_keys(stream, parts), whole)
    seen = {}
    for key, at, payload in zip(whole.tolist(), stream.tolist(), payloads, strict=True):
        assert seen.setdefault(key, (at, payload or b"")) == (at, payload or b"")
    rows = pa.table(
        {
            "log_time_ns": [START_NS, START_NS + 1, START_NS + 2],
            "can_id": [5, 5, 5],
            "is_extended": [False, True, False],
            "data": pa.array([b"ab", b"ab", b"ab"], pa.binary()),
        }
    )
    made = bus_frames_from(rows)
    assert made.key[0] == made.key[2] != made.key[1]
