"""Cost of decode at 1, 4 and 16 times the data: CPU time and memory, each in a process of its own.

    python benchmarks/scale_decode.py [--seconds 120] [--write]

A recording is repeated, later in time, 1, 4 and 16 times. Memory is the peak of anonymous memory
over what the process holds when all is imported and nothing read; the mapped file is not in it,
for the system takes those pages back when it needs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from decode_mcap import decode  # noqa: E402
from harness import arguments, publish  # noqa: E402
from recordings import repeated_bag, repeated_mcap, simulated_adas, small_bag, small_mcap  # noqa: E402

TIMES = (1, 4, 16)
RUNS = 3
MOST_MB = 250
MOST_GROWTH = 1.25
HEAD = (
    "| what | times | messages | MB | CPU s | a message µs | over 1 times | peak MB | |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
)


def main() -> None:
    """Measure, or be the process that is measured."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seconds", type=int, default=120, help="of the small topics, once")
    parser.add_argument("--one", type=Path, help="decode this file and say what it took")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        publish("scale_decode", lines(Path(folder), options.seconds), write=options.write)


def lines(folder: Path, seconds: int) -> Iterator[str]:
    """Rows of the table: each recording at each size."""
    yield from HEAD
    small = small_mcap(folder / "small_topics.mcap", seconds=seconds)
    bag = small_bag(folder / "small_topics.bag", seconds=seconds // 2)
    for path in (small, simulated_adas(folder), bag):
        first = 0.0
        for times in TIMES:
            grown = folder / f"grown{path.suffix}"
            repeat = repeated_bag if path.suffix == ".bag" else repeated_mcap
            repeat(path, grown, times=times)
            command = [sys.executable, __file__, "--one", str(grown)]
            found = json.loads(subprocess.check_output(command, text=True))
            each = found["cpu_s"] / found["messages"] * 1e6
            first = first or each
            growth, peak_mb = each / first, found["peak_mb"]
            is_flat = growth <= MOST_GROWTH and peak_mb <= MOST_MB
            yield (
                f"| {path.name} | {times} | {found['messages']} | {found['size_mb']:.0f} |"
                f" {found['cpu_s']:.3f} | {each:.2f} | {growth:.2f} | {peak_mb:.0f} |"
                f" {'linear and flat' if is_flat else 'grows'} |"
            )
            grown.unlink()


def measured(path: Path) -> dict[str, float]:
    """Least CPU seconds, messages, and peak memory of decode; imports are made before."""
    import udfs.decode.mcap
    import udfs.decode.recording
    import udfs.decode.ros1bag

    assert udfs.decode.mcap
    base, peak, done = anonymous_mb(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu_s = float("inf")
    for _ in range(RUNS):
        start = time.thread_time()
        messages = decode(path)
        cpu_s = min(cpu_s, time.thread_time() - start)
    done.set()
    watcher.join()
    size_mb = path.stat().st_size / 1e6
    return {"cpu_s": cpu_s, "messages": messages, "peak_mb": peak - base, "size_mb": size_mb}


def anonymous_mb() -> float:
    """Memory of this process that no file stands behind."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
