"""Great Expectations suites that are made of the contracts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from contracts.tables import TABLES
from quality.expectations import suite_of, validate
from tests.unit.quality.good_lake import good_tables

TABLES_WITH_ROWS = ["bronze.recordings", "silver.frames", "silver.imu", "gold.datasets"]


def _failures(rows: pa.Table, name: str) -> set[tuple[str, str]]:
    result = validate(rows, table=TABLES[name])
    return {
        (
            outcome.expectation.type,
            outcome.expectation.arguments.get("column")
            or ",".join(outcome.expectation.arguments["column_list"]),
        )
        for outcome in result.outcomes
        if not outcome.passed
    }


@pytest.mark.parametrize("name", TABLES_WITH_ROWS)
def test_good_rows_meet_their_suite(name):
    """Rows that keep the contract meet every expectation of its suite; an empty table too."""
    rows = good_tables()[name]
    result = validate(rows, table=TABLES[name])
    assert [outcome for outcome in result.outcomes if not outcome.passed] == []
    assert result.passed
    assert (result.rows, len(result.outcomes)) == (rows.num_rows, len(suite_of(TABLES[name])))
    assert validate(rows.slice(0, 0), table=TABLES[name]).passed


def _with(rows: pa.Table, column: str, values: list[object]) -> pa.Table:
    index = rows.schema.get_field_index(column)
    field = rows.schema.field(index)
    return rows.set_column(index, field, pa.array(values, field.type))


def test_broken_rows_are_named():
    """A null, a foreign word, a number out of range and a missing column each fail, by name."""
    frames = good_tables()["silver.frames"]
    times = frames["t_ns"].to_pylist()
    assert _failures(_with(frames, "t_ns", [None, *times[1:]]), "silver.frames") == {
        ("expect_column_values_to_not_be_null", "t_ns")
    }
    assert _failures(_with(frames, "gnss_state", ["fine"] * 3), "silver.frames") == {
        ("expect_column_values_to_be_in_set", "gnss_state")
    }
    assert _failures(_with(frames, "latitude_deg", [91.0] * 3), "silver.frames") == {
        ("expect_column_values_to_be_between", "latitude_deg")
    }
    assert (
        "expect_table_columns_to_match_ordered_list",
        ",".join(frames.schema.names),
    ) in _failures(frames.drop_columns(["clock"]), "silver.frames")


def test_keys_one_nanosecond_apart_are_two():
    """Keys keep all 64 bits: neighbours in ns differ, also beside nulls, and repeats are found."""
    frames = good_tables()["silver.frames"]
    first = frames["t_ns"][0].as_py()
    near = _with(frames, "t_ns", [first, first + 1, first + 2])
    assert _failures(near, "silver.frames") == set()
    same = _with(frames, "t_ns", [first] * 3)
    unique = "expect_compound_columns_to_be_unique"
    assert _failures(same, "silver.frames") == {(unique, "drive_id,camera_topic,t_ns")}
    assert pc.max(near["t_ns"]).as_py() == first + 2


def test_page_shows_each_expectation():
    """The Markdown of a result has one line for each expectation and says what was found."""
    rows = _with(good_tables()["bronze.recordings"], "outcome", ["LOST", "ACCEPTED"])
    result = validate(rows, table=TABLES["bronze.recordings"])
    lines = result.markdown().splitlines()
    assert len(lines) == 2 + len(result.outcomes)
    assert "| column_values_to_be_in_set | outcome | **no** | 1 of 2 rows |" in lines
