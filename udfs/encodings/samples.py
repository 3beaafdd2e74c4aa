"""Samples of a scalar signal: each a number, a text, or neither."""

from __future__ import annotations

import functools

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array

Mask = npt.NDArray[np.bool_]


@functools.lru_cache(maxsize=64)
def always(rows: int) -> Mask:
    """(N,) True, which takes no memory."""
    return np.broadcast_to(np.True_, (rows,))


@functools.lru_cache(maxsize=64)
def no_text(rows: int) -> Int64Array:
    """(N,) -1, which takes no memory."""
    return np.broadcast_to(np.int64(-1), (rows,))


@attrs.frozen(eq=False)
class Samples:
    """N samples.

    Attributes:
        value: (N,) float64, physical values.
        is_value: (N,) bool, where `value` holds.
        text: (N,) int64, index into `texts`, -1 where the sample has none.
        texts: The texts that occur.
        raw: (N,) float64 values before conversion; None where there is no conversion.
        is_invalid: (N,) bool, which samples the recorder marks as invalid; None: no such marks.
    """

    value: npt.NDArray[np.float64]
    is_value: Mask
    text: Int64Array
    texts: tuple[str, ...] = ()
    raw: npt.NDArray[np.float64] | None = None
    is_invalid: Mask | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is plain that every sample has a number, without a look at each."""
        return len(self.is_value) > 0 and self.is_value.strides == (0,) and bool(self.is_value[0])

    def without(self, invalid: Mask) -> Samples:
        """The same with neither number nor text where `invalid`."""
        if not invalid.any():
            return self
        return attrs.evolve(
            self,
            is_value=self.is_value & ~invalid,
            text=np.where(invalid, -1, self.text),
            is_invalid=invalid,
        )
