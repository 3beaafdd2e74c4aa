"""Work on bytes that nobody has vetted, in a child process with bounds on time and memory.

A format library that loops for ever, eats the memory or crashes takes the child with it and
nothing else; the caller gets an error that names the bound.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import attrs
import pyarrow as pa

from contracts.errors import DecodeError, ResourceLimitError

ATTEMPTS = 3
"""For a single input; a group is first taken apart."""
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.05
_MEMORY_EXIT = 77
_OK, _MACHINE, _FAILED = b"k", b"s", b"f"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen
class Bounds:
    """What a child may take.

    Attributes:
        cpu_seconds: Of all its threads together.
        wall_seconds: From start to end.
        memory_bytes: Resident, without the pages of mapped files.
    """

    cpu_seconds: int = 60
    wall_seconds: float = 600.0
    memory_bytes: int = 2 << 30

    @classmethod
    def for_input(cls, size_bytes: int) -> Bounds:
        """Bounds that grow with the input: a second for each megabyte beyond the first minute."""
        seconds = 60 + size_bytes // 1_000_000
        return cls(cpu_seconds=seconds, wall_seconds=10.0 * seconds)


def guarded(work: Callable[[], bytes], *, bounds: Bounds, attempts: int = 1) -> bytes:
    """Run `work` in a forked child and give what it returns.

    Args:
        work: What to do; it shares the memory of the caller as it stands, and changes nothing.
            It uses no library that keeps threads of its own and has worked in the caller, as
            Polars may have: a fork has none of them and waits for ever.
        bounds: What it may take.
        attempts: How often to try where the child dies of a signal: a machine short of memory
            kills the innocent too, a reader that crashes does it again.

    Raises:
        ResourceLimitError: RESOURCE_LIMIT, a bound was exceeded.
        DecodeError: WORKER_CRASH, the child died; WORKER_FAILED, it raised.
        OSError: It raised one, or an ImportError: the storage, the disk or the installation
            failed, which says nothing of the input.
    """
    while attempts > 1:
        try:
            return guarded(work, bounds=bounds)
        except DecodeError as error:
            if error.code != "WORKER_CRASH":
                raise
        attempts -= 1
    with tempfile.TemporaryDirectory(prefix="drivelake-") as folder:
        answer = _forked(work, bounds, folder)
    status, answer = answer[:1], answer[1:]
    if status == _OK:
        return answer
    text = answer.decode("utf-8", "replace")
    if status == _MACHINE:
        raise OSError(text)
    raise DecodeError(text.strip().splitlines()[-1], code="WORKER_FAILED")


def _forked(work: Callable[[], bytes], bounds: Bounds, folder: str) -> bytes:
    """What the child wrote before it ended well; its temporary files go with `folder`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        tempfile.tempdir = folder
        _be_the_child(work, writing, bounds)
    os.close(writing)
    try:
        answer = _answer_of(child, reading, bounds)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(reading)
    _check_exit(os.waitpid(child, 0)[1], bounds)
    return answer


def _be_the_child(work: Callable[[], bytes], writing: int, bounds: Bounds) -> None:
    """Never returns: whatever happens, the child ends here and runs none of the parent's exits."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        soft = bounds.cpu_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        _spare_pandas()
        try:
            status, answer = _OK, work()
        except (OSError, ImportError) as error:
            status, answer = _MACHINE, f"{type(error).__name__}: {error}".encode()
        except MemoryError:
            os._exit(_MEMORY_EXIT)
        except Exception:  # noqa: BLE001  the boundary to the parent: it is told, and ends as one
            status, answer = _FAILED, traceback.format_exc().encode()
        _write_all(writing, status + answer)
        code = 0
    finally:
        os._exit(code)


def _spare_pandas() -> None:
    """Let Arrow find no pandas in this child: it looks for it at the first list that it is given.

    The import takes 0.85 s, ten times as long as to read a small recording, in every child.
    """
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([None])
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """A finder that says that there is no pandas."""

    @staticmethod
    def find_spec(name: str, *_others: object) -> None:
        """Refuse pandas, leave the rest to the finders behind this one."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _answer_of(child: int, reading: int, bounds: Bounds) -> bytes:
    """Collect what the child writes until it closes its end, watching its time and memory."""
    started = time.monotonic()
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([reading], [], [], _POLL_SECONDS)
        if ready:
            chunks.append(os.read(reading, 1 << 20))
            if not chunks[-1]:
                return b"".join(chunks)
        if time.monotonic() - started > bounds.wall_seconds:
            raise _limit(f"took more than {bounds.wall_seconds:.0f} s")
        if _anonymous_bytes(child) > bounds.memory_bytes:
            raise _limit(f"took more than {bounds.memory_bytes >> 20} MiB of memory")


def _check_exit(status: int, bounds: Bounds) -> None:
    """Say how the child died, if it did."""
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGXCPU:
            raise _limit(f"took more than {bounds.cpu_seconds} s of processor time")
        name = signal.Signals(os.WTERMSIG(status)).name
        raise DecodeError(f"the reader died of {name}", code="WORKER_CRASH")
    if os.WEXITSTATUS(status) == _MEMORY_EXIT:
        raise _limit("took more memory than there is")
    if os.WEXITSTATUS(status) != 0:
        raise DecodeError(f"the reader exited with {os.WEXITSTATUS(status)}", code="WORKER_CRASH")


def _limit(what: str) -> ResourceLimitError:
    return ResourceLimitError(f"the reader {what}")


def _anonymous_bytes(pid: int) -> int:
    """Memory of a process without the pages of files that it has mapped."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE if fields else 0
