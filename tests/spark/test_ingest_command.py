"""`drivelake ingest` and `drivelake status` on a real server: exit codes, alerts, reasons."""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.spark


@pytest.fixture
def drivelake(settings, spark_server, monkeypatch, capfd):
    """`drivelake("ingest", …)`: exit code and standard output of the command, on this server."""
    monkeypatch.setenv("DRIVELAKE_HOME", str(settings.home))
    monkeypatch.setenv("DRIVELAKE_LAKE", settings.lake_uri)
    monkeypatch.setenv("SPARK_REMOTE", settings.spark_remote)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        from drivelake.cli import main

        monkeypatch.setattr(sys, "argv", ["drivelake", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capfd.readouterr().out

    return run


def test_exit_code_says_whether_all_was_taken(drivelake, tmp_path, mcap_bytes):
    """0 when all came in whole, 3 with a loss or a refusal; status names each with its reason.

    Fault 37: other bytes under a known name are taken, and an alert in the report and in status.
    """
    good, cut, noise = (tmp_path / name for name in ("good.mcap", "cut.mcap", "noise.mcap"))
    good.write_bytes(mcap_bytes(first=20_000, messages=10))
    assert drivelake("ingest", good)[0] == 0
    code, text = drivelake("ingest", good)
    assert (code, text) == (0, "1 object was taken before; nothing to do\n")
    whole = mcap_bytes(first=21_000, messages=200)
    cut.write_bytes(whole[: len(whole) // 2])
    assert drivelake("ingest", cut)[0] == 3
    noise.write_bytes(b"command noise" * 9)
    code, text = drivelake("ingest", "--json", noise)
    assert (code, json.loads(text)["outcomes"]) == (3, {"QUARANTINED": 1})
    code, text = drivelake("ingest", "--json", noise, cut)
    assert (code, json.loads(text)["unchanged"]) == (0, 2)
    good.write_bytes(mcap_bytes(first=22_000, messages=10))
    code, text = drivelake("ingest", "--json", good)
    assert (code, json.loads(text)["alerts"]) == (0, {"NAME_REUSE": 1})

    code, text = drivelake("status", "--json")
    assert code == 0
    own = [row for row in json.loads(text)["troubled"] if str(tmp_path) in row["uri"]]
    assert [(row["state"], row["reason_code"], row["flags"]) for row in own] == [
        ("ACCEPTED", None, ["NAME_REUSE"]),
        ("QUARANTINED", "BAD_MAGIC", []),
        ("PARTIAL", "TRUNCATED", []),
    ]
    assert own[2]["recovered_messages"] > 0
    assert own[2]["lost_messages"] is None
    assert "63 6f 6d 6d" in own[1]["reason"]
    shown = drivelake("status")[1]
    for word in ("BAD_MAGIC", "TRUNCATED", "ALERT", "NAME_REUSE", own[2]["recording_id"][:16]):
        assert word in shown


def test_frames_follow_where_they_are_asked_for(drivelake, tmp_path):
    """`ingest --frames` ends with the clocks and frames of the drive, in the report too."""
    from simulation.fleet import FleetSpec, simulate_fleet

    simulate_fleet(
        FleetSpec(drives=1, seconds=5.0, seed=29), out=tmp_path / "d", truth=tmp_path / "truth"
    )
    code, text = drivelake("ingest", "--frames", "--json", tmp_path / "d")
    assert code == 0
    rows = json.loads(text)["rows"]
    assert rows["silver.clocks"] >= 3
    assert rows["silver.frames"] > 30
