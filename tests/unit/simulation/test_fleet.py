from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from contracts.errors import ContractViolation
from simulation.fleet import FleetSpec, simulate_fleet

ROOT = Path(__file__).resolve().parents[3]


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 0.5])
def test_a_drive_has_an_end(seconds):
    """A length that is no length, or without end, is refused before anything is planned."""
    with pytest.raises(ValueError, match="seconds"):
        FleetSpec(seconds=seconds)


def test_same_seed_same_bytes_in_another_process(tmp_path):
    """Every file of recordings and truth is byte-equal when another process simulates again."""
    spec = FleetSpec(drives=2, seconds=1.5, seed=7, camera_size=(320, 192))
    simulate_fleet(spec, out=tmp_path / "here", truth=tmp_path / "here_truth")
    code = (
        f"from pathlib import Path; from simulation.fleet import *; home = Path({str(tmp_path)!r});"
        "spec = FleetSpec(drives=2, seconds=1.5, seed=7, camera_size=(320, 192));"
        "simulate_fleet(spec, out=home / 'there', truth=home / 'there_truth')"
    )
    changed = {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"}
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, **changed}, cwd=tmp_path
    )
    assert len(hashes(tmp_path / "here")) == 9
    assert hashes(tmp_path / "here") == hashes(tmp_path / "there")
    assert hashes(tmp_path / "here_truth") == hashes(tmp_path / "there_truth")


def test_other_seed_other_bytes(fleet, tmp_path):
    """A seed decides: another one gives other recordings and another truth."""
    spec = FleetSpec(drives=1, seconds=1.0, seed=8)
    simulate_fleet(spec, out=tmp_path / "out", truth=tmp_path / "truth")
    same = hashes(tmp_path / "out").items() & hashes(fleet.out).items()
    assert not same


def test_layout_and_manifest(drive):
    """A drive holds the files of its three recorders; the manifest gives their sizes and hashes."""
    files, plan = drive
    reference = (
        {"reference.bag"}
        if plan.index % 2
        else {"reference/metadata.yaml", "reference/reference_0.db3"}
    )
    assert set(hashes(files.folder)) == {"adas.mcap", "bus.mf4", "drive.json"} | reference
    manifest = json.loads((files.folder / "drive.json").read_text())
    assert manifest["drivelake_manifest"] == 1
    assert manifest["drive_id"] == files.drive_id
    assert manifest["vehicle_key"].startswith("veh-")
    listed = {one["path"]: one for one in manifest["objects"]}
    assert set(listed) == {"adas.mcap", "bus.mf4"} | reference
    for path, one in listed.items():
        content = (files.folder / path).read_bytes()
        assert one["size_bytes"] == len(content)
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        assert one["recorder"] == ("reference" if "reference" in path else path.split(".")[0])
    assert set(hashes(files.truth)) == {
        "clocks.json",
        "conditions.json",
        "ego.parquet",
        "objects.parquet",
        "scenarios.json",
    }


@pytest.fixture
def short_drive(tmp_path):
    """A drive of one second that a test may harm: its specification and its folders."""
    spec = FleetSpec(drives=1, seconds=1.0, seed=3, camera_size=(160, 96))
    out, truth = tmp_path / "out", tmp_path / "truth"
    simulate_fleet(spec, out=out, truth=truth)
    return spec, out, truth


def test_second_run_leaves_everything_untouched(short_drive):
    """A complete drive is not written again, and a larger fleet keeps the drives it has."""
    spec, out, truth = short_drive
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    said: list[str] = []
    larger = attrs.evolve(spec, drives=2)
    drives = simulate_fleet(larger, out=out, truth=truth, progress=said.append)
    assert [one.written for one in drives] == [False, True]
    assert "already there" in said[0]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_interrupted_drive_is_finished_with_the_same_bytes(short_drive):
    """Without its manifest, or without its truth, a drive is written again, byte-equal."""
    spec, out, truth = short_drive
    before = hashes(out), hashes(truth)
    (out / "drive-0001" / "drive.json").unlink()
    (out / "drive-0001" / "adas.mcap").write_bytes(b"half a file")
    (out / ".drive-0001.part").mkdir()
    simulate_fleet(spec, out=out, truth=truth)
    assert (hashes(out), hashes(truth)) == before
    shutil.rmtree(truth / "drive-0001")
    simulate_fleet(spec, out=out, truth=truth)
    assert (hashes(out), hashes(truth)) == before


def test_other_specification_is_refused(short_drive):
    """A drive that is there from another specification is never replaced."""
    spec, out, truth = short_drive
    before = hashes(out)
    with pytest.raises(ContractViolation, match="another specification"):
        simulate_fleet(attrs.evolve(spec, seed=4), out=out, truth=truth)
    assert hashes(out) == before


@pytest.mark.parametrize("wrong", [{"drives": 0}, {"seconds": 0.5}, {"camera_size": (640, 8)}])
def test_impossible_specification_is_refused(wrong):
    """A fleet has at least one drive, a drive at least one second, an image enough pixels."""
    with pytest.raises(ValueError, match=r"must be >=|shows nothing"):
        FleetSpec(**wrong)
