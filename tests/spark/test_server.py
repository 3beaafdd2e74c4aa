"""The Spark server as a process."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.spark


def test_a_server_takes_its_classes_from_the_archive_of_set_up(spark_server, settings):
    """Java accepts the archive, so set-up's class path is the server's, jar by jar in its order."""
    archive = settings.jars / "archive" / "classes.jsa"
    assert archive.is_file()
    assert str(archive) in Path(f"/proc/{spark_server.pid}/maps").read_text()
    assert "shared class paths mismatch" not in spark_server.log.read_text()
