"""`bronze.uploads`: every object seen in landing, in exactly one state.

A row is claimed (PENDING with a batch) before anything of it is written and gets its final state
after everything is: between the two, whoever comes next can finish the batch.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import CommitFailedError

from contracts.settings import Settings
from contracts.tables import TABLES
from spark_jobs.bronze_rows import Fault, Taken
from spark_jobs.delta import open_table
from spark_jobs.discover import UploadObject
from spark_jobs.ingest_index import Indexed

NAME = "bronze.uploads"
SCHEMA = TABLES[NAME].schema
FINAL_STATES = frozenset({"ACCEPTED", "PARTIAL", "QUARANTINED", "DUPLICATE", "ERASED"})
TAKEN_STATES = frozenset({"ACCEPTED", "PARTIAL"})
_ATTEMPTS = 20
Row = dict[str, Any]


def rows_where(uploads: pa.Table, column: str, values: Collection[str]) -> list[Row]:
    """Rows whose `column` is one of `values`."""
    wanted = pa.array(sorted(set(values)), pa.string())
    return uploads.filter(pc.is_in(uploads.column(column), value_set=wanted)).to_pylist()


def untouched(
    objects: Sequence[UploadObject], uploads: pa.Table, *, retry_quarantined: bool = False
) -> list[UploadObject]:
    """The objects that no row speaks of yet in this very form (uri, size, modification time).

    Rows that are claimed by a batch count as spoken of: `resume` finishes them. Quarantined ones
    don't if they are to be tried again.
    """
    final = FINAL_STATES - ({"QUARANTINED"} if retry_quarantined else set())
    known = {
        (row["uri"], row["size_bytes"], row["modified_ns"])
        for row in rows_where(uploads, "uri", [item.uri for item in objects])
        if row["state"] in final or _is_claim(row)
    }
    return [item for item in objects if (item.uri, item.size_bytes, item.modified_ns) not in known]


@attrs.frozen
class Verdicts:
    """What to write of some objects before they are decoded.

    Attributes:
        rows: New rows of `bronze.uploads`, final ones and claims (PENDING).
        touched: Rows that are final already, with a new modification time.
        recordings: uri of each recording to decode, by its hash.
        definitions: uri of each bus definition to register, by its hash.
        unchanged: Objects that were taken before under the same name.
    """

    rows: tuple[Row, ...]
    touched: tuple[Row, ...]
    recordings: Mapping[str, str]
    definitions: Mapping[str, str]
    unchanged: int


def judge(
    objects: Sequence[tuple[UploadObject, Indexed]],
    uploads: pa.Table,
    *,
    now_ns: int,
    batch_id: str | None = None,
    retry_quarantined: bool = False,
) -> Verdicts:
    """Decide what becomes of indexed objects, from their bytes and what is known already.

    Args:
        objects: Each complete object with what the first stage found.
        uploads: `bronze.uploads` as it stands; claims of other batches are left alone.
        now_ns: UTC.
        batch_id: The batch whose claims these objects are, when it is resumed.
        retry_quarantined: Whether a quarantined object gets a new verdict.
    """
    by_uri: dict[str, list[Row]] = {}
    for row in rows_where(uploads, "uri", [item.uri for item, _ in objects]):
        by_uri.setdefault(row["uri"], []).append(row)
    hashes = [found.sha256 for _, found in objects if found.sha256]
    owners: dict[str, Row] = {}
    for row in rows_where(uploads, "sha256", hashes):
        if row["state"] in (*TAKEN_STATES, "ERASED") or _is_claim(row, not_of=batch_id):
            owners.setdefault(row["sha256"], row)
    final = FINAL_STATES - ({"QUARANTINED"} if retry_quarantined else set())
    rows: list[Row] = []
    touched: list[Row] = []
    taken: dict[str, dict[str, str]] = {"recording": {}, "bus_definition": {}}
    unchanged = 0
    for item, found in objects:
        before = by_uri.get(item.uri, [])
        gone = _changed_claim(item, found, before, batch_id, now_ns=now_ns)
        if gone is not None:
            rows.append(gone)
            continue
        row = _new_row(item, found, before, now_ns=now_ns)
        same = next((old for old in before if found.sha256 and old["sha256"] == found.sha256), None)
        if same is not None and same["state"] in final:
            unchanged += 1
            touched.append({**same, "modified_ns": item.modified_ns, "match": found.sha256})
            continue
        if same is not None and _is_claim(same, not_of=batch_id):
            unchanged += 1
            continue
        _decide(row, item, found, owners)
        if row["state"] == "PENDING" and found.kind in taken and not row.get("duplicate_of"):
            taken[found.kind].setdefault(str(found.sha256), item.uri)
            owners.setdefault(str(found.sha256), row)
        rows.append(row)
    return Verdicts(
        rows=tuple(rows),
        touched=tuple(touched),
        recordings=taken["recording"],
        definitions=taken["bus_definition"],
        unchanged=unchanged,
    )


def pending_rows(objects: Sequence[UploadObject], uploads: pa.Table, *, now_ns: int) -> list[Row]:
    """Rows of objects that are not complete and that nothing is known of yet."""
    known = {row["uri"] for row in rows_where(uploads, "uri", [item.uri for item in objects])}
    return [
        {
            **_facts(item),
            "state": "PENDING",
            "reason_code": "INCOMPLETE",
            "reason": item.pending,
            "first_seen_ns": now_ns,
            "updated_ns": now_ns,
            "match": None,
        }
        for item in objects
        if item.uri not in known
    ]


def needs_work(row: Row) -> bool:
    """Whether a verdict leaves something for a batch to do."""
    return row["state"] == "PENDING" and row.get("reason_code") != "UNREADABLE"


def object_of(row: Row) -> UploadObject:
    """The object of a claimed row, expected to be what it was when it was claimed."""
    return UploadObject(
        uri=row["uri"],
        size_bytes=row["size_bytes"],
        modified_ns=row["modified_ns"],
        drive_id=row["drive_id"],
        recorder=row["recorder"],
        vehicle_key=row["vehicle_key"],
        expected_sha256=row["sha256"],
    )


def final_rows(
    rows: Sequence[Row], taken: Mapping[str, Taken], failed: Mapping[str, Fault]
) -> list[Row]:
    """The claimed rows of a batch in their final states.

    Args:
        rows: Claims, of duplicates too.
        taken: Recordings that were committed, by hash.
        failed: Faults of those that were not.
    """
    now_ns = time.time_ns()
    return [
        {**row, "updated_ns": now_ns, "match": row["sha256"], **_ending(row, taken, failed)}
        for row in rows
    ]


def _ending(row: Row, taken: Mapping[str, Taken], failed: Mapping[str, Fault]) -> Row:
    digest = row["sha256"]
    if digest in failed:
        code, what, offset = failed[digest]
        return {
            "state": "QUARANTINED",
            "reason_code": code,
            "reason": what,
            "fault_offset": offset,
            "recording_id": None,
            "duplicate_of": None,
        }
    if row.get("duplicate_of"):
        return {"state": "DUPLICATE"}
    if digest not in taken:
        return {"state": "ACCEPTED"}
    balance = taken[digest].balance
    return {
        "state": balance.outcome,
        "reason_code": balance.reason_code or None,
        "reason": balance.reason or None,
        "fault_offset": balance.fault_offset,
        "recovered_messages": balance.written,
        "lost_messages": balance.lost,
        "flags": sorted({*row["flags"], *balance.flags}),
    }


def finish_uploads(settings: Settings, batch_id: str, finals: Sequence[Row]) -> None:
    """Write final rows, as far as the batch still holds them: a rival may have finished it."""

    def decide(uploads: pa.Table) -> list[Row]:
        held = {
            (row["uri"], row["sha256"])
            for row in rows_where(uploads, "batch_id", [batch_id])
            if row["state"] == "PENDING"
        }
        return [row for row in finals if (row["uri"], row["sha256"]) in held]

    merge_uploads(settings, decide)


def merge_uploads(
    settings: Settings, decide: Callable[[pa.Table], Sequence[Row]]
) -> tuple[Row, ...]:
    """Merge rows that follow from the table as it stands; again if a rival changed it meanwhile.

    Args:
        settings: Where the lake is.
        decide: From the table to the rows to write. A row replaces the one of its uri whose hash
            is its `match`; else it is new.

    Returns:
        The rows as they were merged at last.

    Raises:
        CommitFailedError: The table would not stand still for long enough.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        table = open_table(settings, NAME)
        rows = tuple(decide(table.to_pyarrow_table()))
        if not rows:
            return rows
        columns = {name: f"source.{name}" for name in SCHEMA.names}
        source = pa.Table.from_pylist(
            [{**row, "match": row["match"]} for row in rows],
            schema=SCHEMA.remove_metadata().append(pa.field("match", pa.string())),
        )
        merger = table.merge(
            source,
            predicate="target.uri = source.uri AND target.sha256 IS NOT DISTINCT FROM source.match",
            source_alias="source",
            target_alias="target",
        )
        try:
            merger.when_matched_update(columns).when_not_matched_insert(columns).execute()
        except CommitFailedError:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(random.uniform(0.02, 0.1) * attempt)  # noqa: S311  no secret
            continue
        return rows
    raise AssertionError


def _is_claim(row: Row, *, not_of: str | None = None) -> bool:
    """Whether a batch holds the row, another one than `not_of`."""
    return row["state"] == "PENDING" and bool(row["batch_id"]) and row["batch_id"] != not_of


def _changed_claim(
    item: UploadObject,
    found: Indexed,
    before: Sequence[Row],
    batch_id: str | None,
    *,
    now_ns: int,
) -> Row | None:
    """The final row of a claimed object that is not there any more in the bytes claimed."""
    claimed = [row for row in before if row["batch_id"] == batch_id and row["state"] == "PENDING"]
    if batch_id is None or not claimed or found.sha256 == item.expected_sha256:
        return None
    if found.unreadable and not found.unreadable.startswith("FileNotFoundError"):
        raise OSError(f"a claimed object can't be read: {found.unreadable}")
    row = next(row for row in claimed if row["sha256"] == item.expected_sha256)
    return {
        **row,
        "state": "QUARANTINED",
        "reason_code": "OBJECT_CHANGED",
        "reason": found.unreadable or f"its bytes are now those of {found.sha256}",
        "batch_id": None,
        "duplicate_of": None,
        "updated_ns": now_ns,
        "match": row["sha256"],
    }


def _facts(item: UploadObject) -> Row:
    return {
        "uri": item.uri,
        "size_bytes": item.size_bytes,
        "modified_ns": item.modified_ns,
        "drive_id": item.drive_id,
        "recorder": item.recorder,
        "vehicle_key": item.vehicle_key,
        "flags": [],
    }


def _new_row(item: UploadObject, found: Indexed, before: Sequence[Row], *, now_ns: int) -> Row:
    """Everything but the verdict."""
    hashes = {old["sha256"] for old in before}
    others = sorted(digest for digest in hashes if digest and digest != found.sha256)
    return {
        **_facts(item),
        "sha256": found.sha256,
        "size_bytes": found.size_bytes if found.sha256 else item.size_bytes,
        "kind": found.kind,
        "format": found.format,
        "flags": sorted({*found.flags, *(["NAME_REUSE"] if others else [])}),
        "first_seen_ns": min(
            (old["first_seen_ns"] for old in before if old["sha256"] in (None, found.sha256)),
            default=now_ns,
        ),
        "updated_ns": now_ns,
        "match": found.sha256 if found.sha256 in hashes or None not in hashes else None,
    }


def _decide(row: Row, item: UploadObject, found: Indexed, owners: Mapping[str, Row]) -> None:
    """Give a row its state: final, or PENDING where there is work to do."""
    owner = owners.get(found.sha256 or "")
    if found.unreadable:
        row |= {"state": "PENDING", "reason_code": "UNREADABLE", "reason": found.unreadable}
    elif item.expected_sha256 and found.sha256 and found.sha256 != item.expected_sha256:
        what = f"the manifest says {item.expected_sha256}"
        row |= {"state": "QUARANTINED", "reason_code": "HASH_MISMATCH", "reason": what}
    elif owner is not None and owner["state"] == "ERASED":
        what = "the same bytes were erased"
        row |= {"state": "QUARANTINED", "reason_code": "ERASED", "reason": what}
    elif found.fault is not None:
        code, what, offset = found.fault
        row |= {
            "state": "QUARANTINED",
            "reason_code": code,
            "reason": what,
            "fault_offset": offset,
        }
    elif owner is not None and owner["uri"] != item.uri:
        # One of this batch may still fail: then this one has the same fate, at the end of it.
        state = (
            "PENDING" if owner["state"] == "PENDING" and not owner.get("batch_id") else "DUPLICATE"
        )
        row |= {"state": state, "duplicate_of": found.sha256}
    elif found.kind in ("recording", "bus_definition"):
        row |= {"state": "PENDING"}
        if found.kind == "recording":
            row |= {
                "recording_id": found.sha256,
                "drive_id": item.drive_id or f"rec-{str(found.sha256)[:16]}",
            }
    elif found.missing[0]:
        names, total = found.missing
        what = f"{len(names)} of {total} files of the bag are not there: {', '.join(names[:10])}"
        row |= {"state": "PARTIAL", "reason_code": "SPLIT_MISSING", "reason": what}
    else:
        row |= {"state": "ACCEPTED"}
