"""A share of the campaign in every run, and proof that its judge sees what it is there to see."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from contracts.recording import LedgerEntry
from tests.campaign.damage import KINDS, damaged
from tests.campaign.good import good_files
from tests.campaign.judge import judge, read
from tests.unit.udfs.decode.recordings import mcap_bytes
from udfs.decode import recording

ROOT = Path(__file__).resolve().parents[3]
INPUTS = 450


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own: the campaign forks, and this process has threads."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_rule_breaks_whatever_happens_to_a_file():
    """Damaged inputs of every format, the same each time, break no rule.

    No crash, no hang, no silent loss or change, no memory beyond 1 GiB, every byte with a fate,
    every message counted.
    """
    done = python("-m", "tests.campaign", "--inputs", str(INPUTS))
    assert done.returncode == 0, done.stdout + done.stderr
    total = re.search(r"^\| \*\*all\*\* \| ([\d,]+) \|", done.stdout, re.MULTILINE)
    assert int(total[1].replace(",", "")) >= INPUTS
    formats = set(re.findall(r"^\| ([a-z][\w ]+) \| [\d,]+ \|", done.stdout, re.MULTILINE))
    assert formats == {good.group for good in good_files()}


def test_good_files_are_accepted():
    """What the campaign damages is whole before: ACCEPTED, every message written."""
    for good in good_files():
        found = read(good.make(), good.definitions)
        assert found.balance.outcome == "ACCEPTED", good.name
        assert found.balance.written >= 20, good.name
        assert found.rows.total() >= found.balance.written, good.name


def test_damage_is_made_again_by_its_seed():
    """The same chance gives the same input; every kind of damage occurs, and all change bytes."""
    data, other = mcap_bytes(20), mcap_bytes(30)
    made = [
        damaged(data, other=other, chance=random.Random(i))  # noqa: S311
        for i in (*range(400), *range(400))
    ]
    assert made[:400] == made[400:]
    assert {kind for _, kinds in made for kind in kinds.split("+")} == set(KINDS)
    assert sum(new != data for new, _ in made) > 700


def test_judge_sees_a_changed_row():
    """Rows of another recording, all checksums right, are no rows of this one."""
    good = read(mcap_bytes(20), {})
    other = mcap_bytes(21)
    assert judge(mcap_bytes(20), good=good, definitions={}).violations == ()
    changed, doubled = judge(other, good=good, definitions={}).violations
    assert changed.startswith("changed: 1 rows")
    assert doubled.startswith("doubled")


def test_judge_sees_a_silent_loss():
    """A shorter recording in which nothing is wrong is a loss that nobody tells."""
    good = read(mcap_bytes(20), {})
    (broken,) = judge(mcap_bytes(19), good=good, definitions={}).violations
    assert broken == "lost: 1 rows, and the file is ACCEPTED"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"messages_written": 1}, "books"),
        ({"messages_declared": 1}, "ledger"),
        ({"offset": 1}, "tiles"),
        ({"messages_declared": -1, "messages_lost": -1}, "books"),
    ],
)
def test_judge_sees_books_that_do_not_balance(monkeypatch, change, rule):
    """A ledger that counts wrong, leaves bytes out or holds nonsense is a violation."""
    good = read(mcap_bytes(20, use_chunking=False), {})
    plain = recording.index_recording

    def wrong(source: object) -> object:
        index = plain(source)
        entries = [attrs.evolve(index.structure[0], **change), *index.structure[1:]]
        assert isinstance(entries[0], LedgerEntry)
        return attrs.evolve(index, structure=tuple(entries))

    monkeypatch.setattr("tests.campaign.judge.index_recording", wrong)
    found = judge(mcap_bytes(20, use_chunking=False), good=good, definitions={}).violations
    assert rule in {one.partition(":")[0] for one in found}


def test_judge_sees_an_exception(monkeypatch):
    """What a reader raises by mistake is a violation that names it."""

    def raises(_: object) -> None:
        raise ZeroDivisionError("some defect")

    good = read(mcap_bytes(20), {})
    monkeypatch.setattr("tests.campaign.judge.index_recording", raises)
    verdict = judge(mcap_bytes(20), good=good, definitions={})
    assert verdict.violations == ("raised: ZeroDivisionError: some defect",)


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        ("os.abort()", "died: SIGABRT"),
        ("time.sleep(60)", "hang"),
        ("hold = b'1' * (3 << 29)", "memory"),
    ],
)
def test_crash_hang_and_memory_are_laid_at_their_input(deed, rule):
    """The input that takes the child down is named, and those behind it are judged as ever."""
    code = f"""
import json, os, time
from tests.campaign import run
from tests.campaign.good import good_files
from tests.campaign.judge import index_recording
import tests.campaign.judge as judge
run.SILENCE_SECONDS = 15.0
def index(source):
    if bytes(source.read_at(0, source.size)) == bad:
        {deed}
    return index_recording(source)
campaign = run.Campaign.of(good_files()[:1], seed=1)
bad = campaign.input_of(0, 3)[0]
judge.index_recording = index
print(json.dumps([[case.number, case.verdict.violations] for case in campaign.run(0, range(6))]))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(done.stdout))
    assert sorted(found) == list(range(6))
    assert [one.startswith(rule) for one in found.pop(3)] == [True]
    assert list(found.values()) == [[]] * 5


def test_a_bomb_takes_no_memory():
    """Fault 10: half a gigabyte of zeros in some kilobytes, honest or lying, is never held."""
    code = """
import json, resource, zstandard
from tests.campaign.judge import judge, read
from tests.unit.udfs.decode.mcap_files import DEFINED, chunk_record, file_of, numbered
from tests.unit.udfs.decode.recordings import mcap_bytes
packer = zstandard.ZstdCompressor().compressobj()
bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
good = read(mcap_bytes(20), {})
found = []
for size in (512 << 20, 200 << 20, 100):
    data = file_of(chunk_record(DEFINED + numbered(2)), chunk_record(b"", "zstd", bomb, size=size))
    judge(mcap_bytes(20), good=good, definitions={})
    verdict = judge(data, good=good, definitions={}, is_mixed=True)
    found.append([len(data), verdict.outcome, verdict.memory_bytes])
print(json.dumps(found))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    for size, outcome, memory in json.loads(done.stdout):
        assert size < 100_000
        assert outcome == "PARTIAL"
        assert memory < 64 << 20
