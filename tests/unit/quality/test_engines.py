"""The engine for small tables: DuckDB over Delta tables as delta-rs writes them."""

from __future__ import annotations

from deltalake import DeltaTable, write_deltalake

from contracts.tables import TABLES
from quality.engines import duckdb_query
from quality.evaluate import evaluate
from tests.unit.quality.good_lake import DAY, good_tables


def test_rules_run_on_delta_tables(tmp_path):
    """Delta tables, string views and statistics included, are judged as their rows are."""
    rows = good_tables()
    names = ("bronze.uploads", "bronze.recordings")
    datasets = {}
    for name in names:
        write_deltalake(tmp_path / name, rows[name], partition_by=["ingest_date"])
        table = DeltaTable(tmp_path / name)
        table.update(predicate="recording_id = 'rec-b'", updates={"recording_id": "'rec-z'"})
        datasets[name] = DeltaTable(tmp_path / name).to_pyarrow_dataset()
    datasets["bronze.decode_ledger"] = rows["bronze.decode_ledger"]
    query = duckdb_query(datasets)
    for day in (None, DAY):
        uploads = evaluate(TABLES["bronze.uploads"], query=query, day=day)
        assert all(result.passed and result.rows_checked == 5 for result in uploads)
        recordings = evaluate(TABLES["bronze.recordings"], query=query, day=day)
        assert [r.rule.id for r in recordings if not r.passed] == ["DEC003", "DEC006"]
