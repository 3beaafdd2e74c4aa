"""Rows of silver files as workers read them: those that were asked for, and no other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.silver_files import SilverFile, SilverTable, by_drive, iter_rows
from udfs.sync.observations import OBSERVATIONS

WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("recording_id", WORDS),
        ("log_time_ns", pa.int64()),
        ("topic", WORDS),
        ("value", pa.float64()),
    ]
)
NAMES = ("a", "b", "c", "d")


def written(folder, name, recordings, t_ns, *, leave_out=(), rows_of_a_group=7):
    """A file of a table, as one that Delta names without statistics."""
    rows = pa.table(
        {
            "recording_id": recordings,
            "log_time_ns": pa.array(t_ns, pa.int64()),
            "topic": [f"/{one}" for one in recordings],
            "value": pa.array(t_ns, pa.float64()),
        }
    ).drop_columns(list(leave_out))
    pq.write_table(rows, folder / name, row_group_size=rows_of_a_group)
    return SilverFile(name, None, None)


@pytest.mark.parametrize("order", ["one by one", "mixed"])
@pytest.mark.parametrize("wanted", [
    {"b": None},
    {"b": None, "d": None},
    {"a": (3, 11), "c": (0, 2)},
    {"a": None, "b": (5, 6)},
    {"nobody": None},
    dict.fromkeys(NAMES),
])  # fmt: skip
def test_rows_are_those_of_the_recordings_and_spans(tmp_path, order, wanted):
    """Half-open spans of log times by recording, whatever order and row groups a file has."""
    t_ns = np.repeat(np.arange(20), 4) if order == "mixed" else np.tile(np.arange(20), 4)
    names = NAMES * 20 if order == "mixed" else np.repeat(NAMES, 20).tolist()
    table = SilverTable("imu", tmp_path.as_uri(), SCHEMA, (written(tmp_path, "one", names, t_ns),))
    found = [
        (row["recording_id"], row["log_time_ns"], row["topic"], row["value"])
        for part in iter_rows(table, wanted, storage_options={})
        for row in part.to_pylist()
    ]
    assert found == [
        (name, at, f"/{name}", float(at))
        for name, at in zip(names, t_ns.tolist(), strict=True)
        if name in wanted and (wanted[name] is None or wanted[name][0] <= at < wanted[name][1])
    ]


def test_a_column_that_a_file_was_written_without_is_null(tmp_path):
    """Files of an earlier release lack what was added since; only the columns named are read."""
    old = written(tmp_path, "old", ["a"], [1], leave_out=["topic"])
    new = written(tmp_path, "new", ["a", "b"], [2, 3])
    table = SilverTable("imu", tmp_path.as_uri(), SCHEMA, (old, new))
    parts = iter_rows(table, {"a": None}, columns=["topic"], storage_options={})
    assert [part.to_pylist() for part in parts] == [[{"topic": None}], [{"topic": "/a"}]]


@pytest.mark.parametrize("rows", [12, 3000])
def test_drives_are_taken_apart_in_order(rows):
    """However often recordings of the drives take turns, each drive has its rows in their order."""
    names = [NAMES[i % 4] for i in range(rows)]
    columns = [
        pa.array(names, field.type)
        if field.name == "recording_id"
        else pa.array(range(rows), field.type)
        if field.name == "log_time_ns"
        else pa.nulls(rows, field.type)
        for field in OBSERVATIONS
    ]
    whole = pa.table(columns, schema=OBSERVATIONS)
    parts = [whole.slice(0, rows // 3), whole.slice(rows // 3)]
    drives = [["b", "d"], ["a"], ["nobody"], ["c"]]
    for mine, found in zip(drives, by_drive(parts, drives), strict=True):
        expected = [at for at, name in enumerate(names) if name in mine]
        assert found["log_time_ns"].to_pylist() == expected
        assert found["log_time_ns"].num_chunks <= 1
