"""Runs damaged inputs in forked children: what crashes or hangs is known by its input."""

from __future__ import annotations

import gc
import json
import os
import random
import select
import signal
import struct
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from spark_jobs.readers import import_readers
from tests.campaign.damage import MIXING, damaged
from tests.campaign.good import Good
from tests.campaign.judge import Verdict, judge, read

BATCH = 250
SILENCE_SECONDS = 30.0
"""An input takes milliseconds; one that takes this long hangs."""


@attrs.frozen
class Case:
    """One damaged input: `number` with the seed makes it again."""

    good: Good
    number: int
    damage: str
    verdict: Verdict


@attrs.frozen
class Campaign:
    """Good files, what they hold as bytes, and the seed of all damage."""

    goods: Sequence[Good]
    contents: Sequence[bytes] = attrs.field(repr=False)
    seed: int
    keep: Path | None = None

    @classmethod
    def of(cls, goods: Sequence[Good], *, seed: int, keep: Path | None = None) -> Campaign:
        """Make the good files, and import what children need."""
        import_readers(["some.mf4", "some.blf"])
        return cls(goods, [good.make() for good in goods], seed, keep)

    def input_of(self, at: int, number: int) -> tuple[bytes, str]:
        """A damaged copy of a good file, and what was done; never another good file as it is."""
        good = self.goods[at]
        chance = random.Random(f"{self.seed}/{good.name}/{number}")  # noqa: S311
        family = [
            data
            for one, data in zip(self.goods, self.contents, strict=True)
            if one.group == good.group
        ]
        while True:
            found, damage = damaged(self.contents[at], other=chance.choice(family), chance=chance)
            if found not in family or found == self.contents[at]:
                return found, damage

    def run(self, at: int, numbers: range) -> Iterator[Case]:
        """Judge some inputs of a good file, in a child for each batch of them."""
        while numbers:
            batch = numbers[:BATCH]
            done = 0
            for case in self._batch(at, batch):
                done += 1
                yield case
            numbers = numbers[done:]

    def _batch(self, at: int, numbers: range) -> Iterator[Case]:
        """Judge inputs in one child, up to the first that it does not outlive."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._be_the_child(at, numbers, writing)
        os.close(writing)
        good = self.goods[at]
        done = 0
        with os.fdopen(reading, "rb") as stream:
            while (answer := _next(stream)) is not None:
                value = json.loads(answer)
                value["violations"] = tuple(value["violations"])
                damage = value.pop("damage")
                yield Case(good, numbers[done], damage, Verdict(**value))
                done += 1
        os.kill(child, signal.SIGKILL)  # it has ended, or hangs
        status = os.waitpid(child, 0)[1]
        if done < len(numbers):
            data, damage = self.input_of(at, numbers[done])
            if self.keep:
                self._keep(data, at, numbers[done])
            how = f"died: status {status}"
            if os.WIFSIGNALED(status):
                name = signal.Signals(os.WTERMSIG(status)).name
                how = "hang" if name == "SIGKILL" else f"died: {name}"
            yield Case(good, numbers[done], damage, Verdict("WORKER_CRASH", violations=(how,)))

    def _be_the_child(self, at: int, numbers: range, writing: int) -> None:
        try:
            gc.freeze()
            good = self.goods[at]
            truth = read(self.contents[at], good.definitions)
            judge(self.contents[at], good=truth, definitions=good.definitions)  # its base of memory
            for number in numbers:
                data, damage = self.input_of(at, number)
                is_mixed = not MIXING.isdisjoint(damage.split("+"))
                verdict = judge(data, good=truth, definitions=good.definitions, is_mixed=is_mixed)
                if verdict.violations and self.keep:
                    self._keep(data, at, number)
                answer = json.dumps({"damage": damage, **attrs.asdict(verdict)}).encode()
                _write_all(writing, struct.pack("<I", len(answer)) + answer)
            os.close(writing)
            signal.pause()
        except BaseException:  # noqa: BLE001, the child ends here whatever happens
            traceback.print_exc()
        finally:
            os._exit(1)

    def _keep(self, data: bytes, at: int, number: int) -> None:
        assert self.keep is not None
        self.keep.mkdir(parents=True, exist_ok=True)
        (self.keep / f"{self.goods[at].name.replace(' ', '_')}-{number}").write_bytes(data)


def _next(stream: object) -> bytes | None:
    """The next answer of a child; None where it ends or stays silent."""
    head = _exactly(stream, 4)
    return None if head is None else _exactly(stream, struct.unpack("<I", head)[0])


def _exactly(stream: object, count: int) -> bytes | None:
    number = stream.fileno()
    found = b""
    while len(found) < count:
        if not select.select([number], [], [], SILENCE_SECONDS)[0]:
            return None
        part = os.read(number, count - len(found))
        if not part:
            return None
        found += part
    return found


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
