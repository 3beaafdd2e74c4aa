"""One batch of ingest: decode what is claimed, balance the books, commit table by table."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

import attrs
from pyspark.sql import SparkSession

from contracts.errors import ContractViolation, SchemaMismatchError
from contracts.recording import RecordingIndex
from contracts.settings import Settings
from spark_jobs import bronze_rows
from spark_jobs.balance import balance_of
from spark_jobs.bronze_rows import Fault, Taken
from spark_jobs.bronze_uploads import Row, final_rows
from spark_jobs.commit import (
    app_id_of,
    commit_parts,
    discard_parts,
    remove_orphans,
    withdraw,
    write_rows,
)
from spark_jobs.index_codec import pack_index
from spark_jobs.ingest_decode import Claimed, Counts, Decoded, DecodePlan, decode_recordings
from spark_jobs.ingest_index import Indexed
from spark_jobs.parts import Part
from spark_jobs.pipeline import pipeline_version
from spark_jobs.silver_tables import SilverTables, known_tables
from spark_jobs.tables import insert_new


@attrs.frozen
class BatchResult:
    """What a batch came to.

    Attributes:
        finals: Final rows of `bronze.uploads`.
        rows: Rows by table.
        messages: Messages written, bad and lost, and recordings with losses of unknown size.
    """

    finals: list[Row]
    rows: Mapping[str, int]
    messages: Mapping[str, int]


@attrs.frozen
class _Known:
    """What must be known of a whole recording before any part of it is decoded right.

    Attributes:
        quarantined: Channels of which too many messages would not decode.
        conflicts: As in `RecordingIndex`, those inside of chunks included.
    """

    quarantined: frozenset[int]
    conflicts: Mapping[int, int]


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
        indexes: Index of each recording, by uri.
    """

    spark: SparkSession
    settings: Settings
    batch_id: str
    ingest_date: dt.date
    rows: Sequence[Row]
    indexed: Mapping[str, Indexed]
    definitions: Mapping[str, bytes]
    progress: Callable[[str, int, int], None]
    indexes: Mapping[str, RecordingIndex] = attrs.field(init=False, repr=False)

    @indexes.default
    def _indexes(self) -> dict[str, RecordingIndex]:
        uris = [row["uri"] for row in self.rows if row["kind"] == "recording"]
        return {uri: self.indexed[uri].recording_index() for uri in uris}

    def run(self, *, is_repeat: bool) -> BatchResult:
        """Decode and commit; the final states are the caller's to write.

        Args:
            is_repeat: Whether an earlier run may have committed some of it.
        """
        work = [row for row in self.rows if not row.get("duplicate_of")]
        recordings = [row for row in work if row["kind"] == "recording"]
        taken, failed, decoded = self._decode_all(recordings)
        if is_repeat and failed:
            withdraw(self.settings, self.batch_id, list(failed))
        self._register_schemas(taken, [row for row in work if row["kind"] == "bus_definition"])
        parts = self._with_own_parts(decoded.committable(), taken, failed)
        self._commit(parts, sweep=is_repeat or decoded.left_behind)
        balances = [item.balance for item in taken]
        return BatchResult(
            finals=final_rows(self.rows, {item.recording_id: item for item in taken}, failed),
            rows={name: sum(part.rows for part in group) for name, group in parts.items()},
            messages={
                "written": sum(item.written for item in balances),
                "bad": sum(item.bad for item in balances),
                "lost": sum(item.lost or 0 for item in balances),
                "unknown": sum(item.lost is None for item in balances),
            },
        )

    def _decode_all(
        self, recordings: Sequence[Row]
    ) -> tuple[list[Taken], dict[str, Fault], Decoded]:
        """Decode until the books of every recording balance; one that does not add up is out.

        What one part of a recording has shown and another had to know is told to all of them in
        a second turn. Parts hold the rows of several recordings: those that share one with such
        a recording, or with one that is out, are written anew.
        """
        failed: dict[str, Fault] = {}
        tables = known_tables(self.settings)
        remaining: list[Row] = []
        known: dict[str, _Known] = {}
        for row in recordings:
            found = self.indexed[row["uri"]]
            try:
                tables.place_all(self.settings, self.indexes[row["uri"]], found.plans)
            except SchemaMismatchError as error:
                failed[row["recording_id"]] = (error.code, error.what, error.offset)
                continue
            remaining.append(row)
            known[row["recording_id"]] = _Known(frozenset(), self.indexes[row["uri"]].conflicts)
        decoded = self._decode(remaining, tables, known)
        while True:
            failed |= decoded.failed
            remaining = [row for row in remaining if row["recording_id"] not in failed]
            news = self._news(remaining, known, decoded)
            taken, broken = self._settle(
                [row for row in remaining if row["recording_id"] not in news], tables, decoded
            )
            if not broken and not news:
                discard_parts(self.settings, decoded.discarded())
                return taken, failed, decoded
            failed |= broken
            known |= news
            tainted = decoded.tainted_by({*broken, *news})
            kept = decoded.without(tainted)
            discard_parts(self.settings, decoded.parts_of(tainted))
            redone = [row for row in remaining if row["recording_id"] in tainted - failed.keys()]
            decoded = kept.joined(self._decode(redone, tables, known))

    def _news(
        self, recordings: Sequence[Row], known: Mapping[str, _Known], decoded: Decoded
    ) -> dict[str, _Known]:
        """What decode has found out of recordings that their decode had not been told."""
        news = {}
        for row in recordings:
            counts = decoded.counts.get(row["recording_id"], Counts())
            before = known[row["recording_id"]].conflicts
            found = _Known(counts.spoiled_channels(), {**before, **counts.conflicts})
            if found != known[row["recording_id"]]:
                news[row["recording_id"]] = found
        return news

    def _decode(
        self, recordings: Sequence[Row], tables: SilverTables, known: Mapping[str, _Known]
    ) -> Decoded:
        claimed = [self._claimed(row, known[row["recording_id"]]) for row in recordings]
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

    def _claimed(self, row: Row, known: _Known) -> Claimed:
        found, index = self.indexed[row["uri"]], self.indexes[row["uri"]]
        told = known.conflicts == index.conflicts
        units = index.units
        even = row["size_bytes"] // max(len(units), 1)
        in_bytes = found.format != "rosbag2_db3"  # there a unit's length counts rows
        # Each task would unpack what is packed as a whole anew: one task takes it.
        is_packed = any(finding.code == "PACKED" for finding in index.findings)
        return Claimed(
            recording_id=row["recording_id"],
            uri=row["uri"],
            size_bytes=row["size_bytes"],
            index=found.index
            if told
            else pack_index(attrs.evolve(index, conflicts=known.conflicts)),
            units=()
            if is_packed
            else tuple((unit.index, unit.length if in_bytes else even) for unit in units),
            quarantined=known.quarantined,
        )

    def _settle(
        self, recordings: Sequence[Row], tables: SilverTables, decoded: Decoded
    ) -> tuple[list[Taken], dict[str, Fault]]:
        """Balance the books of every recording; those that do not add up come second."""
        taken: list[Taken] = []
        broken: dict[str, Fault] = {}
        for row in recordings:
            recording_id = row["recording_id"]
            index = self.indexes[row["uri"]]
            counts = decoded.counts.get(recording_id, Counts())
            try:
                balance = balance_of(index, counts)
            except ContractViolation as error:
                broken[recording_id] = (error.code, error.what, error.offset)
                continue
            plans = {item.channel_id: item for item in self.indexed[row["uri"]].plans}
            for channel in counts.spoiled_channels():
                plans[channel] = attrs.evolve(
                    plans[channel], table="raw_messages", status="QUARANTINED"
                )
            names = tables.of_channels(index, plans)
            balance = balance.flagged("SCHEMA_BREAK", tables.breaks_of(index, plans))
            taken.append(Taken(recording_id, row, index, plans, names, counts, balance))
        return taken, broken

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
        rows += [
            bronze_rows.definition_row(data, name=binding, encoding="dbc", common=day)
            for binding, data in sorted(self.definitions.items())
        ]
        insert_new(self.settings, "bronze.schemas", rows, key="schema_hash", fill="table_name")

    def _with_own_parts(
        self, decoded: Sequence[Part], taken: Sequence[Taken], failed: Mapping[str, Fault]
    ) -> dict[str, list[Part]]:
        """Parts by table: what the workers wrote, and what follows from the indexes."""
        parts: dict[str, list[Part]] = {}
        for part in decoded:
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
