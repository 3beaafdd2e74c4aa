"""One commit a batch, whatever happens around it."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import duckdb
import duckdb_extension_delta
import polars as pl
import pyarrow as pa
import pytest

from contracts.errors import PlatformError, SchemaMismatchError
from contracts.settings import settings_from
from contracts.tables import TABLES, message_table_schema
from drivelake.query import run_query
from spark_jobs.commit import (
    app_id_of,
    commit_parts,
    discard_parts,
    remove_orphans,
    withdraw,
    write_rows,
)
from spark_jobs.tables import (
    create_table,
    insert_new,
    list_tables,
    message_contract,
    open_table,
    read_arrow,
)

DAY = dt.date(2026, 11, 20)
NAME = "bronze.decode_ledger"
BATCH = "f" * 64


@pytest.fixture(params=["a lake, ä"])
def lake(tmp_path, request):
    """A lake, usually in a folder whose name needs escaping."""
    home = tmp_path / request.param
    settings = settings_from({"DRIVELAKE_HOME": str(home)}, working_folder=tmp_path)
    create_table(settings, TABLES[NAME])
    return settings


def part_of(lake, *offsets, batch_id=BATCH):
    rows = [{"recording_id": "r", "offset": i, "ingest_date": DAY} for i in offsets]
    table = pa.Table.from_pylist(rows, schema=TABLES[NAME].schema)
    return write_rows(lake, NAME, table, ingest_date=DAY, batch_id=batch_id)


def offsets_in(lake):
    return sorted(read_arrow(lake, NAME, columns=["offset"]).column(0).to_pylist())


def test_repeat_commits_nothing(lake):
    """The second commit of an identity is a no-op: same rows, same version."""
    assert commit_parts(lake, NAME, [part_of(lake, 1, 2)], app_id="x")
    version = open_table(lake, NAME).version()
    assert not commit_parts(lake, NAME, [part_of(lake, 1, 2)], app_id="x")
    assert open_table(lake, NAME).version() == version
    assert offsets_in(lake) == [1, 2]


def test_rivals_of_one_batch_commit_once(lake):
    """Of eight drivers that commit one batch at once, one succeeds and none fails."""
    parts = [part_of(lake, 7) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda p: commit_parts(lake, NAME, [p], app_id="x"), parts))
    assert sum(done) == 1
    assert offsets_in(lake) == [7]


def test_rivals_of_other_batches_all_commit(lake):
    """Appends of different batches do not hinder each other."""
    parts = [part_of(lake, i, batch_id=f"{i}" * 64) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(commit_parts, lake, NAME, [part], app_id=f"b{i}")
            for i, part in enumerate(parts)
        ]
        assert all(job.result() for job in jobs)
    assert offsets_in(lake) == list(range(8))


def test_part_that_a_quicker_rival_swept_is_no_error(lake):
    """Files that vanish because a rival committed the batch and swept up are not missed."""
    mine, rivals = part_of(lake, 1), part_of(lake, 1)
    commit_parts(lake, NAME, [rivals], app_id=app_id_of(BATCH))
    remove_orphans(lake, NAME, ingest_date=DAY, batch_id=BATCH)
    assert not commit_parts(lake, NAME, [mine], app_id=app_id_of(BATCH))
    assert offsets_in(lake) == [1]


def test_withdrawn_batch_leaves_nothing_and_can_never_commit_again(lake):
    """Rows of the batch go, other rows stay, and who still works on it commits no more."""
    late = TABLES["bronze.chunks"]
    create_table(lake, late)
    commit_parts(lake, NAME, [part_of(lake, 1)], app_id=app_id_of(BATCH))
    other = pa.Table.from_pylist(
        [{"recording_id": "other", "offset": 2, "ingest_date": DAY}], schema=TABLES[NAME].schema
    )
    part = write_rows(lake, NAME, other, ingest_date=DAY, batch_id="e" * 64)
    commit_parts(lake, NAME, [part], app_id="other")
    withdraw(lake, BATCH, ["r"])
    assert offsets_in(lake) == [2]
    chunk = pa.Table.from_pylist([{"recording_id": "r", "ingest_date": DAY}], schema=late.schema)
    part = write_rows(lake, late.name, chunk, ingest_date=DAY, batch_id=BATCH)
    assert not commit_parts(lake, late.name, [part], app_id=app_id_of(BATCH))
    assert read_arrow(lake, late.name).num_rows == 0


def test_discarded_parts_are_gone(lake):
    """Parts that will never be committed do not stay on the disk; twice is as good as once."""
    part = part_of(lake, 1)
    for _ in range(2):
        discard_parts(lake, [part])
    assert not (lake.home / "lake/bronze/decode_ledger" / part.path).exists()


def test_missing_part_is_never_committed(lake):
    """A commit that would name a file that is gone is refused; the table stays readable."""
    part = part_of(lake, 1)
    root = lake.home / "lake/bronze/decode_ledger"
    (root / part.path).unlink()
    with pytest.raises(PlatformError, match="PART_MISSING"):
        commit_parts(lake, NAME, [part], app_id="x")
    assert offsets_in(lake) == []


def test_orphans_of_a_batch_go_and_nothing_else(lake):
    """What a dead run of the batch left is deleted; committed and other batches' files stay."""
    dead, kept = part_of(lake, 1), part_of(lake, 1)
    other = part_of(lake, 5, batch_id="e" * 64)
    commit_parts(lake, NAME, [kept], app_id="x")
    assert remove_orphans(lake, NAME, ingest_date=DAY, batch_id=BATCH) == 1
    root = lake.home / "lake/bronze/decode_ledger"
    assert [(root / part.path).exists() for part in (dead, kept, other)] == [False, True, True]
    assert offsets_in(lake) == [1]
    assert remove_orphans(lake, NAME, ingest_date=DAY, batch_id="d" * 64) == 0


@pytest.mark.parametrize("lake", ["plain"], indirect=True)  # Polars takes no escaped paths
def test_other_engines_read_the_same_rows(lake):
    """Polars and DuckDB read what was committed, with the partition column."""
    commit_parts(lake, NAME, [part_of(lake, 3, 4)], app_id="x")
    root = str(lake.home / "lake/bronze/decode_ledger")
    assert sorted(pl.read_delta(root)["offset"].to_list()) == [3, 4]
    assert pl.read_delta(root)["ingest_date"].to_list() == [DAY, DAY]
    with duckdb.connect() as connection:
        folder = Path(duckdb_extension_delta.__file__).parent
        connection.load_extension(str(next(folder.rglob("delta.duckdb_extension"))))
        rows = connection.sql(f"SELECT \"offset\", ingest_date FROM delta_scan('{root}')")
        assert sorted(rows.fetchall()) == [(3, DAY), (4, DAY)]


def test_table_keeps_to_features_that_every_reader_has(lake):
    """Tables ask no more of a reader than protocol 1, and comments and keys of statistics stay."""
    protocol = open_table(lake, NAME).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
    configuration = open_table(lake, NAME).metadata().configuration
    assert configuration["delta.dataSkippingStatsColumns"] == "recording_id,offset"
    field = pa.schema(open_table(lake, NAME).schema().to_arrow()).field("fate")
    assert field.metadata[b"comment"] == b"decoded, quarantined or skipped"


def test_table_with_other_columns_is_refused(lake):
    """A table is never opened under a contract that it does not hold."""
    first, second = (
        message_contract("own", message_table_schema([pa.field("speed", kind)]))
        for kind in (pa.float64(), pa.int64())
    )
    create_table(lake, first)
    with pytest.raises(SchemaMismatchError, match=r"speed \(int64, in the table double\)"):
        create_table(lake, second)
    assert list_tables(lake) == [NAME, "silver.own"]


def own_contract(**columns):
    fields = [pa.field(name, kind) for name, kind in columns.items()]
    return message_contract("own", message_table_schema(fields))


def own_part(lake, batch_id, **columns):
    """A part of `silver.own` with one row, whose columns are these alone."""
    contract = own_contract(**{name: kind for name, (kind, _) in columns.items()})
    row = {"recording_id": batch_id, "ingest_date": DAY}
    row |= {name: value for name, (_, value) in columns.items()}
    rows = pa.Table.from_pylist([row], schema=contract.schema)
    return write_rows(lake, contract.name, rows, ingest_date=DAY, batch_id=batch_id)


@pytest.mark.parametrize("lake", ["plain"], indirect=True)  # Polars takes no escaped paths
def test_every_engine_reads_parts_of_older_and_narrower_definitions(lake):
    """Columns and fields of structs that a part lacks are null, whichever definition came first."""
    narrow, wide = (pa.struct([(name, pa.int64()) for name in names]) for names in ("x", "yx"))
    old = {"a": (pa.int64(), 1), "n": (narrow, {"x": 1}), "l": (pa.list_(narrow), [{"x": 1}])}
    new = {
        "b": (pa.string(), "2"),
        "l": (pa.list_(wide), [{"y": 3, "x": 2}]),
        "n": (wide, {"y": 3, "x": 2}),
        "a": (pa.int64(), 2),
    }
    for turn, columns in enumerate((old, new, old)):
        create_table(lake, own_contract(**{name: kind for name, (kind, _) in columns.items()}))
        part = own_part(lake, f"{turn}" * 64, **columns)
        commit_parts(lake, "silver.own", [part], app_id=f"{turn}")
    assert open_table(lake, "silver.own").version() == 4
    nulled = (1, {"x": 1, "y": None}, [{"x": 1, "y": None}], None)
    wanted = [nulled, (2, {"x": 2, "y": 3}, [{"x": 2, "y": 3}], "2"), nulled]
    names = ["a", "n", "l", "b"]
    root = str(lake.home / "lake/silver/own")
    with duckdb.connect() as connection:
        folder = Path(duckdb_extension_delta.__file__).parent
        connection.load_extension(str(next(folder.rglob("delta.duckdb_extension"))))
        scan = f"SELECT a, n, l, b FROM delta_scan('{root}') ORDER BY recording_id"
        assert connection.sql(scan).fetchall() == wanted
    query = "SELECT a, n, l, b FROM silver.own ORDER BY recording_id"
    for rows in (
        run_query(lake, query, engine="duckdb").to_pylist(),
        pl.scan_delta(root).sort("recording_id").collect().to_dicts(),
        read_arrow(lake, "silver.own").sort_by("recording_id").to_pylist(),
    ):
        assert [tuple(row[name] for name in names) for row in rows] == wanted
    open_table(lake, "silver.own").delete("a = 2")
    assert read_arrow(lake, "silver.own", columns=["b"]).column(0).to_pylist() == [None, None]


def test_rivals_that_widen_a_table_lose_no_column(lake):
    """Of definitions that race for a table each that is additive to it gets in; a break is told."""
    create_table(lake, own_contract(a=pa.int64()))
    grown = [own_contract(a=pa.int64(), **dict.fromkeys("bcd"[:n], pa.int64())) for n in (1, 2, 3)]
    with ThreadPoolExecutor(6) as pool:
        for job in [pool.submit(create_table, lake, contract) for contract in grown * 2]:
            job.result()
    stored = open_table(lake, "silver.own").schema().to_arrow()
    assert {"a", "b", "c", "d"} <= set(pa.schema(stored).names)
    with pytest.raises(SchemaMismatchError, match=r"e \(int64, in the table absent\)"):
        create_table(lake, own_contract(a=pa.int64(), e=pa.int64()))


def test_part_that_was_written_before_the_table_grew_is_committed(lake, monkeypatch):
    """A rival that adds columns between the opening of a table and the commit stops no batch."""
    create_table(lake, own_contract(a=pa.int64()))
    part = own_part(lake, BATCH, a=(pa.int64(), 1))
    stale = open_table(lake, "silver.own")
    create_table(lake, own_contract(a=pa.int64(), b=pa.int64()))
    answers = [stale]
    monkeypatch.setattr(
        "spark_jobs.commit.open_table",
        lambda *place: answers.pop() if answers else open_table(*place),
    )
    assert commit_parts(lake, "silver.own", [part], app_id="x")
    assert not commit_parts(lake, "silver.own", [part], app_id="x")
    (row,) = read_arrow(lake, "silver.own", columns=["a", "b"]).to_pylist()
    assert row == {"a": 1, "b": None}


def test_contract_that_grew_adds_its_columns(lake):
    """Columns that a contract gained come with nulls; a changed type or struct is refused."""
    contract = TABLES["bronze.schemas"]
    kept = [field for field in contract.schema if field.name != "table_name"]
    old = attrs.evolve(contract, schema=pa.schema(kept))
    create_table(lake, old)
    row = {"schema_hash": "h", "ingest_date": DAY}
    rows = pa.Table.from_pylist([row], schema=old.schema)
    part = write_rows(lake, contract.name, rows, ingest_date=DAY, batch_id=BATCH)
    commit_parts(lake, contract.name, [part], app_id="x")
    for _ in range(2):
        table = create_table(lake, contract)
    assert table.version() == 2
    (found,) = read_arrow(lake, contract.name).to_pylist()
    assert found == {**dict.fromkeys(contract.schema.names), **row}
    other = [field.with_type(pa.binary()) if field.name == "name" else field for field in kept]
    with pytest.raises(SchemaMismatchError, match="name"):
        create_table(lake, attrs.evolve(contract, schema=pa.schema(other)))
    chunks = TABLES["bronze.chunks"]
    counts = pa.field("channel_counts", pa.list_(pa.struct([("channel_id", pa.int32())])))
    place = chunks.schema.get_field_index("channel_counts")
    create_table(lake, attrs.evolve(chunks, schema=chunks.schema.set(place, counts)))
    with pytest.raises(SchemaMismatchError, match=r"channel_counts\.element\.message_count"):
        create_table(lake, chunks)


def test_insert_new_keeps_what_is_there(lake):
    """A known key is left as it is, but for the column to be filled once."""
    create_table(lake, TABLES["bronze.schemas"])

    def insert(table_name, data):
        row = {"schema_hash": "h", "data": data, "table_name": table_name, "ingest_date": DAY}
        insert_new(lake, "bronze.schemas", [row], key="schema_hash", fill="table_name")
        (found,) = read_arrow(lake, "bronze.schemas").to_pylist()
        return found["table_name"], found["data"]

    assert insert(None, b"1") == (None, b"1")
    assert insert("silver.a", b"2") == ("silver.a", b"1")
    version = open_table(lake, "bronze.schemas").version()
    assert insert("silver.b", b"3") == ("silver.a", b"1")
    assert open_table(lake, "bronze.schemas").version() == version
