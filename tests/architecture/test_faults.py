"""The table of faults names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


def test_each_fault_names_tests_that_exist():
    """Every row names a test file, and each test that a row names is defined in it."""
    rows = re.findall(r"^\| (\d+) \|.*$", PAGE, re.MULTILINE)
    assert rows == [str(number) for number in range(1, 38)]
    for row in re.findall(r"^\| \d+ \|.*$", PAGE, re.MULTILINE):
        assert NAMED.search(row), row
    for path, test in NAMED.findall(PAGE):
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert (test or "test_") in tests | {"test_"}, f"{path}::{test}"
