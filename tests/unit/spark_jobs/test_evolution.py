"""What a table would need to hold the rows of another definition."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.evolution import change_of, differences

INNER = pa.struct([("x", pa.int64()), ("y", pa.float64())])
WIDER = pa.struct([("z", pa.string()), ("x", pa.int64()), ("y", pa.float64())])


def schema(**columns):
    return pa.schema(list(columns.items()))


BASE = schema(a=pa.int64(), n=INNER, l=pa.list_(INNER))


@pytest.mark.parametrize(
    ("given_schema", "change", "words"),
    [
        (BASE, "same", ""),
        (schema(l=pa.list_(INNER), n=INNER, a=pa.int64()), "same", ""),
        (BASE.append(pa.field("b", INNER)), "additive", "b (struct"),
        (BASE.set(1, pa.field("n", WIDER)), "additive", "n.z (string, in the table absent)"),
        (BASE.set(2, pa.field("l", pa.list_(WIDER))), "additive", "l.element.z (string"),
        (BASE.remove(0), "narrower", "a (absent, in the table int64)"),
        (BASE.set(0, pa.field("a", pa.int32())), "break", "a (int32, in the table int64)"),
        (BASE.set(0, pa.field("a", pa.list_(pa.int64()))), "break", "a (list"),
        (BASE.set(0, pa.field("c", pa.int64())), "break", "c (int64, in the table absent)"),
        (BASE.remove(0).set(0, pa.field("n", WIDER)), "break", "n.z"),
        (BASE.append(pa.field("A", pa.int64())), "break", "A (int64, in the table absent)"),
        (BASE.append(pa.field("b", pa.int64(), nullable=False)), "break", "b (int64"),
    ],
)
def test_each_change_is_told_by_name_and_type(given_schema, change, words):
    """Only added columns are additive; a changed type, a rename, other letters are a break."""
    found = differences(BASE, given_schema)
    assert change_of(found) == change
    assert words in ", ".join(map(str, found))


def test_a_required_column_is_never_left_out():
    """A table that has a column without nulls takes no definition that lacks it."""
    stored = pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.int64())])
    assert change_of(differences(stored, schema(b=pa.int64()))) == "break"
    assert change_of(differences(stored, schema(a=pa.int64(), b=pa.int64()))) == "break"


TYPES = st.recursive(
    st.sampled_from([pa.int64(), pa.float64(), pa.string()]),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(
            lambda fields: pa.struct(list(fields.items()))
        ),
    ),
    max_leaves=4,
)
SCHEMAS = st.dictionaries(st.sampled_from("abcd"), TYPES, max_size=4).map(lambda s: schema(**s))


@given(SCHEMAS, SCHEMAS)
def test_either_order_of_arrival_comes_to_the_same(one, other):
    """What is additive one way is narrower the other way; same and break are so both ways."""
    mirrored = {"additive": "narrower", "narrower": "additive", "same": "same", "break": "break"}
    there = change_of(differences(one, other))
    assert change_of(differences(other, one)) == mirrored[there]
    assert (there == "same") == (differences(one, other) == [])
