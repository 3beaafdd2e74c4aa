"""The edge of a job that runs alone: environment and arguments in, a report on standard output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

from contracts.settings import settings_from
from spark_jobs.report import JobReport
from spark_jobs.session import connect


def run_job(run: Callable[..., JobReport]) -> None:
    """Run a job over the drives named on the command line, all if none is, and print its report."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("drive_ids", nargs="*", metavar="DRIVE_ID", help="all drives if none")
    chosen = parser.parse_args().drive_ids or None
    settings = settings_from(os.environ, working_folder=Path.cwd())
    spark = connect(settings)
    try:
        report = run(spark, settings, drive_ids=chosen)
    finally:
        spark.stop()
    sys.stdout.write(json.dumps(attrs.asdict(report)) + "\n")
