"""The campaign of damage: `python -m tests.campaign --inputs 100000`.

Every good recording is damaged equally often, by a seed; each input is decoded as ingest does it
and held against the rules of `judge`. It prints a table, and the command that makes a violation
again.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.campaign.good import good_files
from tests.campaign.run import BATCH, Campaign, Case
from udfs.native import library

SEED = 4


@attrs.define
class Tally:
    """What became of the inputs of a format, or of a file."""

    inputs: int = 0
    outcomes: collections.Counter[str] = attrs.field(factory=collections.Counter)
    unseen: int = 0
    violations: int = 0
    slowest_s: float = 0.0
    memory_bytes: int = 0

    def add(self, case: Case) -> None:
        """Take in a case."""
        verdict = case.verdict
        self.inputs += 1
        self.outcomes[verdict.outcome.partition(":")[0]] += 1
        self.unseen += verdict.is_unseen
        self.violations += bool(verdict.violations)
        self.slowest_s = max(self.slowest_s, verdict.seconds)
        self.memory_bytes = max(self.memory_bytes, verdict.memory_bytes)

    def row(self, name: str) -> str:
        """A row of the table."""
        counts = [self.outcomes[one] for one in ("ACCEPTED", "PARTIAL", "QUARANTINED")]
        numbers = [self.inputs, *counts, self.unseen, self.violations]
        cells = [f"{number:,}" for number in numbers]
        cells += [f"{self.slowest_s:.2f}", f"{self.memory_bytes >> 20}"]
        return f"| {name} | {' | '.join(cells)} |"


HEAD = """| file | inputs | accepted | partial | quarantined | changed unseen (no checksum) \
| violations | slowest s | most MiB |
| --- | --: | --: | --: | --: | --: | --: | --: | --: |"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; 0 where nothing is violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all files")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--file", help="only the good files with this in their name")
    parser.add_argument("--case", type=int, help="only this input of each")
    parser.add_argument("--keep", type=Path, help="folder for inputs that violate a rule")
    parser.add_argument("--kernels", help="another build of the native kernels, as with sanitisers")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop behind these")
    parser.add_argument("--by-file", action="store_true", help="a row for each good file, too")
    chosen = parser.parse_args(arguments)
    if chosen.kernels:
        library.LIBRARY = Path(chosen.kernels)
        ctypes.CDLL(chosen.kernels)
    campaign = Campaign.of(good_files(), seed=chosen.seed, keep=chosen.keep)
    places = [
        at for at, good in enumerate(campaign.goods) if not chosen.file or chosen.file in good.name
    ]
    groups: dict[str, Tally] = {}
    files: dict[str, Tally] = {}
    broken: dict[str, list[Case]] = {}
    started = time.monotonic()
    each = -(-chosen.inputs // len(places))
    numbers = range(each) if chosen.case is None else range(chosen.case, chosen.case + 1)
    end = started + chosen.minutes * 60
    while numbers and time.monotonic() < end:
        for at in places:  # in turns, so that files are damaged about equally often, whatever ends
            if time.monotonic() >= end:
                break
            good = campaign.goods[at]
            for case in campaign.run(at, numbers[:BATCH]):
                groups.setdefault(good.group, Tally()).add(case)
                files.setdefault(good.name, Tally()).add(case)
                for what in case.verdict.violations:
                    print(f"{good.name} {case.number} [{case.damage}] {what}", file=sys.stderr)
                    broken.setdefault(f"{good.group}: {what.partition(':')[0]}", []).append(case)
        numbers = numbers[BATCH:]
        print(f"at most {len(numbers)} inputs of each file to go", file=sys.stderr, flush=True)
    _report(groups, files if chosen.by_file else {}, broken, chosen.seed)
    print(f"\n{time.monotonic() - started:.0f} s, seed {chosen.seed}")
    return 1 if broken else 0


def _report(
    groups: dict[str, Tally],
    files: dict[str, Tally],
    broken: dict[str, list[Case]],
    seed: int,
) -> None:
    total = Tally()
    for tally in groups.values():
        total.inputs += tally.inputs
        total.outcomes += tally.outcomes
        total.unseen += tally.unseen
        total.violations += tally.violations
        total.slowest_s = max(total.slowest_s, tally.slowest_s)
        total.memory_bytes = max(total.memory_bytes, tally.memory_bytes)
    rows = [tally.row(name) for name, tally in (*groups.items(), *files.items())]
    print("\n".join([HEAD, *rows, total.row("**all**")]))
    for name, cases in sorted(broken.items()):
        print(f"\n{name}: {len(cases)} inputs")
        for case in cases[:12]:
            place = f'--seed {seed} --file "{case.good.name}" --case {case.number}'
            print(f"  {place}  [{case.damage}] {case.verdict.outcome}")
            for what in case.verdict.violations:
                print(f"    {what}")


if __name__ == "__main__":
    sys.exit(main())
