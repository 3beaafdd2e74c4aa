"""What is generated from the contracts and the rules is valid and current."""

from __future__ import annotations

import importlib.resources
import json

import jsonschema
import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from contracts.limits import VALUE_SETS
from contracts.open_contract import open_contract
from contracts.tables import TABLES
from quality.contracts import DEFAULT_FOLDER, contract_text, write_contracts
from quality.document import DOCS, pages
from quality.registry import RULES


@pytest.fixture(scope="module")
def validator():
    package = importlib.resources.files("open_data_contract_standard")
    schema = json.loads((package / "schema.json").read_text(encoding="utf-8"))
    return jsonschema.validators.validator_for(schema)(schema)


@pytest.mark.parametrize("name", TABLES)
def test_contract_is_valid_and_current(name, validator):
    """Each file under contracts/odcs is valid ODCS 3.1.0 and what the table promises today."""
    text = (DEFAULT_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text == contract_text(TABLES[name]), "run `python -m quality.contracts`"
    document = yaml.safe_load(text)
    validator.validate(document)
    assert OpenDataContractStandard.from_string(text).apiVersion == "v3.1.0"


def test_contract_holds_the_columns():
    """A document names the columns, keys, partition and closed sets of its table, in order."""
    table = TABLES["silver.frames"]
    (schema,) = open_contract(table)["schema"]
    columns = {column["name"]: column for column in schema["properties"]}
    assert list(columns) == table.schema.names
    keys = [name for name, column in columns.items() if column.get("primaryKey")]
    assert sorted(keys, key=lambda name: columns[name]["primaryKeyPosition"]) == list(table.keys)
    assert columns["ingest_date"]["partitioned"]
    assert columns["latitude_deg"]["logicalTypeOptions"] == {"minimum": -90.0, "maximum": 90.0}
    assert columns["lidar_fields"]["items"]["properties"][0]["name"] == "name"
    assert columns["gnss_state"]["quality"][0]["mustBe"] == 0


def test_a_wrong_document_is_refused(validator):
    """The validation can fail: a column without a name is no ODCS."""
    document = open_contract(TABLES["silver.imu"])
    del document["schema"][0]["properties"][0]["name"]
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document)


def test_files_are_the_tables(tmp_path):
    """There is one file a table and none of a table that is gone."""
    (tmp_path / "silver.gone.yaml").write_text("")
    write_contracts(tmp_path)
    names = {f"{name}.yaml" for name in TABLES}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert {path.name for path in DEFAULT_FOLDER.iterdir()} == names


def test_closed_sets_name_columns():
    """Every closed set belongs to a text column that exists."""
    for place in VALUE_SETS:
        table, column = place.rsplit(".", 1)
        assert TABLES[table].schema.field(column).type == "string", place


@pytest.mark.parametrize("name", sorted(pages()))
def test_page_is_current(name):
    """A generated page is what the registry and the contracts say today."""
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run `make docs`"


def test_pages_name_every_rule_and_every_column():
    """No rule, table or column is left out of the pages."""
    assert all(f"| {rule.id} | {rule.name} |" in pages()["quality.md"] for rule in RULES)
    for contract in TABLES.values():
        section = pages()["tables.md"].split(f"## {contract.name}\n")[1].split("\n## ")[0]
        assert all(f"| `{column}` |" in section for column in contract.schema.names)
