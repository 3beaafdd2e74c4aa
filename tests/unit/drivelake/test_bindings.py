"""Which bus a definition is of that is named in a shell."""

from __future__ import annotations

import pytest

from contracts.errors import ContractViolation
from drivelake.bindings import binding_of


@pytest.mark.parametrize(
    ("text", "binding"),
    [
        ("a.dbc", ("can:*", "a.dbc")),
        ("2=a.dbc", ("can:2", "a.dbc")),
        ("*=s3://b/a=1.arxml", ("can:*", "s3://b/a=1.arxml")),
        ("/can/front=a.kcd", ("can:/can/front", "a.kcd")),
        ("lin:1=a.dbc", ("lin:1", "a.dbc")),
        ("lin:*=a.dbc", ("lin:*", "a.dbc")),
    ],
)
def test_a_bus_is_a_number_a_topic_or_any(text, binding):
    """Of CAN unless LIN is named."""
    assert binding_of(text) == binding


@pytest.mark.parametrize("text", ["", "=a.dbc", "1=", "x=a.dbc", "flexray:1=a.dbc"])
def test_what_is_none_is_a_wrong_request(text):
    """One sentence, and exit code 2 in a shell."""
    with pytest.raises(ContractViolation, match="FILE or BUS=FILE") as told:
        binding_of(text)
    assert told.value.code == "USAGE"
