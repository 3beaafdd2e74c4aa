"""Which sample belongs to which instant, how far it is away, and if there is none, why."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.memory.arena import new_bytes
from udfs.native.library import library, start_of
from udfs.sync.limits import NOWHERE, Boundaries, Limits, LimitsStruct, SamplesStruct

Pairing = Literal["nearest", "last", "next", "between"]

_METHODS: dict[Pairing, int] = {"nearest": 0, "last": 1, "next": 2, "between": 3}
_PAIRS = ("index", "t_ns", "distance_ns", "state", "left", "share")
_LINE_BYTES = 64
_NO_SHARE = np.empty(0)


@attrs.frozen(eq=False)
class Paired:
    """What M instants found.

    Attributes:
        index: (M,) int64 of the sample whose time counts, -1 for none. Where the state is not ok it
            is the one that was too far away.
        t_ns: (M,) int64, its time; 0 for none.
        distance_ns: (M,) int64, its time minus the instant, held at the ends of int64; 0 for none.
        state: (M,) uint8 codes.
        unknown: How many have no sample.
        left: (M,) int64, "between" only: the sample that `share` counts from; else `index`.
        share: (M,) float64, "between" only: how much of the way to the sample behind `left`.
    """

    index: Int64Array
    t_ns: Int64Array
    distance_ns: Int64Array
    state: UInt8Array
    unknown: int
    left: Int64Array
    share: npt.NDArray[np.float64]


def pair_samples(
    instants: Int64Array,
    t_ns: Int64Array,
    *,
    method: Pairing,
    limits: Limits,
    boundaries: Boundaries = NOWHERE,
) -> Paired:
    """Find for each instant the sample that a method names.

    Of samples at the very instant "last" takes the last, the others the first; of one before and
    one behind that are as near, "nearest" takes the one before.

    Args:
        instants: (M,) int64 in any order; one pass where they ascend.
        t_ns: (N,) int64, ascending.
        method: "between" finds the two around the instant.
        limits: How far is too far.
        boundaries: What nothing is paired across.
    """
    found, room = _room(len(instants), is_between=method == "between")
    unknown = _kernels().pair_samples(
        ctypes.byref(boundaries.struct(t_ns)), ctypes.byref(limits.struct()),
        _METHODS[method], start_of(instants), len(instants), ctypes.byref(room),
    )  # fmt: skip
    return attrs.evolve(found, unknown=unknown)


def pair_events(
    instants: Int64Array,
    t_ns: Int64Array,
    ends_ns: Int64Array,
    *,
    limits: Limits,
    boundaries: Boundaries = NOWHERE,
) -> Paired:
    """Find for each instant the event that began last of those whose [begin, end) holds it.

    Args:
        instants: (M,) int64, ascending.
        t_ns: (N,) int64 beginnings, ascending.
        ends_ns: (N,) int64, exclusive.
        limits: `tolerance_ns` and `max_age_ns` count, from the beginning.
        boundaries: What no event reaches across.
    """
    found, room = _room(len(instants), is_between=False)
    open_events = np.empty(len(t_ns), np.int64)
    unknown = _kernels().pair_events(
        ctypes.byref(boundaries.struct(t_ns)), start_of(ends_ns),
        ctypes.byref(limits.struct()), start_of(instants), len(instants),
        start_of(open_events), ctypes.byref(room),
    )  # fmt: skip
    return attrs.evolve(found, unknown=unknown)


def use_once(paired: Paired, *, samples: int) -> None:
    """Leave each of so many samples to the closest of the instants that found it, then the first.

    For the others the state becomes stale, in place.
    """
    user = np.empty(samples, np.int64)
    _kernels().use_once(
        start_of(paired.index), start_of(paired.distance_ns), len(paired.index),
        start_of(user), samples, start_of(paired.state),
    )  # fmt: skip


def first_descent(t_ns: Int64Array) -> int:
    """Index of the first time that lies before the one in front of it; -1 where all ascend."""
    return int(_kernels().first_descent(start_of(t_ns), len(t_ns)))


class _PairsStruct(ctypes.Structure):
    """`Pairs` of pairing.c."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in _PAIRS)


def _room(count: int, *, is_between: bool) -> tuple[Paired, _PairsStruct]:
    """What a kernel writes into, and where that is: apart what is kept and what soon is not."""
    kept = rooms_of(count, (8, 8, 1))
    passing = rooms_of(count, (8, 8, 8) if is_between else (8,))
    index = passing[0].view(np.int64)
    found = Paired(
        index=index,
        t_ns=kept[0].view(np.int64),
        distance_ns=kept[1].view(np.int64),
        state=kept[2],
        unknown=0,
        left=passing[1].view(np.int64) if is_between else index,
        share=passing[2].view(np.float64) if is_between else _NO_SHARE,
    )
    places = [start_of(room) for room in (passing[0], *kept, *passing[1:])]
    return found, _PairsStruct(*places)


def rooms_of(count: int, widths: Sequence[int]) -> list[UInt8Array]:
    """Bytes for `count` values of each width, to be filled, that share one piece of memory."""
    sizes = [-(-count * width // _LINE_BYTES) * _LINE_BYTES for width in widths]
    whole = new_bytes(sum(sizes))
    begins = itertools.accumulate(sizes, initial=0)
    return [
        whole[begin : begin + count * width] for begin, width in zip(begins, widths, strict=False)
    ]


def int64_array(count: int) -> Int64Array:
    """(count,) int64 to be filled, of memory that was in use before where there is some."""
    return new_bytes(8 * count).view(np.int64)


@functools.cache
def _kernels() -> ctypes.CDLL:
    loaded = library()
    number, array = ctypes.c_int64, ctypes.c_void_p
    samples, limits = ctypes.POINTER(SamplesStruct), ctypes.POINTER(LimitsStruct)
    pairs = ctypes.POINTER(_PairsStruct)
    loaded.pair_samples.argtypes = (samples, limits, ctypes.c_int32, array, number, pairs)
    loaded.pair_samples.restype = number
    loaded.pair_events.argtypes = (samples, array, limits, array, number, array, pairs)
    loaded.pair_events.restype = number
    loaded.use_once.argtypes = (array, array, number, array, number, array)
    loaded.use_once.restype = None
    loaded.first_descent.argtypes = (array, number)
    loaded.first_descent.restype = number
    return loaded
