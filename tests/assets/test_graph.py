"""The asset graph as it is agreed on, and how quickly it loads.

After a wanted change: `python tests/assets/test_graph.py` writes the snapshot anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import dagster as dg
import pytest

from assets.column_lineage import LINEAGE
from assets.platform import platform_definitions
from contracts.tables import TABLES
from quality.evaluate import rules_for
from quality.rule import Severity

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("graph.json")
LOAD_SECONDS = 10.0
HEAVY = ("torch", "mlflow", "great_expectations", "pyspark", "aimet_torch", "onnxruntime")


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    return platform_definitions({"DRIVELAKE_HOME": str(tmp_path_factory.mktemp("home"))})


def _name(key):
    return key.to_user_string()


def _spec(spec, checks, pools, retries):
    partitions = spec.partitions_def
    return {
        "deps": sorted(_name(dep.asset_key) for dep in spec.deps),
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": sorted(spec.owners),
        "partitions": None if partitions is None else type(partitions).__name__,
        "pool": pools.get(spec.key),
        "retries": retries.get(spec.key),
        "checks": {check.name: check.blocking for check in checks if check.asset_key == spec.key},
    }


def _checks(definitions):
    asset_graph = definitions.get_repository_def().asset_graph
    return [asset_graph.get_check_spec(key) for key in asset_graph.asset_check_keys]


def graph(definitions):
    """Everything that others rely on: what exists, what it is made of and what guards it."""
    checks = sorted(_checks(definitions), key=lambda spec: spec.name)
    pools = {
        key: sorted(asset.op.pools or ())
        for asset in definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for key in asset.keys
    }
    retries = {
        key: asset.op.retry_policy and asset.op.retry_policy.max_retries
        for asset in definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for key in asset.keys
    }
    specs = sorted(definitions.resolve_all_asset_specs(), key=lambda spec: _name(spec.key))
    jobs = [definitions.resolve_job_def(name) for name in ("ingest_job", "release_job")]
    return {
        "assets": {_name(spec.key): _spec(spec, checks, pools, retries) for spec in specs},
        "jobs": {
            job.name: {
                "steps": sorted(node.name for node in job.nodes),
                "tags": dict(job.tags),
                "executor": job.executor_def.name,
            }
            for job in jobs
        },
        "sensors": {
            sensor.name: {
                "job": sensor.job_name,
                "interval_seconds": sensor.minimum_interval_seconds,
                "status": sensor.default_status.value,
            }
            for sensor in definitions.sensors or ()
        },
    }


def test_graph_is_the_agreed_one(definitions):
    """Keys, dependencies, groups, kinds, owners, partitions, pools, checks are the snapshot's."""
    assert graph(definitions) == json.loads(SNAPSHOT.read_text()), (
        "if the change is wanted: python tests/assets/test_graph.py"
    )


def test_every_table_is_an_asset(definitions):
    """Each table of the contracts is an asset with its name, columns, comments and constraints."""
    specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs()}
    for table in TABLES.values():
        spec = specs[dg.AssetKey(table.name.split("."))]
        assert spec.metadata["dagster/table_name"] == table.name
        columns = spec.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == table.schema.names
        assert all(column.description for column in columns)
        required = {column.name for column in columns if not column.constraints.nullable}
        assert required == set(table.required)


def test_every_rule_is_a_check(definitions):
    """Each rule on each table is one check, blocking exactly where its severity is ERROR."""
    found = {(spec.asset_key, spec.name): spec.blocking for spec in _checks(definitions)}
    wanted = {
        (dg.AssetKey(table.name.split(".")), rule.check_name): rule.severity is Severity.ERROR
        for table in TABLES.values()
        for rule, _ in rules_for(table)
    }
    assert wanted.items() <= found.items()
    assert {name for _, name in found.keys() - wanted.keys()} == {"expectations", "criteria_met"}


def test_every_asset_says_what_it_is(definitions):
    """Each asset has a description, an owner, a group of its layer, kinds and a code version."""
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.group_name.split("/")[0] == spec.key.path[0], spec.key
        assert spec.kinds, spec.key
        if spec.key.path[0] != "raw":
            assert spec.code_version, spec.key


@pytest.mark.parametrize("changed", ["native/kernel.c", "native/kernel.h", "rules.yaml", "one.py"])
def test_change_of_what_computes_is_a_new_version(changed, tmp_path, monkeypatch):
    """Kernels and rules count as code does; what was built of them does not."""
    from assets import code_version

    monkeypatch.setattr(code_version, "PROJECT", tmp_path)
    path = tmp_path / "udfs" / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("1")
    before = code_version.folders_version("udfs")
    (tmp_path / "udfs" / "build").mkdir()
    (tmp_path / "udfs" / "build" / "built.c").write_text("1")
    assert code_version.folders_version("udfs") == before
    path.write_text("2")
    assert code_version.folders_version("udfs") != before


def test_column_lineage_names_columns(definitions):
    """Lineage runs between columns that exist, along dependencies that the graph has."""
    asset_graph = definitions.get_repository_def().asset_graph
    for table, columns in LINEAGE.items():
        assert set(columns) <= set(TABLES[table].schema.names)
        parents = asset_graph.get(dg.AssetKey(table.split("."))).parent_keys
        for dep in (dep for deps in columns.values() for dep in deps):
            parent, column = dep.rsplit(".", 1)
            assert column in TABLES[parent].schema.names, dep
            assert dg.AssetKey(parent.split(".")) in parents, dep


def test_code_location_loads_quickly():
    """A fresh process loads the code location within its bound, and no heavy library with it."""
    program = (
        "import sys, time\n"
        "from assets.definitions import definitions\n"
        "definitions()\n"
        "print(time.process_time())\n"  # of the processor: other tests run beside it
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, heavy = done.stdout.splitlines()
    assert heavy == ""
    assert float(seconds) < LOAD_SECONDS


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    SNAPSHOT.write_text(json.dumps(graph(platform_definitions()), indent=1, sort_keys=True) + "\n")
