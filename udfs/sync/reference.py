"""The instants that streams are brought to when no stream gives them: a fixed rate."""

from __future__ import annotations

from fractions import Fraction

import attrs
import numpy as np

from contracts.recording import Int64Array
from udfs.sync.stream_rules import usage

MOST_INSTANTS = 1 << 28
_SECOND_NS = 1_000_000_000
_MOST_NS = 2**63 - 1


@attrs.frozen
class Rate:
    """So many instants a second. Each opens the half-open window that the next one ends.

    Attributes:
        hz: Instants a second; a float such as 29.97 is taken for the fraction it stands for.
        start_ns: The first instant; the first sample of any stream if not given.
        end_ns: Where instants end, exclusive; behind the last sample of any stream if not given.
    """

    hz: float | Fraction
    start_ns: int | None = None
    end_ns: int | None = None

    def __attrs_post_init__(self) -> None:
        if not 0 < self.hz <= _SECOND_NS:
            raise usage(f"a rate of {self.hz} Hz is none: it must be above 0 and at most 1e9")

    def instants(self, start_ns: int, end_ns: int) -> Int64Array:
        """(M + 1,) int64: the instants of [start_ns, end_ns), and where the last window ends.

        Exact, however long the drive: an instant is rounded down to a ns, and errors don't add up.

        Raises:
            ContractViolation: USAGE, so many instants that a time must be wrong.
        """
        period = _SECOND_NS / Fraction(self.hz).limit_denominator(1_000_000)
        span = max(end_ns - start_ns, 0)
        count = -(-span // period)
        if count > MOST_INSTANTS:
            what = f"{self.hz} Hz from {start_ns} to {end_ns} ns are {count} instants"
            raise usage(what, remedy="Give the rate a start_ns and an end_ns")
        whole, part = divmod(period.numerator, period.denominator)
        last = start_ns + int(period * count)
        if last > _MOST_NS or (part and count * part > _MOST_NS):
            raise usage(f"{self.hz} Hz from {start_ns} on runs past the end of time in int64 ns")
        step = np.arange(count + 1, dtype=np.int64)
        found = step * whole + start_ns
        return found + step * part // period.denominator if part else found
