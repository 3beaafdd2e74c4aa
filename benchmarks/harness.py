"""What all benchmarks share: CPU time of two sides in one process, a table, the results file.

The sides run in turn, so that what else the machine does meets both; the least of several runs
counts, and the spread is how far the median is above it. Both sides must report the same count.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
HEAD = (
    "| what | messages | MB | ours s | spread | theirs s | spread | ratio | goal | |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
)


@attrs.frozen
class Elsewhere:
    """What a run in another process says of itself.

    Attributes:
        count: Messages.
        cpu_s: Its CPU seconds, start of the process not included.
    """

    count: int
    cpu_s: float


@attrs.frozen
class Case:
    """Two ways to do the same.

    Attributes:
        what: The data and the reference.
        size_bytes: Bytes that are decoded.
        ours: Decodes all of it; the number of messages.
        theirs: The reference, likewise.
        goal: How many times less CPU time ours is to take; None for a figure without a goal.
        within: Turns it round: how many times the reference's CPU time ours may take at most.
        is_same: Whether the reference counts messages, too.
    """

    what: str
    size_bytes: int
    ours: Callable[[], int]
    theirs: Callable[[], int | Elsewhere]
    goal: float | None = None
    within: float | None = None
    is_same: bool = True

    def line(self, repeats: int) -> str:
        """Measure both sides; a row of the table."""
        count, wanted = self.ours(), self.theirs()
        wanted = wanted.count if isinstance(wanted, Elsewhere) else wanted
        if self.is_same and count != wanted:
            raise SystemExit(f"{self.what}: {count} messages against {wanted}")
        (ours, noise), (theirs, their_noise) = least_of([self.ours, self.theirs], repeats)
        ratio = theirs / ours if self.within is None else ours / theirs
        met, goal = "", ""
        if self.goal is not None:
            met, goal = "met" if ratio >= self.goal else "missed", f"≥ {self.goal:g}"
        elif self.within is not None:
            met, goal = "met" if ratio <= self.within else "missed", f"≤ {self.within:g}"
        return (
            f"| {self.what} | {count} | {self.size_bytes / 1e6:.1f} | {ours:.4f} | {noise:.0%} |"
            f" {theirs:.4f} | {their_noise:.0%} | {ratio:.1f} | {goal} | {met} |"
        )


def least_of(runs: Sequence[Callable[[], object]], repeats: int) -> list[tuple[float, float]]:
    """Of each of several callables: least CPU seconds, and how far the median is above it."""
    times = np.empty((repeats, len(runs)))
    for turn in times:
        for i, run in enumerate(runs):
            start = time.process_time()
            done = run()
            here = time.process_time() - start
            turn[i] = done.cpu_s if isinstance(done, Elsewhere) else here
    least = times.min(axis=0)
    return list(zip(least.tolist(), (np.median(times, axis=0) / least - 1).tolist(), strict=True))


def arguments(doc: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="put it into benchmarks/RESULTS.md")
    return parser


def publish(name: str, lines: Iterable[str], *, write: bool) -> None:
    """Print a section, and put it in the place of the one that the results file has."""
    text = "\n".join([*_title(name), *lines, ""])
    print(text)
    if not write:
        return
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Measured\n"
    parts = re.split(r"\n(?=## )", old.rstrip("\n") + "\n")
    kept = [part for part in parts if not part.startswith(f"## {name},")]
    RESULTS.write_text("\n".join([*kept, text]), encoding="utf-8")


def table(cases: Iterable[Case], *, repeats: int) -> Iterator[str]:
    """Rows of all cases under their heading."""
    yield from HEAD
    for case in cases:
        yield case.line(repeats)


def _title(name: str) -> Iterator[str]:
    yield f"## {name}, {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"
    yield ""
    given = " ".join(one for one in sys.argv[1:] if one != "--write")
    yield f"`python benchmarks/{name}.py {given}`".replace(" `", "`")
    yield f"({platform.machine()}, Python {platform.python_version()}, one thread, CPU time)"
    yield ""


def free_ports() -> list[int]:
    """Two ports on which nothing listens now."""
    import socket

    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]
