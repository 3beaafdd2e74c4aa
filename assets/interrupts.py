"""What was heard of Ctrl-C and SIGTERM, whatever became of what their handlers raised.

Native code between the interpreter and a handler may lose that: deltalake does, where it calls
back into Python, and DuckDB makes an error of its own of it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_MANY = 4096


@contextmanager
def heard_signals() -> Iterator[Callable[[], int]]:
    """Within the block: the number of the first SIGINT or SIGTERM since its start, else 0.

    The interpreter tells it, whoever handles the signal. Blocks may be nested. Only the main thread
    hears.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    heard = bytearray()

    def first() -> int:
        with suppress(BlockingIOError):
            heard.extend(os.read(reader, _MANY))
        return next((each for each in heard if each in {signal.SIGINT, signal.SIGTERM}), 0)

    try:
        yield first
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        first()
        if before >= 0:  # a block around this one hears of it too
            with suppress(BlockingIOError):
                os.write(before, heard)
        os.close(reader)
        os.close(writer)
