"""Alignment of one stream with given instants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.limits import VALUE_SETS
from contracts.tables import TABLES
from udfs.sync.align import Stream, align, without_clock
from udfs.sync.rules import AlignRule
from udfs.sync.states import STATES

MS = 1_000_000
LINEAR = AlignRule("linear", max_gap_ns=200 * MS, max_error_ns=50 * MS, period={"yaw": 2 * np.pi})
NEAREST = AlignRule("nearest", max_gap_ns=250 * MS, max_error_ns=60 * MS, unique=True)


def stream(t_ms, **values):
    """A stream from milliseconds and values."""
    return Stream(
        np.array(t_ms, dtype=np.int64) * MS,
        {name: np.array(value, dtype=np.float64) for name, value in values.items()},
    )


def instants(*t_ms):
    """Instants from milliseconds."""
    return np.array(t_ms, dtype=np.int64) * MS


def test_linear_interpolates_and_tells_the_nearest_sample():
    """A value between two samples is on the line between them, with the nearest sample's error."""
    found = align(instants(130), stream([100, 200], v=[1.0, 2.0]), rule=LINEAR)
    assert found.state.tolist() == ["ok"]
    assert found.values["v"][0] == pytest.approx(1.3)
    assert found.sync_error_ns.tolist() == [-30 * MS]
    assert found.t_ns.tolist() == [100 * MS]


def test_linear_does_not_bridge_a_hole():
    """Between samples that are too far apart there is no value, and the state says gap."""
    found = align(instants(300, 100), stream([100, 500], v=[1.0, 2.0]), rule=LINEAR)
    assert found.state.tolist() == ["gap", "ok"]
    assert np.isnan(found.values["v"][0])
    assert found.values["v"][1] == 1.0


@pytest.mark.parametrize("rule", [LINEAR, NEAREST])
def test_nothing_is_paired_across_a_jump(rule):
    """Between two samples with a jump between them is a jump, however near; at them is none."""
    jumped = Stream(instants(100, 130, 160), {"v": np.arange(3.0)}, np.array([0, 1, 1]))
    found = align(instants(99, 100, 101, 129, 130, 131), jumped, rule=rule)
    states = found.state.tolist()
    assert [state == "jump" for state in states] == [False, False, True, True, False, False]
    assert [state for state in states if state not in {"jump", "stale"}] != []
    assert np.isnan(found.values["v"][2:4]).all()
    assert found.values["v"][[1, 4]].tolist() == [0.0, 1.0]


def test_the_contract_has_every_reason():
    """The closed set of each column of states is what synchronisation may say, and no more."""
    columns = [name for name in TABLES["silver.frames"].schema.names if name.endswith("_state")]
    assert len(columns) == 7
    for column in columns:
        assert set(VALUE_SETS[f"silver.frames.{column}"]) == set(STATES)


def test_nothing_is_extrapolated():
    """Outside the samples the nearest one serves within the limit; beyond it the state is stale."""
    found = align(
        instants(60, 40, 540, 560), stream([100, 200, 300, 400, 500], v=range(5)), rule=LINEAR
    )
    assert found.state.tolist() == ["ok", "stale", "ok", "stale"]
    assert found.values["v"][[0, 2]].tolist() == [0.0, 4.0]
    assert np.isnan(found.values["v"][[1, 3]]).all()


def test_angles_take_the_short_way():
    """An angle that wraps between two samples is interpolated across the wrap, not through zero."""
    found = align(instants(150), stream([100, 200], yaw=[3.1, -3.1]), rule=LINEAR)
    assert abs(found.values["yaw"][0]) == pytest.approx(np.pi)


def test_a_sweep_serves_one_frame_only():
    """When a sweep is lost, the frame beside it does not silently get its neighbour's sweep."""
    rule = AlignRule("nearest", max_gap_ns=250 * MS, max_error_ns=120 * MS, unique=True)
    found = align(instants(17, 117, 217), stream([0, 200]), rule=rule)
    assert found.state.tolist() == ["ok", "stale", "ok"]
    assert found.index.tolist() == [0, 1, 1]


def test_a_lost_sweep_shows_as_stale_or_gap():
    """A frame whose sweep was lost has no sweep: stale beside the hole, gap inside a wide one."""
    found = align(instants(0, 100, 300, 600), stream([0, 200, 600, 700]), rule=NEAREST)
    assert found.state.tolist() == ["ok", "stale", "gap", "ok"]


def test_an_empty_stream_is_missing():
    """No samples at all: every state is missing, no time is invented."""
    found = align(instants(1, 2), stream([], v=[]), rule=LINEAR)
    assert found.state.tolist() == ["missing", "missing"]
    assert found.index.tolist() == [-1, -1]
    assert np.isnan(found.values["v"]).all()


def test_a_stream_without_a_clock_has_no_values():
    """A stream that can't be placed in time gives no value and says no_clock."""
    found = without_clock(2, names=("v",))
    assert found.state.tolist() == ["no_clock", "no_clock"]
    assert np.isnan(found.values["v"]).all()


def test_samples_out_of_order_are_refused():
    """A stream that is not in time order is an error, not a wrong answer."""
    with pytest.raises(ValueError, match="time order"):
        stream([2, 1])


@given(
    samples=st.lists(st.integers(0, 2_000), min_size=1, max_size=40).map(sorted),
    at=st.lists(st.integers(-300, 2_300), min_size=1, max_size=40),
)
def test_the_nearest_sample_is_the_nearest(samples, at):
    """For any samples and instants, the reported error is the smallest there is."""
    found = align(instants(*at), stream(samples, v=samples), rule=LINEAR)
    smallest = np.abs(np.subtract.outer(at, samples)).min(axis=1) * MS
    assert np.array_equal(np.abs(found.sync_error_ns), smallest)
    ok = found.state == "ok"
    inside = ok & (np.array(at) >= samples[0]) & (np.array(at) <= samples[-1])
    assert np.allclose(found.values["v"][inside], np.array(at)[inside])


@given(
    samples=st.lists(st.integers(0, 1_000), min_size=1, max_size=20, unique=True).map(sorted),
    at=st.lists(st.integers(-100, 1_100), min_size=1, max_size=60),
)
def test_no_sample_is_used_twice(samples, at):
    """With `unique` no sample is `ok` for two instants, whatever the rates."""
    found = align(instants(*at), stream(samples), rule=NEAREST)
    used = found.index[found.state == "ok"]
    assert len(used) == len(set(used.tolist()))
