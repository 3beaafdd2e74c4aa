"""The Rust program of `mcap_raw/`: built by cargo where there is one, run beside the benchmark."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Self

FOLDER = Path(__file__).resolve().parent / "mcap_raw"
TARGET = FOLDER.parents[2] / "build" / "peers" / "mcap_raw"


def build_raw_reader() -> Path | str:
    """Path of the program, or why there is none; the first build takes a minute or two."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return "there is no cargo here to build it"
    command = [cargo, "build", "--release", "--locked", "--quiet", "--target-dir", str(TARGET)]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"cargo could not build it ({(done.stderr.strip().splitlines() or ['?'])[-1]})"
    return TARGET / "release" / "mcap_raw"


class RawReader:
    """The program at work on one file, which it keeps mapped."""

    def __init__(self, program: Path, recording: Path) -> None:
        """Start nothing yet."""
        self._command = [str(program), str(recording)]

    def __enter__(self) -> Self:
        """Start the program; it waits."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End the program."""
        self._process.communicate()

    def read(self) -> tuple[int, float]:
        """Read the file once: its messages, and the CPU seconds that took."""
        sending, answering = self._process.stdin, self._process.stdout
        assert sending is not None
        assert answering is not None
        sending.write("again\n")
        sending.flush()
        messages, _, cpu_s = answering.readline().split()
        return int(messages), float(cpu_s)
