"""Worker-side Parquet: exact schema, exact statistics, nothing left behind."""

from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import SchemaMismatchError
from contracts.tables import TABLES
from spark_jobs import parts
from spark_jobs.parts import PartWriter, conform, statistics_columns

DAY = dt.date(2026, 11, 20)
SCHEMA = TABLES["bronze.bad_messages"].schema


def batch_of(**columns):
    rows = len(next(iter(columns.values())))
    full = {
        field.name: pa.array(columns.get(field.name, [None] * rows), field.type) for field in SCHEMA
    }
    full["ingest_date"] = pa.array(columns.get("ingest_date", [DAY] * rows), pa.date32())
    return pa.RecordBatch.from_pydict(full, schema=SCHEMA)


def writer_in(folder):
    return PartWriter(
        "bronze.bad_messages",
        lake_uri=folder.as_uri(),
        schema=SCHEMA,
        ingest_date=DAY,
        batch_id="b" * 64,
    )


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_part_holds_the_rows_and_says_what_it_holds(tmp_path):
    """Rows, size and path of a part are those of its file; the partition column is not in it."""
    with writer_in(tmp_path) as writer:
        writer.write(batch_of(offset=[5, 3], topic=["/a", "/b"]))
        writer.write(batch_of(offset=[9], topic=["/a"]))
        part = writer.close()
    file = tmp_path / "bronze/bad_messages" / part.path
    table = pq.read_table(file, partitioning=None)
    assert table.column("offset").to_pylist() == [5, 3, 9]
    assert (part.rows, part.size_bytes) == (3, file.stat().st_size)
    assert part.path.startswith(f"ingest_date=2026-11-20/{'b' * 16}/")
    assert table.schema.names == [name for name in SCHEMA.names if name != "ingest_date"]
    assert files_in(tmp_path) == [file]


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(
        st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_statistics_equal_the_rows(groups, tmp_path_factory):
    """Minimum, maximum and null count of every column named are exact over all row groups."""
    with writer_in(tmp_path_factory.mktemp("parts")) as writer:
        for group in groups:
            writer.write(batch_of(offset=group))
            writer.flush()
        stats = json.loads(writer.close().stats)
    values = [value for group in groups for value in group]
    known = [value for value in values if value is not None]
    assert stats["numRecords"] == len(values)
    assert stats["nullCount"]["offset"] == len(values) - len(known)
    assert stats["minValues"].get("offset") == min(known, default=None)
    assert stats["maxValues"].get("offset") == max(known, default=None)


def test_no_personal_data_in_statistics():
    """Free text, payloads, positions and names have no statistics in any table."""
    for contract in TABLES.values():
        named = statistics_columns(contract.schema)
        for name in named:
            kind = contract.schema.field(name).type
            assert pa.types.is_integer(kind) or name.endswith(("_id", "sha256", "schema_hash"))
        assert not {"topic", "uri", "error", "vehicle_key", "latitude_deg", "text"} & set(named)


def test_failed_block_leaves_no_file(tmp_path):
    """An exception while writing deletes what was written."""
    writer = writer_in(tmp_path)
    writer.write(batch_of(offset=[1]))
    writer.flush()
    assert len(files_in(tmp_path)) == 1
    with pytest.raises(SchemaMismatchError), writer:
        writer.write(batch_of(offset=[2], ingest_date=[dt.date(2026, 11, 21)]))
    assert files_in(tmp_path) == []


def test_unfinished_part_has_a_hidden_name(tmp_path):
    """A file under its final name is always whole."""
    writer = writer_in(tmp_path)
    writer.write(batch_of(offset=[1]))
    writer.flush()
    assert [path.name[0] for path in files_in(tmp_path)] == ["."]
    writer.abort()


def test_no_rows_no_file(tmp_path):
    """A writer without rows gives no part."""
    with writer_in(tmp_path) as writer:
        writer.write(batch_of(offset=[]))
        assert writer.close() is None
    assert files_in(tmp_path) == []


def test_row_of_another_day_is_refused(tmp_path):
    """A row may not lie in a partition of another day."""
    with pytest.raises(SchemaMismatchError, match="2026-11-20"), writer_in(tmp_path) as writer:
        writer.write(batch_of(offset=[1, 2], ingest_date=[DAY, dt.date(2026, 11, 21)]))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (pa.schema([("a", pa.int32()), ("b", pa.string())]), "a int32 where a int64"),
        (pa.schema([("b", pa.string()), ("a", pa.int64())]), "b string where a int64"),
        (pa.schema([("a", pa.int64())]), "1 columns, the table has 2"),
    ],
)
def test_other_columns_are_refused(schema, said):
    """A batch is never cast, reordered or filled up to fit."""
    wanted = pa.schema([("a", pa.int64()), ("b", pa.string())])
    batch = pa.RecordBatch.from_pylist([], schema=schema)
    with pytest.raises(SchemaMismatchError, match=said):
        conform(batch, wanted)


def test_memory_is_bounded(tmp_path, monkeypatch):
    """What a writer holds back never exceeds a row group."""
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 10_000)
    with writer_in(tmp_path) as writer:
        for i in range(50):
            writer.write(batch_of(offset=[i], first_bytes=[b"x" * 1000]))
            assert writer.held_bytes < 10_000
        part = writer.close()
    file = pq.ParquetFile(tmp_path / "bronze/bad_messages" / part.path)
    assert part.rows == 50
    assert file.metadata.num_row_groups >= 5
