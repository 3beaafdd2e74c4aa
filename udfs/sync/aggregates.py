"""What the samples of a window come to, by column, and how many of them count for nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array
from udfs.sync.columns import Validity, floats_of, is_number, ok_of, take
from udfs.sync.stream_rules import Aggregate, Rule, usage
from udfs.sync.windows import Windows, slide_integers, slide_numbers

BoolArray = npt.NDArray[np.bool_]
EXCLUDED = "_excluded"


def aggregate(
    columns: Mapping[str, pa.Array], windows: Windows, *, rule: Rule
) -> dict[str, pa.Array]:
    """One value a window of each column that is wanted, and how many samples it leaves out.

    Args:
        columns: (N,) each.
        windows: M of them, moving forward only.
        rule: Which aggregate of which column.

    Returns:
        (M,) each, null where the state is not ok or the window holds no value: float64 for mean,
        int64 for count, bool for any, the column's own type for the others. Behind each but `last`,
        which is one sample whatever it holds, `<column>_excluded`: int64 samples of the window
        that are no values, null where the state is not ok.

    Raises:
        ContractViolation: USAGE, an aggregate that a column's type does not have.
    """
    named = rule.aggregate
    if isinstance(named, str):
        named = dict.fromkeys(columns, named)
    validity = ok_of(windows.state)
    found: dict[str, pa.Array] = {}
    for name, what in named.items():
        column = _Column(name, columns[name])
        found[name] = _REDUCERS[what](column, windows, validity)
        if what != "last":
            if f"{name}{EXCLUDED}" in named:
                raise usage(f"two columns of the result would be called {name}{EXCLUDED}")
            excluded = windows.past - windows.first - column.counts(windows)
            found[f"{name}{EXCLUDED}"] = validity.column(excluded, pa.int64())
    return found


@attrs.frozen(eq=False, slots=False)
class _Column:
    name: str
    array: pa.Array

    @functools.cached_property
    def is_present(self) -> BoolArray | None:
        """(N,) where there is a value, neither null nor NaN; None for everywhere."""
        if pa.types.is_floating(self.array.type):
            present = ~np.isnan(floats_of(self.array))
            return None if present.all() else present
        return (
            self.array.is_valid().to_numpy(zero_copy_only=False) if self.array.null_count else None
        )

    def counts(self, windows: Windows) -> Int64Array:
        """(M,) values in each window."""
        present = self.is_present
        return windows.past - windows.first if present is None else _inside(present, windows)

    def refuse(self, what: Aggregate) -> Exception:
        return usage(
            f"{what} is not defined for the column {self.name} of {self.array.type}",
            remedy="Name the columns that are wanted: aggregate={column: aggregate}",
        )


def _inside(flags: BoolArray, windows: Windows) -> Int64Array:
    """(M,) how many of the (N,) flags of each window are set."""
    before = np.zeros(len(flags) + 1, np.int64)
    np.cumsum(flags, out=before[1:])
    return before[windows.past] - before[windows.first]


def _within(validity: Validity, counts: Int64Array) -> Validity:
    """Null, too, where a window has samples but no value."""
    is_empty = counts == 0
    if not np.any(is_empty & ~validity.is_null):
        return validity
    return Validity.of(validity.is_null | is_empty)


def _mean(column: _Column, windows: Windows, validity: Validity) -> pa.Array:
    kind = column.array.type
    if not (is_number(kind) or pa.types.is_boolean(kind)):
        raise column.refuse("mean")
    counts = column.counts(windows)
    mean = slide_numbers("sum", floats_of(column.array), windows)
    np.divide(mean, counts, out=mean, where=counts > 0)
    return _within(validity, counts).column(mean, pa.float64())


def _extreme(
    what: Literal["min", "max"], column: _Column, windows: Windows, validity: Validity
) -> pa.Array:
    kind = column.array.type
    within = _within(validity, column.counts(windows))
    if pa.types.is_floating(kind):
        found = slide_numbers(what, floats_of(column.array), windows)
        return within.column(found, pa.float64()).cast(kind)
    numbers = _integers_of(column.array)
    if numbers is None:
        raise column.refuse(what)
    none = np.iinfo(np.int64).max if what == "min" else np.iinfo(np.int64).min
    filled = np.ascontiguousarray(numbers.fill_null(none).to_numpy(zero_copy_only=False))
    found = within.column(slide_integers(what, filled, windows), pa.int64())
    return found.cast(pa.int8()).cast(kind) if pa.types.is_boolean(kind) else found.cast(kind)


def _integers_of(array: pa.Array) -> pa.Array | None:
    """(N,) int64 that are ordered as the values are; None for a type without any."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.int64())
    if pa.types.is_temporal(kind):
        narrow = pa.int32() if kind.bit_width == 32 else pa.int64()
        return array.cast(narrow).cast(pa.int64())
    return array.cast(pa.int64()) if pa.types.is_integer(kind) else None


def _count(column: _Column, windows: Windows, validity: Validity) -> pa.Array:
    return validity.column(column.counts(windows), pa.int64())


def _last(column: _Column, windows: Windows, validity: Validity) -> pa.Array:
    return take({column.name: column.array}, windows.past - 1, validity)[column.name]


def _any(column: _Column, windows: Windows, validity: Validity) -> pa.Array:
    kind = column.array.type
    if not (is_number(kind) or pa.types.is_boolean(kind)):
        raise column.refuse("any")
    counts = column.counts(windows)
    values = column.array.cast(pa.bool_()) if pa.types.is_integer(kind) else column.array
    if pa.types.is_floating(kind):
        flags = np.nan_to_num(floats_of(values)) != 0
    else:
        flags = values.fill_null(False).to_numpy(zero_copy_only=False)
    is_any = pa.array(_inside(flags, windows) > 0)
    within = _within(validity, counts)
    return pa.Array.from_buffers(
        pa.bool_(), len(is_any), [within.bitmap, is_any.buffers()[1]], null_count=within.nulls
    )


_REDUCERS: Mapping[Aggregate, Callable[[_Column, Windows, Validity], pa.Array]] = {
    "mean": _mean,
    "min": lambda *given: _extreme("min", *given),
    "max": lambda *given: _extreme("max", *given),
    "count": _count,
    "last": _last,
    "any": _any,
}
