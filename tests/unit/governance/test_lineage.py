import pyarrow as pa
import pytest

from contracts.errors import ContractViolation
from contracts.tables import TABLES
from governance.lineage import (
    EDGES_SCHEMA,
    MODELS_SCHEMA,
    ancestors,
    descendants,
    lineage_document,
    lineage_edges,
)


@pytest.fixture
def edges():
    """Recordings a, b, c; datasets of a+b and b+c; a model of each; the second was released."""
    datasets = pa.Table.from_pylist(
        [
            {"dataset_id": "d1", "recording_ids": ["a", "b"]},
            {"dataset_id": "d2", "recording_ids": ["b", "c"]},
            {"dataset_id": "d3", "recording_ids": None},
        ],
        schema=TABLES["gold.datasets"].schema,
    )
    models = pa.Table.from_pylist(
        [
            {"model": "m", "model_version": "1", "dataset_id": "d1"},
            {"model": "m", "model_version": "2", "dataset_id": "d2"},
        ],
        schema=MODELS_SCHEMA,
    )
    releases = pa.Table.from_pylist(
        [{"bundle_id": "x", "model": "m", "model_version": "2", "dataset_id": "d2"}],
        schema=TABLES["gold.releases"].schema,
    )
    return lineage_edges(datasets=datasets, models=models, releases=releases)


def reached(table):
    return [(row["kind"], row["id"], row["steps"]) for row in table.to_pylist()]


def test_what_saw_this_recording(edges):
    """From a recording one walks to every dataset, model and bundle made from it, nearest first."""
    assert reached(descendants(edges, kind="recording", identity="b")) == [
        ("dataset", "d1", 1),
        ("dataset", "d2", 1),
        ("model", "m:1", 2),
        ("model", "m:2", 2),
        ("bundle", "x", 3),
    ]
    assert reached(descendants(edges, kind="recording", identity="a")) == [
        ("dataset", "d1", 1),
        ("model", "m:1", 2),
    ]


def test_what_made_this_bundle(edges):
    """From a bundle one walks back to exactly the recordings behind it."""
    assert reached(ancestors(edges, kind="bundle", identity="x")) == [
        ("model", "m:2", 1),
        ("dataset", "d2", 2),
        ("recording", "b", 3),
        ("recording", "c", 3),
    ]


def test_both_ways_agree(edges):
    """A thing is behind another if and only if that one is ahead of it."""
    nodes = {(row[f"{side}_kind"], row[f"{side}_id"]) for row in edges.to_pylist()
             for side in ("parent", "child")}  # fmt: skip
    forwards = {
        (node, (row["kind"], row["id"]))
        for node in nodes
        for row in descendants(edges, kind=node[0], identity=node[1]).to_pylist()
    }
    backwards = {
        ((row["kind"], row["id"]), node)
        for node in nodes
        for row in ancestors(edges, kind=node[0], identity=node[1]).to_pylist()
    }
    assert forwards == backwards
    assert len(forwards) == 14


def test_unknown_thing_reaches_nothing(edges):
    """Something without edges has no descendants; an unknown kind is an error."""
    assert descendants(edges, kind="recording", identity="zz").num_rows == 0
    with pytest.raises(ContractViolation, match="unknown kind"):
        ancestors(edges, kind="car", identity="x")


def test_document_is_the_way_back(edges):
    """The bundle's document names the recordings and only steps that lead to the model."""
    document = lineage_document(edges, kind="model", identity="m:2")
    assert document["recordings"] == ["b", "c"]
    assert document["datasets"] == ["d2"]
    assert document["made_from"] == [
        [["dataset", "d2"], ["model", "m:2"]],
        [["recording", "b"], ["dataset", "d2"]],
        [["recording", "c"], ["dataset", "d2"]],
    ]


def test_cut_chain_is_refused():
    """A model without a recording behind it has no document of lineage."""
    cut = pa.Table.from_pylist(
        [dict(zip(EDGES_SCHEMA.names, ("dataset", "d", "model", "m:1"), strict=True))],
        schema=EDGES_SCHEMA,
    )
    with pytest.raises(ContractViolation) as refused:
        lineage_document(cut, kind="model", identity="m:1")
    assert refused.value.code == "NO_ORIGIN"
