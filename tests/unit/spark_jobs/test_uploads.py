"""The verdict on each object follows from its bytes and from what is known."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from contracts.settings import settings_from
from contracts.tables import TABLES
from spark_jobs.bronze_uploads import (
    SCHEMA,
    final_rows,
    finish_uploads,
    judge,
    merge_uploads,
    needs_work,
    object_of,
    pending_rows,
    untouched,
)
from spark_jobs.discover import UploadObject
from spark_jobs.ingest_index import Indexed
from spark_jobs.tables import create_table, read_arrow

DAY = dt.date(2026, 11, 20)
A, B = "a" * 64, "b" * 64


def seen(uri="s3://x/1", sha256=A, *, kind="recording", expected=None, **changes):
    item = UploadObject(uri, 10, 100, expected_sha256=expected, drive_id=changes.pop("drive", None))
    return item, Indexed(uri, sha256, 10, kind=kind, format="mcap", **changes)


def known(*rows):
    full = [{"size_bytes": 10, "modified_ns": 100, "first_seen_ns": 1, **row} for row in rows]
    return pa.Table.from_pylist(full, schema=SCHEMA)


def verdict(pair, *rows, **options):
    return judge([pair], known(*rows), now_ns=5, **options)


def test_new_recording_is_work():
    """A recording that nobody knows is left PENDING for a batch, as a drive of its own."""
    found = verdict(seen())
    (row,) = found.rows
    assert (row["state"], row["recording_id"], row["drive_id"]) == ("PENDING", A, f"rec-{A[:16]}")
    assert needs_work(row)
    assert found.recordings == {A: "s3://x/1"}


@pytest.mark.parametrize("kind", ["recording_metadata", "upload_manifest"])
def test_metadata_is_accepted_at_once(kind):
    """What has no rows to write has its outcome at once."""
    (row,) = verdict(seen(kind=kind)).rows
    assert (row["state"], needs_work(row)) == ("ACCEPTED", False)


def test_bag_without_some_of_its_files_is_partial():
    """Fault 33: metadata that names files which are not there says how many and which."""
    (row,) = verdict(seen(kind="recording_metadata", missing=(("a_1.db3",), 3))).rows
    assert (row["state"], row["reason_code"]) == ("PARTIAL", "SPLIT_MISSING")
    assert "1 of 3 files" in row["reason"]
    assert "a_1.db3" in row["reason"]


def test_bus_definition_is_work():
    """A bus definition is accepted when it is registered, not before."""
    found = verdict(seen(kind="bus_definition"))
    assert found.definitions == {A: "s3://x/1"}
    assert needs_work(found.rows[0])


def test_fault_is_quarantined_with_its_place():
    """What the reader refused is QUARANTINED with code, words and byte."""
    (row,) = verdict(seen(fault=("BAD_MAGIC", "no format", 0))).rows
    assert (row["state"], row["reason_code"], row["fault_offset"]) == (
        "QUARANTINED",
        "BAD_MAGIC",
        0,
    )


def test_other_bytes_than_the_manifest_says():
    """A hash that differs from the manifest's is HASH_MISMATCH, whatever the bytes are."""
    (row,) = verdict(seen(expected=B)).rows
    assert (row["state"], row["reason_code"]) == ("QUARANTINED", "HASH_MISMATCH")


@pytest.mark.parametrize("state", ["ACCEPTED", "PARTIAL"])
def test_same_bytes_elsewhere_are_a_duplicate(state):
    """Bytes that were taken under another name are DUPLICATE of them."""
    (row,) = verdict(seen(), {"uri": "s3://x/0", "sha256": A, "state": state}).rows
    assert (row["state"], row["duplicate_of"]) == ("DUPLICATE", A)


def test_same_bytes_that_were_quarantined_are_no_duplicate():
    """Bytes that nobody took are looked into again under their new name."""
    (row,) = verdict(seen(), {"uri": "s3://x/0", "sha256": A, "state": "QUARANTINED"}).rows
    assert needs_work(row)


def test_same_bytes_twice_in_a_batch_share_its_fate():
    """The second of two is decided at the end of the batch, when the first one's fate is known."""
    pairs = [seen("s3://x/1"), seen("s3://x/2")]
    found = judge(pairs, known(), now_ns=5)
    assert [row["state"] for row in found.rows] == ["PENDING", "PENDING"]
    assert [row.get("duplicate_of") for row in found.rows] == [None, A]
    assert found.recordings == {A: "s3://x/1"}


def test_erased_bytes_do_not_come_back():
    """An object with the bytes of an erased one is refused."""
    (row,) = verdict(seen(), {"uri": "s3://x/0", "sha256": A, "state": "ERASED"}).rows
    assert (row["state"], row["reason_code"]) == ("QUARANTINED", "ERASED")


def test_same_name_with_other_bytes_is_a_new_row_and_flagged():
    """Both versions are kept, and the reuse of the name is said."""
    (row,) = verdict(seen(), {"uri": "s3://x/1", "sha256": B, "state": "ACCEPTED"}).rows
    assert (row["flags"], row["match"], row["sha256"]) == (["NAME_REUSE"], A, A)
    assert needs_work(row)


@pytest.mark.parametrize("state", ["ACCEPTED", "QUARANTINED", "DUPLICATE"])
def test_same_name_and_bytes_change_nothing(state):
    """A touched file keeps its row and its outcome; only the modification time follows."""
    found = verdict(seen(), {"uri": "s3://x/1", "sha256": A, "state": state, "modified_ns": 1})
    assert (found.rows, found.unchanged) == ((), 1)
    assert [(row["state"], row["modified_ns"]) for row in found.touched] == [(state, 100)]


def test_quarantined_object_can_be_tried_again():
    """After an upgrade a quarantined object gets a new verdict, an accepted one does not."""
    row = {"uri": "s3://x/1", "sha256": A, "state": "QUARANTINED"}
    assert len(verdict(seen(), row, retry_quarantined=True).recordings) == 1
    assert verdict(seen(), {**row, "state": "ACCEPTED"}, retry_quarantined=True).unchanged == 1


def test_claim_of_another_batch_is_left_alone():
    """An object that a rival has claimed meanwhile is not claimed again."""
    claim = {"uri": "s3://x/1", "sha256": A, "state": "PENDING", "batch_id": "other"}
    found = verdict(seen(), claim)
    assert (found.rows, found.touched, found.unchanged) == ((), (), 1)
    (twin,) = verdict(seen("s3://x/2"), claim).rows
    assert twin["state"] == "DUPLICATE"


def test_unreadable_object_waits():
    """What the storage does not give stays PENDING and is no work."""
    (row,) = verdict(seen(sha256=None, kind=None, unreadable="PermissionError: denied")).rows
    assert (row["state"], row["reason_code"], needs_work(row)) == ("PENDING", "UNREADABLE", False)


def test_claimed_object_that_changed_ends_quarantined():
    """A resumed object with other bytes than were claimed is out, under the hash of the claim."""
    claim = {"uri": "s3://x/1", "sha256": A, "state": "PENDING", "batch_id": "mine", "flags": []}
    item = object_of(known(claim).to_pylist()[0])
    changed = (item, Indexed(item.uri, B, 10, kind="recording", format="mcap"))
    gone = (item, Indexed(item.uri, None, 0, unreadable="FileNotFoundError: gone"))
    for pair in (changed, gone):
        found = verdict(pair, claim, batch_id="mine")
        (row,) = found.rows
        assert (row["state"], row["reason_code"]) == ("QUARANTINED", "OBJECT_CHANGED")
        assert (row["sha256"], row["batch_id"], row["match"]) == (A, None, A)
        assert not found.recordings
    denied = (item, Indexed(item.uri, None, 0, unreadable="PermissionError: denied"))
    with pytest.raises(OSError, match="PermissionError"):
        verdict(denied, claim, batch_id="mine")


def test_only_what_is_new_is_looked_into():
    """Objects in a final state or a batch are skipped; a pending or touched one is not."""
    item, _ = seen()
    row = {"uri": item.uri, "sha256": A, "state": "ACCEPTED"}
    assert untouched([item], known(row)) == []
    assert untouched([item], known({**row, "state": "PENDING", "batch_id": "b"})) == []
    assert untouched([item], known({**row, "state": "PENDING"})) == [item]
    assert untouched([item], known({**row, "modified_ns": 99})) == [item]
    assert untouched([item], known({**row, "state": "QUARANTINED"})) == []
    quarantined = known({**row, "state": "QUARANTINED"})
    assert untouched([item], quarantined, retry_quarantined=True) == [item]


@pytest.fixture
def lake(tmp_path):
    settings = settings_from({"DRIVELAKE_HOME": str(tmp_path)}, working_folder=tmp_path)
    create_table(settings, TABLES["bronze.uploads"])
    return settings


def test_pending_row_becomes_the_row_of_its_object(lake):
    """An incomplete object has one row, which turns into that of the complete one."""
    item, found = seen()

    def pending(uploads):
        rows = pending_rows([item], uploads, now_ns=3)
        return [{**row, "ingest_date": DAY} for row in rows]

    for _ in range(2):
        merge_uploads(lake, pending)
    assert read_arrow(lake, "bronze.uploads").num_rows == 1

    def decided(uploads):
        rows = judge([(item, found)], uploads, now_ns=5).rows
        return [{"batch_id": "b", "ingest_date": DAY, **row} for row in rows]

    merge_uploads(lake, decided)
    (row,) = read_arrow(lake, "bronze.uploads").to_pylist()
    assert (row["sha256"], row["first_seen_ns"], row["updated_ns"]) == (A, 3, 5)


def test_verdict_is_made_again_when_a_rival_changed_the_table(lake):
    """Two writers that decide on one version: the later one sees what the first one wrote."""
    calls = []

    def rival(_uploads):
        (row,) = judge([seen("s3://x/0")], known(), now_ns=1).rows
        return [{"ingest_date": DAY, **row, "state": "ACCEPTED"}]

    def decide(uploads):
        calls.append(uploads.num_rows)
        rows = judge([seen("s3://x/1")], uploads, now_ns=5).rows
        if len(calls) == 1:
            merge_uploads(lake, rival)
        return [{"batch_id": None, "ingest_date": DAY, **row} for row in rows]

    (row,) = merge_uploads(lake, decide)
    assert calls == [0, 1]
    assert row["state"] == "DUPLICATE"
    states = sorted(read_arrow(lake, "bronze.uploads").column("state").to_pylist())
    assert states == ["ACCEPTED", "DUPLICATE"]


def test_only_who_holds_an_object_finishes_it(lake):
    """Final states of a batch are written where it still holds the object, nowhere else."""

    def claim(_uploads):
        pairs = [seen("s3://x/1", A), seen("s3://x/2", B)]
        rows = judge(pairs, known(), now_ns=1).rows
        names = ("mine", "rival")
        return [
            {"ingest_date": DAY, **row, "batch_id": name}
            for row, name in zip(rows, names, strict=True)
        ]

    claimed = merge_uploads(lake, claim)
    finals = final_rows([{**row, "batch_id": "mine"} for row in claimed], {}, {})
    finish_uploads(lake, "mine", finals)
    rows = {row["sha256"]: row for row in read_arrow(lake, "bronze.uploads").to_pylist()}
    assert (rows[A]["state"], rows[B]["state"]) == ("ACCEPTED", "PENDING")
    failed = {A: ("LATE", "too late", None)}
    finish_uploads(lake, "mine", final_rows(list(claimed), {}, failed))
    assert read_arrow(lake, "bronze.uploads").num_rows == 2
    rows = {row["sha256"]: row for row in read_arrow(lake, "bronze.uploads").to_pylist()}
    assert rows[A]["state"] == "ACCEPTED"
