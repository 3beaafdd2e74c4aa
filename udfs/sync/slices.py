"""Slices of a drive: which instants belong together, and which stamps they need.

The length of a slice is fixed by the time of the data, not by who works on it, and a slice gives
the frames that the whole drive would: so nothing depends on how a drive is cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from udfs.sync.recorder_clocks import RecorderClock
from udfs.sync.rules import SyncRules
from udfs.sync.spans import Span, united

SLICE_NS = 300_000_000_000
BUCKET_NS = 30_000_000_000
"""Log times of images are known to this."""
_ROUNDING_NS = 1_000_000
"""The drift over what the clock drifted: far below."""


def cut(spans: Iterable[Span], *, length_ns: int = SLICE_NS) -> list[Span]:
    """Cut spans of instants into slices, each span from its start on.

    >>> cut([(0, 7), (9, 10)], length_ns=3)
    [(0, 3), (3, 6), (6, 7), (9, 10)]
    """
    return [
        (at, min(at + length_ns, end))
        for start, end in spans
        for at in range(start, end, length_ns)
    ]


def image_spans(
    buckets: Mapping[str, Collection[int]],
    *,
    recorders: Mapping[str, str],
    clocks: Mapping[str, RecorderClock],
    rules: SyncRules,
) -> list[Span]:
    """Instants at which a drive may have frames.

    Args:
        buckets: By recording, its images' log times over `BUCKET_NS`.
        recorders: Recorder by recording.
        clocks: Clock by recorder.
        rules: `max_latency_ns`.
    """
    return united(
        span
        for recording, mine in buckets.items()
        for bucket in mine
        for span in instants_of(
            (bucket * BUCKET_NS, (bucket + 1) * BUCKET_NS),
            clock=clocks[recorders[recording]],
            rules=rules,
        )
    )


def instants_of(log_span: Span, *, clock: RecorderClock, rules: SyncRules) -> list[Span]:
    """Where what was logged within a span may lie on the root of the clock, by any of its pieces.

    A stamp that counts is within `rules.max_latency_ns` of the log time.
    """
    ends = np.array([log_span[0] - rules.max_latency_ns, log_span[1] + rules.max_latency_ns])
    both = [(ends - piece.offset_at(ends)).tolist() for piece in clock.pieces]
    return united((first, last + 1) for first, last in both)


def readings_within(span: Span, *, clock: RecorderClock, rules: SyncRules) -> Span:
    """Log times, half-open, of all that may matter to the frames of a span of instants.

    Args:
        span: Instants on the root of the clock.
        clock: The recorder's.
        rules: Reach and latency.
    """
    # Twice: what the frames beyond the span, but within reach, leave to it must be known, too.
    margin = 2 * rules.reach_ns
    ends = np.array([span[0] - margin, span[1] + margin])
    shifted = [ends + piece.offset_at(ends + piece.offset_ns) for piece in clock.pieces]
    slack = rules.max_latency_ns + _ROUNDING_NS
    return min(int(each[0]) for each in shifted) - slack, max(
        int(each[1]) for each in shifted
    ) + slack
