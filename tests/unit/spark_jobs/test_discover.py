"""Discovery: what is in landing and what is complete."""

from __future__ import annotations

import hashlib
import json

import pytest

from contracts.errors import ContractViolation, PlatformError
from spark_jobs.discover import discover, parse_manifest

LATER_NS = 2**62  # a now at which everything on disk has long settled


def put(path, data=b"data"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def manifest_for(folder, names, **changes):
    objects = [
        {
            "path": name,
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            "size_bytes": (folder / name).stat().st_size,
            "recorder": name.split(".")[0],
        }
        for name in names
    ]
    value = {"drivelake_manifest": 1, "drive_id": "d-1", "vehicle_key": "veh-1", "objects": objects}
    return put(folder / "drive.json", json.dumps({**value, **changes}).encode())


def by_name(found):
    return {item.uri.rsplit("/", 1)[1]: item for item in found}


def test_manifest_names_drive_vehicle_and_recorder(tmp_path):
    """Objects of a complete manifest are complete at once and carry its identities."""
    put(tmp_path / "adas.mcap", b"12345")
    put(tmp_path / "reference" / "r.db3")
    manifest_for(tmp_path, ["adas.mcap", "reference/r.db3"])
    found = by_name(discover([str(tmp_path)], now_ns=0))
    assert [item.pending for item in found.values()] == ["", "", ""]
    adas = found["adas.mcap"]
    assert (adas.drive_id, adas.vehicle_key, adas.recorder) == ("d-1", "veh-1", "adas")
    assert adas.expected_sha256 == hashlib.sha256(b"12345").hexdigest()
    assert found["drive.json"].expected_sha256 is None
    assert found["r.db3"].drive_id == "d-1"


@pytest.mark.parametrize("damage", ["absent", "short"])
def test_nothing_of_an_incomplete_manifest_is_taken(tmp_path, damage):
    """One object missing or too short keeps all of its drive pending, the manifest included."""
    put(tmp_path / "a.mcap", b"12345")
    put(tmp_path / "b.mcap", b"12345")
    manifest_for(tmp_path, ["a.mcap", "b.mcap"])
    if damage == "absent":
        (tmp_path / "b.mcap").unlink()
    else:
        put(tmp_path / "b.mcap", b"1234")
    found = discover([str(tmp_path)], assume_complete=True, now_ns=LATER_NS)
    assert all(item.pending == "1 of 2 objects of the manifest missing" for item in found)


def test_longer_object_is_taken_for_its_hash_to_be_checked(tmp_path):
    """An object longer than declared will never get right by waiting: it is not pending."""
    put(tmp_path / "a.mcap", b"12345")
    manifest_for(tmp_path, ["a.mcap"])
    put(tmp_path / "a.mcap", b"123456")
    assert by_name(discover([str(tmp_path)], now_ns=0))["a.mcap"].pending == ""


def test_file_without_manifest_settles_first(tmp_path):
    """A young file without a manifest is pending, an old one is not, unless all are complete."""
    modified = put(tmp_path / "a.mcap").stat().st_mtime_ns
    young = discover([str(tmp_path)], settle_ns=10, now_ns=modified + 9)
    old = discover([str(tmp_path)], settle_ns=10, now_ns=modified + 10)
    said = discover([str(tmp_path)], settle_ns=10, now_ns=modified + 9, assume_complete=True)
    assert [young[0].pending, old[0].pending, said[0].pending] == [
        "written to a moment ago",
        "",
        "",
    ]


@pytest.mark.parametrize("name", [".a.mcap", "_a.mcap", "a.mcap.part", "a.TMP", ".hidden/a.mcap"])
def test_names_of_uploads_under_way_are_pending(tmp_path, name):
    """Temporary and hidden names wait, however old they are."""
    put(tmp_path / name)
    (found,) = discover([str(tmp_path)], assume_complete=True, now_ns=LATER_NS)
    assert found.pending == "its name says that it is being written"


@pytest.mark.parametrize(
    "changes",
    [
        {"drivelake_manifest": 2},
        {"drive_id": ""},
        {"objects": [{"path": "../x", "sha256": "0" * 64, "size_bytes": 1}]},
        {"objects": [{"path": "/x", "sha256": "0" * 64, "size_bytes": 1}]},
        {"objects": [{"path": "x", "sha256": "zz", "size_bytes": 1}]},
        {"objects": [{"path": "x", "sha256": "0" * 64}]},
        {"objects": 7},
    ],
)
def test_wrong_manifest_is_refused_and_holds_its_folder(tmp_path, changes):
    """A manifest that breaks a rule is refused with MANIFEST_INVALID; its neighbours wait."""
    put(tmp_path / "x")
    path = manifest_for(tmp_path, ["x"], **changes)
    with pytest.raises(ContractViolation, match="MANIFEST_INVALID"):
        parse_manifest(path.read_bytes(), uri="m")
    found = by_name(discover([str(tmp_path)], assume_complete=True, now_ns=LATER_NS))
    assert found["x"].pending == "the manifest beside it can't be read"
    assert found["drive.json"].pending == ""


def test_single_file_is_judged_by_the_manifest_beside_it(tmp_path):
    """A file that is named alone belongs to its drive, and only it is taken."""
    put(tmp_path / "a.mcap", b"12345")
    put(tmp_path / "b.mcap")
    manifest_for(tmp_path, ["a.mcap", "b.mcap"])
    (found,) = discover([str(tmp_path / "a.mcap")], now_ns=0)
    assert (found.drive_id, found.pending) == ("d-1", "")
    (tmp_path / "b.mcap").unlink()
    (found,) = discover([(tmp_path / "a.mcap").as_uri()], now_ns=0)
    assert found.pending == "1 of 2 objects of the manifest missing"


def test_single_file_is_judged_by_the_manifest_above_it(tmp_path):
    """A rosbag2's files lie in a folder of their own: the manifest of the drive names them."""
    put(tmp_path / "adas.mcap")
    bag = put(tmp_path / "reference" / "r.db3")
    manifest_for(tmp_path, ["adas.mcap", "reference/r.db3"])
    (found,) = discover([str(bag)], now_ns=0)
    assert (found.uri, found.drive_id, found.pending) == (bag.as_uri(), "d-1", "")
    (whole,) = (item for item in discover([str(tmp_path)], now_ns=0) if item.uri == bag.as_uri())
    assert found == whole
    (tmp_path / "adas.mcap").unlink()
    assert discover([str(bag)], now_ns=0)[0].pending == "1 of 2 objects of the manifest missing"
    other = put(tmp_path / "reference" / "other.db3")
    assert discover([str(other)], now_ns=LATER_NS)[0].drive_id is None


def test_each_object_once_whatever_the_places(tmp_path):
    """Overlapping places, paths and URIs give every object once, sorted by URI."""
    put(tmp_path / "x y" / "ä#.mcap")
    put(tmp_path / "b.mcap")
    places = [str(tmp_path), tmp_path.as_uri(), str(tmp_path / "x y")]
    uris = [item.uri for item in discover(places, now_ns=LATER_NS)]
    assert uris == sorted({(tmp_path / "b.mcap").as_uri(), (tmp_path / "x y/ä#.mcap").as_uri()})


def test_place_that_is_not_there_is_said(tmp_path):
    """A wrong path is an error that names it, never an empty listing."""
    with pytest.raises(PlatformError, match=r"NOT_FOUND.*nowhere"):
        discover([str(tmp_path / "nowhere")])
