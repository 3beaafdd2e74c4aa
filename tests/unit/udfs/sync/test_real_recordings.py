"""Known offsets, drifts and steps put into real recordings, and found again.

Which recordings serve follows from what they hold: quantities that the rules know, stamps of a
sensor, frames of a bus.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections import Counter
from pathlib import Path

import attrs
import numpy as np
import pyarrow as pa
import pytest

from contracts.errors import ClockError
from udfs.decode.context import DecodeContext
from udfs.decode.recording import index_recording, iter_table_groups, table_of_channel
from udfs.decode.source import open_source
from udfs.sync.bus_frames import match_frames
from udfs.sync.channels import split_channels
from udfs.sync.clocks import estimate_offset
from udfs.sync.envelope import fit_envelope
from udfs.sync.frame_keys import BusFrames, bus_frames_from
from udfs.sync.observations import observations_of
from udfs.sync.rules import SyncRules
from udfs.sync.segments import fit_segments
from udfs.sync.signals import Signal

RULES = SyncRules()
SECOND = 1_000_000_000
MS = 1_000_000
ID = "ab" * 32
SUFFIXES = {".bag", ".mcap", ".db3", ".mf4"}
LEAST_BYTES = 100_000
MOST_OF_A_FOLDER = 2
REACH_NS = 20 * SECOND


@attrs.frozen
class Found:
    """A recording that serves: its silver rows by table, and signals by (quantity, source)."""

    name: str
    tables: dict[str, pa.Table]
    signals: dict[tuple[str, str], Signal]


@functools.cache
def recordings(samples: Path) -> tuple[Found, ...]:
    """Recordings with quantities that the rules know, or with frames of a bus."""
    wanted = (RULES.tables | {"can_frames"}) - {RULES.camera_table, RULES.lidar_table}
    definitions = {"can:*": (samples / "mdf/css_dbc/canmod-gps.dbc").read_bytes()}
    context = DecodeContext(ID, dt.date(2026, 1, 1), definitions=definitions)
    found, folders = [], Counter()
    for path in sorted(samples.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.stat().st_size < LEAST_BYTES:
            continue
        if folders[path.parent] == MOST_OF_A_FOLDER:
            continue
        source = open_source(str(path))
        index = index_recording(source)
        if not any(table_of_channel(index, channel)[0] in wanted for channel in index.channels):
            continue
        folders[path.parent] += 1
        parts = {}
        for group in iter_table_groups(source, index, context=context):
            for table, rows in group.tables:
                parts.setdefault(table, []).append(rows)
        tables = {name: pa.Table.from_batches(part) for name, part in parts.items()}
        found.append(Found(path.name, tables, signals_of(tables)))
    return tuple(found)


def signals_of(tables):
    """Signals of half a minute and more in which something moves, by quantity and source."""
    known = {name: rows for name, rows in tables.items() if name in RULES.tables}
    if not known:
        return {}
    rows = observations_of(known, rules=RULES)
    values = rows["value_0"].to_numpy()
    names = {each.name for each in RULES.quantities}
    signals = {}
    for each in split_channels(rows, recorders={ID: "recorder"}, rules=RULES):
        if each.stream in names and each.t_ns[-1] - each.t_ns[0] > 30 * SECOND:
            new = np.r_[True, np.diff(each.t_ns) > 0]
            value = values[each.rows].astype(np.float64)
            signals[each.stream, each.source] = Signal(each.t_ns[new], value[new])
    return signals


@pytest.fixture(scope="module")
def found(samples):
    """Recordings that serve; where there are none, the tests say so."""
    serving = recordings(samples)
    if not serving:
        pytest.skip("notyet: no real recording here holds quantities or frames of a bus")
    return serving


def halves(signal, *, offset_ns, drift_ppm=0.0):
    """Every second sample, and the others on a clock that is ahead."""
    other = signal.t_ns[1::2]
    gone = other - signal.t_ns[0]
    ahead = other + offset_ns + np.rint(gone * drift_ppm * 1e-6).astype(np.int64)
    return Signal(signal.t_ns[::2], signal.value[::2]), Signal(ahead, signal.value[1::2])


def cut(signal, start_ns, end_ns):
    """Samples from start to end, exclusive."""
    inside = (signal.t_ns >= start_ns) & (signal.t_ns < end_ns)
    return Signal(signal.t_ns[inside], signal.value[inside])


def test_a_shifted_half_of_a_real_signal_is_found(found):
    """Half the samples of a real signal, shifted, are found within four standard errors.

    Or they are said to be no evidence, or weak: speed every other second of a town.
    """
    recovered = 0
    for recording in found:
        for (quantity, source), signal in recording.signals.items():
            for offset_ns in (-7_654_321_000, 123_456_789):
                try:
                    answer = estimate_offset(
                        *halves(signal, offset_ns=offset_ns), max_offset_ns=REACH_NS
                    )
                except ClockError:
                    continue
                error = abs(answer.offset_ns - offset_ns)
                where = (recording.name, quantity, source, error, answer)
                assert error < 4 * answer.uncertainty_ns, where
                recovered += answer.uncertainty_ns < 10 * MS
    assert recovered >= 2


def offset_or_none(left, right):
    """Offset in ns, or None where there is no evidence."""
    try:
        return estimate_offset(left, right, max_offset_ns=REACH_NS).offset_ns
    except ClockError:
        return None


def test_two_real_sensors_of_one_quantity_keep_their_distance(found):
    """Two sources of one quantity, one of them shifted: the offset moves by that to 1 ms.

    Where both do not tell the same motion, shifted or not, none is claimed.
    """
    compared = 0
    for recording in found:
        by_quantity = {}
        for (quantity, _), signal in recording.signals.items():
            by_quantity.setdefault(quantity, []).append(signal)
        for left, right in (pair for pair in by_quantity.values() if len(pair) == 2):
            plain = offset_or_none(left, right)
            moved = offset_or_none(left, Signal(right.t_ns + 1_234_567_890, right.value))
            compared += 1
            if plain is None or moved is None:
                assert plain is moved is None, recording.name
                continue
            assert abs(plain) < 100 * MS, recording.name
            assert abs(moved - plain - 1_234_567_890) < MS, recording.name
    if not compared:
        pytest.skip("notyet: no real recording here holds two sources of one quantity")


def test_a_drift_put_into_a_real_signal_is_found(found):
    """40 ppm in half the samples show in the offsets of spans of half a minute, within errors."""
    drifts = 0
    for recording in found:
        for key, signal in recording.signals.items():
            if signal.t_ns[-1] - signal.t_ns[0] < 500 * SECOND or len(signal.t_ns) < 10_000:
                continue
            reference, other = halves(signal, offset_ns=SECOND, drift_ppm=40.0)
            times, offsets = [], []
            for start_ns in range(int(other.t_ns[0]), int(other.t_ns[-1]), 30 * SECOND):
                part = cut(other, start_ns, start_ns + 30 * SECOND)
                near = cut(reference, start_ns - 5 * SECOND, start_ns + 35 * SECOND)
                if len(part.t_ns) < 500 or len(near.t_ns) < 500:
                    continue
                try:
                    answer = estimate_offset(near, part, max_offset_ns=5 * SECOND)
                except ClockError:
                    continue
                times.append(start_ns + 15 * SECOND)
                offsets.append(answer.offset_ns)
            if len(times) < 8:
                continue
            at, offset_ns = np.array(times), np.array(offsets)
            (line,) = fit_segments(at - offset_ns, offset_ns, max_drift_ppm=100.0)
            assert abs(line.drift_ppb - 40_000) < 4 * line.drift_error_ppb, (recording.name, key)
            drifts += 1
    if not drifts:
        pytest.skip("notyet: no real recording here is long enough to show a drift")


def test_drift_and_step_put_into_real_stamps_are_found(found):
    """Real latencies of a real sensor, whose clock drifts and is set: both are found."""
    fitted = 0
    for recording in found:
        for name, rows in recording.tables.items():
            if "sensor_time_ns" not in rows.schema.names or rows["sensor_time_ns"].null_count:
                continue
            sensor, log = (
                rows[column].to_numpy().astype(np.int64)
                for column in ("sensor_time_ns", "log_time_ns")
            )
            if len(np.unique(sensor)) < 1_000:
                continue
            plain = fit_envelope(sensor, log)
            assert plain.steps == (), (recording.name, name)
            gone = sensor - sensor[0]
            moved = sensor + np.rint(gone * 30e-6).astype(np.int64)
            half = len(moved) // 2
            moved[half:] += 250 * MS
            spoilt = fit_envelope(moved, log)
            assert len(spoilt.steps) == 1, (recording.name, name)
            assert abs(int(spoilt.steps[0].index) - half) <= 10
            assert abs(spoilt.steps[0].size_ns - 250 * MS) < 5 * MS
            for piece in spoilt.pieces:
                line, whole = piece.line, plain.pieces[0].line
                error = np.hypot(line.drift_error_ppb, whole.drift_error_ppb)
                # Of the sensor's own time, which runs fast by as much.
                put_in = 30_000 / (1 + 30e-6)
                assert abs(line.drift_ppb - whole.drift_ppb - put_in) < 4 * error + 0.1
            fitted += 1
    if not fitted:
        pytest.skip("notyet: no real recording here holds stamps of a sensor beside log times")


def test_two_loggers_of_one_real_bus_are_tied(found):
    """A real bus as two loggers would write it: offset to 0.1 ms, drift within its errors."""
    tied = 0
    for recording in found:
        rows = recording.tables.get("can_frames")
        if rows is None or len(rows) < 20_000:
            continue
        frames = bus_frames_from(rows)
        rng = np.random.default_rng(len(frames))

        def written(frames=frames, rng=rng, *, offset_ns=0, drift_ppm=0.0):
            kept = np.flatnonzero(rng.random(len(frames)) > 0.05)
            t_ns = frames.t_ns[kept]
            ahead = offset_ns + np.rint((t_ns - frames.t_ns[0]) * drift_ppm * 1e-6)
            stamps = t_ns + (ahead + rng.normal(0, 50_000, len(kept))).astype(np.int64)
            return BusFrames(stamps, frames.stream[kept], frames.key[kept])

        answer = match_frames(
            written(), written(offset_ns=12 * SECOND, drift_ppm=-20.0), max_offset_ns=40 * SECOND
        )
        (line,) = answer.segments(max_drift_ppm=100.0)
        true_ns = 12 * SECOND - 20e-6 * (line.anchor_ns - 12 * SECOND - int(frames.t_ns[0]))
        assert abs(line.offset_ns - true_ns) < 0.1 * MS, recording.name
        assert abs(line.drift_ppb + 20_000) < 4 * line.drift_error_ppb, recording.name
        tied += 1
    if not tied:
        pytest.skip("notyet: no real recording here holds enough frames of a bus")
