"""Values of Arrow columns at the samples, or between the samples, that pairing has found."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.recording import Int64Array, UInt8Array
from udfs.native.library import library, start_of
from udfs.sync.interpolation import (
    FloatArray,
    breaks_of,
    interpolate_cubic,
    interpolate_linear,
    interpolate_spherical,
)
from udfs.sync.limits import Boundaries
from udfs.sync.pairing import Paired, rooms_of
from udfs.sync.states import CODES, MISSING, OK
from udfs.sync.stream_rules import Rule

_AXIS = re.compile(r"(.*_)?[xyzw]$")


@attrs.frozen(eq=False)
class Validity:
    """Which of M rows have a value: a bitmap that all columns of a stream share.

    Attributes:
        nulls: How many have none.
        bitmap: The bits; None where all have one.
        is_null: (M,) bool.
    """

    nulls: int
    bitmap: pa.Buffer | None
    is_null: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, is_null: npt.NDArray[np.bool_]) -> Validity:
        """From (M,) bool."""
        nulls = int(np.count_nonzero(is_null))
        bits = pa.py_buffer(np.packbits(~is_null, bitorder="little")) if nulls else None
        return cls(nulls, bits, is_null)

    def column(self, values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
        """Values of a fixed width, or their bytes, as a column of M rows."""
        data = pa.py_buffer(values)
        rows = data.size * 8 // kind.bit_width
        return pa.Array.from_buffers(kind, rows, [self.bitmap, data], null_count=self.nulls)


def ok_of(state: UInt8Array) -> Validity:
    """Where the state is ok."""
    return Validity.of(state != CODES[OK])


def take(
    columns: Mapping[str, pa.Array], index: Int64Array, validity: Validity
) -> dict[str, pa.Array]:
    """Values of any type at the (M,) indices, null where there is no value, or it is null."""
    widths = {name: _width(column) for name, column in columns.items()}
    plain = [name for name, width in widths.items() if width]
    found = {
        name: columns[name].take(pa.array(index, mask=validity.is_null))
        for name, width in widths.items()
        if not width
    }
    rooms = rooms_of(len(index), [widths[name] for name in plain])
    places = [
        columns[name].buffers()[1].address + columns[name].offset * widths[name] for name in plain
    ]
    many, pointers = len(plain), ctypes.c_void_p * len(plain)
    _kernel()(
        pointers(*places), (ctypes.c_int64 * many)(*(widths[name] for name in plain)), many,
        start_of(index), len(index), pointers(*map(start_of, rooms)),
    )  # fmt: skip
    for name, room in zip(plain, rooms, strict=True):
        found[name] = validity.column(room, columns[name].type)
    return {name: found[name] for name in columns}


def interpolate(
    columns: Mapping[str, pa.Array],
    t_ns: Int64Array,
    paired: Paired,
    *,
    rule: Rule,
    boundaries: Boundaries,
) -> dict[str, pa.Array]:
    """Values between the samples; where a rotation is none, the row's state becomes missing.

    Args:
        columns: (N,) each, N > 0.
        t_ns: (N,) int64, ascending.
        paired: From "between".
        rule: Which columns are what.
        boundaries: As in pairing.
    """
    numbers = {name: column for name, column in columns.items() if is_number(column.type)}
    found: dict[str, FloatArray] = {}
    if rule.method != "linear":
        for axes in rotations_of(rule, numbers):
            of_axes = [floats_of(numbers.pop(name)) for name in axes]
            turned = interpolate_spherical(of_axes, paired.left, paired.share)
            found |= dict(zip(axes, turned, strict=True))
            paired.state[np.isnan(turned[0]) & (paired.state == CODES[OK])] = CODES[MISSING]
    if rule.method == "hermite":
        cubic = set(numbers) - set(rule.velocities.values()) | set(rule.velocities)
        breaks = breaks_of(t_ns, boundaries=boundaries, max_gap_ns=rule.limits.max_gap_ns)
        for name in cubic & set(numbers):
            velocity = rule.velocities.get(name)
            found[name] = interpolate_cubic(
                t_ns, floats_of(numbers.pop(name)), paired.left, paired.share,
                breaks=breaks,
                velocities=None if velocity is None else floats_of(columns[velocity]),
                period=rule.period.get(name, 0.0),
            )  # fmt: skip
    if numbers:
        lines = {name: floats_of(column) for name, column in numbers.items()}
        found |= interpolate_linear(lines, paired.left, paired.share, period=rule.period)
    validity = ok_of(paired.state)
    others = {name: column for name, column in columns.items() if name not in found}
    taken = take(others, paired.index, validity) if others else {}
    return {
        name: _numbers(found[name], column, validity) if name in found else taken[name]
        for name, column in columns.items()
    }


def rotations_of(rule: Rule, columns: Mapping[str, object]) -> Sequence[Sequence[str]]:
    """Columns x, y, z, w of each rotation: those that the rule names, else those named alike."""
    if rule.rotations is not None:
        return rule.rotations
    stems = dict.fromkeys(name[:-1] for name in columns if _AXIS.match(name))
    named = [[f"{stem}{axis}" for axis in "xyzw"] for stem in stems]
    return [axes for axes in named if all(axis in columns for axis in axes)]


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type can be interpolated."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def floats_of(column: pa.Array) -> FloatArray:
    """(N,) float64; NaN for null. No copy where it is float64 without nulls."""
    kind = pa.float64()
    plain = column if column.type == kind else column.cast(kind, safe=False)
    return np.ascontiguousarray(plain.to_numpy(zero_copy_only=False))


def _numbers(values: FloatArray, source: pa.Array, validity: Validity) -> pa.Array:
    """Interpolated numbers as a column; null, too, where one of the neighbours was."""
    if source.null_count:
        validity = Validity.of(validity.is_null | np.isnan(values))
    found = validity.column(values, pa.float64())
    is_narrow = pa.types.is_floating(source.type) and source.type != pa.float64()
    return found.cast(source.type, safe=False) if is_narrow else found


def _width(column: pa.Array) -> int:
    """Bytes of a value where they stand side by side as plain numbers, all valid; else 0."""
    kind = column.type
    is_plain = pa.types.is_primitive(kind) and kind.bit_width <= 64
    return kind.bit_width // 8 if is_plain and not column.null_count and len(column) else 0


@functools.cache
def _kernel() -> ctypes._NamedFuncPointer:
    kernel = library().gather_columns
    number, array = ctypes.c_int64, ctypes.c_void_p
    kernel.argtypes = (array, array, number, array, number, array)
    kernel.restype = None
    return kernel
