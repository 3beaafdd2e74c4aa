from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def setup_module():
    spec = importlib.util.spec_from_file_location("drivelake_setup", ROOT / "deploy" / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_setup(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "setup.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )


def test_missing_java_is_one_sentence(tmp_path):
    """Without Java the set-up ends with code 1 and says what to install, before anything else."""
    done = run_setup(str(tmp_path))
    assert done.returncode == 1
    assert "Java 17" in done.stderr
    assert "openjdk-17-jdk-headless" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_old_java_is_refused_with_what_was_found(tmp_path):
    """A Java older than 17 is named and refused."""
    for program in ("java", "javac"):
        script = tmp_path / program
        script.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
        script.chmod(0o755)
    done = run_setup(f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "11.0.2" in done.stderr


def test_wrong_python_is_refused(setup_module, monkeypatch):
    """Any Python but 3.11 is refused by name, since the lock is for 3.11."""
    monkeypatch.setattr(setup_module.sys, "version_info", (3, 13, 1))
    with pytest.raises(setup_module.SetupError, match=r"3\.11, but this is Python 3\.13\.1"):
        setup_module.check_python()


def test_full_disk_is_refused_before_installing(setup_module, monkeypatch, tmp_path):
    """A disk without room for the environment is refused with both sizes."""
    usage = type("Usage", (), {"free": 2**30})()
    monkeypatch.setattr(setup_module.shutil, "disk_usage", lambda _place: usage)
    monkeypatch.setattr(setup_module, "VENV", tmp_path / "none")
    with pytest.raises(setup_module.SetupError, match=r"12 GiB of disk, but only 1\.0 GiB"):
        setup_module.check_disk()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("dns error: failed to lookup address information", "registry can't be reached"),
        ("tcp connect error: Connection refused (os error 111)", "registry can't be reached"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
    ],
)
def test_a_known_cause_is_a_sentence_without_the_dump(setup_module, capfd, words, sentence):
    """What stopped a step is told with the one line that says so, wherever it stands in it."""
    dump = f"print('{words}', *range(2000), sep=chr(10)); raise SystemExit(1)"
    with pytest.raises(setup_module.SetupError, match=sentence) as failed:
        setup_module.run([sys.executable, "-c", dump], "Installing the packages")
    assert str(failed.value).endswith(words)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_cause_leaves_the_last_word_to_the_step(setup_module, capfd):
    """Nothing is made up of a failure that is not known: the step's own words stand above."""
    with pytest.raises(setup_module.SetupError, match="See the message above"):
        setup_module.run([sys.executable, "-c", "raise SystemExit('odd')"], "Compiling")
    assert capfd.readouterr().err == "odd\n"


def test_ivy_without_a_network_is_named_as_such(setup_module, capfd, monkeypatch, tmp_path):
    """The jars' own loader, sent to a host that there is not: one sentence, and no report of it."""
    settings = tmp_path / "settings.xml"
    settings.write_text(
        '<ivysettings><settings defaultResolver="none"/><resolvers><ibiblio name="none"'
        ' m2compatible="true" root="https://registry.invalid/"/></resolvers></ivysettings>'
    )
    run = setup_module.run
    monkeypatch.setattr(setup_module, "JARS", tmp_path / "jars")
    monkeypatch.setattr(
        setup_module, "run", lambda command, what: run([*command, "-settings", settings], what)
    )
    with pytest.raises(setup_module.SetupError, match=r"reached.*Host registry\.invalid not"):
        setup_module.fetch_jars()
    assert capfd.readouterr().err == ""


def test_a_changed_jar_is_refused(setup_module, monkeypatch, tmp_path):
    """A jar whose bytes differ from the pinned checksum stops the set-up."""
    rows = setup_module.read_jar_lock()
    assert {row[0] for row in rows} == {"delta", "s3a"}
    changed = [[*rows[0][:4], "0" * 64]]
    monkeypatch.setattr(setup_module, "JARS", tmp_path / "jars")
    monkeypatch.setattr(setup_module, "read_jar_lock", lambda: changed)

    def fake_download(command, _what, **_options):
        target = Path(str(command[command.index("-retrieve") + 1])).parent
        target.mkdir(parents=True)
        (target / f"{rows[0][2]}-{rows[0][3]}.jar").write_bytes(b"other")

    monkeypatch.setattr(setup_module, "run", fake_download)
    with pytest.raises(setup_module.SetupError, match="not the one that was pinned"):
        setup_module.fetch_jars()


def test_locks_pin_by_hash_and_name_no_index():
    """Every requirement of the locks carries a hash, and no index or link is named."""
    for name in ("requirements.lock", "bootstrap.lock"):
        text = (ROOT / "locks" / name).read_text()
        pins = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
        assert pins
        assert all(line.endswith("\\") for line in pins), "a pin without a hash"
        assert "://" not in text
        assert "--index" not in text


def test_kernels_are_compiled_anew_when_and_only_when_a_source_changed(
    setup_module, monkeypatch, tmp_path
):
    """The library follows its sources; a source that does not compile stops the set-up."""
    folder = tmp_path / "udfs" / "native"
    folder.mkdir(parents=True)
    source = folder / "one.c"
    source.write_text("int one(void) { return 1; }\n")
    monkeypatch.setattr(setup_module, "ROOT", tmp_path)
    assert setup_module.compile_native() is True
    assert setup_module.compile_native() is False
    assert ctypes.CDLL(str(folder / "build" / "kernels.so")).one() == 1
    source.write_text("int one(void) { return two; }\n")
    with pytest.raises(setup_module.SetupError, match="Compiling udfs/native failed"):
        setup_module.compile_native()
