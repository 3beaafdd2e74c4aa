from __future__ import annotations

import pyarrow as pa
import pytest

from contracts.ids import canonical_json, content_hash, schema_hash, table_slug
from contracts.tables import LAYERS, TABLES, table_uri


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_promise_is_whole(name):
    """Keys, required and partition columns exist; every column has a comment; no ns timestamps."""
    contract = TABLES[name]
    columns = set(contract.schema.names)
    assert contract.layer in LAYERS
    assert {*contract.keys, *contract.required, *contract.partition_by} <= columns
    assert contract.description.startswith("One row is ")
    for field in contract.schema:
        assert field.metadata[b"comment"], f"{name}.{field.name} has no comment"
        assert not pa.types.is_timestamp(field.type), f"{name}.{field.name} loses nanoseconds"
        assert not pa.types.is_unsigned_integer(field.type), f"{name}.{field.name}"
        if field.name.endswith("_ns"):
            assert field.type == pa.int64(), f"{name}.{field.name}"


def test_no_table_holds_an_identity_of_a_person_or_vehicle():
    """No column is named for a VIN, a plate or a driver: only surrogate keys leave one table."""
    for name, contract in TABLES.items():
        for column in contract.schema.names:
            words = set(column.split("_"))
            assert not {"vin", "plate", "driver"} & words, (name, column)


def test_slug_is_the_same_for_every_container():
    """A message type has one table name, whichever generation of ROS wrote it."""
    assert table_slug("std_msgs/msg/String") == table_slug("std_msgs/String") == "std_msgs_string"
    assert table_slug("foxglove.Vec3") == "foxglove_vec3"
    assert table_slug("///") == "unnamed"


def test_schema_hash_does_not_run_parts_together():
    """Moving a character between name, encoding and text gives another identity."""
    assert schema_hash("ab", "c", b"d") != schema_hash("a", "bc", b"d")
    assert schema_hash("a", "b", b"c") == schema_hash("a", "b", b"c")


def test_canonical_json_has_one_form():
    """Key order does not matter, and NaN is refused."""
    assert canonical_json({"b": 1, "a": "µ"}) == '{"a":"µ","b":1}'.encode()
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


def test_table_uri_joins_with_one_slash():
    """A lake root with or without a slash gives the same place."""
    assert table_uri("s3://b/lake/", "silver.imu") == table_uri("s3://b/lake", "silver.imu")
