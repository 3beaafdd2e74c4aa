"""How good the candidate is, on every target that runs here: calls of `ml` and `edge`, wired."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from assets.release import Candidate
from assets.truth import Truth
from contracts.ids import canonical_json
from contracts.models import PARITY_SCHEMA, Progress, Runner

if TYPE_CHECKING:
    import pyarrow as pa

    from edge.artefact import Artefact
    from ml.evaluate import Evaluation, EvaluationSpec

SIMULATED_IMAGES = 16
"""Images for a simulator, which takes about a second for one."""


def evaluation_spec(candidate: Candidate, *, target: str) -> EvaluationSpec:
    """What is judged: the candidate on the test split of its dataset."""
    from ml.evaluate import EvaluationSpec

    return EvaluationSpec(
        model=candidate.model.model_name,
        model_version=candidate.model.version,
        dataset_id=candidate.model.dataset_id,
        target=target,
        classes=candidate.detector.classes,
    )


def evaluate_target(
    candidate: Candidate,
    truth: Truth,
    runner: Runner,
    *,
    spec: EvaluationSpec,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a target on the test split."""
    from ml.data import select_split
    from ml.evaluate import evaluate

    return evaluate(
        runner,
        select_split(candidate.samples, "test"),
        truth.rows,
        detector=candidate.detector,
        spec=spec,
        light_by_drive=truth.light_by_drive,
        progress=progress,
    )


def parity_of(
    candidate: Candidate,
    truth: Truth,
    *,
    float_model: Artefact,
    int8_model: Artefact,
    qnn_binary: Artefact,
    out: Path,
    progress: Progress | None = None,
) -> pa.Table:
    """Every target that runs here against torch; measured once for the same binaries.

    Returns:
        `contracts.models.PARITY_SCHEMA`.
    """
    import pyarrow as pa

    from edge.artefact import images_hash, make_once

    def make(path: Path) -> Mapping[str, Any]:
        rows = _compare(candidate, truth, (float_model, int8_model), qnn_binary, progress)
        path.write_bytes(canonical_json(rows.to_pylist()))
        return {"rows": rows.num_rows}

    artefact = make_once(
        out,
        target="parity",
        file_name="parity.json",
        inputs={
            "binaries": [one.sha256 for one in (float_model, int8_model, qnn_binary)],
            "model": candidate.model.fingerprint,
            "dataset": candidate.model.dataset_id,
            "images": images_hash(candidate.unseen),
        },
        tools=("torch", "onnxruntime", "onnxruntime-qnn"),
        make=make,
    )
    return pa.Table.from_pylist(json.loads(artefact.path.read_bytes()), schema=PARITY_SCHEMA)


def _compare(
    candidate: Candidate,
    truth: Truth,
    onnx_models: Sequence[Artefact],
    qnn_binary: Artefact,
    progress: Progress | None,
) -> pa.Table:
    from edge.parity import compare_targets
    from edge.qnn import simulator_runner
    from edge.runners import module_runner, onnx_runner

    runners = {model.target: onnx_runner(model.path) for model in onnx_models}
    runners[qnn_binary.target] = simulator_runner(qnn_binary)
    return compare_targets(
        module_runner(candidate.network),
        runners,
        candidate.unseen,
        images_by_target={qnn_binary.target: SIMULATED_IMAGES},
        ap50=_ap50(candidate, truth),
        ap50_targets=tuple(model.target for model in onnx_models),
        progress=progress,
    )


def _ap50(candidate: Candidate, truth: Truth) -> Callable[[Runner], float | None]:
    spec = attrs.evolve(evaluation_spec(candidate, target="parity"), resamples=1)
    return lambda runner: evaluate_target(candidate, truth, runner, spec=spec).value("ap50")
