"""UTC as receivers tell it: weeks that rolled over put right, GPS time told from UTC.

What a receiver sends as UTC is GPS time until it has heard of the leap seconds, 18 s ahead of UTC
today; a receiver that counts weeks with ten bits tells a time 1024 weeks ago. Either is a step of
the receiver, and no jump of the clock that stamps what it sends.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array
from udfs.sync.stamps import OK, cut_stamps
from udfs.sync.time_scales import (
    GPS_EPOCH_NS,
    SECOND_NS,
    WEEK_NS,
    gps_time_ns,
    tai_minus_utc_ns,
    utc_from_gps_ns,
)

BoolArray = npt.NDArray[np.bool_]

_ROLLOVER_NS = 1024 * WEEK_NS
_DAY_NS = 86_400 * SECOND_NS
_TAI_AHEAD_OF_GPS_NS = 19 * SECOND_NS


def utc_of_receiver(
    sent_ns: Int64Array, stamp_ns: Int64Array, log_ns: Int64Array
) -> tuple[Int64Array, BoolArray]:
    """Put right what a receiver sent as UTC.

    Args:
        sent_ns: (N,) int64 time that it sent, by intention UTC.
        stamp_ns: (N,) int64 recorder's clock when it was so.
        log_ns: (N,) int64 log time, in any order.

    Returns:
        (N,) int64 UTC, and (N,) bool whether it is of use: a time since power-on is none, nor is
        one that was sent before, or that lies apart from all others.
    """
    utc = _with_whole_weeks(np.asarray(sent_ns, np.int64), log_ns)
    usable = (utc >= GPS_EPOCH_NS) & (stamp_ns > 0)
    order = np.flatnonzero(usable)[np.argsort(log_ns[usable], kind="stable")]
    sent, stamp = utc[order], stamp_ns[order]
    cuts = cut_stamps(sent, stamp)
    ahead = np.zeros(len(order), np.int64)
    for step in cuts.steps:
        if step.cause == "gps_utc" and _is_of_receiver(sent, stamp, step.index):
            is_gps = slice(step.index, None) if step.size_ns > 0 else slice(0, step.index)
            ahead[is_gps] = 1
    # Receivers that change to and fro are told by their last change; others are cut as jumps.
    difference = tai_minus_utc_ns(sent) - _TAI_AHEAD_OF_GPS_NS if len(sent) else ahead
    utc[order] = sent - ahead * difference
    usable[order] &= cuts.state == OK
    return utc, usable


def utc_of_week_time(tow_ns: Int64Array, log_ns: Int64Array) -> tuple[Int64Array, BoolArray]:
    """UTC of GPS times of week: the one nearest to the log time.

    Args:
        tow_ns: (N,) int64 since the start of the week.
        log_ns: (N,) int64 log times, within half a week of the truth.

    Returns:
        (N,) int64 UTC, 0 where there is none, and (N,) bool whether there is.
    """
    usable = (tow_ns >= 0) & (tow_ns <= WEEK_NS) & (log_ns >= GPS_EPOCH_NS + WEEK_NS)
    utc = np.zeros(len(tow_ns), np.int64)
    utc[usable] = utc_from_gps_ns(gps_time_ns(tow_ns[usable], log_ns[usable]))
    return utc, usable


def _with_whole_weeks(sent_ns: Int64Array, log_ns: Int64Array) -> Int64Array:
    """(N,) times with the rollovers of 1024 weeks added that bring them to the day of the log."""
    rollovers = np.maximum(np.rint((log_ns - sent_ns) / _ROLLOVER_NS).astype(np.int64), 0)
    moved = sent_ns + rollovers * _ROLLOVER_NS
    return np.where((sent_ns > 0) & (np.abs(log_ns - moved) < _DAY_NS), moved, sent_ns)


def _is_of_receiver(sent: Int64Array, stamp: Int64Array, index: int) -> bool:
    """Whether at a step the time that was sent stepped, and not the clock that stamped it."""
    usual = float(np.median(np.diff(stamp)))
    of_sent = abs(float(sent[index] - sent[index - 1]) - usual)
    return of_sent > abs(float(stamp[index] - stamp[index - 1]) - usual)
