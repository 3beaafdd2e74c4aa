"""Fault 35: a value that stands still, and values outside of their range, told by the rules."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from contracts.limits import LIMITS
from contracts.tables import LAYERS, TABLES
from quality.evaluate import evaluate
from tests.unit.quality.good_lake import DAY, START_NS

RANDOM = np.random.default_rng(5)
NOISE = RANDOM.normal(1.0, 0.1, 1000)
STUCK = LIMITS.stuck_values


def held(values, value=None, *, count=STUCK):
    """The values, of which some in the middle are one."""
    found = np.array(values, float)
    found[400 : 400 + count] = found[400] if value is None else value
    return found


def broken(table, columns):
    """Which of the two rules a table of these rows breaks, and how many signals do."""
    count = len(next(iter(columns.values())))
    order = RANDOM.permutation(count)  # a table has no order of its own
    names = TABLES[table].schema.names
    rows = {
        "recording_id": ["rec-a"] * count,
        "channel_id": [1] * count,
        "topic": ["CAN1"] * count,
        "sequence": np.arange(count),
        "log_time_ns": START_NS + np.arange(count) // 2 * 10,
        "ingest_date": [DAY] * count,
    } | columns
    arrays = [
        pa.array(rows[name], field.type) if name in rows else pa.nulls(count, field.type)
        for name, field in zip(names, TABLES[table].schema, strict=True)
    ]
    connection = duckdb.connect()
    for layer in LAYERS:
        connection.execute(f"CREATE SCHEMA {layer}")
    for name, contract in TABLES.items():
        incoming = contract.schema.empty_table()
        if name == table:
            incoming = pa.table(arrays, schema=contract.schema).take(pa.array(order))
        connection.register("incoming", incoming)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
    results = evaluate(TABLES[table], query=lambda text: connection.sql(text).to_arrow_table())
    return {
        one.rule.id: one.rows_failed
        for one in results
        if one.rule.id in {"STR006", "SYN010"} and not one.passed
    }


@pytest.mark.parametrize(
    ("values", "is_stuck"),
    [
        (NOISE, False),
        (held(NOISE), True),
        (held(NOISE, count=STUCK - 1), False),
        (held(NOISE, np.nan), True),
        (held((np.arange(1000) + 3) % 16), True),
        (held(NOISE, 0.0), False),
        (held(np.round(NOISE, 1)), False),
        (np.repeat(NOISE[:20], STUCK), False),
        (np.ones(1000), False),
        (held(NOISE)[380 : 420 + STUCK], False),
    ],
    ids=[
        "noise",
        "noise that is held",
        "not for long",
        "held at no number",
        "a counter that is held",
        "held at rest",
        "a coarse value",
        "seldom sent anew",
        "a constant",
        "seen too short to be known",
    ],
)
def test_a_value_that_lives_and_then_stands_still_is_found(values, is_stuck):
    """Fifty times the same is a fault where nearly every sample was another; nowhere else."""
    found = broken("silver.signals", {"signal": ["s"] * len(values), "value": values})
    assert found == ({"SYN010": 1} if is_stuck else {})


def test_signals_are_told_apart():
    """Two signals of one message take turns in the table; the one that is held is counted once."""
    values = np.stack([NOISE, held(NOISE)], axis=1).reshape(-1)
    found = broken("silver.signals", {"signal": ["a", "b"] * len(NOISE), "value": values})
    assert found == {"SYN010": 1}


def test_an_axis_of_an_imu_that_stands_still_is_found():
    """The rates of a vehicle's own sensor are judged as signals are, axis by axis."""
    rates = {f"angular_velocity_{axis}_rad_s": NOISE for axis in "xy"}
    rates |= {"angular_velocity_z_rad_s": held(NOISE)}
    assert broken("silver.imu", rates) == {"SYN010": 1}
    assert broken("silver.imu", rates | {"angular_velocity_z_rad_s": NOISE}) == {}


@pytest.mark.parametrize(("outside", "fails"), [(10, False), (11, True)])
def test_values_outside_of_their_range_are_counted_by_signal(outside, fails):
    """One in a hundred may be outside; what has no range, or no value, is not counted."""
    in_range = [False] * outside + [True] * (1000 - outside)
    columns = {"signal": ["s"] * 1000 + ["t"] * 1000, "value": np.r_[NOISE, NOISE]}
    found = broken("silver.signals", columns | {"in_range": in_range + [None] * 1000})
    assert found == ({"STR006": 1} if fails else {})
