"""Each rule on a lakehouse that keeps it and on one that was mutated to break it."""

from __future__ import annotations

import pkgutil

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import quality.rules
from contracts.tables import LAYERS, TABLES
from quality.evaluate import evaluate, evaluate_all, rules_for
from quality.registry import RULES
from quality.rule import FAMILIES
from tests.unit.quality.good_lake import DAY, ROWS, START_NS, STEP_NS, good_tables
from udfs.sync.align import Stream, align
from udfs.sync.rules import AlignRule, SyncRules

# A channel of 40 messages at even steps, of which each fault spoils some.
_CHANNEL = (
    "INSERT INTO {{t}} BY NAME SELECT 'rec-a' AS recording_id, 9 AS channel_id, '/more' AS topic, "
    "i AS sequence, {START_NS} + {at} AS log_time_ns, {START_NS} + {stamp} AS sensor_time_ns, "
    "DATE '{DAY}' AS ingest_date FROM range(40) AS many(i)"
)


def _channel(stamp, at=None):
    """A mutation: the stamps of a channel, and its log times if they are others, in ns of i."""
    return _CHANNEL.format(t="{t}", START_NS=START_NS, DAY=DAY, stamp=stamp, at=at or stamp)


_SIGNAL = (
    (
        "INSERT INTO {t} BY NAME SELECT 'rec-a' AS recording_id, 9 AS channel_id, 'CAN1' AS topic, "
        "'Yaw' AS source, 'YawRate' AS signal, i AS sequence, {NS} + i AS log_time_ns, "
        "CASE WHEN i BETWEEN 70 AND 119 THEN 1.5 ELSE i END AS value, i > 3 AS in_range, "
        "DATE '{DAY}' AS ingest_date FROM range(200) AS many(i)"
    )
    .replace("{NS}", str(START_NS))
    .replace("{DAY}", str(DAY))
)

MUTATIONS = [
    ("STR001", "bronze.recordings", "UPDATE bronze.recordings SET ingest_date = NULL"),
    ("STR001", "silver.imu", "UPDATE silver.imu SET topic = NULL WHERE sequence = 1"),
    ("STR002", "bronze.recordings", "INSERT INTO {t} SELECT * FROM {t} LIMIT 1"),
    ("STR002", "gold.labels", "UPDATE gold.labels SET label_id = 'label-0'"),
    ("STR003", "bronze.uploads", "UPDATE {t} SET state = 'FINE' WHERE state = 'ACCEPTED'"),
    ("STR003", "silver.frames", "UPDATE {t} SET gnss_state = 'good'"),
    ("STR004", "silver.frames", "UPDATE {t} SET latitude_deg = 90.5"),
    ("STR004", "silver.frames", "UPDATE {t} SET longitude_deg = 'NaN'::DOUBLE"),
    ("STR006", "silver.signals", _SIGNAL),
    ("STR005", "silver.imu", "UPDATE {t} SET recording_id = 'rec-z' WHERE sequence = 2"),
    ("DEC001", "bronze.recordings", "UPDATE {t} SET messages_lost = 1"),
    ("DEC001", "bronze.decode_ledger", "UPDATE {t} SET messages_written = 0"),
    ("DEC002", "bronze.uploads", "UPDATE {t} SET reason_code = NULL WHERE state = 'QUARANTINED'"),
    ("DEC002", "bronze.uploads", "UPDATE {t} SET reason_code = '' WHERE state = 'PARTIAL'"),
    ("DEC002", "bronze.uploads", "UPDATE {t} SET duplicate_of = NULL WHERE state = 'DUPLICATE'"),
    ("DEC002", "bronze.uploads", "UPDATE {t} SET sha256 = NULL WHERE state = 'ACCEPTED'"),
    ("DEC002", "bronze.uploads", "UPDATE {t} SET state = NULL WHERE state = 'PENDING'"),
    ("DEC003", "bronze.recordings", "DELETE FROM bronze.decode_ledger"),
    ("DEC003", "bronze.recordings", "UPDATE bronze.decode_ledger SET messages_bad = 1"),
    ("DEC004", "silver.imu", "DELETE FROM {t} WHERE sequence = 1"),
    ("DEC004", "silver.imu", "INSERT INTO {t} SELECT * FROM {t}"),
    ("DEC004", "silver.imu", "DELETE FROM {t}"),
    ("DEC004", "silver.imu", "DELETE FROM bronze.channels"),
    ("DEC005", "bronze.channels", "UPDATE {t} SET bad_count = 1"),
    ("DEC006", "bronze.recordings", "UPDATE {t} SET size_bytes = 1001"),
    ("DEC006", "bronze.recordings", "DELETE FROM bronze.decode_ledger WHERE messages_written = 0"),
    (
        "DEC006",
        "bronze.recordings",
        "UPDATE bronze.decode_ledger SET length = 65 WHERE length = 64",
    ),
    (
        "DEC006",
        "bronze.recordings",
        "UPDATE bronze.decode_ledger SET length = 63 WHERE length = 64",
    ),
    ("DEC006", "bronze.recordings", 'UPDATE bronze.decode_ledger SET "offset" = 1'),
    (
        "DEC006",
        "bronze.recordings",
        "DELETE FROM bronze.decode_ledger WHERE recording_id = 'rec-b'",
    ),
    ("CLK001", "silver.clocks", "UPDATE {t} SET uncertainty_ns = NULL"),
    ("CLK002", "silver.clocks", "UPDATE {t} SET uncertainty_ns = 6000000"),
    ("CLK003", "silver.clocks", "UPDATE {t} SET valid_to_ns = valid_from_ns - 1"),
    ("CLK003", "silver.clocks", "UPDATE {t} SET recording_id = 'rec-a'"),
    ("CLK004", "silver.clocks", "UPDATE {t} SET alert = 'gnss_time differs by 18 s'"),
    ("SYN001", "silver.frames", "UPDATE {t} SET speed_sync_error_ns = -200000000"),
    ("SYN001", "silver.frames", "UPDATE {t} SET gnss_sync_error_ns = 800000000"),
    ("SYN001", "silver.frames", "UPDATE {t} SET lidar_sync_error_ns = NULL"),
    ("SYN002", "silver.frames", "UPDATE {t} SET is_complete = FALSE"),
    (
        "SYN003",
        "silver.imu",
        f"UPDATE {{t}} SET log_time_ns = log_time_ns - {3 * STEP_NS} WHERE sequence = 2",
    ),
    ("SYN004", "silver.frames", "UPDATE {t} SET camera_data_offset = 0"),
    ("SYN005", "silver.imu", _channel(f"i * {STEP_NS}")),
    ("SYN005", "silver.imu", _channel(f"(i + i // 2) * {STEP_NS}")),
    ("SYN006", "silver.imu", _channel(f"i * {STEP_NS // 10} + (i // 20) * {3 * STEP_NS}")),
    ("SYN007", "silver.imu", _channel(f"i * {STEP_NS} + (i % 4 // 3) * {STEP_NS // 3}")),
    ("SYN008", "silver.imu", _channel(f"(i // 5) * {STEP_NS}", f"i * {STEP_NS // 5}")),
    ("SYN009", "silver.frames", "UPDATE {t} SET clock_uncertainty_ns = 5000001"),
    ("SYN009", "silver.frames", "UPDATE {t} SET clock_uncertainty_ns = NULL"),
    ("SYN010", "silver.signals", _SIGNAL),
    ("LBL001", "gold.labels", "UPDATE {t} SET box_x1_px = box_x0_px"),
    ("LBL001", "gold.labels", "UPDATE {t} SET box_y0_px = NULL"),
    ("LBL001", "gold.labels", "UPDATE {t} SET height_m = 0"),
    ("LBL001", "gold.labels", "UPDATE {t} SET length_m = NULL"),
    ("LBL002", "gold.labels", "UPDATE {t} SET confidence = 1.01"),
    ("LBL002", "gold.labels", "UPDATE {t} SET confidence = NULL"),
    ("LBL002", "gold.labels", "UPDATE {t} SET confidence = 'NaN'::DOUBLE"),
    ("LBL003", "gold.labels", "UPDATE {t} SET t_ns = t_ns + 1"),
    ("LBL004", "gold.scenarios", "UPDATE {t} SET end_ns = start_ns"),
    ("LBL004", "gold.scenarios", "UPDATE {t} SET drive_id = 'drive-9'"),
    (
        "LBL004",
        "gold.scenarios",
        "UPDATE {t} SET start_ns = end_ns + 1000000000000, end_ns = end_ns + 2000000000000",
    ),
    ("DST001", "gold.dataset_samples", "UPDATE {t} SET drive_id = 'drive-1'"),
    ("DST002", "gold.datasets", "UPDATE {t} SET validation_samples = 0"),
    ("DST002", "gold.datasets", "UPDATE {t} SET train_samples = 1000"),
    ("DST002", "gold.datasets", "DELETE FROM {t}"),
    ("DST003", "gold.dataset_samples", "UPDATE {t} SET image_jpeg = 'same'::BLOB"),
    ("DST004", "gold.datasets", "DELETE FROM gold.dataset_samples WHERE split = 'train'"),
    ("DST005", "gold.dataset_samples", "UPDATE silver.frames SET clock_uncertainty_ns = 5000001"),
    ("DST006", "gold.dataset_samples", "UPDATE silver.frames SET is_complete = FALSE"),
    ("DST007", "gold.dataset_samples", "UPDATE bronze.recordings SET integrity = 'NONE'"),
    ("EVL001", "gold.evaluations", "UPDATE {t} SET value = 0.8"),
    ("EVL001", "gold.evaluations", "UPDATE {t} SET upper = 1.1"),
]


@pytest.fixture(scope="module")
def database():
    connection = duckdb.connect()
    for layer in LAYERS:
        connection.execute(f"CREATE SCHEMA {layer}")
    for name, rows in good_tables().items():
        connection.register("incoming", rows)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        connection.unregister("incoming")
    yield connection
    connection.close()


@pytest.fixture
def lake(database):
    """The good lakehouse; what a test changes is rolled back."""
    database.execute("BEGIN")
    yield database
    database.execute("ROLLBACK")


def _failures(lake, names=TABLES, **more):
    results = evaluate_all(names, query=lambda text: lake.sql(text).to_arrow_table(), **more)
    return {(result.rule.id, result.table) for result in results if not result.passed}


@pytest.mark.parametrize("day", [None, DAY], ids=["table", "day"])
def test_good_lake_passes(lake, day):
    """A lakehouse that keeps the contracts breaks no rule, as a whole and by ingest day."""
    assert _failures(lake, day=day) == set()


@pytest.mark.parametrize(("rule", "table", "mutation"), MUTATIONS)
def test_mutation_is_found(lake, rule, table, mutation):
    """Each rule fails on a lakehouse that was changed to break it, and names the table."""
    lake.execute(mutation.format(t=table))
    assert (rule, table) in _failures(lake, [table])


def test_mutations_cover_the_rules():
    """No rule goes without a mutation that it must find."""
    assert {rule for rule, _, _ in MUTATIONS} == {rule.id for rule in RULES}


@pytest.mark.parametrize(
    ("rate_hz", "rule", "passes"),
    [
        (10.0, SyncRules().align["gnss"], True),
        (1.0, SyncRules().align["gnss"], True),
        (0.4, SyncRules().align["gnss"], True),
        (0.4, AlignRule("linear", max_gap_ns=5_000_000_000, max_error_ns=2_000_000_000), False),
    ],
)
def test_sync_error_is_judged_by_what_the_stream_can_do(lake, rate_hz, rule, passes):
    """A GNSS of 1 Hz between frames of 10 Hz is no fault; fixes a second late called ok are one.

    Where the alignment keeps to the tolerance, what is too far is not ok, and breaks no rule.
    """
    instants = START_NS + np.arange(100) * STEP_NS
    fixes = START_NS + (np.arange(1 + 10 * rate_hz) * (1e9 / rate_hz)).astype(np.int64)
    aligned = align(instants, Stream(fixes), rule=rule)
    frames = [
        {
            **ROWS["silver.frames"][0],
            "t_ns": int(instants[i]),
            "camera_data_offset": 1000 * i,
            "gnss_state": str(aligned.state[i]),
            "gnss_t_ns": int(aligned.t_ns[i]),
            "gnss_sync_error_ns": int(aligned.sync_error_ns[i]),
            "ingest_date": DAY,
        }
        for i in range(len(instants))
    ]
    table = pa.Table.from_pylist(frames, schema=TABLES["silver.frames"].schema)
    lake.execute("DELETE FROM silver.frames")
    lake.register("incoming", table)
    lake.execute("INSERT INTO silver.frames SELECT * FROM incoming")
    lake.unregister("incoming")
    assert (aligned.state == "ok").any()
    assert np.abs(aligned.sync_error_ns).max() > 4e8 or rate_hz > 1
    assert (("SYN001", "silver.frames") not in _failures(lake, ["silver.frames"])) == passes


def test_empty_tables_are_judged(lake):
    """Every rule reports on empty tables; only what must not be empty fails there."""
    for name in TABLES:
        lake.execute(f"DELETE FROM {name}")
    assert _failures(lake) == {("DST002", "gold.datasets")}


def test_day_limits_what_is_read(lake):
    """A fault in one ingest day is not found in another one."""
    lake.execute("UPDATE silver.imu SET topic = NULL, ingest_date = DATE '2026-01-03'")
    lake.execute("UPDATE bronze.channels SET ingest_date = DATE '2026-01-03'")
    assert _failures(lake, ["silver.imu"], day=DAY) == set()
    assert ("STR001", "silver.imu") in _failures(lake, ["silver.imu"])


def test_counts_are_exact(lake):
    """A result says how many rows were looked at and how many broke the rule."""
    lake.execute("UPDATE silver.imu SET topic = NULL WHERE sequence > 0")
    results = evaluate(TABLES["silver.imu"], query=lambda text: lake.sql(text).to_arrow_table())
    result = next(result for result in results if result.rule.id == "STR001")
    assert (result.rows_checked, result.rows_failed, result.measured) == (3, 2, 2 / 3)


def test_registry_lists_every_module():
    """A rule module that is not registered can't pass unnoticed; ids are unique and sorted."""
    modules = {module.name.upper() for module in pkgutil.iter_modules(quality.rules.__path__)}
    ids = [rule.id for rule in RULES]
    assert modules == set(ids)
    assert len(ids) == len(set(ids))
    assert [rule.family for rule in RULES] == sorted(
        (rule.family for rule in RULES), key=list(FAMILIES).index
    )


def test_every_table_has_rules():
    """Each table of the contracts is judged by at least its required columns."""
    for table in TABLES.values():
        assert "STR001" in {rule.id for rule, _ in rules_for(table)}, table.name
