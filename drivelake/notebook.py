"""The names that a notebook imports: `drivelake.read`, `table`, `sql` and `sync`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from udfs.decode.reading import Time


def read(
    uri: str,
    *,
    topics: str | Sequence[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    tables: str | Sequence[str] | None = None,
    signals: str | Sequence[str] | None = None,
    payloads: bool = False,
    dbc: Mapping[str, bytes] | None = None,
    allow_loss: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Rows of a recording in any format, wherever it lies; without Spark, and without a lake.

    Where topics or times are given only the chunks that hold them are read, as the recording's own
    index has it; without, all of it is checked as an ingest does.

    Args:
        uri: Path, `file://…` or `s3://bucket/key`.
        topics: Names, or patterns as `/camera/*`; all by default.
        start: First log time, inclusive: nanoseconds, ISO 8601, or a datetime (UTC without zone).
        end: End of the log times, exclusive.
        tables: Kinds of rows, e.g. `imu`; all by default.
        signals: Names of signals of a measurement or a bus, or patterns as `Wheel*`; nothing else
            comes then.
        payloads: Whether images and sweeps come along, in a column `data`, instead of as pointers
            alone.
        dbc: DBC files by bus, `can:1` or `can:*`.
        allow_loss: Whether a damaged recording may end without an error.

    Yields:
        Batches of one topic each (one message type each for bus signals) with the columns of its
        silver table, whose name stands in `batch.schema.metadata[b"table"]`; in file order, about
        32 MB at a time.

    Raises:
        ContractViolation: USAGE, a topic, a time or a file that is not there.
        DecodeError: Nothing can be read; or INCOMPLETE, after the last batch, if anything that was
            asked for is damaged.
        UnsupportedFormatError: No recording, or none that can be read here.
    """
    from drivelake.recordings import read_batches
    from udfs.decode.reading import selection_of

    selection = selection_of(topics=topics, start=start, end=end, tables=tables, signals=signals)
    return read_batches(
        uri, selection, payloads=payloads, definitions=dbc or {}, allow_loss=allow_loss
    )


def table(name: str, *, version: int | None = None) -> pa.Table:
    """All rows of a table of the lake, read from its files without Spark.

    Args:
        name: `layer.table`, e.g. `silver.imu`.
        version: Delta version; the newest if not given.

    Raises:
        ContractViolation: UNKNOWN_TABLE.
    """
    from drivelake.catalogue import read_table
    from drivelake.environment import load_settings

    return read_table(load_settings(), name, version=version)


def sql(statement: str, *, engine: str = "spark") -> pa.Table:
    """The result of one SQL statement, through the Spark server or DuckDB.

    Raises:
        ContractViolation: SQL, the statement is wrong.
        SetupError: The Spark server does not answer.
    """
    from drivelake.environment import load_settings
    from drivelake.query import run_query

    return run_query(load_settings(), statement, engine=engine)  # type: ignore[arg-type]


def sync(streams: Mapping[str, pa.Table], clocks: pa.Table, *, rules: Any = None) -> pa.Table:
    """Frames of one drive from Arrow tables, without Spark; see `udfs.sync.frames`.

    Args:
        streams: Silver rows by kind (`images`, `point_clouds`, `gnss`, `imu`, `odometry`,
            `signals`).
        clocks: Rows of `silver.clocks` of the drive's recordings.
        rules: `udfs.sync.rules.SyncRules`; the defaults if not given.

    Returns:
        Rows with the schema of `silver.frames`.
    """
    from udfs.sync.frames import build_frames
    from udfs.sync.rules import SyncRules

    return build_frames(streams, clocks, rules=rules or SyncRules())
