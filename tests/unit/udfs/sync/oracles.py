"""Plain-Python words for what pairing finds, one instant at a time, in whole numbers."""

from __future__ import annotations

LOW, HIGH = -(2**63), 2**63 - 1


def held(number):
    """A distance, held at the ends of int64."""
    return max(LOW, min(HIGH, number))


def piece_of(instant, boundaries):
    """Between which boundaries an instant lies: how many begin at or before it."""
    return sum(boundary <= instant for boundary, _ in boundaries)


def candidates(instant, samples, boundaries):
    """(before, after): indices of samples in the instant's piece, not later and not earlier."""
    piece = piece_of(instant, boundaries)
    same = [i for i, t in enumerate(samples) if piece_of(t, boundaries) == piece]
    before = [i for i in same if samples[i] <= instant]
    after = [i for i in same if samples[i] >= instant]
    return (before[-1] if before else None), (after[0] if after else None)


def reasons_around(instant, samples, boundaries):
    """(below, above): the reasons why samples beyond the piece are out of reach; None for none."""
    piece = piece_of(instant, boundaries)
    below = above = None
    if piece and any(piece_of(t, boundaries) < piece for t in samples):
        below = boundaries[piece - 1][1]
    if piece < len(boundaries) and any(piece_of(t, boundaries) > piece for t in samples):
        above = boundaries[piece][1]
    return below, above


def paired(instant, samples, method, limits, boundaries):
    """(index, distance, state, share) as the rule has it."""
    before, after = candidates(instant, samples, boundaries)
    below, above = reasons_around(instant, samples, boundaries)
    exact = after is not None and samples[after] == instant
    if exact and method != "last":
        return after, 0, "ok", 0.0
    if exact:
        return before, 0, "ok", 0.0
    has_both = before is not None and after is not None
    is_hole = has_both and samples[after] - samples[before] > limits.max_gap_ns
    if method == "last":
        found, cut = before, below
    elif method == "next":
        found, cut = after, above
    elif has_both:
        is_before = instant - samples[before] <= samples[after] - instant
        found, cut = (before if is_before else after), None
    else:
        found = after if before is None else before
        cut = below if before is None else above
        if found is None:
            return None, 0, below or above or "missing", 0.0
    if found is None:
        return None, 0, cut or "missing", 0.0
    if method in ("last", "next"):
        cut = None
    away = abs(samples[found] - instant)
    reach = limits.tolerance_ns
    if method == "between" and not has_both:
        reach = limits.edge_ns
    is_near = away <= reach and (samples[found] > instant or away <= limits.max_age_ns)
    share = 0.0
    if method == "between" and has_both:
        age = instant - samples[before]
        is_near = is_near and not is_hole and age <= limits.max_age_ns
        share = age / (samples[after] - samples[before]) if is_near else 0.0
    elif is_hole and limits.hole_is_gap:
        is_near = False
    state = "ok" if is_near else "gap" if is_hole else cut or "stale"
    return found, held(samples[found] - instant), state, share


def held_event(instant, begins, ends, limits, boundaries):
    """(index, state) of the event that began last of those that hold the instant."""
    piece = piece_of(instant, boundaries)
    holding = [i for i, t in enumerate(begins) if t <= instant < ends[i]]
    mine = [i for i in holding if piece_of(begins[i], boundaries) == piece]
    if not mine:
        return None, boundaries[piece - 1][1] if holding else "missing"
    age = instant - begins[mine[-1]]
    return mine[-1], "ok" if age <= min(limits.tolerance_ns, limits.max_age_ns) else "stale"


def windowed(window, samples, limits, boundaries):
    """(indices, state) of the samples in a window: an instant, its begin and its end."""
    instant, begin, end = window
    piece = piece_of(instant, boundaries)
    same = [i for i, t in enumerate(samples) if piece_of(t, boundaries) == piece]
    mine = [i for i in same if begin <= samples[i] < end]
    if mine:
        last = samples[mine[-1]]
        is_near = abs(last - instant) <= limits.tolerance_ns
        is_near = is_near and (last > instant or instant - last <= limits.max_age_ns)
        return mine, "ok" if is_near else "stale"
    below, above = reasons_around(instant, samples, boundaries)
    if below and begin < boundaries[piece - 1][0]:
        return [], below
    if above and end > boundaries[piece][0]:
        return [], above
    before = [samples[i] for i in same if samples[i] < begin]
    after = [samples[i] for i in same if samples[i] >= begin]
    is_hole = before and after and after[0] - before[-1] > limits.max_gap_ns
    return [], "gap" if is_hole else "missing"
