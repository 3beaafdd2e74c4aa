"""Recordings that come packed as a whole: rows, accounts and outcomes in the lake."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import zipfile

import pytest
import zstandard

from spark_jobs import ingest_decode
from spark_jobs.ingest import ingest
from spark_jobs.tables import read_arrow

pytestmark = pytest.mark.spark


def test_packed_recordings_have_every_account(spark, lake, landing, mcap_bytes, monkeypatch):
    """Whole, cut, hostile: each has its outcome; the ledger tiles what is stored, bytes and all."""
    monkeypatch.setattr(ingest_decode, "TASK_BYTES", 1000)
    whole, cut = mcap_bytes(messages=300), mcap_bytes(first=1000, messages=900)
    (landing / "whole.mcap.zst").write_bytes(zstandard.compress(whole))
    packed = gzip.compress(cut)
    (landing / "cut.mcap.gz").write_bytes(packed[: len(packed) // 2])
    (landing / "bomb.mcap.gz").write_bytes(gzip.compress(whole + bytes(64 << 20)))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../away.mcap", whole)
    (landing / "away.zip").write_bytes(out.getvalue())
    day = dt.date(2026, 11, 20)
    ingest(spark, lake, [lake.landing_uri], assume_complete=True, register=False, ingest_date=day)
    rows = read_arrow(lake, "bronze.uploads").to_pylist()
    found = {row["uri"].rsplit("/", 1)[1]: row for row in rows}
    assert {name: (row["state"], row["reason_code"]) for name, row in found.items()} == {
        "whole.mcap.zst": ("ACCEPTED", None),
        "cut.mcap.gz": ("PARTIAL", "TRUNCATED"),
        "bomb.mcap.gz": ("QUARANTINED", "BOMB"),
        "away.zip": ("QUARANTINED", "UNSUPPORTED_FORMAT"),
    }
    values = read_arrow(lake, "silver.pkg_number", columns=["number"]).column(0).to_pylist()
    assert sorted(values)[:300] == list(range(300))
    assert 300 < len(values) < 1200
    ledger = read_arrow(lake, "bronze.decode_ledger").to_pylist()
    for name in ("whole.mcap.zst", "cut.mcap.gz"):
        own = [row for row in ledger if row["recording_id"] == found[name]["recording_id"]]
        at = 0
        for row in sorted(own, key=lambda row: (row["offset"], row["length"])):
            assert row["offset"] == at
            at += row["length"]
        assert at == found[name]["size_bytes"] == (landing / name).stat().st_size
