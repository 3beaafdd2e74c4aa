"""The names that a notebook imports: `drivelake.read`, `drivelake.sql`, `drivelake.sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


def read(name: str, *, version: int | None = None) -> pa.Table:
    """All rows of a table, read from its files without Spark.

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
