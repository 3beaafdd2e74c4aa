from __future__ import annotations

import io

import pytest
from rich.console import Console

from drivelake.progress import shown_stages


def work(stage):
    """Two batches: the second is looked into and has nothing to decode."""
    for name, total in (("index", 3), ("decode", 2), ("index", 1)):
        for done in range(1, total + 1):
            stage(name, done, total)
    stage("index", 1, 1)
    stage("index", 0, 4)
    stage("silver.clocks")


def test_stages_are_lines_where_there_is_no_terminal():
    """In a log each stage is one line when it has ended, with what was done of it."""
    said = io.StringIO()
    with shown_stages(Console(file=said, width=20), "ingest") as stage:
        assert said.getvalue() == ""
        work(stage)
    told = [line.rpartition(", ")[0] for line in said.getvalue().splitlines()]
    assert told == [
        "  ✓ ingest: index 3/3",
        "  ✓ ingest: decode 2/2",
        "  ✓ ingest: index 1/1",
        "  ✓ ingest: index 0/4",
        "  ✓ ingest: silver.clocks",
    ]


def test_a_stage_that_fails_did_not_end():
    """What stopped the work is told by others; no line says that its stage is done."""
    said = io.StringIO()

    def fail():
        with shown_stages(Console(file=said), "ingest") as stage:
            stage("index", 3, 3)
            stage("decode", 1, 2)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert "index" in said.getvalue()
    assert "decode" not in said.getvalue()


def test_a_terminal_has_a_bar_with_counts():
    """On a terminal the stage under way is a bar that says how much of how much is done."""
    said = io.StringIO()
    with shown_stages(Console(file=said, width=100, force_terminal=True), "ingest") as stage:
        stage("decode", 12, 40)
    assert "ingest: decode" in said.getvalue()
    assert "12/40" in said.getvalue()
    assert "━" in said.getvalue()
