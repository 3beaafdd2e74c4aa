import attrs
import pyarrow as pa
import pytest

from contracts.errors import ContractViolation
from contracts.models import PARITY_SCHEMA
from contracts.tables import TABLES
from ml import registry
from ml.gate import DEFAULT_CRITERIA, judge, load_criteria, promote

CRITERIA = """
version: 4
metrics:
  - {target: torch, slice: all, metric: ap50, at_least: 0.4}
  - {target: torch, slice: all, metric: ap50, at_least: 0.3, bound: lower}
parity:
  - {target: onnx_int8, measure: ap50_drop, at_most: 0.02}
sizes:
  - {target: onnx_int8, at_most_bytes: 1000}
"""


@pytest.fixture
def criteria(tmp_path):
    """Four limits."""
    path = tmp_path / "criteria.yaml"
    path.write_text(CRITERIA)
    return load_criteria(path)


def evaluations(value=0.5, lower=0.35, **changes):
    """One row of gold.evaluations."""
    row = {
        "model": "m", "model_version": "1", "dataset_id": "d", "target": "torch", "slice": "all",
        "metric": "ap50", "value": value, "lower": lower, "upper": 0.9, "samples": 9, "objects": 9,
        **changes,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=TABLES["gold.evaluations"].schema)


def parity(value=0.01):
    """One row of parity."""
    row = {"target": "onnx_int8", "reference": "torch", "measure": "ap50_drop", "value": value,
           "images": 9}  # fmt: skip
    return pa.Table.from_pylist([row], schema=PARITY_SCHEMA)


def test_everything_met_passes(criteria):
    """Four limits, four passed checks, no reason."""
    verdict = judge(evaluations(), parity(), criteria, sizes_bytes={"onnx_int8": 900})
    assert verdict.passed
    assert len(verdict.checks) == 4
    assert verdict.reasons == ()
    assert verdict.criteria_version == 4


@pytest.mark.parametrize(
    ("table", "drop", "size", "reason"),
    [
        (evaluations(value=0.39), 0.01, 900, "torch ap50 of all is 0.39; it must be at least 0.4"),
        (evaluations(lower=0.2), 0.01, 900, "lower end of 95 %"),
        (evaluations(), 0.021, 900, "onnx_int8 ap50_drop is 0.021; it must be at most 0.02"),
        (evaluations(), 0.01, 1001, "onnx_int8 size_bytes is 1001"),
        (evaluations(value=None), 0.01, 900, "was not measured"),
        (evaluations(value=float("nan")), 0.01, 900, "torch ap50 of all is nan"),
        (evaluations(target="onnx"), 0.01, 900, "torch ap50 of all was not measured"),
        (evaluations(), None, 900, "onnx_int8 ap50_drop was not measured"),
    ],
)
def test_one_unmet_limit_fails_and_is_named(criteria, table, drop, size, reason):
    """Any single limit fails the whole; what was not measured, or is no number, never passes."""
    verdict = judge(table, parity(drop), criteria, sizes_bytes={"onnx_int8": size})
    assert not verdict.passed
    assert any(reason in text for text in verdict.reasons)


def test_limit_of_a_family_is_a_limit_of_each(tmp_path):
    """`qnn_*` is judged for every QNN target, and fails where there is none."""
    path = tmp_path / "family.yaml"
    path.write_text("version: 1\nsizes:\n  - {target: qnn_*, at_most_bytes: 100}\n")
    family = load_criteria(path)
    none = evaluations().slice(1)

    def check(**sizes):
        return judge(none, parity().slice(1), family, sizes_bytes=sizes)

    assert check(qnn_a=90, qnn_b=100, onnx=900).passed
    assert check(qnn_a=90, qnn_b=101).reasons == (
        "qnn_b size_bytes is 101; it must be at most 100",
    )
    assert check(onnx=1).reasons == ("qnn_* size_bytes was not measured; it must be at most 100",)


def test_nothing_measured_passes_nothing(criteria):
    """Without evidence every check fails."""
    empty = evaluations().slice(0, 0)
    verdict = judge(empty, parity().slice(0, 0), criteria)
    assert [check.passed for check in verdict.checks] == [False] * 4


def test_two_models_or_two_values_are_refused(criteria):
    """A verdict is over one model version and one value each."""
    both = pa.concat_tables([evaluations(), evaluations(model_version="2")])
    with pytest.raises(ContractViolation, match="one model"):
        judge(both, parity(), criteria)
    both = pa.concat_tables([evaluations(), evaluations(value=0.9, dataset_id="e")])
    with pytest.raises(ContractViolation, match="two values"):
        judge(both, parity(), criteria)


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\n",
        "metrics: []\n",
        "version: 1\nmetrics:\n  - {target: torch, slice: all, metric: ap50}\n",
        "version: 1\nmetrics:\n  - {target: t, slice: a, metric: m, at_least: 1, at_most: 2}\n",
        "version: 1\nmetrics:\n  - {target: t, slice: a, metric: m, at_lest: 1}\n",
        "version: 1\nmetrics:\n  - {target: t, slice: a, metric: m, at_least: 1, bound: up}\n",
        "- 1\n",
        "",
    ],
)
def test_criteria_without_a_clear_limit_are_refused(tmp_path, text):
    """A misspelt or missing limit would let everything pass, so the file is refused."""
    path = tmp_path / "criteria.yaml"
    path.write_text(text)
    with pytest.raises(ContractViolation):
        load_criteria(path)


def test_shipped_criteria_load():
    """The file in the repository holds limits for quality, parity and size."""
    kinds = {line.key[0] for line in load_criteria(DEFAULT_CRITERIA).criteria}
    assert kinds == {"metric", "parity", "size"}


def test_hash_is_of_content_not_of_layout(tmp_path):
    """Comments and spaces do not change the criteria's hash; a limit does."""
    hashes = []
    for text in (CRITERIA, "# note\n" + CRITERIA, CRITERIA.replace("0.4", "0.41")):
        path = tmp_path / "criteria.yaml"
        path.write_text(text)
        hashes.append(load_criteria(path).content_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_alias_moves_only_when_passed(criteria, trained, model_store):
    """A failing version leaves the alias and is told why; a passing one moves it."""
    place = {
        "model_name": trained.model_name,
        "version": trained.version,
        "tracking_uri": model_store[0],
    }
    client = registry.open_client(model_store[0])
    failed = judge(evaluations(value=0.1), parity(), criteria)
    refused = promote(failed, **place)
    assert (refused.promoted, refused.approved_version) == (False, None)
    tags = client.get_model_version(trained.model_name, trained.version).tags
    assert tags["drivelake.gate.passed"] == "false"
    assert "torch ap50 of all is 0.1" in tags["drivelake.gate.reasons"]
    passed = judge(evaluations(), parity(), criteria, sizes_bytes={"onnx_int8": 1})
    accepted = promote(passed, **place)
    assert (accepted.promoted, accepted.approved_version) == (True, trained.version)
    again = promote(failed, **place)
    assert (again.promoted, again.approved_version) == (False, trained.version)


def test_verdict_is_json(criteria):
    """The verdict goes into a bundle as it is."""
    import json

    document = json.loads(json.dumps(judge(evaluations(), parity(), criteria).as_dict()))
    assert document["passed"] is False
    assert len(document["checks"]) == 4
    assert attrs.asdict(judge(evaluations(), parity(), criteria).checks[0]) in document["checks"]
