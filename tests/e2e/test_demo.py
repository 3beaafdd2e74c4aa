from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from drivelake.platform import SERVICES, dagster_home, running
from drivelake.platform import _processes_of as processes_of

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(Path(sys.executable).parent / "drivelake")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, new_deployment):
    """A home and ports of its own."""
    return new_deployment(tmp_path_factory.mktemp("demo") / "home")


@pytest.fixture(scope="module")
def environment(settings):
    """Environment of a person who works in that home."""
    return {
        **{key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"},
        "DRIVELAKE_HOME": str(settings.home),
        "DRIVELAKE_SPARK_PORT": str(settings.spark_port),
        "DRIVELAKE_JDBC_PORT": str(settings.jdbc_port),
    }


@pytest.fixture(scope="module")
def call(environment):
    """The command, as a person would run it."""

    def run(*arguments: str, columns: int = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *arguments],
            env={**environment, "COLUMNS": str(columns)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="module")
def stopped(settings, environment, tmp_path_factory):
    """Exit code and words of a first run that got SIGTERM in the middle of a step."""
    said = tmp_path_factory.mktemp("said") / "words"
    with (
        said.open("wb") as sink,
        subprocess.Popen(
            [SCRIPT, "demo"], env=environment, cwd=ROOT, stdout=sink, stderr=sink
        ) as demo,
    ):
        try:
            # The line of the asset; those of an ingest's stages say more.
            while demo.poll() is None and "✓ ingest\n" not in said.read_text():
                time.sleep(0.2)
            demo.terminate()
            code = demo.wait(timeout=180)
        except BaseException:
            demo.kill()  # a test that has failed does not wait for its end
            raise
    return code, said.read_text()


@pytest.fixture(scope="module")
def first(call, stopped):
    """The report of the run that went on where the first one was stopped."""
    done = call("demo", "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.timeout(1800)
def test_a_demo_that_is_stopped_leaves_nothing(settings, stopped):
    """SIGTERM in the middle of a step: no Spark server, no run under way, no place in a pool."""
    code, said = stopped
    assert code == 143, said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert not [one for name in SERVICES for one in processes_of(settings, name)]
    assert not running(settings)
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        [run] = instance.get_runs()
        assert run.is_failure
        assert not instance.event_log_storage.get_concurrency_run_ids()


@pytest.mark.timeout(3600)
def test_recordings_become_a_signed_binary(first):
    """One command ends with every table filled, the gate passed and a bundle that verifies."""
    facts = dict(map(tuple, first["facts"]))
    assert facts["gate"].startswith("passed")
    measured = ("sync error against the truth", "labels against the truth", "AP50")
    assert [name for name in measured if not any(name in fact for fact in facts)] == []
    assert first["uploads"]["ACCEPTED"] >= 24
    assert first["uploads"].get("PENDING", 0) == 0
    empty = {name for name, rows in first["rows"].items() if not rows}
    assert not empty & {"silver.frames", "silver.clocks", "gold.scenarios", "gold.labels"}
    targets = {target for target, _, size in map(tuple, first["binaries"]) if size > 1000}
    assert {"onnx", "onnx_int8"} <= targets
    assert any(target.startswith("qnn_") for target in targets)


@pytest.mark.timeout(1800)
def test_a_second_demo_changes_nothing(call, first):
    """Run again: same versions of all tables, same bundle, told in the table that people read."""
    before = json.loads(call("tables", "--json").stdout)
    done = call("demo", columns=1000)
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(call("tables", "--json").stdout) == before
    uploads = ", ".join(f"{count} {state}" for state, count in first["uploads"].items())
    sizes = [f"{name}, {size / 1024:,.0f} KiB" for _, name, size in map(tuple, first["binaries"])]
    facts = [word for fact in first["facts"] for word in fact]
    told = [uploads, *facts, *sizes, first["bundle"], first["bundle_uri"], "silver.frames"]
    assert [words for words in told if words not in done.stdout] == []


def test_one_changed_byte_is_named(call, first, tmp_path):
    """`verify` takes the bundle, and names the file of which one byte was changed."""
    bundle = Path(first["bundle_uri"].removeprefix("file://"))
    assert call("verify", str(bundle)).returncode == 0
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    [name] = [name for target, name, _ in map(tuple, first["binaries"]) if target == "onnx_int8"]
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    done = call("verify", str(copy))
    assert done.returncode == 1
    assert name in "".join(done.stdout.split())


def test_the_readme_tells_the_truth(call, first):
    """Every query of the README runs, and gives the very output that stands below it."""
    text = (ROOT / "README.md").read_text()
    examples = re.findall(r"\$ drivelake (sql .*)\n```\n+```text\n(.*?)```", text, re.DOTALL)
    assert examples
    for command, output in examples:
        done = call(*shlex.split(command))
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == output.split(), command
