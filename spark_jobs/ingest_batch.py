"""One batch of ingest: decode what is claimed, balance the books, commit table by table."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

import attrs
import pyarrow as pa
from pyspark.sql import SparkSession

from contracts.errors import ContractViolation, SchemaMismatchError
from contracts.ids import sha256_hex
from contracts.recording import RecordingIndex
from contracts.settings import Settings
from contracts.tables import SILVER_KINDS
from spark_jobs import bronze_rows
from spark_jobs.balance import balance_of
from spark_jobs.bronze_rows import Fault, Taken
from spark_jobs.bronze_uploads import Row
from spark_jobs.commit import commit_parts, remove_orphans, write_rows
from spark_jobs.ingest_decode import Claimed, Counts, Decoded, DecodePlan, decode_recordings
from spark_jobs.ingest_index import ChannelPlan, Indexed
from spark_jobs.parts import Part
from spark_jobs.pipeline import pipeline_version
from spark_jobs.tables import (
    create_table,
    insert_new,
    list_tables,
    message_contract,
    open_table,
    plain_schema,
)


@attrs.frozen
class BatchResult:
    """What a batch came to.

    Attributes:
        finals: Final rows of `bronze.uploads`.
        rows: Rows by table.
        messages: Messages written, bad and lost.
    """

    finals: list[Row]
    rows: Mapping[str, int]
    messages: Mapping[str, int]


@attrs.define
class Tables:
    """Silver tables of the schemas of a batch.

    Attributes:
        names: Table by schema hash.
        schemas: Arrow schema by table.
    """

    names: dict[str, str] = attrs.field(factory=dict)
    schemas: dict[str, pa.Schema] = attrs.field(factory=dict)

    def place(
        self, settings: Settings, plan: ChannelPlan, schema_hash: str, before: str | None
    ) -> None:
        """Find the table of a schema, or make it.

        Two schemas of one name with other columns get tables of their own: the second one's name
        ends in a hash of its columns.

        Args:
            settings: Where the lake is.
            plan: Of a channel with that schema.
            schema_hash: Of the schema.
            before: Table that the schema had in earlier batches, if any.
        """
        if schema_hash in self.names or plan.schema is None:
            return
        columns = sha256_hex(plain_schema(plan.schema).serialize().to_pybytes())[:8]
        names = [(before or "").removeprefix("silver."), plan.table, f"{plan.table}_{columns}"]
        for name in filter(None, names):
            contract = message_contract(name, plan.schema)
            if not plain_schema(contract.schema).equals(plain_schema(plan.schema)):
                continue  # a name that a contract has taken
            try:
                create_table(settings, contract)
            except SchemaMismatchError:
                continue
            self.names[schema_hash] = name
            self.schemas[name] = plan.schema
            return
        what = f"no table takes the columns of {plan.table}"
        raise SchemaMismatchError(what, code="SCHEMA_BREAK")

    def of_channels(
        self, index: RecordingIndex, plans: Mapping[int, ChannelPlan]
    ) -> dict[int, str | None]:
        """Table of each channel; None for a silent one whose schema has no table yet."""
        hashes = {schema.id: schema.hash for schema in index.schemas}
        return {
            channel.id: plans[channel.id].table
            if plans[channel.id].table in SILVER_KINDS
            else self.names.get(hashes.get(channel.schema_id, ""))
            for channel in index.channels
        }


def app_id_of(batch_id: str) -> str:
    """Identity of the commits of a batch."""
    return f"ingest:{batch_id}"


def withdraw(settings: Settings, batch_id: str, recording_ids: Sequence[str]) -> None:
    """Delete the rows of recordings that an unfinished batch has committed already."""
    wanted = ", ".join(f"'{name}'" for name in sorted(set(recording_ids)))
    for name in list_tables(settings):
        table = open_table(settings, name)
        if table.transaction_version(app_id_of(batch_id)) is not None and wanted:
            table.delete(f"recording_id IN ({wanted})")


@attrs.frozen
class Batch:
    """A claimed batch on its way through decode and commit.

    Attributes:
        spark: Session.
        settings: Where the lake is.
        batch_id: Its identity; every commit carries it.
        ingest_date: Partition of its rows.
        rows: The rows of `bronze.uploads` that it holds.
        indexed: What the first stage found, by uri.
        definitions: Bus definitions by binding.
        progress: Told (stage, done, total).
    """

    spark: SparkSession
    settings: Settings
    batch_id: str
    ingest_date: dt.date
    rows: Sequence[Row]
    indexed: Mapping[str, Indexed]
    definitions: Mapping[str, bytes]
    progress: Callable[[str, int, int], None]

    def run(self, *, is_repeat: bool) -> BatchResult:
        """Decode and commit; the final states are the caller's to write.

        Args:
            is_repeat: Whether an earlier run may have committed some of it.
        """
        work = [row for row in self.rows if not row.get("duplicate_of")]
        recordings = [row for row in work if row["kind"] == "recording"]
        tables = self._plan_tables(recordings)
        decoded = self._decode(recordings, tables)
        taken, failed = self._settle(recordings, tables, decoded)
        if is_repeat and failed:
            withdraw(self.settings, self.batch_id, list(failed))
        self._register_schemas(taken, [row for row in work if row["kind"] == "bus_definition"])
        parts = self._parts(taken, failed, decoded)
        self._commit(parts, sweep=is_repeat or bool(failed))
        balances = [item.balance for item in taken]
        return BatchResult(
            finals=self._finals(taken, failed),
            rows={name: sum(part.rows for part in group) for name, group in parts.items()},
            messages={
                "written": sum(item.written for item in balances),
                "bad": sum(item.bad for item in balances),
                "lost": sum(item.lost or 0 for item in balances),
            },
        )

    def _plan_tables(self, recordings: Sequence[Row]) -> Tables:
        """Decide the silver table of every schema, and make the tables that are new."""
        known = open_table(self.settings, "bronze.schemas").to_pyarrow_table(
            columns=["schema_hash", "table_name"]
        )
        before = dict(zip(*(known.column(i).to_pylist() for i in range(2)), strict=True))
        plan = Tables()
        for row in recordings:
            found = self.indexed[row["uri"]]
            index = found.recording_index()
            hashes = {schema.id: schema.hash for schema in index.schemas}
            channels = {channel.id: channel for channel in index.channels}
            for item in found.plans:
                channel = channels[item.channel_id]
                if item.table in SILVER_KINDS or item.schema is None:
                    continue
                if channel.message_count != 0:
                    digest = hashes[channel.schema_id]
                    plan.place(self.settings, item, digest, before.get(digest))
        return plan

    def _decode(self, recordings: Sequence[Row], tables: Tables) -> Decoded:
        claimed = [self._claimed(row) for row in recordings]
        plan = DecodePlan(
            batch_id=self.batch_id,
            ingest_date=self.ingest_date,
            lake_uri=self.settings.lake_uri,
            schemas=tables.schemas,
            table_names=tables.names,
            definitions=self.definitions,
        )
        return decode_recordings(
            self.spark,
            claimed,
            plan,
            storage_options=self.settings.storage_options,
            progress=lambda done: self.progress("decode", done, len(claimed)),
        )

    def _claimed(self, row: Row) -> Claimed:
        found = self.indexed[row["uri"]]
        units = found.recording_index().units
        even = row["size_bytes"] // max(len(units), 1)
        in_bytes = found.format != "rosbag2_db3"  # there a unit's length counts rows
        return Claimed(
            recording_id=row["recording_id"],
            uri=row["uri"],
            size_bytes=row["size_bytes"],
            index=found.index,
            units=tuple((unit.index, unit.length if in_bytes else even) for unit in units),
        )

    def _settle(
        self, recordings: Sequence[Row], tables: Tables, decoded: Decoded
    ) -> tuple[list[Taken], dict[str, Fault]]:
        """Balance the books of every recording; one that does not add up is not committed."""
        taken: list[Taken] = []
        for row in recordings:
            recording_id = row["recording_id"]
            if recording_id in decoded.failed:
                continue
            found = self.indexed[row["uri"]]
            index = found.recording_index()
            counts = decoded.counts.get(recording_id, Counts())
            try:
                balance = balance_of(index, counts)
            except ContractViolation as error:
                decoded.failed[recording_id] = (error.code, error.what, error.offset)
                continue
            plans = {item.channel_id: item for item in found.plans}
            names = tables.of_channels(index, plans)
            taken.append(Taken(recording_id, row, index, plans, names, counts, balance))
        return taken, decoded.failed

    def _register_schemas(self, taken: Sequence[Taken], definitions: Sequence[Row]) -> None:
        """Add the definitions that are new to `bronze.schemas`."""
        day = {"ingest_date": self.ingest_date}
        rows = bronze_rows.schemas_rows(taken, common=day)
        for row in definitions:
            name = unquote(PurePosixPath(row["uri"]).name)
            data = self.indexed[row["uri"]].definition
            rows.append(
                bronze_rows.definition_row(data, name=name, encoding=row["format"], common=day)
            )
        insert_new(self.settings, "bronze.schemas", rows, key="schema_hash", fill="table_name")

    def _parts(
        self, taken: Sequence[Taken], failed: Mapping[str, Fault], decoded: Decoded
    ) -> dict[str, list[Part]]:
        """Parts by table: what the workers wrote, and what follows from the indexes."""
        parts: dict[str, list[Part]] = {}
        for part in decoded.committable():
            parts.setdefault(part.table, []).append(part)
        day = {"ingest_date": self.ingest_date}
        made = {"pipeline_version": pipeline_version(), "ingested_ns": time.time_ns()}
        sizes = {row["sha256"]: row["size_bytes"] for row in self.rows}
        refused = {name: (sizes[name], fault) for name, fault in failed.items()}
        own = {
            "bronze.decode_ledger": bronze_rows.structure_table(taken, refused, common=day),
            "bronze.chunks": bronze_rows.chunks_table(taken, common=day),
            "bronze.channels": bronze_rows.channels_table(taken, common=day),
            "bronze.recordings": bronze_rows.recordings_table(taken, common={**day, **made}),
        }
        for name, rows in own.items():
            part = write_rows(
                self.settings, name, rows, ingest_date=self.ingest_date, batch_id=self.batch_id
            )
            if part:
                parts.setdefault(name, []).append(part)
        return parts

    def _commit(self, parts: Mapping[str, Sequence[Part]], *, sweep: bool) -> None:
        """Silver first, then bronze, `bronze.recordings` last."""
        order = sorted(parts, key=lambda name: (not name.startswith("silver."), name))
        app_id = app_id_of(self.batch_id)
        for done, name in enumerate(order):
            commit_parts(self.settings, name, parts[name], app_id=app_id)
            if sweep:
                remove_orphans(
                    self.settings, name, ingest_date=self.ingest_date, batch_id=self.batch_id
                )
            self.progress("commit", done + 1, len(order))

    def _finals(self, taken: Sequence[Taken], failed: Mapping[str, Fault]) -> list[Row]:
        now_ns = time.time_ns()
        by_id = {item.recording_id: item for item in taken}
        finals = []
        for row in self.rows:
            final = {**row, "updated_ns": now_ns, "match": row["sha256"]}
            digest = row["sha256"]
            if digest in failed:
                code, what, offset = failed[digest]
                final |= {
                    "state": "QUARANTINED",
                    "reason_code": code,
                    "reason": what,
                    "fault_offset": offset,
                    "recording_id": None,
                    "duplicate_of": None,
                }
            elif row.get("duplicate_of"):
                final |= {"state": "DUPLICATE"}
            elif digest in by_id:
                balance = by_id[digest].balance
                final |= {
                    "state": balance.outcome,
                    "reason_code": balance.reason_code or None,
                    "reason": balance.reason or None,
                    "fault_offset": balance.fault_offset,
                    "recovered_messages": balance.written,
                    "lost_messages": balance.lost,
                    "flags": sorted({*row["flags"], *balance.flags}),
                }
            else:
                final |= {"state": "ACCEPTED"}
            finals.append(final)
        return finals
