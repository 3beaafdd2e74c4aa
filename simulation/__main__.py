"""One drive in a process of its own: `simulate_fleet` starts one for each core.

The argument is JSON: the specification, the number of the drive, and the two folders.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from simulation.fleet import FleetSpec, simulate_drive

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Simulate the drive; end with the process that asked for it."""
    task = json.loads(sys.argv[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != task["parent"]:
        return  # it ended before it could be watched
    simulate_drive(
        FleetSpec(**task["spec"]),
        index=task["index"],
        out=Path(task["out"]),
        truth=Path(task["truth"]),
    )


if __name__ == "__main__":
    main()
