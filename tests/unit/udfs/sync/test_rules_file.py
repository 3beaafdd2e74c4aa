"""sync.yaml: what it may say, and what is said to what it may not."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from contracts.errors import ContractViolation
from contracts.settings import settings_from
from spark_jobs.sync_rules import sync_rules
from udfs.sync.rules import SyncRules
from udfs.sync.rules_file import rules_from_text

ROOT = Path(__file__).resolve().parents[4]


def rules(text):
    return rules_from_text("version: 1\n" + text, uri="sync.yaml")


def test_the_file_of_this_release_spells_the_defaults_out():
    """deploy/sync.yaml and no file at all are the same rules, and so the same version."""
    found = rules_from_text((ROOT / "deploy" / "sync.yaml").read_text(), uri="sync.yaml")
    assert found == SyncRules()
    assert found.version == SyncRules().version
    assert rules("") == SyncRules()


def test_what_a_file_says_counts_and_makes_a_version():
    """Each word changes its rule alone; what is left out stays."""
    found = rules(
        """
clocks: {max_offset_s: 1.5, max_drift_ppm: 20}
streams:
  lidar: {table: radar, max_error_ms: 12.5, unique: false}
  scalars: {rule: nearest}
quantities:
  speed_m_s: {signals: ["V_Ego"], columns: [wheels.speed_m_s], prefer: [wheels]}
"""
    )
    default = SyncRules()
    assert (found.max_offset_ns, found.max_drift_ppm) == (1_500_000_000, 20.0)
    assert found.lidar_table == "radar"
    assert found.align["lidar"] == attrs.evolve(
        default.align["lidar"], max_error_ns=12_500_000, unique=False
    )
    assert found.align["pose"] == default.align["pose"]
    assert found.quantity_align.method == "nearest"
    speed = found.quantity("speed_m_s")
    assert (speed.signals, speed.columns) == ({"vego"}, (("wheels", "speed_m_s"),))
    assert found.quantity("yaw_rate_rad_s") == default.quantity("yaw_rate_rad_s")
    assert found.version != default.version


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("streams: {lidar: {rule: nearst}}", "streams.lidar.rule: one of nearest"),
        ("streams: {lidar: {max_error_ms: 80}}", "lidar.max_error_ms: a number from 0 to 60"),
        ("streams: {lidar: {max_error_ms: yes}}", "got True"),
        ("streams: {lidar: {max_error_ms: .nan}}", "streams.lidar.max_error_ms"),
        ("streams: {radar: {table: x}}", "streams.radar: known are camera, gnss"),
        ("streams: {pose: {unique: 1}}", "streams.pose.unique: true or false"),
        ("streams: {pose: {period: {x: 1}}}", "streams.pose.period.x: known are yaw_rad"),
        ("streams: {gnss: {table: 3}}", "streams.gnss.table: a name belongs here; got 3"),
        ("streams: {scalars: {table: x}}", "streams.scalars.table: known are"),
        ("streams: 7", "streams: a mapping belongs here; got 7"),
        ("clocks: {max_offset_s: -1}", "clocks.max_offset_s: a number from 0 to 3600"),
        ("clocks: {offset: 1}", "clocks.offset: known are"),
        ("quantities: {speed_km_h: {}}", "quantities.speed_km_h: known are"),
        ("quantities: {speed_m_s: {signals: V}}", "quantities.speed_m_s.signals: a list of names"),
        ("quantities: {speed_m_s: {columns: [speed]}}", "table.column belongs here; got 'speed'"),
        ("stream: {}", "stream: known are clocks"),
        ("clocks: {a", "no YAML: line"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text, says):
    """Place in the file, what may stand there, and what does."""
    with pytest.raises(ContractViolation) as error:
        rules(text)
    assert error.value.code == "SYNC_RULES"
    assert "sync.yaml" in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "version: 2", "clocks: {}"])
def test_a_file_says_its_version(text):
    """No version, or one of another release, is no file that this one reads."""
    with pytest.raises(ContractViolation, match="SYNC_RULES"):
        rules_from_text(text, uri="sync.yaml")


def test_a_deployment_names_its_file(tmp_path, monkeypatch):
    """DRIVELAKE_SYNC is a path or a URI; a file that is not there is an error, not the default."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.yaml").write_text("version: 1\nclocks: {max_offset_s: 2}\n")

    def settings(**environment):
        return settings_from(environment, working_folder=tmp_path)

    assert sync_rules(settings()) == SyncRules()
    assert sync_rules(settings(DRIVELAKE_SYNC="fleet.yaml")).max_offset_ns == 2_000_000_000
    named = settings(DRIVELAKE_SYNC=(tmp_path / "fleet.yaml").as_uri())
    assert sync_rules(named).max_offset_ns == 2_000_000_000
    with pytest.raises(ContractViolation, match="SYNC_RULES"):
        sync_rules(settings(DRIVELAKE_SYNC="other.yaml"))
