"""How far is too far, and what nothing is paired across; as values, and as kernels read them."""

from __future__ import annotations

import ctypes

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.native.library import start_of
from udfs.sync.states import CODES, GAP, JUMP

NO_LIMIT = 2**64 - 1


class LimitsStruct(ctypes.Structure):
    """`Limits` of samples.h."""

    _fields_ = (
        ("tolerance_ns", ctypes.c_uint64),
        ("max_age_ns", ctypes.c_uint64),
        ("max_gap_ns", ctypes.c_uint64),
        ("edge_ns", ctypes.c_uint64),
        ("hole_is_gap", ctypes.c_int64),
    )


class SamplesStruct(ctypes.Structure):
    """`Samples` of samples.h; good as long as the arrays that it was made of."""

    _fields_ = (
        ("t_ns", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("boundaries", ctypes.c_void_p),
        ("reasons", ctypes.c_void_p),
        ("boundary_count", ctypes.c_int64),
    )


@attrs.frozen
class Limits:
    """How far is too far, in ns; `NO_LIMIT` for what does not count.

    Attributes:
        tolerance_ns: From an instant to its sample, of two the closer.
        max_age_ns: From a sample that is not later to the instant.
        max_gap_ns: Between the two samples around an instant.
        edge_ns: How long a sample is held that has no partner to interpolate with.
        hole_is_gap: Whether in a hole wider than `max_gap_ns` no sample serves, however near.
    """

    tolerance_ns: int = NO_LIMIT
    max_age_ns: int = NO_LIMIT
    max_gap_ns: int = NO_LIMIT
    edge_ns: int = 0
    hole_is_gap: bool = False

    def struct(self) -> LimitsStruct:
        """As kernels read it."""
        return LimitsStruct(
            self.tolerance_ns, self.max_age_ns, self.max_gap_ns, self.edge_ns, self.hole_is_gap
        )


@attrs.frozen(eq=False)
class Boundaries:
    """Instants across which nothing is paired; what lies at one belongs to what begins there.

    Attributes:
        t_ns: (K,) int64, ascending, without repeats.
        reasons: (K,) uint8 codes of the state that each makes.
    """

    t_ns: Int64Array = attrs.field(factory=lambda: np.empty(0, np.int64))
    reasons: UInt8Array = attrs.field(factory=lambda: np.empty(0, np.uint8))

    @classmethod
    def of(cls, *, jumps_ns: npt.ArrayLike = (), gaps_ns: npt.ArrayLike = ()) -> Boundaries:
        """From the instants of both kinds, in any order; where both are, the jump counts.

        Args:
            jumps_ns: Instants at which the clock jumped.
            gaps_ns: Instants at which the stream begins anew after a gap.
        """
        if not np.size(jumps_ns) and not np.size(gaps_ns):
            return NOWHERE
        jumps, gaps = np.asarray(jumps_ns, np.int64), np.asarray(gaps_ns, np.int64)
        t_ns, first = np.unique(np.r_[jumps, gaps], return_index=True)
        reasons = np.where(first < len(jumps), CODES[JUMP], CODES[GAP]).astype(np.uint8)
        inside = t_ns > np.iinfo(np.int64).min  # nothing lies before that one
        return cls(t_ns[inside], reasons[inside])

    def struct(self, t_ns: Int64Array) -> SamplesStruct:
        """As kernels read it, together with (N,) ascending times of samples."""
        return SamplesStruct(
            start_of(t_ns), len(t_ns), start_of(self.t_ns), start_of(self.reasons),
            len(self.t_ns),
        )  # fmt: skip


NOWHERE = Boundaries()
"""A stream whose clock never jumped."""
