"""How far long work is: a bar on a terminal, a line for each stage that ended anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from drivelake.output import print_line


class Stages:
    """Takes what work says of its stages, and tells each of them as it ends.

    Args:
        console: Where to.
        name: Of the work.
        bars: Where the stage under way is shown.
    """

    def __init__(self, console: Console, name: str, bars: Progress) -> None:
        self._console, self._name, self._bars = console, name, bars
        self._stage, self._done, self._told = "", 0, ""
        self._began = self._heard = time.monotonic()
        self._task = bars.add_task(f"{name}: starting", total=None)

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        """Note that `done` of `total` of a stage are done; None where nobody counts."""
        if stage != self._stage or done < self._done:  # of the next batch
            self.end()
            self._stage = stage
            self._bars.reset(self._task, description=f"{self._name}: {stage}", total=total)
        self._done, self._heard = done, time.monotonic()
        self._told = "" if total is None else f" {done:,}/{total:,}"
        self._bars.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """Tell the stage under way as ended, when it was last heard of if somebody counts.

        It began when the one before ended: the first that is heard of a stage is what it has done.
        """
        if self._stage:
            ended = self._heard if self._told else time.monotonic()
            line = f"  ✓ {self._name}: {self._stage}{self._told}, {ended - self._began:.1f} s"
            print_line(self._console, line)
            self._began = ended
        self._stage = ""


@contextmanager
def shown_stages(console: Console, name: str) -> Iterator[Stages]:
    """Within the block, show how far work is; a stage that fails is not told as ended."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        stages = Stages(console, name, bars)
        yield stages
        stages.end()
