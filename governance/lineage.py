"""From recordings to bundles and back: which models saw this recording, what made this binary."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa

from contracts.errors import ContractViolation

Kind = Literal["recording", "dataset", "model", "bundle"]
KINDS: tuple[Kind, ...] = ("recording", "dataset", "model", "bundle")

# one row: the child was made from the parent
EDGES_SCHEMA = pa.schema(
    [
        ("parent_kind", pa.string()),
        ("parent_id", pa.string()),
        ("child_kind", pa.string()),
        ("child_id", pa.string()),
    ]
)
# one row: a thing reached, and over how many steps
REACHED_SCHEMA = pa.schema([("kind", pa.string()), ("id", pa.string()), ("steps", pa.int64())])
MODELS_SCHEMA = pa.schema(
    [("model", pa.string()), ("model_version", pa.string()), ("dataset_id", pa.string())]
)

_Node = tuple[str, str]


def model_id(name: str, version: str) -> str:
    """Identity of a model version in the lineage."""
    return f"{name}:{version}"


def lineage_edges(*, datasets: pa.Table, models: pa.Table, releases: pa.Table) -> pa.Table:
    """Every step from a recording to a bundle.

    Args:
        datasets: Columns dataset_id and recording_ids, as in `gold.datasets`.
        models: MODELS_SCHEMA: what each model version was trained on.
        releases: Columns bundle_id, model, model_version and dataset_id, as in `gold.releases`.

    Returns:
        EDGES_SCHEMA, sorted, no edge twice.
    """
    edges: set[tuple[str, str, str, str]] = set()
    for row in datasets.select(["dataset_id", "recording_ids"]).to_pylist():
        edges |= {
            ("recording", recording, "dataset", row["dataset_id"])
            for recording in row["recording_ids"] or ()
        }
    for row in [*models.to_pylist(), *releases.to_pylist()]:
        model = model_id(row["model"], row["model_version"])
        edges.add(("dataset", row["dataset_id"], "model", model))
        if "bundle_id" in row:
            edges.add(("model", model, "bundle", row["bundle_id"]))
    return pa.Table.from_pylist(
        [dict(zip(EDGES_SCHEMA.names, edge, strict=True)) for edge in sorted(edges)],
        schema=EDGES_SCHEMA,
    )


def descendants(edges: pa.Table, *, kind: Kind, identity: str) -> pa.Table:
    """Everything made from a thing, nearest first: REACHED_SCHEMA. Empty if nothing was."""
    return _walk(edges, (kind, identity), forwards=True)


def ancestors(edges: pa.Table, *, kind: Kind, identity: str) -> pa.Table:
    """Everything that a thing was made from, nearest first: REACHED_SCHEMA."""
    return _walk(edges, (kind, identity), forwards=False)


def lineage_document(edges: pa.Table, *, kind: Kind, identity: str) -> dict[str, Any]:
    """The way back from a thing as JSON values, for a bundle: the same for the same edges.

    Raises:
        ContractViolation: No recording is found behind it: the chain of evidence is cut.
    """
    found = ancestors(edges, kind=kind, identity=identity).to_pylist()
    if not any(row["kind"] == "recording" for row in found):
        raise ContractViolation(f"no recording is known behind {kind} {identity}", code="NO_ORIGIN")
    nodes = {(kind, identity), *((row["kind"], row["id"]) for row in found)}
    steps = [
        [[row["parent_kind"], row["parent_id"]], [row["child_kind"], row["child_id"]]]
        for row in edges.to_pylist()
        if (row["child_kind"], row["child_id"]) in nodes
    ]
    return {
        "of": {"kind": kind, "id": identity},
        **{
            f"{name}s": sorted(identity for found_kind, identity in nodes if found_kind == name)
            for name in KINDS
        },
        "made_from": sorted(steps),
    }


def _walk(edges: pa.Table, start: _Node, *, forwards: bool) -> pa.Table:
    if start[0] not in KINDS:
        raise ContractViolation(f"unknown kind {start[0]}")
    nearby = _neighbours(edges.to_pylist(), forwards=forwards)
    steps: dict[_Node, int] = {start: 0}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        for other in nearby.get(node, ()):
            if other not in steps:
                steps[other] = steps[node] + 1
                waiting.append(other)
    del steps[start]
    rows = sorted((count, *node) for node, count in steps.items())
    return pa.Table.from_pylist(
        [{"kind": kind, "id": identity, "steps": count} for count, kind, identity in rows],
        schema=REACHED_SCHEMA,
    )


def _neighbours(rows: Iterable[Mapping[str, str]], *, forwards: bool) -> dict[_Node, list[_Node]]:
    nearby: dict[_Node, list[_Node]] = {}
    for row in rows:
        parent = row["parent_kind"], row["parent_id"]
        child = row["child_kind"], row["child_id"]
        source, target = (parent, child) if forwards else (child, parent)
        nearby.setdefault(source, []).append(target)
    return nearby
