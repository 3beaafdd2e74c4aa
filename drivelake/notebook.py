"""What a notebook imports: `read`, `points`, `table`, `sql`, `sync`, `compensate` and `frames`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from udfs.decode.reading import Time
    from udfs.geometry.transforms import Transform
    from udfs.sync.motion import EgoMotion
    from udfs.sync.reference import Rate
    from udfs.sync.stream_rules import Method, Rule


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
        uri: Path, `file://…` or `s3://bucket/key`; or the folder of a bag (on S3 with a slash
            behind it), whose files are read one after the other.
        topics: Names, or patterns as `/camera/*`; all by default.
        start: First log time, inclusive: nanoseconds, ISO 8601, or a datetime (UTC without zone).
        end: End of the log times, exclusive.
        tables: Kinds of rows, e.g. `imu`; all by default.
        signals: Names of signals of a measurement or a bus, or patterns as `Wheel*`; nothing else
            comes then.
        payloads: Whether images and sweeps come along, in a column `data`, instead of as pointers
            alone.
        dbc: DBC, ARXML or KCD files by bus, `can:1`, `can:/topic` or `can:*`.
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


def points(row: Mapping[str, Any]) -> pa.Table:
    """The points of a sweep, with all that is said of each.

    Args:
        row: Of a batch of `point_clouds` that was read with `payloads=True`, by column:
            `batch.to_pylist()[i]`.

    Returns:
        A column for each field of the cloud that is one number; and, where the points say when each
        was seen, as a field `t`, `time_offset_ns` (ns), `time` or `time_offset` (s) after the stamp
        of the sweep, `t_ns`: int64 on the sensor's clock. Points that are no returns stay, as NaN.

    Raises:
        DecodeError: POINT_LAYOUT, the layout can't be that of these bytes.
    """
    from udfs.geometry.points import points_table

    return points_table(row)


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
    """The result of one SQL statement that reads, through the Spark server or DuckDB.

    Raises:
        ContractViolation: SQL, the statement is wrong, or would write.
        SetupError: The Spark server does not answer.
    """
    from drivelake.environment import load_settings
    from drivelake.query import run_query

    return run_query(load_settings(), statement, engine=engine)  # type: ignore[arg-type]


def sync(
    streams: Mapping[str, Any],
    *,
    reference: str | Rate,
    rules: Mapping[str, Rule | Method],
    time: str = "t_ns",
    jumps_ns: Mapping[str, Any] | None = None,
    gaps_ns: Mapping[str, Any] | None = None,
    without_clock: Collection[str] = (),
) -> pa.Table:
    """Bring streams to the instants of one of them, or of a fixed rate; without Spark or a lake.

    Nothing is made up: an instant without a value has null and the reason, and each value says how
    old it was. All times are int64 ns on one clock, and are compared exactly.

    >>> import pyarrow as pa, drivelake
    >>> images = pa.table({"t_ns": [0, 100, 200], "image": ["a", "b", "c"]})
    >>> speed = pa.table({"t_ns": [10, 60, 110, 160], "m_s": [1.0, 2.0, 3.0, 4.0]})
    >>> frames = drivelake.sync(
    ...     {"camera": images, "speed": speed},
    ...     reference="camera",
    ...     rules={"speed": drivelake.Rule("linear", max_gap_ns=60)},
    ... )
    >>> frames["speed_m_s"].to_pylist()
    [None, 2.8, None]
    >>> frames["speed_state"].to_pylist()
    ['stale', 'ok', 'stale']
    >>> frames["speed_distance_ns"].to_pylist()
    [10, 10, -40]

    Args:
        streams: Arrow tables, or what Arrow can read as one (Polars, DuckDB, …), by name; each in
            time order.
        reference: Name of the stream whose times are the instants, or `drivelake.Rate(hz)`, whose
            instants open half-open windows.
        rules: A `drivelake.Rule` or the name of one for each other stream.
        time: Column of the times: int64 ns, or an Arrow timestamp.
        jumps_ns: By stream, instants at which its clock jumped: nothing is paired or interpolated
            across them. A sample or an instant at one belongs to what begins there.
        gaps_ns: The same for instants at which a stream begins anew after a gap.
        without_clock: Streams whose clock can't be related to the reference's.

    Returns:
        A row for each instant: `t_ns`, and for each stream its columns as `<stream>_<column>`;
        `<stream>_t_ns`, the time of the sample (of two, the closer; of a window, the last; null for
        none); `<stream>_distance_ns`, that time minus the instant; for an aggregate
        `<stream>_<column>_excluded`, samples of the window that are no values; and
        `<stream>_state`:

        - ok: the values are there (a cell that is null in the sample stays null).
        - gap: the instant lies in a hole wider than `max_gap_ns`, or behind a declared gap.
        - stale: the sample is too far away, too old, or serves another instant.
        - missing: the stream has nothing for this instant.
        - jump: what there is lies across a jump of the clock.
        - no_clock: the stream is one of `without_clock`.

    Raises:
        ContractViolation: USAGE, a name that there is not, a rule that does not fit a column, or
            times that are not in order.
    """
    from udfs.sync.synchronise import synchronise

    return synchronise(
        streams, reference=reference, rules=rules, time=time, jumps_ns=jumps_ns, gaps_ns=gaps_ns,
        without_clock=without_clock,
    )  # fmt: skip


def compensate(
    points: Any,
    poses: Any | EgoMotion,
    *,
    at_ns: int,
    base_from_sensor: Transform | npt.ArrayLike | None = None,
    time: str = "t_ns",
    sweep_ns: tuple[int, int] | None = None,
    columns: int | None = None,
    into_base: bool = False,
    max_gap_ns: int = 200_000_000,
    jumps_ns: npt.ArrayLike = (),
    gaps_ns: npt.ArrayLike = (),
) -> pa.Table:
    """Bring the points of a sweep to one instant, as if all had been seen then.

    The world is taken to stand still, and the vehicle to keep its speed and its turn rate between
    two poses. Nothing is made up: a point whose time or whose way to the instant is not covered by
    poses is null, with the reason. All times are int64 ns on one clock.

    A post is seen twice from a car at 10 m/s, 100 ms apart; at the end of the sweep both are one:

    >>> import pyarrow as pa, drivelake
    >>> sweep = pa.table({"x": [21.0, 20.0], "y": [5.0, 5.0], "z": [0.0, 0.0], "t_ns": [0, 10**8]})
    >>> still = dict.fromkeys(["position_y_m", "position_z_m"], [0.0, 0.0])
    >>> still |= {f"orientation_{axis}": [float(axis == "w")] * 2 for axis in "xyzw"}
    >>> poses = pa.table({"t_ns": [0, 10**8], "position_x_m": [0.0, 1.0], **still})
    >>> found = drivelake.compensate(sweep, poses, at_ns=10**8)
    >>> found["x"].to_pylist(), found["state"].to_pylist()
    ([20.0, 20.0], ['ok', 'ok'])
    >>> drivelake.compensate(sweep, poses, at_ns=10**8, jumps_ns=[10**7])["x"].to_pylist()
    [None, 20.0]

    Args:
        points: Arrow table, or what Arrow can read as one, with `x`, `y` and `z` in the sensor's
            frame at each point's own time, and these times; e.g. of `drivelake.points`.
        poses: Poses of the vehicle in a frame that stands still, with the columns of
            `silver.odometry` and their time; or `udfs.sync.motion.EgoMotion.of(…)`, made once for
            many sweeps.
        at_ns: The instant.
        base_from_sensor: Where the sensor sits on the vehicle: a 4×4 matrix, or a
            `udfs.geometry.transforms.Transform`; by default at its origin.
        time: Column of the times of points and poses.
        sweep_ns: Times of the first and the last point, for points that have none: they are then
            taken to be spread evenly, in their order.
        columns: With `sweep_ns`, points a ring of a cloud that is stored ring by ring.
        into_base: Whether the points come out in the vehicle's frame, or in the sensor's.
        max_gap_ns: Widest hole between two poses that is bridged.
        jumps_ns: Instants at which the clock of the poses jumped.
        gaps_ns: Instants at which the poses begin anew, so that older ones mean nothing.

    Returns:
        The points with all their columns, `x`, `y` and `z` as float32 in the frame at the instant,
        the time that was used for each, and `state`: ok, gap (in a hole between poses, or beyond a
        declared gap), jump, stale (before the first pose or behind the last) or missing (there is
        none). Where the instant itself has no pose, all points have its reason. The schema's
        metadata names `at_ns`, and `start_ns` and `end_ns` of the sweep.

    Raises:
        ContractViolation: USAGE, a column is missing, there are no times or two kinds of them, the
            poses are not in order, or the matrix is no transform.
    """
    from udfs.sync.sweeps import compensate as compensated

    return compensated(
        points, poses, at_ns=at_ns, base_from_sensor=base_from_sensor, time=time,
        sweep_ns=sweep_ns, columns=columns, into_base=into_base, max_gap_ns=max_gap_ns,
        jumps_ns=jumps_ns, gaps_ns=gaps_ns,
    )  # fmt: skip


def frames(streams: Mapping[str, pa.Table], clocks: pa.Table, *, rules: Any = None) -> pa.Table:
    """Rows of `silver.frames` of one drive from silver tables, without Spark.

    Args:
        streams: Silver rows by kind (`images`, `point_clouds`, `gnss`, `imu`, `odometry`,
            `signals`).
        clocks: Rows of `silver.clocks` of the drive's recordings.
        rules: `udfs.sync.rules.SyncRules`; the defaults if not given.
    """
    from udfs.sync.frames import build_frames
    from udfs.sync.rules import SyncRules

    return build_frames(streams, clocks, rules=rules or SyncRules())
