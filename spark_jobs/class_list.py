"""Rehearses a Spark server and lists the Java classes that it loads: `locks/classes.txt.gz`.

A server spends half of its start, and of its first queries, on twenty thousand classes of Spark,
Hive and Delta. Set-up puts those of the list, loaded and verified, into an archive that every
server maps into memory (class data sharing, JEP 350). `make lock` makes the list anew: it belongs
to the jars. A class that is missing from it is loaded as ever.
"""

from __future__ import annotations

import gzip
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pyarrow as pa

from contracts.settings import Settings, settings_from
from contracts.tables import TableContract
from spark_jobs.server import server_configuration, start_server, stop_server
from spark_jobs.session import connect
from spark_jobs.stage import run_stage
from spark_jobs.tables import ensure_table, merge_rows, replace_rows

_REHEARSAL = TableContract(
    name="gold.rehearsal",
    description="One row is a number.",
    schema=pa.schema(
        [("id", pa.int64()), ("part", pa.string()), ("value", pa.float64()), ("day", pa.date32())]
    ),
    keys=("id",),
    required=("id",),
    partition_by=("day",),
)
_ROWS = """
SELECT id, concat('part-', id % 7) AS part, CAST(id AS DOUBLE) / 3 AS value,
       date_add(DATE '2026-01-01', CAST(id % 3 AS INT)) AS day
FROM range({first}, {last})
"""
_QUERIES = """
SELECT a.part, lag(a.value) OVER (PARTITION BY a.part ORDER BY a.id) AS before
FROM gold.rehearsal a JOIN gold.rehearsal b ON a.id = b.id + 1 WHERE a.value > 3;
SELECT a.part, max(b.value) OVER (PARTITION BY b.day ORDER BY b.id RANGE BETWEEN 9 PRECEDING AND
CURRENT ROW) AS highest FROM gold.rehearsal a LEFT ANTI JOIN gold.rehearsal c ON a.id = c.id + 100
JOIN gold.rehearsal b USING (id) WHERE a.part IN ('part-1', 'part-2');
SELECT part, count(*) AS n, max_by(id, value), percentile(value, 0.5), collect_list(id)
FROM gold.rehearsal VERSION AS OF 0 GROUP BY part HAVING n > 1 ORDER BY n LIMIT 5;
SELECT explode(array(struct(id, part))) AS item, CASE WHEN value > 3 THEN 'x' END
FROM gold.rehearsal WHERE day = DATE '2026-01-01';
DESCRIBE HISTORY gold.rehearsal
"""


def list_classes(settings: Settings, target: Path) -> None:
    """Run a server through what jobs ask of it, and write the list of its classes, gzipped.

    Args:
        settings: Where the jars are; the rehearsal has a home of its own.
        target: File that is written.

    Raises:
        SetupError: No jars.
        PlatformError: The server did not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "classes.lst")
        own = _settings_of(Path(folder, "home"), settings)
        options = server_configuration(own, brief=True)["spark.driver.extraJavaOptions"]
        options = f"{options} -Xshare:off -XX:DumpLoadedClassList={listed}"
        server = start_server(
            own, brief=True, configuration={"spark.driver.extraJavaOptions": options}
        )
        try:
            _rehearse(own)
        finally:
            stop_server(server)
        names = "".join(f"{name}\n" for name in _names(listed.read_text()))
        target.write_bytes(gzip.compress(names.encode(), mtime=0))


def _names(listed: str) -> Iterator[str]:
    """Names of the classes of the class path and of Java, without what is made as it runs."""
    for line in listed.splitlines():
        if line[0] not in "#@[" and "source:" not in line and "$$Lambda" not in line:
            yield line.split(" ", 1)[0].replace("/", ".")


def _settings_of(home: Path, settings: Settings) -> Settings:
    own = settings_from({"DRIVELAKE_HOME": str(home)}, working_folder=home)
    spark, jdbc = _free_port(), _free_port()
    return attrs.evolve(
        own,
        jars=settings.jars,
        spark_port=spark,
        jdbc_port=jdbc,
        spark_remote=f"sc://127.0.0.1:{spark}",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _rehearse(settings: Settings) -> None:
    """Touch what jobs touch: workers in Python, Arrow, Delta's writes and reads, window queries."""
    spark = connect(settings)
    try:
        list(run_stage(spark, [b"1", b"2"], bytes.upper))
        ensure_table(spark, settings, _REHEARSAL)
        name = _REHEARSAL.name
        # Twelve versions: a checkpoint of the log is among what jobs come to.
        for number in range(12):
            first, last = number * 10, number * 10 + 100
            rows = spark.sql(_ROWS.format(first=first, last=last))
            if number % 6 == 5:
                merge_rows(spark, settings, name, rows, keys=["id"])
            else:
                where = f"id >= {first} AND id < {last}"
                replace_rows(spark, settings, name, rows, where=where)
        for query in _QUERIES.split(";"):
            spark.sql(query).toArrow()
    finally:
        spark.stop()


if __name__ == "__main__":
    list_classes(settings_from(os.environ, working_folder=Path.cwd()), Path(sys.argv[1]))
