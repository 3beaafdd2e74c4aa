"""Work is dealt to tasks whole, once and within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spark_jobs import ingest_decode
from spark_jobs.ingest_decode import Claimed, split_tasks
from spark_jobs.stage import pack


@given(st.lists(st.integers(0, 100), max_size=50), st.integers(1, 200), st.integers(1, 10))
def test_every_item_is_in_one_task_in_order(weights, limit, at_most):
    """Tasks hold all items in their order, no more than allowed, above the limit only alone."""
    tasks = pack(weights, limit=limit, at_most=at_most)
    assert [position for task in tasks for position in task] == list(range(len(weights)))
    for task in tasks:
        assert 1 <= len(task) <= at_most
        assert len(task) == 1 or sum(weights[i] for i in task) <= limit


def claimed(name, *unit_bytes):
    size = sum(unit_bytes)
    return Claimed(name, f"file:///{name}", size, b"", tuple(enumerate(unit_bytes)))


def test_small_recordings_share_a_task_and_large_ones_have_their_own(monkeypatch):
    """A large recording is split at its units, and no task of it holds another recording."""
    monkeypatch.setattr(ingest_decode, "TASK_BYTES", 100)
    recordings = [claimed("a", 30), claimed("big", 60, 60, 30, 200), claimed("b", 20, 40)]
    found = [
        [(item.recording_id, units) for item, units in task] for task in split_tasks(recordings)
    ]
    assert found == [
        [("a", None), ("b", None)],
        [("big", [0])],
        [("big", [1, 2])],
        [("big", [3])],
    ]
