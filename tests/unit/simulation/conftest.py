"""One tiny fleet, simulated once, and the plans of its drives."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from simulation.fleet import DriveFiles, FleetSpec, simulate_fleet
from simulation.plan import DrivePlan, plan_drive

SPEC = FleetSpec(drives=2, seconds=4.0, seed=7)


@attrs.frozen
class TinyFleet:
    """Two simulated drives of four seconds: with a ROS 1 bag, and with a rosbag2 folder."""

    out: Path
    truth: Path
    spec: FleetSpec
    drives: list[DriveFiles]
    plans: list[DrivePlan]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> TinyFleet:
    """The tiny fleet; tests must not change its files."""
    home = tmp_path_factory.mktemp("fleet")
    out, truth = home / "landing", home / "truth"
    drives = simulate_fleet(SPEC, out=out, truth=truth)
    plans = [
        plan_drive(seed=SPEC.seed, index=index, seconds=SPEC.seconds)
        for index in range(1, SPEC.drives + 1)
    ]
    return TinyFleet(out, truth, SPEC, drives, plans)


@pytest.fixture(scope="session", params=[0, 1], ids=["ros1bag", "rosbag2"])
def drive(request, fleet: TinyFleet) -> tuple[DriveFiles, DrivePlan]:
    """Each drive of the tiny fleet in turn: its files and its plan."""
    return fleet.drives[request.param], fleet.plans[request.param]
