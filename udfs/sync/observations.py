"""Silver rows of any table as observations: one long form that clocks and frames are made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.tables import TABLES
from udfs.sync.gnss_time import utc_of_week_time
from udfs.sync.rules import SyncRules, WeekTime, si_factor, signal_key

FloatArray = npt.NDArray[np.float64]

CAMERA, LIDAR, GNSS, POSE, GNSS_TIME = "camera", "lidar", "gnss", "pose", "gnss_time"

_FIELDS = TABLES["silver.point_clouds"].schema.field("fields").type
WORD = pa.dictionary(pa.int32(), pa.string())
OBSERVATIONS = pa.schema(
    [
        ("recording_id", WORD),
        ("stream", WORD),  # camera, lidar, gnss, pose, gnss_time or a quantity
        ("table", WORD),
        ("source", WORD),  # topic, for signals with the signal's source and name
        ("log_time_ns", pa.int64()),
        ("sensor_time_ns", pa.int64()),
        ("frame_id", WORD),
        ("reference_time_ns", pa.int64()),  # UTC as GNSS tells it, at sensor_time_ns
        ("value_0", pa.float64()),
        ("value_1", pa.float64()),
        ("value_2", pa.float64()),
        ("unit_offset", pa.int64()),
        ("data_offset", pa.int64()),
        ("data_length", pa.int64()),
        ("point_step_bytes", pa.int64()),
        ("fields", _FIELDS),
    ]
)
"""One row is one sample of one stream, on the recorder's clock, values in SI."""

_MESSAGE = ("recording_id", "topic", "log_time_ns", "sensor_time_ns", "frame_id")
_POINTER = ("unit_offset", "data_offset", "data_length")
_NO_FIX = 0


def columns_needed(table: str, *, rules: SyncRules) -> tuple[str, ...]:
    """Columns of a silver table that `observations_from` reads, for pruning.

    Args:
        table: Silver table without the layer.
        rules: Which table plays which role.
    """
    needed = list(_MESSAGE)
    if table in {rules.camera_table, rules.lidar_table}:
        needed += _POINTER
    if table == rules.lidar_table:
        needed += ["point_step_bytes", "fields", "is_bigendian"]
    if table == rules.gnss_table:
        needed += ["latitude_deg", "longitude_deg", "altitude_m", "fix_status"]
    if table == rules.pose_table:
        needed += ["position_x_m", "position_y_m", *(f"orientation_{axis}" for axis in "xyzw")]
    if table == rules.gnss_time_table:
        needed += ["time_ref_ns"]
    needed += [each.column for each in rules.gnss_week_times if each.table == table]
    if table == "signals":
        needed += ["signal", "source", "value", "unit"]
    needed += [
        column for each in rules.quantities for name, column in each.columns if name == table
    ]
    return tuple(dict.fromkeys(needed))


def observations_from(rows: pa.Table, *, table: str, rules: SyncRules) -> pa.Table:
    """Turn rows of a silver table into observations.

    Args:
        rows: Rows with at least `columns_needed(table)`.
        table: Silver table without the layer.
        rules: Which column is which stream.

    Returns:
        Observations; a row may give several (an odometry is a pose, a speed and a yaw rate) or none
        (a signal that is no quantity, a fix without a position, a value that is null or NaN).
    """
    rows = rows.unify_dictionaries()
    parts: list[pa.Table] = []
    if table == rules.camera_table:
        parts.append(_observations(rows, stream=CAMERA, table=table, take=_POINTER))
    if table == rules.lidar_table:
        take = (*_POINTER, "point_step_bytes", "fields")
        # No reader of points here takes the byte order that no lidar of today writes.
        served = rows.filter(pc.invert(pc.fill_null(rows["is_bigendian"], False)))
        parts.append(_observations(served, stream=LIDAR, table=table, take=take))
    if table == rules.gnss_table:
        fixed = rows.filter(pc.greater_equal(rows["fix_status"], _NO_FIX))
        values = [fixed[name] for name in ("latitude_deg", "longitude_deg", "altitude_m")]
        parts.append(_observations(fixed, stream=GNSS, table=table, values=values))
    if table == rules.pose_table:
        values = [rows["position_x_m"], rows["position_y_m"], pa.chunked_array([_yaw(rows)])]
        parts.append(_observations(rows, stream=POSE, table=table, values=values))
    if table == rules.gnss_time_table:
        timed = rows.filter(
            pc.and_(rows["time_ref_ns"].is_valid(), rows["sensor_time_ns"].is_valid())
        )
        parts.append(_time_references(timed, table=table, utc=timed["time_ref_ns"]))
    told = [each for each in rules.gnss_week_times if each.table == table]
    parts += [_from_week_times(rows, each) for each in told]
    if table == "signals":
        parts += _from_signals(rows, rules=rules)
    for quantity in rules.quantities:
        for name, column in quantity.columns:
            if name == table:
                parts.append(
                    _observations(rows, stream=quantity.name, table=table, values=[rows[column]])
                )
    return pa.concat_tables(parts) if parts else OBSERVATIONS.empty_table()


def observations_of(silver: Mapping[str, pa.Table], *, rules: SyncRules) -> pa.Table:
    """Observations of several silver tables.

    Args:
        silver: Rows by table name, with or without `silver.`; tables of no use are passed over.
        rules: Which column is which stream.
    """
    parts = [
        observations_from(rows, table=name.removeprefix("silver."), rules=rules)
        for name, rows in silver.items()
    ]
    return pa.concat_tables(parts) if parts else OBSERVATIONS.empty_table()


def signal_names(rows: pa.Table, *, rules: SyncRules) -> list[str]:
    """Names in a `signal` column that are a quantity, as they are spelt there."""
    wanted = frozenset().union(*(each.signals for each in rules.quantities))
    names = pc.unique(rows["signal"]).to_pylist()
    return [name for name in names if name is not None and signal_key(name) in wanted]


def _time_references(rows: pa.Table, *, table: str, utc: pa.ChunkedArray) -> pa.Table:
    part = _observations(rows, stream=GNSS_TIME, table=table)
    where = part.schema.get_field_index("reference_time_ns")
    return part.set_column(where, OBSERVATIONS.field(where), utc)


def _from_week_times(rows: pa.Table, told: WeekTime) -> pa.Table:
    timed = rows.filter(pc.and_(rows[told.column].is_valid(), rows["sensor_time_ns"].is_valid()))
    since = np.rint(timed[told.column].to_numpy().astype(np.float64) * told.unit_ns)
    log_ns = timed["log_time_ns"].to_numpy().astype(np.int64)
    utc, usable = utc_of_week_time(since.astype(np.int64), log_ns)
    kept = timed.filter(pa.array(usable))
    return _time_references(kept, table=told.table, utc=pa.chunked_array([utc[usable]]))


def _from_signals(rows: pa.Table, *, rules: SyncRules) -> list[pa.Table]:
    parts = []
    by_key = {key: each for each in rules.quantities for key in each.signals}
    for name in signal_names(rows, rules=rules):
        quantity = by_key[signal_key(name)]
        named = rows.filter(pc.equal(rows["signal"], name))
        units = pc.unique(named["unit"]).to_pylist()
        for unit in units:
            factor = si_factor(unit, si_unit=quantity.si_unit)
            if factor is None:
                continue
            part = named if len(units) == 1 else named.filter(pc.equal(named["unit"], unit))
            parts.append(
                _observations(
                    part,
                    stream=quantity.name,
                    table="signals",
                    values=[pc.multiply(part["value"], factor)],
                    source=_source_of(part, name),
                )
            )
    return parts


def _source_of(rows: pa.Table, signal: str) -> pa.DictionaryArray:
    """Topic, source and name of a signal, put together once for each that there is."""
    topic, source = (encoded(rows[name]) for name in ("topic", "source"))
    codes = topic.indices.to_numpy().astype(np.int64) * len(source.dictionary)
    both = pa.array(codes + source.indices.to_numpy()).dictionary_encode()
    topics, sources = (each.dictionary.to_pylist() for each in (topic, source))
    pairs = (divmod(code, len(sources)) for code in both.dictionary.to_pylist())
    names = [f"{topics[first]}/{sources[second]}/{signal}" for first, second in pairs]
    return pa.DictionaryArray.from_arrays(both.indices, pa.array(names, pa.string()))


def encoded(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    """A column of text as one array of codes and their words; what is null is empty."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.fill_null(whole, "") if whole.null_count else whole


def _observations(
    rows: pa.Table,
    *,
    stream: str,
    table: str,
    values: list[pa.ChunkedArray] | None = None,
    take: tuple[str, ...] = (),
    source: pa.DictionaryArray | None = None,
) -> pa.Table:
    """Lay columns into the schema; rows with a null or non-finite value are no observation."""
    count = len(rows)
    columns: dict[str, object] = {
        "recording_id": rows["recording_id"],
        "stream": _repeated(stream, count),
        "table": _repeated(table, count),
        "source": rows["topic"] if source is None else source,
        "log_time_ns": rows["log_time_ns"],
        "sensor_time_ns": rows["sensor_time_ns"],
        "frame_id": rows["frame_id"],
        **{name: rows[name] for name in take},
        **{f"value_{i}": value for i, value in enumerate(values or ())},
    }
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in OBSERVATIONS]
    laid = pa.table(arrays, names=OBSERVATIONS.names).cast(OBSERVATIONS)
    if not values or not count:
        return laid
    told = np.ones(count, np.bool_)
    for i in range(len(values)):
        # what is null is NaN to NumPy
        told &= np.isfinite(laid[f"value_{i}"].to_numpy())
    return laid if told.all() else laid.filter(pa.array(told))


def _repeated(word: str, count: int) -> pa.DictionaryArray:
    codes = pa.array(np.zeros(count, np.int32))
    return pa.DictionaryArray.from_arrays(codes, pa.array([word], pa.string()))


def _yaw(rows: pa.Table) -> pa.Array:
    """Heading of the orientations; NaN where there is no orientation (a quaternion of zeros)."""
    x, y, z, w = (rows[f"orientation_{axis}"].to_numpy().astype(np.float64) for axis in "xyzw")
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return pa.array(np.where(x * x + y * y + z * z + w * w > 0.5, yaw, np.nan))
