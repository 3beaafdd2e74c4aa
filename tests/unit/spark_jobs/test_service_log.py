from __future__ import annotations

import pytest

from spark_jobs.service_log import last_error

JAVA = """\
26/11/28 01:00:00 ERROR HiveThriftServer2: Error starting
java.lang.IllegalStateException: outer
\tat org.apache.spark.Server.start(Server.scala:1)
Caused by: java.net.BindException: Permission denied.
\t... 12 more
26/11/28 01:00:01 INFO ShutdownHookManager: Shutdown hook called
"""
PYTHON = """\
Traceback (most recent call last):
  File "server.py", line 3, in <module>
    raise OSError("no Error here")
sqlite3.OperationalError: unable to open database file
Exiting
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (JAVA, "java.net.BindException: Permission denied"),
        (PYTHON, "sqlite3.OperationalError: unable to open database file"),
        ("Invalid maximum heap size: -Xmx3x\n\n", "Invalid maximum heap size: -Xmx3x"),
        ("", "its log is empty"),
    ],
)
def test_the_last_error_is_one_line(tmp_path, text, line):
    """Of a stack trace the cause is told, of a log without one its last line."""
    log = tmp_path / "service.log"
    log.write_text(text)
    assert last_error(log) == line


def test_an_earlier_start_is_not_told(tmp_path):
    """What stands before the start in question, in a log that is added to, says nothing of it."""
    log = tmp_path / "service.log"
    log.write_text(JAVA + "killed\n")
    assert last_error(log, since=len(JAVA)) == "killed"
