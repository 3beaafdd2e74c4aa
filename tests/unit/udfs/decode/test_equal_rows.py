"""Identical data in any format gives identical silver rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.udfs.decode.drive_files import FORMS, NAMES, written
from tests.unit.udfs.decode.recordings import account_of

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
REAL = st.floats(allow_nan=False)
THINGS = st.fixed_dictionaries(
    {
        "frame": TEXT,
        "stamp": st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1)),
        "numbers": st.lists(REAL, max_size=3),
        "words": st.lists(TEXT, max_size=3),
        "blob": st.binary(max_size=5),
        "points": st.lists(st.tuples(REAL, REAL, REAL), max_size=2),
        "three": st.tuples(*[st.integers(-(2**15), 2**15 - 1)] * 3),
        "count": st.integers(-(2**63), 2**63 - 1),
        "flag": st.booleans(),
    }
)


def _digests(data: bytes) -> dict[str, str]:
    """Hash of each silver table, sorted, without what a container numbers by itself."""
    digests = {}
    for name, table in sorted(account_of(data, units=None).tables.items()):
        kept = table.drop_columns(["channel_id", "sequence"])
        order = [("log_time_ns", "ascending"), ("topic", "ascending")]
        order += [("child_frame_id", "ascending")] if "child_frame_id" in kept.column_names else []
        sink = pa.BufferOutputStream()
        ordered = kept.sort_by(order).combine_chunks()
        with pa.ipc.new_stream(sink, ordered.schema) as stream:
            stream.write_table(pa.Table.from_pylist(ordered.to_pylist(), schema=ordered.schema))
        digests[name] = hashlib.sha256(sink.getvalue()).hexdigest()
    return digests


@given(st.lists(st.tuples(st.sampled_from(sorted(NAMES)), THINGS), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_one_drive_gives_the_same_rows_in_every_format(messages):
    """Any drive as MCAP (ROS 1 and 2), ROS 1 bag, db3 and rosbag2 MCAP: every table hash-equal."""
    start = 1_700_000_000_000_000_000
    rows = [(topic, start + i * 1_000_000, value) for i, (topic, value) in enumerate(messages)]
    with TemporaryDirectory() as name:
        found = {form: _digests(written(Path(name), form, rows)) for form in FORMS}
    for form in FORMS[1:]:
        assert found[form] == found[FORMS[0]], form


@pytest.mark.parametrize("form", FORMS)
def test_another_value_gives_another_hash(tmp_path, form):
    """The comparison can fail: one other bit in one message gives another hash of its table."""
    value = {
        "frame": "a", "stamp": (1, 2), "numbers": [1.0], "words": ["w"], "blob": b"b",
        "points": [(1.0, 2.0, 3.0)], "three": (1, 2, 3), "count": 4, "flag": True,
    }  # fmt: skip
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = _digests(written(tmp_path / "one", form, [("/thing", 10**9, value)]))
    two = _digests(written(tmp_path / "two", form, [("/thing", 10**9, {**value, "count": 5})]))
    assert set(one) == set(two)
    assert one != two
