from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINES = {"pyspark", "delta", "deltalake"}
ORCHESTRATION = {"dagster", "dagster_aws"}

# folder → folders of this project it may import (itself is always allowed)
MAY_IMPORT = {
    "contracts": set(),
    "udfs": {"contracts"},
    "simulation": {"contracts"},
    "spark_jobs": {"udfs", "contracts"},
    "quality": {"contracts"},
    "ml": {"contracts"},
    "edge": {"contracts"},
    "governance": {"contracts"},
    "assets": {"spark_jobs", "udfs", "quality", "ml", "edge", "governance", "contracts"},
    "drivelake": {
        "assets", "spark_jobs", "udfs", "quality", "ml", "edge", "governance", "simulation",
        "contracts",
    },
}  # fmt: skip
# folder → libraries it may never import
NEVER = {
    "contracts": ENGINES | ORCHESTRATION | {"pandas", "torch", "mlflow", "os", "boto3"},
    "udfs": ENGINES | ORCHESTRATION | {"pandas", "torch", "mlflow"},
    "simulation": ENGINES | ORCHESTRATION | {"torch", "mlflow"},
    "spark_jobs": ORCHESTRATION | {"torch", "mlflow"},
    "quality": ORCHESTRATION | {"torch", "mlflow"},
    "ml": {"pyspark", "delta"} | ORCHESTRATION,
    "edge": {"pyspark", "delta"} | ORCHESTRATION,
    "governance": {"pyspark", "delta"} | ORCHESTRATION,
    "assets": set(),
    "drivelake": set(),
}
# libraries so heavy that they are imported where they are used, never at the top of a module
LAZY = {"torch", "mlflow", "great_expectations", "aimet_torch", "asammdf", "onnxruntime"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of everything that a module imports, at any depth."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_folder_imports_only_what_the_architecture_allows(folder):
    """No module of a folder imports a folder that no arrow of the architecture leads to."""
    paths = sources(folder)
    assert paths, f"{folder} has no modules"
    forbidden = (set(MAY_IMPORT) - MAY_IMPORT[folder] - {folder}) | NEVER[folder] | {"tests"}
    for path in paths:
        found = imported(ast.parse(path.read_text())) & forbidden
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_heavy_libraries_are_imported_where_they_are_used(folder):
    """No module imports a heavy library at its top, so the code location loads in seconds."""
    for path in sources(folder):
        top = ast.Module(
            body=[
                node
                for node in ast.parse(path.read_text()).body
                if isinstance(node, ast.Import | ast.ImportFrom)
            ],
            type_ignores=[],
        )
        found = imported(top) & LAZY
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)} at its top"


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_folder_is_named_for_its_work(folder):
    """No module is a drawer for anything, and an `__init__` holds a docstring only."""
    for path in sources(folder):
        assert path.stem not in {"utils", "common", "helpers", "misc"}, path
        if path.name == "__init__.py" and path.parent != ROOT / "drivelake":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, f"{path} holds more than a docstring"
            assert isinstance(body[0], ast.Expr), path


def test_nothing_is_pickled():
    """No module of the project imports pickle, joblib or shelve, or lets torch unpickle."""
    for folder in MAY_IMPORT:
        for path in sources(folder):
            text = path.read_text()
            picklers = {"pickle", "cloudpickle", "joblib", "shelve", "dill"}
            found = imported(ast.parse(text)) & picklers
            assert not found, f"{path} imports {found}"
            assert "weights_only=False" not in text, path
