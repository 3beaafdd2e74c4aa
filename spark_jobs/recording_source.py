"""`spark.read.format("recording")`: recordings of any format as a DataFrame, to look into by hand.

A partition is some units of a recording; each decodes in a child process with bounds. The bulk
path into silver is `ingest`, which accounts for every byte. Filters are not pushed down: topics,
times and kinds are options, and only the chunks that hold them are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import attrs
import pyarrow as pa
import pyarrow.fs as pafs
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from contracts.errors import ContractViolation, SchemaMismatchError
from contracts.tables import MESSAGE_COLUMNS, TABLES
from spark_jobs.guard import ATTEMPTS, Bounds, guarded
from spark_jobs.index_codec import pack_index, unpack_index
from spark_jobs.readers import import_readers
from spark_jobs.stage import pack
from spark_jobs.storage import filesystem_of, uri_of
from udfs.decode.reading import (
    LAKE_COLUMNS,
    PAYLOAD,
    Account,
    has_pointers,
    iter_rows,
    selection_of,
)
from udfs.decode.recording import quick_index, table_of_channel
from udfs.decode.selection import Selection
from udfs.decode.source import PART_READ_AHEAD_BYTES, open_source

PARTITION_BYTES = 32 << 20
_COMMON = [name for name in MESSAGE_COLUMNS if name not in LAKE_COLUMNS]
_STORAGE_PREFIX = "aws_"
_SIGNALS = TABLES["silver.signals"].schema


@attrs.frozen
class Options:
    """What the options of a reader say.

    Attributes:
        uris: Recordings, or folders of them.
        selection: What is asked for.
        payloads: Whether images and sweeps come along, in a column `data`.
        allow_loss: Whether a damaged recording gives what it has instead of an error.
    """

    uris: tuple[str, ...]
    selection: Selection
    payloads: bool = False
    allow_loss: bool = False

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Options:
        """From `path`, `topics`, `start`, `end`, `kinds`, `signals`, `payloads` and `allowLoss`.

        Raises:
            ContractViolation: USAGE, no path, a time that is none, or a span that holds no time.
        """
        told = {key.lower(): value for key, value in options.items()}
        paths = json.loads(told["paths"]) if "paths" in told else [told.get("path", "")]
        if not all(paths):
            what = 'No path: spark.read.format("recording").load(path)'
            raise ContractViolation(what, code="USAGE")
        return cls(
            uris=tuple(uri_of(path) for path in paths),
            selection=selection_of(
                topics=_listed(told.get("topics")),
                start=told.get("start"),
                end=told.get("end"),
                tables=_listed(told.get("kinds")),
                signals=_listed(told.get("signals")),
            ),
            payloads=told.get("payloads", "false").lower() == "true",
            allow_loss=told.get("allowloss", "false").lower() == "true",
        )


@attrs.frozen
class Opened:
    """A recording and its packed index."""

    uri: str
    size_bytes: int
    index: bytes = attrs.field(repr=False)


class RecordingPartition(InputPartition):
    """Some units of a recording, by their ordinals."""

    def __init__(self, recording: Opened, units: Sequence[int]) -> None:
        """Take the units of a recording."""
        super().__init__(0)
        self.recording = recording
        self.units = tuple(units)


class RecordingSource(DataSource):
    """Recordings as rows: `uri`, `kind`, the common columns, and those of the kind.

    Where rows of one kind are asked for, or there is but one, its columns stand side by side; else
    each kind is a column of its own, a struct that is null in the rows of the others.
    """

    storage_options: ClassVar[Mapping[str, str]] = {}
    _found: list[Opened] | None = None

    @classmethod
    def name(cls) -> str:
        """The name of the format."""
        return "recording"

    def schema(self) -> StructType:
        """From the definitions in the recordings."""
        return from_arrow_schema(_schema(self._kinds()))

    def reader(self, schema: StructType) -> RecordingReader:
        """A reader of what the options name."""
        del schema
        return RecordingReader(
            Options.of(self.options), self._storage(), self._recordings(), self._kinds()
        )

    def _storage(self) -> dict[str, str]:
        given = {
            key.upper(): value
            for key, value in self.options.items()
            if key.lower().startswith(_STORAGE_PREFIX)
        }
        return {**self.storage_options, **given}

    def _recordings(self) -> list[Opened]:
        if self._found is None:  # Spark keeps the object from one step of its planning to the next
            options, storage = Options.of(self.options), self._storage()
            uris = [one for uri in options.uris for one in _files(uri, storage)]
            self._found = [_opened(uri, storage) for uri in uris]
        return self._found

    def _kinds(self) -> dict[str, pa.Schema]:
        options = Options.of(self.options)
        found: dict[str, pa.Schema] = {}
        for recording in self._recordings():
            for kind, schema in _kinds_of(recording, options).items():
                if not found.setdefault(kind, schema).equals(schema):
                    raise SchemaMismatchError(
                        f"two definitions of {kind} differ",
                        uri=recording.uri,
                        remedy="Read the recordings one at a time, or name other kinds",
                    )
        return found


class RecordingReader(DataSourceReader):
    """Reads the partitions of a load."""

    def __init__(
        self,
        options: Options,
        storage_options: Mapping[str, str],
        recordings: Sequence[Opened],
        kinds: Mapping[str, pa.Schema],
    ) -> None:
        """Take what every partition needs."""
        self._options = options
        self._storage = dict(storage_options)
        self._recordings = list(recordings)
        self._kinds = {kind: schema.serialize().to_pybytes() for kind, schema in kinds.items()}

    def partitions(self) -> Sequence[InputPartition]:
        """Units of about 32 MB together, of those that hold what is asked for."""
        found: list[RecordingPartition] = []
        for recording in self._recordings:
            index = unpack_index(recording.index)
            ids = {channel.id for channel in self._options.selection.channels(index)}
            units = self._options.selection.units(index, channels=ids, among=None)
            weights = [unit.uncompressed_size or unit.length for unit in units]
            found += [
                RecordingPartition(recording, [units[i].index for i in part])
                for part in pack(weights, limit=PARTITION_BYTES, at_most=len(units))
            ]
        return found

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Rows of a partition, decoded in a child process.

        Raises:
            DecodeError: INCOMPLETE, messages are damaged and the option allowLoss is not set.
        """
        assert isinstance(partition, RecordingPartition)
        import_readers([partition.recording.uri])
        data = guarded(
            lambda: self._decode(partition),
            bounds=Bounds.for_input(partition.recording.size_bytes),
            attempts=ATTEMPTS,
        )
        with pa.ipc.open_stream(data) as stream:
            yield from stream

    def _decode(self, partition: RecordingPartition) -> bytes:
        kinds = {kind: pa.ipc.read_schema(pa.py_buffer(data)) for kind, data in self._kinds.items()}
        schema, account = _schema(kinds), Account()
        uri, wanted = partition.recording.uri, set(partition.units)
        index = unpack_index(partition.recording.index)
        sink = pa.BufferOutputStream()
        with (
            open_source(
                uri, storage_options=self._storage, read_ahead=PART_READ_AHEAD_BYTES
            ) as src,
            pa.ipc.new_stream(sink, schema) as stream,
        ):
            for kind, rows in iter_rows(
                src,
                index,
                selection=self._options.selection,
                account=account,
                units=[unit for unit in index.units if unit.index in wanted],
                payloads=self._options.payloads,
            ):
                stream.write(_shaped(rows, kind, uri, schema))
        if not self._options.allow_loss:
            account.check(uri)
        return sink.getvalue().to_pybytes()


def register(spark: SparkSession, storage_options: Mapping[str, str]) -> None:
    """Make the format known to a session, with its way to the storage."""
    source = type("RecordingSource", (RecordingSource,), {"storage_options": dict(storage_options)})
    spark.dataSource.register(source)


def _listed(text: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None


def _files(uri: str, storage_options: Mapping[str, str]) -> list[str]:
    """The recording itself, or what lies in a folder and is no hidden file."""
    filesystem, path = filesystem_of(uri, storage_options=storage_options)
    found = filesystem.get_file_info(path)
    if found.type == pafs.FileType.File:
        return [uri]
    if found.type == pafs.FileType.NotFound:
        raise ContractViolation(f"There is no recording at {uri}", code="USAGE")
    below = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    inside = sorted(one.path for one in below if one.is_file and one.size)
    return [f"{uri}{name.removeprefix(path)}" for name in inside]


def _opened(uri: str, storage_options: Mapping[str, str]) -> Opened:
    def work() -> bytes:
        with open_source(
            uri, storage_options=storage_options, read_ahead=PART_READ_AHEAD_BYTES
        ) as source:
            return source.size.to_bytes(8, "little") + pack_index(quick_index(source))

    answer = guarded(work, bounds=Bounds(cpu_seconds=600), attempts=ATTEMPTS)
    return Opened(uri, int.from_bytes(answer[:8], "little"), answer[8:])


def _kinds_of(recording: Opened, options: Options) -> dict[str, pa.Schema]:
    """Columns by kind of what is asked for, without those of the lake."""
    index = unpack_index(recording.index)
    found: dict[str, pa.Schema] = {}
    for channel in options.selection.channels(index):
        table, schema, _ = table_of_channel(index, channel)
        named = [(table, schema)]
        if table == "can_frames":
            named.append(("signals", _SIGNALS))
        for kind, columns in named:
            if columns is None or not options.selection.takes(kind):
                continue
            fields = [field for field in columns if field.name not in LAKE_COLUMNS]
            if options.payloads and has_pointers(columns):
                fields.append(PAYLOAD)
            schema = pa.schema(fields).remove_metadata()
            if not found.setdefault(kind, schema).equals(schema):
                what = f"two definitions of {kind} differ"
                remedy = "Name topics of one of them"
                raise SchemaMismatchError(what, topic=channel.topic, remedy=remedy)
    return found


def _schema(kinds: Mapping[str, pa.Schema]) -> pa.Schema:
    """Columns of the DataFrame."""
    first = [pa.field("uri", pa.string()), pa.field("kind", pa.string())]
    if len(kinds) == 1:
        return pa.schema([*first, *(field for schema in kinds.values() for field in schema)])
    common = [pa.field(name, MESSAGE_COLUMNS[name][0]) for name in _COMMON]
    structs = [pa.field(kind, pa.struct(_own(kinds[kind]))) for kind in sorted(kinds)]
    return pa.schema([*first, *common, *structs])


def _own(schema: pa.Schema) -> list[pa.Field]:
    """Fields of a kind beside the common ones; Parquet and Spark have no empty struct."""
    own = [field for field in schema if field.name not in _COMMON]
    return own or [pa.field("is_empty", pa.bool_())]


def _shaped(rows: pa.RecordBatch, kind: str, uri: str, schema: pa.Schema) -> pa.RecordBatch:
    """Rows with the columns of the DataFrame."""
    there = dict(zip(rows.schema.names, rows.columns, strict=True))
    constant = {"uri": uri, "kind": kind}
    columns = []
    for field in schema:
        if field.name in constant:
            columns.append(pa.repeat(pa.scalar(constant[field.name]), rows.num_rows))
        elif field.name == kind and pa.types.is_struct(field.type):
            columns.append(_struct(there, field.type, rows.num_rows))
        elif field.name in there:
            columns.append(there[field.name].cast(field.type))
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _struct(there: Mapping[str, pa.Array], kind: pa.StructType, rows: int) -> pa.StructArray:
    arrays = [
        there[field.name].cast(field.type) if field.name in there else pa.nulls(rows, field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(kind))
