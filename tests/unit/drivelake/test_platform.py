from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import PlatformError
from drivelake.platform import _launch

ROOT = Path(__file__).resolve().parents[3]
RIVALS = 4
OPENERS = """
import os, sys, traceback
from pathlib import Path
import dagster
from contracts.settings import settings_from
from drivelake.platform import dagster_home, make_storage

settings = settings_from({"DRIVELAKE_HOME": sys.argv[1]}, working_folder=Path.cwd())
waiting, gate = os.pipe()
children = []
for _ in range(int(sys.argv[2])):
    if not (child := os.fork()):
        os.close(gate)
        os.read(waiting, 1)
        try:
            make_storage(settings)
            with dagster.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
                assert instance.get_runs() == []
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    children.append(child)
os.close(waiting)
os.close(gate)
print(sum(os.waitpid(child, 0)[1] != 0 for child in children), "failed")
"""


def test_commands_that_open_a_fresh_home_at_once_all_have_it(tmp_path):
    """Several processes open one new home at the same instant: each gets a whole Dagster."""
    command = [sys.executable, "-c", OPENERS, str(tmp_path / "home"), str(RIVALS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0 failed\n", done.stderr


def test_a_service_that_ends_is_one_sentence(tmp_path, new_deployment):
    """A service that ends before its port answers: its last error and its log, not its trace."""
    settings = new_deployment(tmp_path)
    command = [sys.executable, "-c", "raise OSError('no space')"]
    with pytest.raises(PlatformError) as told:
        _launch(settings, "mlflow", command, port=settings.mlflow_port)
    log = tmp_path / "logs" / "mlflow.log"
    assert told.value.what == "mlflow did not start: OSError: no space"
    assert str(told.value).endswith(f"(at {log}). The log says more")
    assert "Traceback" in log.read_text()
