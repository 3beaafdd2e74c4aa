"""Half-open stretches of time, united and met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[int, int]
"""Half-open, ns."""


def united(spans: Iterable[Span]) -> list[Span]:
    """The same instants in ascending spans that do not touch.

    >>> united([(5, 9), (0, 3), (3, 4)])
    [(0, 4), (5, 9)]
    """
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def common(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """The instants that are in both.

    >>> common([(0, 4), (6, 9)], [(3, 7)])
    [(3, 4), (6, 7)]
    """
    both = ((max(a, c), min(b, d)) for a, b in spans for c, d in others)
    return united(both)


def hull(spans: Iterable[Span | None]) -> Span | None:
    """From the first of the starts to the last of the ends; None, for all, if any span is None.

    >>> hull([(5, 9), (0, 3)]), hull([(5, 9), None]), hull([])
    ((0, 9), None, None)
    """
    every = list(spans)
    known = [each for each in every if each is not None]
    if len(known) < len(every) or not known:
        return None
    return min(start for start, _ in known), max(end for _, end in known)
