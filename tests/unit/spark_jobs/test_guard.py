"""Bounded children: whatever the work does, the caller goes on and knows what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from contracts.errors import DecodeError, ResourceLimitError
from spark_jobs.guard import Bounds, guarded


def forever():
    while True:
        pass


def test_answer_of_any_size_comes_back():
    """The answer is what the work returned, also beyond the capacity of a pipe."""
    data = os.urandom(3_000_000)
    assert guarded(lambda: data, bounds=Bounds()) == data
    assert guarded(lambda: b"", bounds=Bounds()) == b""


def test_endless_loop_ends_at_the_processor_bound():
    """Work that spins is ended, as RESOURCE_LIMIT."""
    with pytest.raises(ResourceLimitError, match=r"RESOURCE_LIMIT.*1 s of processor time"):
        guarded(forever, bounds=Bounds(cpu_seconds=1))


def test_hang_ends_at_the_wall_bound():
    """Work that waits for ever is ended, and no child stays."""
    before = psutil.Process().children()
    with pytest.raises(ResourceLimitError, match="RESOURCE_LIMIT"):
        guarded(lambda: time.sleep(60) or b"", bounds=Bounds(wall_seconds=0.2))
    assert psutil.Process().children() == before


def test_memory_bomb_ends_at_the_memory_bound():
    """Work that fills the memory is ended long before the machine is full."""

    def bomb():
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20) * 8))

    with pytest.raises(ResourceLimitError, match="128 MiB of memory"):
        guarded(bomb, bounds=Bounds(memory_bytes=128 << 20))


def test_crash_is_told_by_its_signal():
    """A reader that dies of a signal is WORKER_CRASH and names it."""
    with pytest.raises(DecodeError, match=r"WORKER_CRASH.*SIGKILL"):
        guarded(lambda: os.kill(os.getpid(), signal.SIGKILL), bounds=Bounds())
    with pytest.raises(DecodeError, match=r"WORKER_CRASH.*exited with 3"):
        guarded(lambda: os._exit(3), bounds=Bounds())


def test_innocent_victim_is_tried_again(tmp_path):
    """A child that something else killed gets another attempt; one that raised does not."""
    marks = tmp_path / "marks"

    def killed_once():
        with marks.open("a") as file:
            file.write("x")
        if marks.read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        return b"done"

    assert guarded(killed_once, bounds=Bounds(), attempts=3) == b"done"
    assert marks.read_text() == "xx"

    def raises():
        with marks.open("a") as file:
            file.write("y")
        raise ValueError

    with pytest.raises(DecodeError, match="WORKER_FAILED"):
        guarded(raises, bounds=Bounds(), attempts=3)
    assert marks.read_text() == "xxy"


def test_temporary_files_of_a_child_that_is_killed_are_gone(tmp_path, monkeypatch):
    """A reader that dies half-way through unpacking leaves nothing on the disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def unpack_and_die():
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(bytes(1000))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DecodeError, match="SIGKILL"):
        guarded(unpack_and_die, bounds=Bounds())
    assert list(tmp_path.iterdir()) == []


def test_exception_is_told_in_its_own_words():
    """A reader that raises is WORKER_FAILED with class and text."""
    with pytest.raises(DecodeError, match="WORKER_FAILED: ZeroDivisionError: integer"):
        guarded(lambda: bytes(1 // 0), bounds=Bounds())


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ImportError("no such module")])
def test_failure_of_the_machine_is_no_verdict_on_the_input(error):
    """Disk, storage and installation failures are raised as such, so that a rerun can succeed."""

    def work():
        raise error

    with pytest.raises(OSError, match=str(error.args[-1])):
        guarded(work, bounds=Bounds())


def test_bounds_grow_with_the_input():
    """A large recording gets its time."""
    assert Bounds.for_input(10**9).cpu_seconds == 1060
    assert Bounds.for_input(0).cpu_seconds == 60


def test_child_imports_nothing_large(samples):
    """Decode in a child finds all that it needs imported: pandas alone takes a second a task."""
    uri = str(samples / "mcap/rosbags-rs_all_msgs/test_bag_mcap.mcap")
    code = f"""
import sys
from spark_jobs.guard import Bounds, guarded
from spark_jobs.readers import import_readers
from tests.unit.udfs.decode.recordings import CONTEXT
from udfs.decode.recording import index_recording, iter_table_groups
from udfs.decode.source import open_source

def work():
    before = set(sys.modules)
    with open_source({uri!r}) as source:
        found = index_recording(source)
        assert sum(len(group.tables) for group in iter_table_groups(source, found, context=CONTEXT))
    return " ".join(sys.modules.keys() - before).encode()

import_readers([{uri!r}])
assert "pandas" not in sys.modules
found = guarded(work, bounds=Bounds()).decode().split()
assert not [name for name in found if name.startswith(("pandas", "numpy"))], found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
