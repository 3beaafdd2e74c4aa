from __future__ import annotations

import datetime as dt
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ContractViolation
from udfs.sync.reference import Rate
from udfs.sync.stream_rules import AGGREGATES, METHODS, Rule
from udfs.sync.synchronise import synchronise

CAMERA = pa.table({"t_ns": [0, 10, 20, 30, 40], "image": ["a", "b", "c", "d", "e"]})
SPEED = pa.table({"t_ns": [1, 11, 21, 38], "m_s": [1.0, 2.0, 3.0, 5.0]})


def at_camera(table, rule, **options):
    """The columns of one stream at the instants of the camera, without its name."""
    found = synchronise(
        {"camera": CAMERA, "s": table}, reference="camera", rules={"s": rule}, **options
    )
    assert found["t_ns"].to_pylist() == [0, 10, 20, 30, 40]
    return {name[2:]: found[name].to_pylist() for name in found.column_names if name[:2] == "s_"}


def test_each_value_has_its_time_its_distance_and_its_state():
    """What is taken says how old it was; what is not is null and says why."""
    found = at_camera(SPEED, Rule("nearest", tolerance_ns=2, max_gap_ns=12))
    assert found == {
        "m_s": [1.0, 2.0, 3.0, None, 5.0],
        "t_ns": [1, 11, 21, 38, 38],
        "distance_ns": [1, 1, 1, 8, -2],
        "state": ["ok", "ok", "ok", "gap", "ok"],
    }


def test_the_reference_comes_as_it_is():
    """The stream that gives the instants keeps its rows, with distance 0 and state ok."""
    found = synchronise({"camera": CAMERA}, reference="camera", rules={})
    assert found["camera_image"].to_pylist() == list("abcde")
    assert found["camera_distance_ns"].to_pylist() == [0] * 5
    assert pc.all(pc.equal(found["camera_state"].cast("string"), "ok")).as_py()


@pytest.mark.parametrize("method", ["nearest", "last", "next"])
def test_values_of_every_type_are_taken(method):
    """Numbers of all widths, text, lists, structs, words, nulls and slices, as `take` does."""
    columns = {
        "int8": pa.array([1, 2, 3, 4], pa.int8()),
        "uint16": pa.array([1, 2, 3, 4], pa.uint16()),
        "float32": pa.array([0.5, 1.5, np.nan, 2.5], pa.float32()),
        "int64": pa.array([2**62 + 1, 2, 3, 4]),
        "flag": pa.array([True, False, True, True]),
        "text": pa.array(["a", None, "c", ""]),
        "holes": pa.array([None, 1, 2, None]),
        "list": pa.array([[1], [], None, [2, 3]]),
        "struct": pa.array([{"x": 1}, {"x": 2}, None, {"x": 4}]),
        "words": pa.array(["u", "v", "u", "u"]).dictionary_encode(),
        "time": pa.array([1, 2, 3, 4], pa.timestamp("us", "UTC")),
        "nothing": pa.nulls(4),
    }
    table = pa.table({"t_ns": SPEED["t_ns"], **columns})
    doubled = pa.concat_tables([table.slice(0, 1), table, table]).slice(1).slice(0, 4)
    index = {"nearest": [0, 1, 2, 3, 3], "last": [None, 0, 1, 2, 3], "next": [0, 1, 2, 3, None]}
    for source in (table, doubled):
        found = synchronise(
            {"camera": CAMERA, "s": source}, reference="camera", rules={"s": method}
        )
        for name, column in columns.items():
            wanted = column.take(pa.array(index[method], pa.int64()))
            got = found[f"s_{name}"].combine_chunks()
            assert got.type == column.type, name
            assert str(got.to_pylist()) == str(wanted.to_pylist()), name
            got.validate(full=True)


def test_what_can_not_be_interpolated_comes_from_the_nearest_sample():
    """Text beside numbers is the nearest sample's; float32 stays, integers turn float."""
    table = pa.table(
        {
            "t_ns": [0, 10, 20],
            "wide": pa.array([0, 10, None]),
            "narrow": pa.array([0.0, 1.0, 2.0], pa.float32()),
            "text": ["a", "b", "c"],
        }
    )
    found = synchronise({"s": table}, reference=Rate(10**9 / 4), rules={"s": "linear"})
    assert found["s_wide"].to_pylist() == [0.0, 4.0, 8.0, None, None, None]
    assert found["s_narrow"].type == pa.float32()
    assert found["s_narrow"].to_pylist() == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2.0])
    assert found["s_text"].to_pylist() == ["a", "a", "b", "b", "c", "c"]


def test_nothing_crosses_a_jump():
    """Around an instant at which the clock jumped nothing is paired, whatever the rule."""
    for method in ("nearest", "last", "next", "linear", "hermite"):
        found = at_camera(SPEED, method, jumps_ns={"s": [15]})
        for t_ns, state, instant in zip(
            found["t_ns"], found["state"], range(0, 50, 10), strict=True
        ):
            assert state != "ok" or (t_ns >= 15) == (instant >= 15)
    assert at_camera(SPEED, "last", jumps_ns={"s": [15]})["state"][2] == "jump"
    assert at_camera(SPEED, "last", gaps_ns={"s": [15]})["state"][2] == "gap"
    assert at_camera(SPEED, "linear", jumps_ns={"s": [15]})["state"] == [
        "stale", "ok", "jump", "ok", "stale",
    ]  # fmt: skip


def test_poses_turn_on_the_sphere_and_a_missing_rotation_is_no_pose():
    """Quaternions are found by name; where one is none, the row is null and missing."""
    turn = [0.0, np.sin(np.pi / 4), 0.0, 0.0]
    pose = pa.table(
        {
            "t_ns": [0, 20, 40, 60], "x_m": [0.0, 2.0, 4.0, 6.0],
            "q_x": [0.0] * 4, "q_y": [0.0] * 4, "q_z": turn, "q_w": [1.0, turn[1], 0.0, 0.0],
        }
    )  # fmt: skip
    found = at_camera(pose, "spherical")
    assert found["q_z"][1] == pytest.approx(np.sin(np.pi / 8))
    assert found["x_m"] == [0.0, 1.0, 2.0, None, None]
    assert found["state"] == ["ok", "ok", "ok", "missing", "missing"]


def test_velocities_shape_the_curve():
    """With its velocity a position stands still where the velocity says so."""
    pose = pa.table({"t_ns": [0, 40], "x_m": [0.0, 1.0], "v_m_s": [0.0, 0.0]})
    found = at_camera(pose, Rule("hermite", velocities={"x_m": "v_m_s"}))
    assert found["x_m"] == pytest.approx([0, 0.15625, 0.5, 0.84375, 1])
    assert at_camera(pose, "hermite")["x_m"] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_an_event_holds_from_its_begin_to_before_its_end():
    """Half-open, nested, and one without an end; its columns are those of the event."""
    events = pa.table(
        {"t_ns": [0, 10, 25], "end_ns": [30, 20, None], "name": ["outer", "inner", "open"]}
    )
    found = at_camera(events, "event")
    assert found["name"] == ["outer", "inner", "outer", "open", "open"]
    assert found["distance_ns"] == [0, 0, -20, -5, -15]
    assert at_camera(events.slice(0, 2), "event")["state"][3] == "missing"


def test_a_rate_makes_half_open_windows():
    """Each sample is in one window; what the windows come to has the documented types."""
    table = pa.table(
        {
            "t_ns": [0, 3, 10, 10, 29], "v": [1.0, 2.0, np.nan, 4.0, 5.0],
            "i": pa.array([5, 3, None, 2**53 + 1, 1]), "flag": [False, True, False, False, True],
        }
    )  # fmt: skip
    wanted = {
        "mean": {"v": [1.5, 4.0, 5.0], "flag": [0.5, 0.0, 1.0]},
        "min": {"v": [1.0, 4.0, 5.0], "i": [3, 2**53 + 1, 1], "flag": [False, False, True]},
        "max": {"v": [2.0, 4.0, 5.0], "i": [5, 2**53 + 1, 1], "flag": [True, False, True]},
        "count": {"v": [2, 1, 1], "i": [2, 1, 1], "flag": [2, 2, 1]},
        "last": {"v": [2.0, 4.0, 5.0], "i": [3, 2**53 + 1, 1], "flag": [True, False, True]},
        "any": {"v": [True] * 3, "i": [True] * 3, "flag": [True, False, True]},
    }
    assert set(wanted) == set(AGGREGATES)
    for what, columns in wanted.items():
        rule = Rule("aggregate", aggregate=dict.fromkeys(columns, what))
        found = synchronise({"s": table}, reference=Rate(10**8), rules={"s": rule})
        assert found["s_t_ns"].to_pylist() == [3, 10, 29]
        for name, values in columns.items():
            assert found[f"s_{name}"].to_pylist() == values, (what, name)


def test_an_aggregate_says_how_many_samples_it_leaves_out():
    """Fault 35: NaN and null are no values, and counted; so is what `valid` says is not to be used.

    What was kept to the bit is then in no mean and no extreme. The last sample is one of all.
    """
    table = pa.table(
        {
            "t_ns": [0, 3, 4, 10, 11, 20, 29], "v": [1.0, np.nan, 3.0, 1e9, None, np.nan, np.inf],
            "i": [1, 2, 3, 4, 5, 6, None], "ok": [True, None, True, False, True, True, True],
        }
    )  # fmt: skip
    every = dict.fromkeys(("v", "i"), "mean")
    wanted = {
        None: {"v": [2.0, 1e9, np.inf], "v_excluded": [1, 1, 1], "i": [2.0, 4.5, 6.0]},
        "ok": {"v": [2.0, None, np.inf], "v_excluded": [1, 2, 1], "i": [2.0, 5.0, 6.0]},
    }
    for valid, columns in wanted.items():
        rule = Rule("aggregate", aggregate=every, valid=valid)
        found = synchronise({"s": table}, reference=Rate(10**8), rules={"s": rule})
        for name, values in columns.items():
            assert found[f"s_{name}"].to_pylist() == values, (valid, name)
    assert found["s_i_excluded"].to_pylist() == [0, 1, 1]
    rule = Rule("aggregate", aggregate={"v": "count", "i": "last", "ok": "mean"}, valid="ok")
    found = synchronise({"s": table}, reference=Rate(10**8), rules={"s": rule})
    assert found["s_v"].to_pylist() == [2, 0, 1]
    assert found["s_ok"].to_pylist() == [1.0, 0.5, 1.0]
    assert "s_i_excluded" not in found.column_names


def test_samples_that_are_not_valid_are_not_there():
    """A value out of its range is neither interpolated nor the nearest one."""
    table = pa.table({"t_ns": [0, 10, 20], "v": [0.0, 655.35, 2.0], "ok": [True, False, None]})
    found = at_camera(table, Rule("linear", valid="ok"))
    assert found["v"][:3] == [0.0, 1.0, 2.0]
    assert at_camera(table, Rule("last", valid="ok"))["v"][:3] == [0.0, 0.0, 2.0]


def test_an_empty_window_is_null_and_says_why():
    """Between samples: missing, or gap in a wide hole; beyond a boundary: jump."""
    rule = Rule("aggregate", window_ns=(-3, 3), max_gap_ns=12, aggregate="count")
    found = at_camera(SPEED, rule, jumps_ns={"s": [10]})
    assert found["m_s"] == [1, 1, 1, None, 1]
    assert found["state"] == ["ok", "ok", "ok", "gap", "ok"]
    assert at_camera(SPEED, rule, jumps_ns={"s": [40]})["state"][4] == "jump"


@pytest.mark.parametrize("rule", [*METHODS])
def test_no_samples_and_no_clock_keep_the_types(rule):
    """An empty stream is missing, one without a clock no_clock; columns have the usual types."""
    table = pa.table({"t_ns": SPEED["t_ns"], "end_ns": [5, 15, 25, 45], "v": [1, 2, 3, 4]})
    made = Rule(rule, window_ns=(-9, 9)) if rule == "aggregate" else Rule(rule)
    given = {"camera": CAMERA, "s": table, "empty": table.slice(0, 0), "lost": table}
    found = synchronise(
        given, reference="camera", rules=dict.fromkeys(("s", "empty", "lost"), made),
        without_clock={"lost"},
    )  # fmt: skip
    for name, state in (("empty", "missing"), ("lost", "no_clock")):
        assert found[f"{name}_state"].to_pylist() == [state] * 5
        for column in ("v", "t_ns", "distance_ns"):
            one = found[f"{name}_{column}"]
            assert one.type == found[f"s_{column}"].type
            assert one.null_count == 5


def test_a_sample_serves_one_instant_if_it_is_to_be_unique():
    """A lost image is null and stale, not the neighbour's a second time."""
    found = at_camera(SPEED.slice(0, 2), Rule("nearest", unique=True))
    assert found["m_s"] == [1.0, 2.0, None, None, None]
    assert found["state"][2:] == ["stale"] * 3


def test_what_is_said_of_a_value_takes_17_bytes():
    """Time, distance and state of a stream: 8 + 8 + 1 bytes a row, however long the words are."""
    t_ns = pa.array(range(10_000))
    found = synchronise({"s": pa.table({"t_ns": t_ns})}, reference=Rate(10**9), rules={"s": "last"})
    about = found.drop_columns(["t_ns"]).nbytes
    assert 17 * 10_000 <= about <= 17 * 10_000 + 200


def test_events_within_events_take_one_pass():
    """A hundred thousand nested events, and as many instants that only the first one holds."""
    count = 100_000
    begins = np.arange(count)
    events = pa.table({"t_ns": begins, "end_ns": np.r_[10 * count, 2 * count - begins[1:]]})
    instants = pa.table({"t_ns": np.arange(3 * count, 4 * count)})
    found = synchronise({"a": instants, "e": events}, reference="a", rules={"e": "event"})
    assert set(found["e_t_ns"].to_pylist()) == {0}


@given(hz=st.fractions(Fraction(1, 10), 10**9, max_denominator=1000), count=st.integers(0, 300))
def test_instants_of_a_rate_are_exact(hz, count):
    """Instant k is k periods on, rounded down, however many there were; the end is exclusive."""
    start = 1_790_000_000_123_456_789
    end = start + int(count / hz * 10**9)
    found = Rate(hz).instants(start, end).tolist()
    period = Fraction(10**9) / hz
    assert found == [start + int(k * period) for k in range(len(found))]
    assert len(found) == 1 or found[-2] < end
    assert found[-1] >= end - 1


def test_times_may_be_timestamps_and_tables_may_come_from_elsewhere():
    """Arrow timestamps of any unit, and polars frames, are streams as well."""
    import polars as pl

    start = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
    stamps = pa.array([start, start + dt.timedelta(seconds=1)], pa.timestamp("us", "UTC"))
    frame = pl.DataFrame({"t_ns": pl.Series([1795824000 * 10**9], dtype=pl.Int64), "v": [1.5]})
    found = synchronise(
        {"a": pa.table({"t_ns": stamps}), "b": frame}, reference="a", rules={"b": "last"}
    )
    assert found["b_v"].to_pylist() == [1.5, 1.5]
    assert found["b_distance_ns"].to_pylist() == [0, -(10**9)]


S = pa.table({"t_ns": [1, 2], "v": [1.0, 2.0], "text": ["a", "b"]})
WRONG = {
    "not in time order: row 1 has 1 after 2": {"streams": {"s": S.take([1, 0])}},
    "no column time. It has t_ns, v, text": {"time": "time"},
    "no column w": {"rules": {"s": Rule("hermite", velocities={"v": "w"})}},
    "no column ok": {"rules": {"s": Rule("last", valid="ok")}},
    "the column v of the stream s is double, not bool": {"rules": {"s": Rule("last", valid="v")}},
    "no column end_ns": {"rules": {"s": "event"}},
    "no stream 'x'": {"rules": {"s": "last", "x": "last"}},
    "no stream 'camera'. There are s": {"reference": "camera"},
    "no rule for s": {"rules": {}},
    "the reference: it has no rule": {"reference": "s"},
    "no stream 'y'": {"jumps_ns": {"y": [1]}},
    "1 rows without a time": {"streams": {"s": pa.table({"t_ns": [1, None]})}},
    "are double, not int64": {"streams": {"s": pa.table({"t_ns": [1.0]})}},
    "mean is not defined for the column text": {"rules": {"s": Rule("aggregate")}},
    "has a column state, which the result has": {
        "streams": {"s": S.rename_columns(["t_ns", "state", "u"])}
    },
    "start_ns and an end_ns": {"reference": Rate(1e6, 0, 10**18)},
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_a_request_that_can_not_be_met_is_one_sentence(words):
    """What is wrong, where, and what there is; exit code 2 in a shell."""
    given = {"streams": {"s": S}, "reference": Rate(10**9), "rules": {"s": "last"}} | WRONG[words]
    with pytest.raises(ContractViolation) as told:
        synchronise(given.pop("streams"), **given)
    assert words in str(told.value)
    assert told.value.code == "USAGE"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("there is no rule 'closest'. The rules are nearest", {"method": "closest"}),
        ("there is no aggregate 'median'", {"method": "aggregate", "aggregate": "median"}),
        ("tolerance_ns is a number of ns", {"method": "last", "tolerance_ns": -1}),
        ("max_age_ns is a number of ns", {"method": "last", "max_age_ns": 0.5}),
        ("ends before it begins", {"method": "aggregate", "window_ns": (1, 1)}),
        ("unique has no meaning", {"method": "aggregate", "unique": True}),
        ("must be above 0", {"method": "linear", "period": {"yaw": 0.0}}),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_when_it_is_made(words, options):
    """Rules are checked before any data is looked at."""
    with pytest.raises(ContractViolation, match=words) as told:
        Rule(**options)
    assert told.value.code == "USAGE"
