"""Frames of slices are those of the whole drive, and late data touches what it must and no more."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from contracts.tables import TABLES
from udfs.sync.align import Stream, align
from udfs.sync.channels import added, estimate_sensor_clocks, facts_of
from udfs.sync.frames import frames_of_drive
from udfs.sync.late import touched_spans
from udfs.sync.observations import OBSERVATIONS
from udfs.sync.recorder_clocks import clocks_of, recorders_of
from udfs.sync.rules import AlignRule, SyncRules
from udfs.sync.sensor_clocks import sensor_rows, sensors_of
from udfs.sync.slices import BUCKET_NS, cut, image_spans, readings_within
from udfs.sync.spans import united

MS, SECOND = 1_000_000, 1_000_000_000
START_NS = 1_790_000_000 * SECOND
RULES = SyncRules()
JUMP_NS = 3 * SECOND


def samples(stream, recording, t_s, *, table, stamped=True, value=True, size=None, ahead_ns=0):
    """Observations at seconds of the recorder's clock, stamped unless told otherwise."""
    count = len(t_s)
    random = np.random.default_rng(len(stream))
    t_ns = START_NS + np.rint(np.asarray(t_s) * 1e9).astype(np.int64)
    late = random.integers(2 * MS, 9 * MS, count)
    has = np.ones(count, bool) if stamped else np.zeros(count, bool)
    has[::17] = False  # a stamp that is lost takes the usual latency
    given = {
        "recording_id": [recording] * count,
        "stream": [stream] * count,
        "table": [table] * count,
        "source": [f"/{stream}/{recording}"] * count,
        "log_time_ns": t_ns + late,
        "sensor_time_ns": pa.array(t_ns + ahead_ns, mask=~has),
        "frame_id": [stream] * count,
        **({f"value_{i}": np.sin(np.asarray(t_s) + i) for i in range(3)} if value else {}),
        **(
            {name: np.arange(count) * 10 for name in ("unit_offset", "data_offset")} if size else {}
        ),
        **({"data_length": np.full(count, size)} if size else {}),
    }
    columns = [
        pa.array(given[field.name], field.type)
        if field.name in given
        else pa.nulls(count, field.type)
        for field in OBSERVATIONS
    ]
    return pa.table(columns, schema=OBSERVATIONS)


def clock(recording, recorder, *, offset_ns=0, drift_ppb=0.0, span_s=(0, 200), method="gnss_time"):
    """A row of silver.clocks."""
    return {
        "drive_id": "drive",
        "recording_id": recording,
        "recorder": recorder,
        "reference": "utc",
        "valid_from_ns": START_NS + round(span_s[0] * SECOND),
        "valid_to_ns": START_NS + round(span_s[1] * SECOND),
        "anchor_ns": START_NS + round(span_s[0] * SECOND),
        "offset_ns": offset_ns,
        "drift_ppb": drift_ppb,
        "uncertainty_ns": 100_000,
        "drift_uncertainty_ppb": 10.0,
        "method": method,
        "samples": 10,
        "ingest_date": None,
    }


@pytest.fixture(scope="module")
def drive():
    """Observations and clocks of 200 s: gaps, a jump, lost stamps, a dead stream, two recorders.

    One sensor counts from its start.
    """
    camera = np.arange(0.0, 200, 0.1)
    gnss = np.r_[np.arange(0.2, 60, 1.0), np.arange(97.3, 140, 0.2)]  # then no fix any more
    speed = np.r_[np.arange(0, 80, 0.02), np.arange(80.9, 130, 0.02), np.arange(136, 200, 0.02)]
    bus_s = np.where(speed < 110, speed, speed + JUMP_NS / 1e9) - 4.0
    parts = [
        samples("camera", "a", camera + np.sin(camera) / 500, table="images", size=9, value=False),
        samples(
            "lidar", "a", np.arange(0.03, 200, 0.13), table="point_clouds", size=900, value=False
        ),
        samples(
            "lidar", "b", np.arange(0.01, 200, 0.05), table="point_clouds", size=90, value=False
        ),
        samples("gnss", "a", gnss, table="gnss"),
        samples("pose", "a", np.arange(0, 55, 0.05), table="odometry"),
        samples("speed_m_s", "b", bus_s, table="signals", stamped=False),
        samples("speed_m_s", "a", np.arange(0, 200, 0.5), table="odometry"),
        samples(
            "yaw_rate_rad_s", "a", np.arange(0, 200, 0.01), table="imu", ahead_ns=SECOND - START_NS
        ),
        samples("yaw_rate_rad_s", "b", np.arange(0, 200, 0.5) - 4, table="imu"),
    ]
    rows = [
        clock("a", "one", drift_ppb=20_000.0, offset_ns=7 * MS),
        clock("b", "two", offset_ns=-4 * SECOND, span_s=(-4, 106)),
        clock("b", "two", offset_ns=JUMP_NS - 4 * SECOND, span_s=(109.2, 200)),
    ]
    observations = pa.concat_tables(parts)
    sensors = estimate_sensor_clocks(observations, recorders=recorders_of(rows), rules=RULES)
    rows[0]["sensors"] = sensor_rows(sensors, "one")
    assert [each["topic"] for each in rows[0]["sensors"]] == ["/yaw_rate_rad_s/a"]
    return observations, rows


def sliced(observations, rows, *, length_ns, spans=None):
    """Frames as the workers make them: of what each slice's readings are, and the facts."""
    recorders, clocks = recorders_of(rows), clocks_of(rows, rules=RULES)
    # facts add up, whatever they are taken of
    thirds = [observations.take(np.arange(i, len(observations), 3)) for i in range(3)]
    sensors = sensors_of(rows, recorders=recorders)
    facts = added(
        facts_of(each, recorders=recorders, rules=RULES, sensors=sensors) for each in thirds
    )
    camera = observations.filter(pc.equal(observations["stream"], "camera"))
    buckets = {"a": set((camera["log_time_ns"].to_numpy() // BUCKET_NS).tolist())}
    if spans is None:
        spans = image_spans(buckets, recorders=recorders, clocks=clocks, rules=RULES)
    log_ns, name = observations["log_time_ns"].to_numpy(), observations["recording_id"].to_numpy()
    parts = []
    for span in cut(spans, length_ns=length_ns):
        inside = np.zeros(len(log_ns), bool)
        for recording, recorder in recorders.items():
            low, high = readings_within(span, clock=clocks[recorder], rules=RULES)
            inside |= (name == recording) & (log_ns >= low) & (log_ns < high)
        mine = observations.filter(pa.array(inside))
        assert len(mine) < len(observations)
        parts.append(frames_of_drive(mine, table(rows), rules=RULES, facts=facts, span=span))
    return pa.concat_tables(parts)


def table(rows):
    """Rows of silver.clocks as a table."""
    return pa.Table.from_pylist(rows, TABLES["silver.clocks"].schema)


@pytest.mark.parametrize("length_s", [7.3, 30, 61])
def test_slices_show_no_seam(drive, length_s):
    """Cut in any way, a drive with gaps, jumps and lost stamps gives the same frames."""
    observations, rows = drive
    whole = frames_of_drive(observations, table(rows), rules=RULES)
    assert len(whole) == 2000
    for name in ("gnss", "pose", "speed", "yaw_rate", "lidar"):
        states = set(whole[f"{name}_state"].to_pylist())
        assert "ok" in states
        assert len(states) > (1 if name in {"gnss", "pose", "speed", "lidar"} else 0), name
    found = sliced(observations, rows, length_ns=round(length_s * SECOND))
    assert found.sort_by("t_ns").equals(whole.combine_chunks())


def test_what_is_out_of_reach_does_not_count():
    """A hole beyond reach ends a stream: at its sides samples are held, in it nothing is there."""
    rule = AlignRule("linear", max_gap_ns=200 * MS, max_error_ns=50 * MS)
    stream = Stream(np.array([0, 100, 9_000, 9_100]) * MS, {"v": np.arange(4.0)})
    instants = np.array([50, 120, 160, 3_000, 8_960, 9_050]) * MS
    found = align(instants, stream, rule=rule, reach_ns=1_000 * MS)
    assert found.state.tolist() == ["ok", "ok", "stale", "missing", "ok", "ok"]
    assert found.values["v"].tolist()[:2] == [0.5, 1.0]
    assert found.index.tolist() == [0, 1, 1, -1, 2, 2]
    before = Stream(stream.t_ns[:2], {"v": np.arange(2.0)})
    part = align(instants[:4], before, rule=rule, reach_ns=1_000 * MS)
    assert part.state.tolist() == found.state[:4].tolist()


def parts_of(observations, rows, *names):
    """Observations, clocks, facts and log spans of some recordings."""
    recorders = recorders_of(rows)
    facts, spans = {}, {}
    for name in names:
        mine = observations.filter(pc.equal(observations["recording_id"], name))
        sensors = sensors_of(rows, recorders=recorders)
        facts[name] = facts_of(mine, recorders=recorders, rules=RULES, sensors=sensors)
        log_ns = mine["log_time_ns"].to_numpy()
        spans[name] = (int(log_ns.min()), int(log_ns.max()) + 1)
    return facts, spans


def test_late_data_touches_its_own_time_alone(drive):
    """The frames outside of the spans it touches are those that the whole would give now."""
    observations, rows = drive
    late = samples("pose", "c", np.arange(90, 100, 0.05), table="odometry")
    late = late.set_column(
        3, OBSERVATIONS.field(3), pa.array(["/pose/a"] * len(late), OBSERVATIONS.field(3).type)
    )
    now = [*rows, clock("c", "one", drift_ppb=20_000.0, offset_ns=7 * MS)]
    everything = pa.concat_tables([observations, late])
    facts, log_spans = parts_of(everything, now, "a", "b", "c")
    spans = touched_spans(rows, now, facts=facts, log_spans=log_spans, rules=RULES)
    assert spans == united(spans)
    [(start, end)] = spans
    assert 10 * SECOND < end - start < 24 * SECOND
    old = frames_of_drive(observations, table(rows), rules=RULES)
    new = frames_of_drive(everything, table(now), rules=RULES).drop(["sync_version"])
    inside = pc.and_(pc.greater_equal(old["t_ns"], start), pc.less(old["t_ns"], end))
    kept = old.drop(["sync_version"]).filter(pc.invert(inside))
    assert kept.equals(new.filter(pc.invert(inside)))
    made = sliced(everything, now, length_ns=10 * SECOND, spans=spans).drop(["sync_version"])
    assert made.equals(new.filter(inside).combine_chunks())
    assert not made.equals(old.drop(["sync_version"]).filter(inside).combine_chunks())


def test_what_changes_the_whole_drive_touches_all(drive):
    """A clock that moved beyond what was stated, a better channel, a recording that went: all.

    So does a sensor whose own clock is another.
    """
    observations, rows = drive
    late = samples("speed_m_s", "c", np.arange(90, 92, 0.001), table="signals")
    everything = pa.concat_tables([observations, late, *[late] * 3])
    now = [*rows, clock("c", "one", drift_ppb=20_000.0, offset_ns=7 * MS)]
    facts, log_spans = parts_of(everything, now, "a", "b", "c")
    known = {"facts": facts, "log_spans": log_spans, "rules": RULES}
    assert touched_spans(rows, now, **known) is None  # more samples of speed than b has
    calm = {name: facts[name] for name in ("a", "b")} | {"c": {}}
    assert touched_spans(rows, now, **{**known, "facts": calm}) is not None
    for moved_ns, same in ((40_000, True), (60_000, False)):
        moved = [{**now[0], "offset_ns": now[0]["offset_ns"] + moved_ns}, *now[1:3]]
        assert (touched_spans(rows, moved, **known) == []) is same
    assert touched_spans(now, rows, **known) is None
    jumped = [*rows[:2], {**rows[2], "valid_from_ns": rows[2]["valid_from_ns"] + SECOND}]
    assert touched_spans(rows, jumped, **known) is None
    assert touched_spans(rows, [{**rows[0], "sensors": []}, *rows[1:]], **known) is None
