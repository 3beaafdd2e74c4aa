"""What data that came late changes in the frames of a drive that is synchronised already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from udfs.sync.channels import Facts, added
from udfs.sync.frames import Choice, chosen_channels
from udfs.sync.recorder_clocks import RecorderClock, clocks_of, recorders_of
from udfs.sync.rules import SyncRules
from udfs.sync.sensor_clocks import sensors_of
from udfs.sync.slices import instants_of
from udfs.sync.spans import Span, united

Rows = Sequence[Mapping[str, Any]]
_SAME_SHARE = 0.5
"""A clock that moved by less of its standard error than this still is what was stated of it."""


def touched_spans(
    old: Rows,
    new: Rows,
    *,
    facts: Mapping[str, Facts],
    log_spans: Mapping[str, Span],
    rules: SyncRules,
) -> list[Span] | None:
    """Instants whose frames the recordings that are new to a drive may change.

    These are the times of the new recordings and the rules' reach around them, as long as the
    others' clocks are what was stated of them and the same channels speak for the streams.

    Args:
        old: Rows of `silver.clocks` of the drive that its frames were made on.
        new: Its rows now.
        facts: Of the channels, by recording.
        log_spans: Log times of the recordings, half-open.
        rules: The same then and now.

    Returns:
        Spans, ascending and apart; None where every frame may change.
    """
    before, now = recorders_of(old), recorders_of(new)
    if not before.keys() <= now.keys() or any(before[each] != now[each] for each in before):
        return None
    known, sensors = sensors_of(old, recorders=before), sensors_of(new, recorders=now)
    names = set(before.values())
    if known != {key: pieces for key, pieces in sensors.items() if key[0] in names}:
        return None
    clocks = clocks_of(new, rules=rules)
    for name, clock in clocks_of(old, rules=rules).items():
        if not _is_same(clock, clocks[name]):
            return None
    mine = chosen_channels(added(facts[each] for each in before), clocks=clocks, rules=rules)
    theirs = chosen_channels(added(facts[each] for each in now), clocks=clocks, rules=rules)
    if not all(_agree(of, theirs[camera]) for camera, of in mine.items()):
        return None
    spans = [
        (start - rules.reach_ns, end + rules.reach_ns)
        for each in now.keys() - before.keys()
        for start, end in instants_of(log_spans[each], clock=clocks[now[each]], rules=rules)
    ]
    return united(spans)


def _agree(old: Mapping[str, Choice], new: Mapping[str, Choice]) -> bool:
    """Whether what spoke for the streams of a camera still does, and means the same.

    A stream of which there was nothing matters only where it now is.
    """
    return all(
        new[stream].channel == one.channel
        and new[stream].is_stamped == one.is_stamped
        and one.latency_used_ns in (None, new[stream].latency_used_ns)
        for stream, one in old.items()
    )


def _is_same(old: RecorderClock, new: RecorderClock) -> bool:
    """Whether a clock is what was stated of it before."""
    if old.root != new.root or len(old.pieces) != len(new.pieces):
        return False
    for before, now in zip(old.pieces, new.pieces, strict=True):
        ends = np.array([before.start_ns, before.end_ns])
        moved = np.abs(before.offset_at(ends) - now.offset_at(ends))
        if np.any(moved > _SAME_SHARE * before.error_at(ends)):
            return False
    inner = [(each.end_ns, after.start_ns) for each, after in _pairs(old)]
    return inner == [(each.end_ns, after.start_ns) for each, after in _pairs(new)]


def _pairs(clock: RecorderClock) -> list[tuple[Any, Any]]:
    return list(zip(clock.pieces, clock.pieces[1:], strict=False))
