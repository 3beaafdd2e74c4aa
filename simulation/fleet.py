"""Simulate a fleet: recordings in one place, the truth in another, a manifest when all is there.

The same specification gives the same bytes with the locked libraries on the same kind of processor;
another kind may round a sine differently in its last bit, and then pixels and points follow.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from contracts.errors import ContractViolation
from simulation.adas import write_adas
from simulation.bus import write_bus
from simulation.observation import observe
from simulation.plan import DrivePlan, drive_id_of, plan_drive
from simulation.reference import write_ros1_bag, write_rosbag2
from simulation.rig import camera_of_size
from simulation.truth import write_truth

MANIFEST = "drive.json"
MANIFEST_VERSION = 1
REVISION = 1
"""Raised whenever the same specification gives other bytes than before."""

_PART = ".part"
_TRUTH_MARK = "clocks.json"
_BLOCK_BYTES = 1 << 20
_MIN_IMAGE_PX = 64
_POLL_SECONDS = 0.05
_PROJECT = Path(__file__).resolve().parent.parent


def _image_size(value: Iterable[int]) -> tuple[int, int]:
    """Check the width and height of the images."""
    width, height = value
    if min(width, height) < _MIN_IMAGE_PX:
        raise ValueError(f"an image of {width} x {height} pixels shows nothing")
    return int(width), int(height)


@attrs.frozen
class FleetSpec:
    """What to simulate.

    Attributes:
        drives: Number of drives.
        seconds: Length of each.
        seed: Everything random follows from it.
        camera_size: Width and height of the camera's images.
        jump_share: Share of the drives in which the clock of one recorder is set while it runs.
    """

    drives: int = attrs.field(default=6, validator=attrs.validators.ge(1))
    seconds: float = attrs.field(
        default=20.0,
        validator=attrs.validators.and_(attrs.validators.ge(1.0), attrs.validators.lt(math.inf)),
    )
    seed: int = 7
    camera_size: tuple[int, int] = attrs.field(default=(640, 384), converter=_image_size)
    jump_share: float = attrs.field(
        default=0.0,
        validator=attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.le(1.0)),
    )

    def digest(self) -> str:
        """Hash of what decides the bytes of a drive; the number of drives does not.

        A share of no jumps is left out: such drives have the bytes that they had before there were
        any.
        """
        parts = attrs.asdict(self, filter=lambda field, _: field.name != "drives")
        if not self.jump_share:
            del parts["jump_share"]
        text = json.dumps({**parts, "revision": REVISION}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@attrs.frozen
class DriveFiles:
    """Where a drive lies.

    Attributes:
        drive_id: Its name.
        folder: Its recordings and its manifest.
        truth: Its truth.
        objects: Paths of the recordings' files.
        written: False when it was there already.
    """

    drive_id: str
    folder: Path
    truth: Path
    objects: tuple[Path, ...]
    written: bool


def simulate_fleet(
    spec: FleetSpec,
    *,
    out: Path,
    truth: Path,
    progress: Callable[[str], None] | None = None,
) -> list[DriveFiles]:
    """Simulate the drives of a fleet; those already there from the same specification stay.

    Args:
        spec: What to simulate.
        out: Folder of the recordings; each drive has a folder of its own in it.
        truth: Folder of the truth, likewise.
        progress: Told in words what has been done.

    Returns:
        The drives in order.

    Raises:
        ContractViolation: A drive of another specification is there; recordings never change.
    """
    told = progress or (lambda _: None)
    indices = range(1, spec.drives + 1)
    found = {index: _found(spec, index, out=out, truth=truth) for index in indices}
    for files in found.values():
        if files:
            told(f"{files.drive_id}: {len(files.objects)} files already there")
    missing = [index for index, files in found.items() if not files]
    _simulate_side_by_side(spec, missing, out=out, truth=truth, told=told)
    done = []
    for index, files in found.items():
        # a drive whose process failed is simulated here: so its error is one of this process
        made = files or simulate_drive(spec, index=index, out=out, truth=truth)
        done.append(attrs.evolve(made, written=not files))
        if not files:
            told(f"{made.drive_id}: {len(made.objects)} files written")
    return done


def _cores() -> int:
    """How many processes can work at once."""
    return len(os.sched_getaffinity(0))


def _simulate_side_by_side(
    spec: FleetSpec, indices: list[int], *, out: Path, truth: Path, told: Callable[[str], None]
) -> None:
    """Simulate drives in a process for each core; one drive alone, or on one core, is left."""
    if len(indices) < 2 or _cores() < 2:
        return
    waiting = list(reversed(indices))
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _cores():
                index = waiting.pop()
                running[index] = _process_of(spec, index, out=out, truth=truth)
            for index, process in list(running.items()):
                if process.poll() is not None:
                    del running[index]
                    told(f"{drive_id_of(index)}: {'failed' if process.returncode else 'done'}")
            time.sleep(_POLL_SECONDS)
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def _process_of(spec: FleetSpec, index: int, *, out: Path, truth: Path) -> subprocess.Popen[bytes]:
    """A process that simulates one drive and ends with this one."""
    task = {
        "spec": attrs.asdict(spec),
        "index": index,
        "out": str(out.absolute()),
        "truth": str(truth.absolute()),
        "parent": os.getpid(),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "simulation", json.dumps(task)],
        cwd=_PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def simulate_drive(spec: FleetSpec, *, index: int, out: Path, truth: Path) -> DriveFiles:
    """Simulate one drive; its folder appears at once, complete, the manifest written last.

    Args:
        spec: What to simulate.
        index: Number of the drive, from 1.
        out: Folder of the recordings.
        truth: Folder of the truth.

    Returns:
        Where it lies.

    Raises:
        ContractViolation: The drive is there from another specification.
    """
    files = _found(spec, index, out=out, truth=truth)
    if files:
        return files
    drive_id = drive_id_of(index)
    folder, truth_folder = out / drive_id, truth / drive_id
    plan = plan_drive(seed=spec.seed, index=index, seconds=spec.seconds, jump_share=spec.jump_share)
    paths = _write_drive(plan, spec=spec, folder=folder, truth_folder=truth_folder)
    return DriveFiles(drive_id, folder, truth_folder, paths, written=True)


def _found(spec: FleetSpec, index: int, *, out: Path, truth: Path) -> DriveFiles | None:
    """The drive where it is there whole from the same specification.

    Raises:
        ContractViolation: It is there from another one.
    """
    drive_id = drive_id_of(index)
    folder, truth_folder = out / drive_id, truth / drive_id
    manifest = _read_manifest(folder)
    if manifest and manifest.get("simulation") != spec.digest():
        raise ContractViolation(
            f"{drive_id} is there from another specification and recordings never change",
            uri=str(folder),
            remedy="Simulate into another folder, or remove this one.",
        )
    if not manifest or not (truth_folder / _TRUTH_MARK).exists():
        return None
    paths = tuple(folder / one["path"] for one in manifest["objects"])
    return DriveFiles(drive_id, folder, truth_folder, paths, written=False)


def _write_drive(
    plan: DrivePlan, *, spec: FleetSpec, folder: Path, truth_folder: Path
) -> tuple[Path, ...]:
    """Write the truth, the recordings and last the manifest in hidden folders, then show them."""
    building = folder.with_name(f".{plan.drive_id}{_PART}")
    truth_building = truth_folder.with_name(f".{plan.drive_id}{_PART}")
    for path in (building, truth_building):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    seen = observe(plan, camera=camera_of_size(spec.camera_size))
    write_truth(plan, seen=seen, folder=truth_building)
    shutil.rmtree(truth_folder, ignore_errors=True)
    truth_building.rename(truth_folder)
    write_adas(plan, seen=seen, path=building / "adas.mcap")
    write_bus(plan, path=building / "bus.mf4")
    if plan.index % 2:
        write_ros1_bag(plan, path=building / "reference.bag")
    else:
        write_rosbag2(plan, folder=building / "reference")
    objects = [
        _manifest_entry(path, folder=building)
        for path in sorted(building.rglob("*"))
        if path.is_file()
    ]
    _write_manifest(plan, spec=spec, folder=building, objects=objects)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return tuple(folder / one["path"] for one in objects)


def _manifest_entry(path: Path, *, folder: Path) -> dict[str, Any]:
    """Name, size and hash of one file; its name up to a dot or slash is that of the recorder."""
    relative = path.relative_to(folder)
    return {
        "path": relative.as_posix(),
        "sha256": _sha256(path),
        "size_bytes": path.stat().st_size,
        "recorder": relative.parts[0].split(".")[0],
    }


def _write_manifest(
    plan: DrivePlan, *, spec: FleetSpec, folder: Path, objects: list[dict[str, Any]]
) -> None:
    """Write the upload manifest."""
    manifest = {
        "drivelake_manifest": MANIFEST_VERSION,
        "drive_id": plan.drive_id,
        "vehicle_key": plan.vehicle_key,
        "simulation": spec.digest(),
        "objects": objects,
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete drive, or None."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
