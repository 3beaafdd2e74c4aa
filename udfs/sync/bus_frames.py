"""How far two loggers' clocks are apart, from the very same frames that both of them wrote.

Only frames that differ from the one before them of the same id say anything: of a constant payload
no frame can be told from the next. Where one changed payload is no rarity, a run of several is. The
offsets of all pairs of equal rarities are put into a histogram, slice by slice; the true ones agree
and the others scatter. Around the offset that is found, every pair that is unambiguous counts.

Loggers are compared chunk by chunk, so memory does not grow with the length of the drive.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.clock_line import student_factor
from udfs.sync.frame_keys import BusFrames, KeyArray, mixed
from udfs.sync.segments import Segment, fit_segments

FloatArray = npt.NDArray[np.float64]

_CHUNK_FRAMES = 1 << 18
_SLICE_NS = 20_000_000_000
_BIN_NS = 10_000_000
_RUNS = (1, 2, 4)
_MOST_PARTNERS = 3
_MIN_VOTES = 8
_MAX_SECOND = 0.5
_MIN_SHARE = 0.2
_FILTER = 31
_OUTLIER_SCALES = 6.0
_NORMAL_MAD = 1.4826
_MIN_PAIRS = 4
_MIXED_SCALES = 4.0


@attrs.frozen(eq=False)
class BusOffsets:
    """Offsets of a logger's clock over time.

    Attributes:
        t_ns: (S,) int64 on the logger's clock, ascending in the order of the recording.
        offset_ns: (S,) int64 its clock minus the reference's.
        error_ns: (S,) float64 standard error.
        pairs: (S,) int64 frames that were compared for it.
        frames: Frames of the logger.
        changed: Those that differ from the one before of their id.
        matched: Pairs that count.
        outliers: Pairs that were left out, since they lie apart from their neighbours.
        mixed: Spans that were left out, since they hold two offsets: the clock was set within.
    """

    t_ns: Int64Array
    offset_ns: Int64Array
    error_ns: FloatArray
    pairs: Int64Array
    frames: int
    changed: int
    matched: int
    outliers: int
    mixed: int

    def segments(self, *, max_drift_ppm: float) -> tuple[Segment, ...]:
        """The logger's clock against the reference's, a jump between each segment and the next.

        Args:
            max_drift_ppm: Drift of two clocks against each other that is hardly exceeded.

        Raises:
            ClockError: NO_TIME_REFERENCE or AMBIGUOUS, as in `fit_segments`.
        """
        return fit_segments(
            self.t_ns - self.offset_ns,
            self.offset_ns,
            error_ns=self.error_ns,
            max_drift_ppm=max_drift_ppm,
        )


@attrs.frozen(eq=False)
class _Events:
    """Changes of payload, in the order of the recording: (E,) times, streams and keys."""

    t_ns: Int64Array
    stream: Int64Array
    key: KeyArray


@attrs.frozen(eq=False)
class _Index:
    """Events sorted by key and then by time, both in one number, so that one search serves both.

    Attributes:
        order: (F,) rows of the events.
        known: (K,) uint64 keys, ascending.
        place: (F,) int64 rank of the key times `span`, plus the time.
        span: Room for the times of one key.
        start_ns: First time.
        end_ns: Last time.
        shift: Bits by which times are coarser, where the room is short.
    """

    order: Int64Array
    known: KeyArray
    place: Int64Array
    span: int
    start_ns: int
    end_ns: int
    shift: int

    @classmethod
    def of(cls, events: _Events) -> _Index:
        """Index of events, of which there must be one."""
        order = np.lexsort((events.t_ns, events.key))
        key = events.key[order]
        new = np.r_[True, key[1:] != key[:-1]]
        rank, known = np.cumsum(new) - 1, key[new]
        start, end = int(events.t_ns.min()), int(events.t_ns.max())
        shift = max(0, (len(known) * (end - start + 2)).bit_length() - 62)
        span = ((end - start) >> shift) + 2
        place = rank * span + ((events.t_ns[order] - start) >> shift)
        return cls(order, known, place, span, start, end, shift)

    def places(self, rank: Int64Array, t_ns: Int64Array) -> Int64Array:
        """(N,) int64 where a time of a key would stand; outside of all times, next to them."""
        inside = np.clip(t_ns, self.start_ns - 1, self.end_ns + 1) - self.start_ns
        return np.asarray(rank * self.span + (inside >> self.shift), dtype=np.int64)


@attrs.frozen(eq=False)
class _Pairs:
    """Equal events of both loggers: (P,) rows of the events of each."""

    mine: Int64Array
    theirs: Int64Array


def match_frames(
    reference: BusFrames,
    other: BusFrames,
    *,
    max_offset_ns: int,
    tolerance_ns: int = 5_000_000,
    every_ns: int = 1_000_000_000,
) -> BusOffsets:
    """Find the offset between two loggers over time from the frames that both hold.

    Args:
        reference: Frames of the logger on the reference clock.
        other: Frames of the other one. Ids that only one of them holds do no harm.
        max_offset_ns: How far to look either way.
        tolerance_ns: How much the stamps of one frame may scatter; half the span in which a frame
            must be the only one of its kind.
        every_ns: Span of one offset of the result.

    Raises:
        ClockError: NO_COMMON_FRAMES, nothing that changes is in both; AMBIGUOUS, it repeats itself
            too regularly to tell which is which.
    """
    offsets = _Gathered(every_ns)
    hint: int | None = None
    candidates = 0
    for mine, theirs in _chunks(reference, other, max_offset_ns=max_offset_ns):
        events, partners = _changes(mine, 1), _changes(theirs, 1)
        offsets.changed += len(events.t_ns)
        if not len(events.t_ns) or not len(partners.t_ns):
            continue
        for run in _RUNS:
            slices, seen = _vote(
                events if run == 1 else _changes(mine, run),
                partners if run == 1 else _changes(theirs, run),
                max_offset_ns=max_offset_ns,
            )
            candidates += seen
            if slices:
                break
        if not slices and hint is None:
            continue
        slices = slices or [(int(events.t_ns[0]), int(hint or 0))]
        hint = slices[-1][1]
        pairs = _unambiguous(events, partners, slices, tolerance_ns=tolerance_ns)
        if not _is_likely(events, pairs):
            hint = None
            continue
        offsets.add(events.t_ns[pairs.mine], partners.t_ns[pairs.theirs])
    if not offsets.matched:
        code = "AMBIGUOUS" if candidates >= _MIN_VOTES else "NO_COMMON_FRAMES"
        raise ClockError("no frames that both loggers hold tell their offset", code=code)
    return offsets.result(frames=len(other))


class _Gathered:
    """Offsets so far, a row for each span of `every_ns`."""

    def __init__(self, every_ns: int) -> None:
        self.every_ns = every_ns
        self.rows: list[npt.NDArray[np.float64]] = []
        self.whole: list[npt.NDArray[np.int64]] = []
        self.changed = self.matched = self.outliers = 0

    def add(self, t_ns: Int64Array, reference_ns: Int64Array) -> None:
        """Take pairs of one chunk, in the order of the recording."""
        if len(t_ns) < _MIN_PAIRS:
            return
        base = int(t_ns[0] - reference_ns[0])
        offset = (t_ns - reference_ns - base).astype(np.float64)
        apart = offset - median_filter(offset, min(_FILTER, len(offset)), mode="nearest")
        scale = max(_NORMAL_MAD * float(np.median(np.abs(apart))), 1.0)
        kept = np.abs(apart) <= _OUTLIER_SCALES * scale
        self.outliers += int(np.count_nonzero(~kept))
        t_ns, offset = t_ns[kept], offset[kept]
        span = t_ns // self.every_ns
        starts = np.flatnonzero(np.r_[True, span[1:] != span[:-1]])
        count = np.diff(np.append(starts, len(span)))
        enough = count >= _MIN_PAIRS
        gone = (t_ns - t_ns[0]).astype(np.float64)
        mean = np.add.reduceat(offset, starts) / count
        centred = offset - np.repeat(mean, count)
        deviation = np.sqrt(np.add.reduceat(centred**2, starts) / np.maximum(count - 1, 1))
        at = np.rint(np.add.reduceat(gone, starts) / count).astype(np.int64) + t_ns[0]
        whole = np.column_stack([at, base + np.rint(mean).astype(np.int64), count])
        self.whole.append(whole[enough])
        self.rows.append(deviation[enough])
        self.matched += int(count[enough].sum())

    def result(self, *, frames: int) -> BusOffsets:
        """All of them, less the spans in which the clock was set."""
        whole, deviation = np.concatenate(self.whole), np.concatenate(self.rows)
        usual = float(np.median(deviation))
        steady = deviation <= max(_MIXED_SCALES * usual, 1.0)
        whole, count = whole[steady], whole[steady, 2]
        # The scatter is that of the stamps, the same all the time: a few pairs alone know it badly.
        pooled = np.sqrt(np.sum(deviation[steady] ** 2 * (count - 1)) / np.sum(count - 1))
        widen = student_factor(int(np.sum(count - 1)))
        return BusOffsets(
            t_ns=whole[:, 0],
            offset_ns=whole[:, 1],
            error_ns=np.maximum(widen * pooled / np.sqrt(count), 1.0 / np.sqrt(12.0 * count)),
            pairs=count,
            frames=frames,
            changed=self.changed,
            matched=int(count.sum()),
            outliers=self.outliers,
            mixed=int(np.count_nonzero(~steady)),
        )


def _chunks(
    reference: BusFrames, other: BusFrames, *, max_offset_ns: int
) -> Iterator[tuple[BusFrames, BusFrames]]:
    """Parts of the other logger, each with the part of the reference that it may match."""
    first, last = reference.t_ns, reference.t_ns
    if len(reference) and np.any(np.diff(reference.t_ns) < 0):
        # A logger that was set back: no frame of the part may be missed.
        first = np.maximum.accumulate(reference.t_ns)
        last = np.minimum.accumulate(reference.t_ns[::-1])[::-1]
    for start in range(0, len(other), _CHUNK_FRAMES):
        mine = other.part(start, start + _CHUNK_FRAMES)
        low = np.searchsorted(first, mine.t_ns.min() - max_offset_ns, side="left")
        high = np.searchsorted(last, mine.t_ns.max() + max_offset_ns, side="right")
        yield mine, reference.part(int(low), int(high))


def _changes(frames: BusFrames, run: int) -> _Events:
    """Frames that differ from the one before of their stream, keyed by the last `run` of these."""
    order = np.argsort(frames.stream, kind="stable")
    key, stream = frames.key[order], frames.stream[order]
    # Of the first frame of a stream it is not known whether it differs from the one before.
    new = 1 + np.flatnonzero((key[1:] != key[:-1]) & (stream[1:] == stream[:-1]))
    order, key, stream = order[new], key[new], stream[new]
    grams = key
    for back in range(1, run):
        # Each place in the run is mixed once more, so that order counts.
        grams = mixed(grams[1:]) ^ key[: max(len(key) - back, 0)]
    whole = np.flatnonzero(stream[run - 1 :] == stream[: max(len(stream) - run + 1, 0)])
    rows = order[whole + run - 1]
    in_order = np.argsort(rows, kind="stable")
    rows = rows[in_order]
    return _Events(frames.t_ns[rows], frames.stream[rows], grams[whole[in_order]])


def _vote(
    events: _Events, partners: _Events, *, max_offset_ns: int
) -> tuple[list[tuple[int, int]], int]:
    """Offsets of the slices that have a clear one, as (time, offset), and how many pairs voted."""
    if not len(events.t_ns) or not len(partners.t_ns):
        return [], 0
    guess = np.zeros(len(events.t_ns), dtype=np.int64)
    found = _pairs_near(
        events, _Index.of(partners), guess, reach_ns=max_offset_ns, most=_MOST_PARTNERS
    )
    t_ns = events.t_ns[found.mine]
    offset = t_ns - partners.t_ns[found.theirs]
    piece = (t_ns - events.t_ns.min()) // _SLICE_NS
    order = np.argsort(piece, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(piece[order]) > 0]) if len(order) else order
    slices = []
    for rows in np.split(order, starts[1:]):
        mode = _clear_mode(offset[rows])
        if mode is not None:
            slices.append((int(np.median(t_ns[rows])), mode))
    return slices, len(offset)


def _clear_mode(offset_ns: Int64Array) -> int | None:
    """The offset on which far more pairs agree than on any other; None if there is none."""
    if len(offset_ns) < _MIN_VOTES:
        return None
    bins, votes = np.unique(offset_ns // _BIN_NS, return_counts=True)
    both = votes.copy()
    both[:-1] += np.where(np.diff(bins) == 1, votes[1:], 0)
    best = int(np.argmax(both))
    elsewhere = np.abs(bins - bins[best]) > 2
    second = int(both[elsewhere].max(initial=0))
    if both[best] < _MIN_VOTES or second > _MAX_SECOND * both[best]:
        return None
    near = np.abs(offset_ns // _BIN_NS - bins[best]) <= 1
    return int(np.median(offset_ns[near]))


def _unambiguous(
    events: _Events, partners: _Events, slices: list[tuple[int, int]], *, tolerance_ns: int
) -> _Pairs:
    """Pairs around the offsets of the slices before and behind, each the only one of its kind."""
    times, offsets = (np.array(values, dtype=np.int64) for values in zip(*slices, strict=True))
    order = np.argsort(times, kind="stable")
    after = np.minimum(np.searchsorted(times[order], events.t_ns), len(times) - 1)
    before = np.maximum(after - 1, 0)
    steady = np.abs(offsets[order][after] - offsets[order][before]) <= 2 * _BIN_NS
    between = np.interp(
        events.t_ns - times[order][0], times[order] - times[order][0], offsets[order]
    )
    index = _Index.of(partners)
    partner = np.full((2, len(events.t_ns)), -1, dtype=np.int64)
    # Slices that differ by a drift are joined; at a jump it is the one or the other.
    guess = np.where(steady, np.rint(between).astype(np.int64), offsets[order][before])
    found = _pairs_near(events, index, guess, reach_ns=tolerance_ns, most=1)
    partner[0, found.mine] = found.theirs
    torn = np.flatnonzero(~steady)
    if len(torn):
        some = _Events(events.t_ns[torn], events.stream[torn], events.key[torn])
        guess = offsets[order][after][torn]
        found = _pairs_near(some, index, guess, reach_ns=tolerance_ns, most=1)
        partner[1, torn[found.mine]] = found.theirs
    one = np.where(partner[0] < 0, partner[1], partner[0])
    agree = (partner[0] < 0) | (partner[1] < 0) | (partner[0] == partner[1])
    mine = np.flatnonzero(agree & (one >= 0))
    theirs = one[mine]
    alone = np.bincount(theirs, minlength=len(partners.t_ns))[theirs] == 1
    return _Pairs(mine[alone], theirs[alone])


def _is_likely(events: _Events, pairs: _Pairs) -> bool:
    """Whether of the streams that match a fair share does; of two drives, only a few frames do."""
    if len(pairs.mine) < _MIN_VOTES:
        return False
    span = events.stream[pairs.mine[0] : pairs.mine[-1] + 1]
    shared = np.isin(span, np.unique(events.stream[pairs.mine]))
    return len(pairs.mine) >= _MIN_SHARE * int(np.count_nonzero(shared))


def _pairs_near(
    events: _Events, index: _Index, offset_ns: Int64Array, *, reach_ns: int, most: int
) -> _Pairs:
    """Pairs of equal keys whose offset is within `reach_ns` of the guess, if they are few.

    Args:
        events: (E,) of one logger.
        index: Events of the other.
        offset_ns: (E,) int64 guess for each event.
        reach_ns: How far from the guess.
        most: Events with more partners than this are left out.
    """
    # Searched in the order of the keys, neighbours in memory serve one after the other.
    by_key = np.argsort(events.key)
    key = events.key[by_key]
    at = np.minimum(np.searchsorted(index.known, key), len(index.known) - 1)
    equal = np.flatnonzero(index.known[at] == key)
    by_key, at = by_key[equal], at[equal]
    middle = events.t_ns[by_key] - offset_ns[by_key]
    first = np.searchsorted(index.place, index.places(at, middle - reach_ns), side="left")
    last = np.searchsorted(index.place, index.places(at, middle + reach_ns), side="right")
    count = last - first
    chosen = np.flatnonzero((count > 0) & (count <= most))
    in_order = chosen[np.argsort(by_key[chosen])]
    count, first = count[in_order], first[in_order]
    mine = np.repeat(by_key[in_order], count)
    within = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count)
    return _Pairs(mine, index.order[np.repeat(first, count) + within])
