"""Write the open data contracts: `python -m quality.contracts [FOLDER]`, one file a table."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from contracts.open_contract import open_contract
from contracts.tables import TABLES, TableContract

DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / "contracts" / "odcs"


def contract_text(table: TableContract) -> str:
    """The document of a table as YAML, the same text each time."""
    head = "# Generated from contracts/tables.py by `python -m quality.contracts`.\n"
    return head + yaml.safe_dump(open_contract(table), sort_keys=False, allow_unicode=True)


def write_contracts(folder: Path) -> list[Path]:
    """Write every contract as `<layer>.<table>.yaml` and remove files of tables that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in TABLES.values():
        path = folder / f"{table.name}.yaml"
        path.write_text(contract_text(table), encoding="utf-8")
        written.append(path)
    for path in set(folder.glob("*.yaml")) - set(written):
        path.unlink()
    return written


if __name__ == "__main__":
    write_contracts(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER)
