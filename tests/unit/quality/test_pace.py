"""The rules of pace on streams with a fault each: that rule finds it, and no other does."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from contracts.limits import PACES
from contracts.tables import LAYERS, TABLES
from quality.evaluate import evaluate
from simulation.clocks import ClockJump, RecorderClock
from tests.unit.quality.good_lake import DAY, START_NS

MS, S = 1_000_000, 1_000_000_000
RATES_HZ = {"imu": 100, "odometry": 50, "gnss": 1, "images": 10, "point_clouds": 10}


class Stream:
    """A minute of a sensor: when it measured, as its clock and the recorder's have it."""

    def __init__(self, hz, *, jump=False, seconds=60.0):
        self.random = np.random.default_rng(int(hz))
        self.period_ns = int(S / hz)
        self.t_ns = START_NS + np.arange(0, int(seconds * S), self.period_ns)
        jumps = (ClockJump(START_NS + 20 * S, 2 * S),) if jump else ()
        sensor = RecorderClock(7 * S, 40.0, 300_000, START_NS, jumps)
        recorder = RecorderClock(-3 * S, -20.0, 300_000, START_NS)
        self.stamp_ns = sensor.stamp(self.t_ns, rng=self.random)
        arrived_ns = self.t_ns + self.random.integers(3 * MS, 6 * MS, len(self.t_ns))
        self.log_ns = recorder.stamp(arrived_ns, rng=self.random)

    def keep(self, wanted):
        """Lose all messages but those wanted."""
        for name in ("t_ns", "stamp_ns", "log_ns"):
            setattr(self, name, getattr(self, name)[wanted])
        return self

    def drop(self, share):
        """Lose a share of the messages, here and there."""
        return self.keep(self.random.random(len(self.t_ns)) >= share)

    def silent(self, begin_s, end_s):
        """Lose all messages of a time."""
        seconds = (self.t_ns - START_NS) / S
        return self.keep((seconds < begin_s) | (seconds >= end_s))

    def uneven(self, share):
        """Shift each stamp by up to that share of the period."""
        wide = self.random.uniform(-share, share, len(self.t_ns)) * self.period_ns
        self.stamp_ns = self.stamp_ns + wide.astype(np.int64)
        return self

    def stuck(self, first, count):
        """Repeat a stamp for so many messages."""
        self.stamp_ns[first : first + count] = self.stamp_ns[first]
        return self

    def buffered(self, begin_s, end_s):
        """Let all messages of a time arrive at its end, one right behind the other."""
        seconds = (self.t_ns - START_NS) / S
        late = (seconds >= begin_s) & (seconds < end_s)
        self.log_ns[late] = self.log_ns[late].max() + np.arange(late.sum()) * 10_000
        return self

    def without_stamps(self, value):
        """Sensor's stamps that say nothing."""
        self.stamp_ns = np.full(len(self.t_ns), value, object)
        return self


def faults(kind, *streams, judged=None):
    """Channels that break each rule, of streams that are the channels of a table."""
    rows = [
        {
            "recording_id": "rec-a",
            "channel_id": channel,
            "topic": f"/{kind}",
            "sequence": 0,
            "log_time_ns": log_ns,
            "sensor_time_ns": stamp_ns,
            "ingest_date": DAY,
        }
        for channel, stream in enumerate(streams)
        for log_ns, stamp_ns in zip(stream.log_ns.tolist(), stream.stamp_ns.tolist(), strict=True)
    ]
    table = TABLES[f"silver.{kind}"]
    with duckdb.connect() as connection:
        for layer in LAYERS:
            connection.execute(f"CREATE SCHEMA {layer}")
        for name in ("bronze.recordings", "bronze.channels", table.name):
            mine = rows if name == table.name else []
            connection.register("incoming", pa.Table.from_pylist(mine, TABLES[name].schema))
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        results = evaluate(table, query=lambda text: connection.sql(text).to_arrow_table(), day=DAY)
    paced = [one for one in results if one.rule.id in {"SYN005", "SYN006", "SYN007", "SYN008"}]
    assert len(paced) == 4
    assert {one.rows_checked for one in paced} == {len(streams) if judged is None else judged}
    return {one.rule.id: one.rows_failed for one in paced if not one.passed}


@pytest.mark.parametrize("kind", RATES_HZ)
def test_a_good_stream_breaks_no_rule(kind):
    """Jitter of 0.3 ms, 5 % dropped, a sensor's clock that drifts and jumps: all that may be."""
    hz = RATES_HZ[kind]
    assert faults(kind, Stream(hz), Stream(hz, jump=True).drop(0.05)) == {}


@pytest.mark.parametrize(
    ("rule", "kind", "fault"),
    [
        ("SYN005", "imu", lambda stream: stream.drop(0.3)),
        ("SYN005", "imu", lambda stream: stream.keep(slice(None, None, 10))),
        ("SYN005", "images", lambda stream: stream.drop(0.15)),
        ("SYN006", "imu", lambda stream: stream.silent(30, 30.5)),
        ("SYN006", "point_clouds", lambda stream: stream.silent(10, 25)),
        ("SYN006", "gnss", lambda stream: stream.silent(10, 14)),
        ("SYN007", "imu", lambda stream: stream.uneven(0.4)),
        ("SYN007", "point_clouds", lambda stream: stream.uneven(0.4)),
        ("SYN008", "imu", lambda stream: stream.stuck(1000, 6)),
        ("SYN008", "odometry", lambda stream: stream.stuck(1000, 200)),
    ],
)
def test_a_fault_is_found_by_its_rule_alone(rule, kind, fault):
    """Lost, too slow, silent, uneven, stuck: one rule each says so, of the channel that has it."""
    hz = RATES_HZ[kind]
    assert faults(kind, Stream(hz), fault(Stream(hz))) == {rule: 1}


@pytest.mark.parametrize("jump", [False, True])
def test_what_only_looks_like_a_fault_is_none(jump):
    """Messages that arrive late and at once; stamps of nothing, or 0, where the arrival counts."""
    assert faults("imu", Stream(100, jump=jump).buffered(40, 43)) == {}
    assert faults("images", Stream(10, jump=jump).without_stamps(0)) == {}
    assert faults("images", Stream(10, jump=jump).without_stamps(None)) == {}


def test_too_few_messages_are_not_judged():
    """Nineteen messages have no usual step."""
    assert len(Stream(100, seconds=0.19).t_ns) == 19
    assert faults("imu", Stream(100, seconds=0.19).uneven(0.5), judged=0) == {}
    assert "SYN007" in faults("imu", Stream(100, seconds=0.2).uneven(0.5))


def test_paces_are_of_tables():
    """Each pace belongs to a table of messages with stamps, and its bounds are in order."""
    for name, pace in PACES.items():
        assert {"sensor_time_ns", "log_time_ns", "sequence"} <= set(TABLES[name].schema.names)
        assert 0 < pace.least_hz < pace.most_hz
        assert pace.max_gap_ns > 0
