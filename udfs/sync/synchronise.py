"""Streams as Arrow tables, brought to the instants of one of them or of a fixed rate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.recording import Int64Array
from udfs.sync.aggregates import aggregate
from udfs.sync.columns import Validity, interpolate, ok_of, take
from udfs.sync.limits import Boundaries
from udfs.sync.pairing import Paired, first_descent, pair_events, pair_samples, use_once
from udfs.sync.reference import Rate
from udfs.sync.states import CODES, MISSING, NO_CLOCK, OK, state_column
from udfs.sync.stream_rules import INTERPOLATING, Method, Rule, usage
from udfs.sync.windows import Windows, find_windows

_LEAST_NS, _MOST_NS = -(2**63), 2**63 - 1
T_NS = "t_ns"
_OWN = (T_NS, "distance_ns", "state")


@attrs.frozen(eq=False)
class Samples:
    """A stream: times in order, and what was there at each.

    Attributes:
        name: Of the stream.
        t_ns: (N,) int64, ascending.
        columns: (N,) each.
        boundaries: Where its clock jumped, or it has a gap.
    """

    name: str
    t_ns: Int64Array
    columns: Mapping[str, pa.Array]
    boundaries: Boundaries


@attrs.frozen(eq=False)
class _Instants:
    """(M,) int64 instants, and where each one's own window ends if a rate made them."""

    t_ns: Int64Array
    ends_ns: Int64Array | None = None


def synchronise(
    streams: Mapping[str, Any],
    *,
    reference: str | Rate,
    rules: Mapping[str, Rule | Method],
    time: str = T_NS,
    jumps_ns: Mapping[str, npt.ArrayLike] | None = None,
    gaps_ns: Mapping[str, npt.ArrayLike] | None = None,
    without_clock: Collection[str] = (),
) -> pa.Table:
    """Bring streams to the instants of a reference; see `drivelake.sync`, which is this."""
    jumps, gaps = jumps_ns or {}, gaps_ns or {}
    _check_names(streams, reference, rules, [*jumps, *gaps, *without_clock])
    named = {name: rule if isinstance(rule, Rule) else Rule(rule) for name, rule in rules.items()}
    samples = {
        name: samples_of(
            name,
            table,
            time=time,
            boundaries=Boundaries.of(jumps_ns=jumps.get(name, ()), gaps_ns=gaps.get(name, ())),
        )
        for name, table in streams.items()
    }
    instants = _instants_of(reference, samples.values())
    found: dict[str, pa.Array] = {T_NS: pa.array(instants.t_ns)}
    for name, stream in samples.items():
        if name == reference:
            columns = _of_reference(stream)
        else:
            _check_columns(stream, named[name])
            used = _used(stream, named[name])
            columns = (
                _without_values(used, named[name], instants, state=NO_CLOCK)
                if name in without_clock
                else _brought(used, named[name], instants)
            )
        for column, values in columns.items():
            whole = f"{name}_{column}"
            if whole in found:
                raise usage(f"two columns of the result would be called {whole}")
            found[whole] = values
    return pa.table(found)


def samples_of(name: str, table: Any, *, time: str, boundaries: Boundaries) -> Samples:
    """A stream from an Arrow table, or what can be made one.

    Raises:
        ContractViolation: USAGE, no times, or not in order.
    """
    rows = table if isinstance(table, pa.Table) else pa.table(table)
    if time not in rows.column_names:
        raise usage(
            f"the stream {name} has no column {time}", remedy=f"It has {_listed(rows.column_names)}"
        )
    columns = {
        column: _whole(values)
        for column, values in zip(rows.column_names, rows.columns, strict=True)
    }
    t_ns = _times(name, columns.pop(time))
    if taken := [column for column in _OWN if column in columns]:
        what = f"the stream {name} has a column {taken[0]}, which the result has for its own"
        raise usage(what, remedy="Rename it, or leave it out")
    if (at := first_descent(t_ns)) >= 0:
        what = (
            f"the stream {name} is not in time order: row {at} has {t_ns[at]} after {t_ns[at - 1]}"
        )
        raise usage(what, remedy=f'Sort it first: table.sort_by("{time}")')
    return Samples(name, t_ns, columns, boundaries)


def _check_names(
    streams: Mapping[str, Any],
    reference: str | Rate,
    rules: Mapping[str, Any],
    others: Iterable[str],
) -> None:
    """Raise unless every name is a stream's and every stream but the reference has a rule."""
    is_stream = not isinstance(reference, Rate)
    for name in [*([reference] if is_stream else []), *rules, *others]:
        if name not in streams:
            raise usage(f"there is no stream {name!r}", remedy=f"There are {_listed(streams)}")
    if is_stream and reference in rules:
        raise usage(f"the stream {reference} is the reference: it has no rule")
    if lacking := [name for name in streams if name not in rules and name != reference]:
        raise usage(f"no rule for {_listed(lacking)}", remedy="Name one for each stream")


def _check_columns(stream: Samples, rule: Rule) -> None:
    """Raise unless the stream has the columns that its rule names."""
    wanted: list[str] = []
    if rule.method == "event":
        wanted = [rule.end]
    elif rule.method == "aggregate" and not isinstance(rule.aggregate, str):
        wanted = list(rule.aggregate)
    elif rule.method in INTERPOLATING:
        axes = [axis for rotation in rule.rotations or () for axis in rotation]
        wanted = [*rule.period, *rule.velocities, *rule.velocities.values(), *axes]
    for column in [*wanted, *([rule.valid] if rule.valid else [])]:
        if column not in stream.columns:
            raise usage(
                f"the stream {stream.name} has no column {column}",
                remedy=f"It has {_listed(stream.columns)}",
            )
    if rule.valid and stream.columns[rule.valid].type != pa.bool_():
        kind = stream.columns[rule.valid].type
        raise usage(f"the column {rule.valid} of the stream {stream.name} is {kind}, not bool")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _whole(values: pa.ChunkedArray) -> pa.Array:
    if values.num_chunks == 1:
        return values.chunk(0)
    found = values.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def _times(name: str, column: pa.Array) -> Int64Array:
    """(N,) int64 ns of a column of times.

    Raises:
        ContractViolation: USAGE, they are none, or some are null.
    """
    if column.null_count:
        raise usage(f"the stream {name} has {column.null_count} rows without a time")
    try:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
        elif pa.types.is_integer(column.type) and column.type != pa.int64():
            column = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise usage(f"the times of the stream {name} do not fit int64 ns") from error
    if column.type != pa.int64():
        raise usage(f"the times of the stream {name} are {column.type}, not int64 ns")
    return column.to_numpy()


def _instants_of(reference: str | Rate, samples: Collection[Samples]) -> _Instants:
    if not isinstance(reference, Rate):
        return _Instants(next(one.t_ns for one in samples if one.name == reference))
    filled = [one.t_ns for one in samples if len(one.t_ns)]
    start, end = reference.start_ns, reference.end_ns
    if start is None:
        start = min((int(t_ns[0]) for t_ns in filled), default=0)
    if end is None:
        end = max((int(t_ns[-1]) + 1 for t_ns in filled), default=start)
    found = reference.instants(start, end)
    return _Instants(found[:-1], found[1:])


def _used(stream: Samples, rule: Rule) -> Samples:
    """A stream without the samples that are not to be used; of an aggregate, without their values.

    The column that says so is then a value of its own only where it is asked for by name.
    """
    if rule.valid is None:
        return stream
    is_used = stream.columns[rule.valid].fill_null(True)
    if rule.method != "aggregate":
        kept = {name: column.filter(is_used) for name, column in stream.columns.items()}
        t_ns = stream.t_ns[is_used.to_numpy(zero_copy_only=False)]
        return attrs.evolve(stream, t_ns=t_ns, columns=kept)
    columns = {
        name: pc.if_else(is_used, column, pa.scalar(None, column.type))
        for name, column in stream.columns.items()
        if name != rule.valid
    }
    if not isinstance(rule.aggregate, str):
        columns[rule.valid] = stream.columns[rule.valid]
    return attrs.evolve(stream, columns=columns)


def _brought(stream: Samples, rule: Rule, instants: _Instants) -> dict[str, pa.Array]:
    """Columns of a stream at the instants, and its time, distance and state."""
    if not len(stream.t_ns):
        return _without_values(stream, rule, instants, state=MISSING)
    if rule.method == "aggregate":
        windows = _windows(stream, rule, instants)
        return aggregate(stream.columns, windows, rule=rule) | _about(windows)
    paired = _paired(stream, rule, instants.t_ns)
    if rule.unique:
        use_once(paired, samples=len(stream.t_ns))
    if rule.method in INTERPOLATING:
        values = interpolate(
            stream.columns, stream.t_ns, paired, rule=rule, boundaries=stream.boundaries
        )
    else:
        values = take(stream.columns, paired.index, ok_of(paired.state))
    return values | _about(paired)


def _paired(stream: Samples, rule: Rule, instants: Int64Array) -> Paired:
    limits, boundaries = rule.limits, stream.boundaries
    if rule.method == "event":
        ends = _ends(stream, rule.end)
        return pair_events(instants, stream.t_ns, ends, limits=limits, boundaries=boundaries)
    return pair_samples(
        instants,
        stream.t_ns,
        method=rule.method if rule.method in ("nearest", "last", "next") else "between",
        limits=limits,
        boundaries=boundaries,
    )


def _ends(stream: Samples, column: str) -> Int64Array:
    """(N,) int64 ends of events; the end of time for one that has none."""
    values = stream.columns[column]
    if values.null_count:
        values = values.fill_null(pa.scalar(_MOST_NS).cast(values.type))
    return _times(f"{stream.name} ({column})", values)


def _windows(stream: Samples, rule: Rule, instants: _Instants) -> Windows:
    if rule.window_ns is not None:
        begins, ends = (_later(instants.t_ns, offset) for offset in rule.window_ns)
    elif instants.ends_ns is not None:
        begins, ends = instants.t_ns, instants.ends_ns
    else:
        what = f"the window of the stream {stream.name} is not given"
        raise usage(what, remedy="Give window_ns, or a rate as the reference")
    return find_windows(
        instants.t_ns, begins, ends, stream.t_ns, limits=rule.limits, boundaries=stream.boundaries
    )


def _later(t_ns: Int64Array, offset_ns: int) -> Int64Array:
    """(M,) int64 times so much later, held at the ends of int64."""
    low, high = max(_LEAST_NS, _LEAST_NS - offset_ns), min(_MOST_NS, _MOST_NS - offset_ns)
    return np.clip(t_ns, low, high) + np.int64(offset_ns)


def _about(found: Paired | Windows) -> dict[str, pa.Array]:
    """The time, distance and state of what was found."""
    known = Validity(0, None, np.zeros(0, np.bool_))
    if found.unknown:
        none = found.index < 0 if isinstance(found, Paired) else found.past == found.first
        known = Validity.of(none)
    return {
        T_NS: known.column(found.t_ns, pa.int64()),
        "distance_ns": known.column(found.distance_ns, pa.int64()),
        "state": state_column(found.state),
    }


def _of_reference(stream: Samples) -> dict[str, pa.Array]:
    """A stream at its own instants: as it is."""
    count = len(stream.t_ns)
    return {
        **stream.columns,
        T_NS: pa.array(stream.t_ns),
        "distance_ns": pa.array(np.zeros(count, np.int64)),
        "state": state_column(np.full(count, CODES[OK], np.uint8)),
    }


def _without_values(
    stream: Samples, rule: Rule, instants: _Instants, *, state: str
) -> dict[str, pa.Array]:
    """Nulls of the types that the values of a rule have, and why."""
    zero = np.zeros(1, np.int64)
    columns = {name: pa.nulls(1, column.type) for name, column in stream.columns.items()}
    nothing = attrs.evolve(stream, t_ns=zero, columns=columns)
    once = _Instants(zero, None if instants.ends_ns is None else zero + 1)
    count = len(instants.t_ns)
    found = {
        name: pa.nulls(count, column.type) for name, column in _brought(nothing, rule, once).items()
    }
    return found | {"state": state_column(np.full(count, CODES[state], np.uint8))}
