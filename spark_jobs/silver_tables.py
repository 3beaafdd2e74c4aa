"""The silver tables that messages go to: kinds have theirs, every other schema gets one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import pyarrow as pa

from contracts.errors import SchemaMismatchError
from contracts.ids import sha256_hex
from contracts.recording import RecordingIndex
from contracts.settings import Settings
from contracts.tables import SILVER_KINDS, TABLES
from spark_jobs.delta import open_table
from spark_jobs.evolution import change_of, differences
from spark_jobs.ingest_index import ChannelPlan
from spark_jobs.tables import (
    create_table,
    message_contract,
    plain_schema,
    read_arrow,
    stored_schema,
    table_exists,
)


@attrs.define
class SilverTables:
    """Silver tables of the schemas of a batch.

    Attributes:
        names: Table by schema hash.
        schemas: Arrow schemas of the definitions, by the table that takes them.
        breaks: By schema hash, in words, why a definition has not the table of its name.
        before: Table by schema hash in earlier batches, as `bronze.schemas` has it.
    """

    before: Mapping[str, str | None] = attrs.field(factory=dict)
    names: dict[str, str] = attrs.field(factory=dict)
    schemas: dict[str, tuple[pa.Schema, ...]] = attrs.field(factory=dict)
    breaks: dict[str, str] = attrs.field(factory=dict)

    def place_all(
        self, settings: Settings, index: RecordingIndex, plans: Iterable[ChannelPlan]
    ) -> None:
        """Find or make the table of every schema of a recording that has messages.

        Raises:
            SchemaMismatchError: SCHEMA_BREAK, no table takes the columns of one of them.
        """
        hashes = {schema.id: schema.hash for schema in index.schemas}
        channels = {channel.id: channel for channel in index.channels}
        for plan in plans:
            channel = channels[plan.channel_id]
            if plan.table not in SILVER_KINDS and channel.message_count != 0:
                self.place(settings, plan, hashes.get(channel.schema_id, ""))

    def place(self, settings: Settings, plan: ChannelPlan, schema_hash: str) -> None:
        """Find the table of a schema, or make it.

        Schemas of one name share a table as long as each only adds to the columns of the other.
        One that changes a type, or has some columns less and others more, gets a table of its own
        whose name ends in a hash of its columns.

        Args:
            settings: Where the lake is.
            plan: Of a channel with that schema.
            schema_hash: Of the schema; "" of the channels that have none.

        Raises:
            SchemaMismatchError: SCHEMA_BREAK, no table takes its columns.
        """
        if schema_hash in self.names or plan.schema is None:
            return
        columns = sha256_hex(plain_schema(plan.schema).serialize().to_pybytes())[:8]
        before = self.before.get(schema_hash) or ""
        names = [before.removeprefix("silver."), plan.table, f"{plan.table}_{columns}"]
        for name in filter(None, names):
            contract = message_contract(name, plan.schema)
            if not plain_schema(contract.schema).equals(plain_schema(plan.schema)):
                continue  # a name that a contract has taken
            try:
                create_table(settings, contract)
            except SchemaMismatchError:
                continue
            self.names[schema_hash] = name
            others = self.schemas.get(name, ())
            self.schemas[name] = (*(one for one in others if one != plan.schema), plan.schema)
            if name != plan.table:
                self._note_break(settings, name, plan, schema_hash)
            return
        what = f"no table takes the columns of {plan.table}"
        raise SchemaMismatchError(what, code="SCHEMA_BREAK")

    def _note_break(
        self, settings: Settings, name: str, plan: ChannelPlan, schema_hash: str
    ) -> None:
        """Say which columns keep a schema out of the table of its name, if any do."""
        usual = f"silver.{plan.table}"
        if plan.schema is None or usual in TABLES or not table_exists(settings, usual):
            return
        stored = stored_schema(open_table(settings, usual))
        found = differences(stored, plain_schema(plan.schema))
        if change_of(found) == "break":
            columns = ", ".join(map(str, found))
            self.breaks[schema_hash] = f"silver.{name} and not {usual}: {columns}"

    def breaks_of(self, index: RecordingIndex, plans: Mapping[int, ChannelPlan]) -> list[str]:
        """The breaks that rows of a recording show, sorted."""
        hashes = {schema.id: schema.hash for schema in index.schemas}
        used = [
            hashes.get(channel.schema_id, "")
            for channel in index.channels
            if channel.message_count != 0 and plans[channel.id].table not in SILVER_KINDS
        ]
        return sorted({self.breaks[one] for one in used if one in self.breaks})

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


def known_tables(settings: Settings) -> SilverTables:
    """What earlier batches have decided."""
    known = read_arrow(settings, "bronze.schemas", columns=["schema_hash", "table_name"])
    return SilverTables(before={row["schema_hash"]: row["table_name"] for row in known.to_pylist()})
