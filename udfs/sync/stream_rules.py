"""How a stream is brought to the instants of a reference: values that are checked when made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import attrs

from contracts.errors import ContractViolation
from udfs.sync.limits import NO_LIMIT, Limits

Method = Literal["nearest", "last", "next", "linear", "spherical", "hermite", "event", "aggregate"]
Aggregate = Literal["mean", "min", "max", "count", "last", "any"]

METHODS: Sequence[str] = get_args(Method)
AGGREGATES: Sequence[str] = get_args(Aggregate)
INTERPOLATING = frozenset({"linear", "spherical", "hermite"})
_MOST_NS = 2**63 - 1


def usage(what: str, *, remedy: str | None = None) -> ContractViolation:
    """The error of a request that can't be met: one sentence, and exit code 2 in a shell."""
    return ContractViolation(what, code="USAGE", remedy=remedy)


def _is_known(_rule: object, _attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in METHODS:
        what = f"there is no rule {value!r}"
        raise usage(what, remedy=f"The rules are {', '.join(METHODS)}")


def _is_limit(_rule: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_NS:
        raise usage(f"{attribute.name} is a number of ns from 0 on, not {value!r}")


def _limit() -> Any:
    return attrs.field(default=None, validator=_is_limit)


@attrs.frozen(kw_only=True)
class Rule:
    """How a stream is brought to an instant, and how far is too far.

    Attributes:
        method: What is taken.

            - nearest: the closest sample; of two as near, the earlier.
            - last: the newest sample that is not later (as-of).
            - next: the oldest sample that is not earlier.
            - linear: numbers on the line between the two samples around the instant.
            - spherical: the same, and rotations on the shorter arc.
            - hermite: numbers on cubics, from velocities where there are some, else from the
              neighbours; rotations on the shorter arc.
            - event: the event that began last of those whose [time, end) holds the instant.
            - aggregate: what the samples of a window come to.

            What is no number (text, bool, time, …) comes from the nearest sample where numbers are
            interpolated. Interpolated integers become float64.
        tolerance_ns: Farthest that the (nearest) sample may be from the instant. Interpolation
            holds the first and the last sample for this long; without it, for no time.
        max_age_ns: The same for a sample that is not later: of two around the instant the first, of
            an event its beginning, of a window its last sample.
        max_gap_ns: Widest hole between two samples that is interpolated over. In a wider one the
            other rules need a sample within `tolerance_ns` or `max_age_ns`, and take none if
            neither is given.
        unique: Whether a sample serves one instant only: the closest. Not for aggregates.
        period: Period by column of numbers that wrap, e.g. {"yaw_rad": 2π}, for interpolation.
        rotations: Columns x, y, z, w of quaternions; if not given, any four columns that are named
            alike but for `_x`, `_y`, `_z`, `_w`.
        velocities: By column, the column that holds its change per second, for hermite.
        end: Column with the end of an event, exclusive; null for one that has not ended.
        window_ns: Begin, inclusive, and end, exclusive, of a window, from the instant on: (−w, 0)
            before it, (−w // 2, w // 2) around it. If not given, that of the reference's rate.
        aggregate: For all columns, or by column for those that are wanted. Null and NaN are no
            values; a window without any is null. How many samples of a window are left out is said
            in `<column>_excluded`.
        valid: Column of bools that is false for samples that are not to be used, such as
            `in_range`; where it is null, nothing is said against a sample. The others stand in as
            if it were not there, but for an aggregate, which counts it as left out.
    """

    method: Method = attrs.field(validator=_is_known, kw_only=False)
    tolerance_ns: int | None = _limit()
    max_age_ns: int | None = _limit()
    max_gap_ns: int | None = _limit()
    unique: bool = False
    period: Mapping[str, float] = attrs.field(factory=dict)
    rotations: Sequence[tuple[str, str, str, str]] | None = None
    velocities: Mapping[str, str] = attrs.field(factory=dict)
    end: str = "end_ns"
    window_ns: tuple[int, int] | None = None
    aggregate: Aggregate | Mapping[str, Aggregate] = "mean"
    valid: str | None = None

    def __attrs_post_init__(self) -> None:
        named = self.aggregate
        for one in [named] if isinstance(named, str) else named.values():
            if one not in AGGREGATES:
                what = f"there is no aggregate {one!r}"
                raise usage(what, remedy=f"The aggregates are {', '.join(AGGREGATES)}")
        if self.unique and self.method == "aggregate":
            raise usage("an aggregate has many samples: unique has no meaning for it")
        if self.window_ns is not None and self.window_ns[0] >= self.window_ns[1]:
            raise usage(f"the window {self.window_ns} ends before it begins")
        for column, period in self.period.items():
            if not 0 < period < float("inf"):
                raise usage(f"the period of {column} is {period}: it must be above 0")

    @property
    def limits(self) -> Limits:
        """As pairing takes them."""
        age = None if self.method == "next" else self.max_age_ns
        return Limits(
            tolerance_ns=_or_none(self.tolerance_ns),
            max_age_ns=_or_none(age),
            max_gap_ns=_or_none(self.max_gap_ns),
            edge_ns=self.tolerance_ns or 0,
            hole_is_gap=self.tolerance_ns is None and age is None,
        )


def _or_none(limit_ns: int | None) -> int:
    return NO_LIMIT if limit_ns is None else limit_ns
