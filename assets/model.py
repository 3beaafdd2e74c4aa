"""Model: the detector, what it is worth, and the gate that alone approves it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.binaries import float_model, int8_model, qnn_binary
from assets.failures import stated_failures
from assets.judgement import evaluate_target, evaluation_spec, parity_of
from assets.pictures import picture
from assets.release import Candidate, Release
from assets.resources import Deployment, Spark
from assets.tables import COMPUTE_POOL, RETRIES, table_result, table_spec
from assets.truth import truth_of

if TYPE_CHECKING:
    from contracts.models import Progress
    from ml.gate import Verdict

OWNER = "team:machine-learning"
EVALUATIONS = "gold.evaluations"
APPROVAL = dg.AssetCheckSpec(
    "criteria_met",
    asset=["model", "gate"],
    description="Every criterion of the gate is met; else no bundle is built.",
    blocking=True,
)


def logged(context: dg.AssetExecutionContext) -> "Progress":
    """Progress of long work as lines of the run's log."""
    return lambda what, share: context.log.info("%s: %.0f %%", what, 100 * share)


def model_metadata(candidate: Candidate) -> dict[str, Any]:
    """Which model, of which data."""
    model = candidate.model
    return {
        "model/name": model.model_name,
        "model/version": model.version,
        "model/mlflow_run": model.run_id,
        "model/fingerprint": model.fingerprint,
        "dataset/id": model.dataset_id,
    }


@dg.asset(
    key=["model", "detector"],
    deps=[["gold", "dataset_samples"], ["gold", "datasets"]],
    group_name="model/training",
    kinds={"pytorch", "mlflow"},
    owners=[OWNER],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def detector(context: dg.AssetExecutionContext, release: Release) -> dg.MaterializeResult[None]:
    """A detector trained on the newest dataset version, tracked and registered as candidate."""
    from ml.plots import plot_losses

    with stated_failures():
        candidate = release.candidate(logged(context))
    model = candidate.model
    losses = picture(plot_losses(model.losses), title="Training loss")
    return dg.MaterializeResult(
        metadata={
            **model_metadata(candidate),
            "model/found_again": model.reused,
            **{f"metrics/{name}": value for name, value in sorted(model.metrics.items())},
            "model/losses": losses,
        }
    )


@dg.multi_asset(
    name="evaluation",
    specs=[
        dg.AssetSpec(
            ["model", "evaluation"],
            deps=[["model", "detector"], ["gold", "dataset_samples"]],
            description="The candidate judged by slice on the test split of its dataset, against "
            "the truth where there is one.",
            group_name="model/evaluation",
            kinds={"python", "pytorch"},
            owners=[OWNER],
        ),
        table_spec(EVALUATIONS, group="evaluations", deps=["model.detector"]),
    ],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def evaluation(
    context: dg.AssetExecutionContext, deployment: Deployment, spark: Spark, release: Release
) -> Iterator[dg.MaterializeResult[None]]:
    """Judge the candidate and store a row for each metric and slice."""
    from edge.runners import module_runner
    from ml.plots import plot_precision_recall
    from spark_jobs.tables import store_rows

    settings = deployment.settings
    with stated_failures():
        candidate = release.candidate()
        truth = truth_of(settings, candidate.samples)
        spec = evaluation_spec(candidate, target="torch")
        found = evaluate_target(
            candidate,
            truth,
            module_runner(candidate.network),
            spec=spec,
            progress=logged(context),
        )
        identity = ("model", "model_version", "dataset_id", "target")
        store_rows(spark.session, settings, EVALUATIONS, found.rows, identity=identity)
    curve = picture(plot_precision_recall(found.curves), title="Precision and recall")
    values = {name: found.value(name) for name in ("ap50", "precision", "recall")}
    yield dg.MaterializeResult(
        asset_key=["model", "evaluation"],
        metadata={
            **model_metadata(candidate),
            **{f"metrics/{name}": value for name, value in values.items() if value is not None},
            "evaluation/truth": sorted(set(truth.origins.values())),
            "evaluation/slices": dg.MetadataValue.md(_slices(found.rows.to_pylist())),
            "evaluation/precision_recall": curve,
        },
    )
    yield table_result(settings, EVALUATIONS)


def _slices(rows: list[dict[str, Any]]) -> str:
    lines = ["| slice | metric | value | 95 % | images | objects |", "| --- " * 6 + "|"]
    for row in rows:
        if row["value"] is not None:
            known = row["lower"] is not None
            interval = f"{row['lower']:.3f} to {row['upper']:.3f}" if known else ""
            lines.append(
                f"| {row['slice']} | {row['metric']} | {row['value']:.3f} | {interval} "
                f"| {row['samples']} | {row['objects']} |"
            )
    return "\n".join(lines)


@dg.asset(
    key=["model", "gate"],
    deps=[["gold", "evaluations"], ["edge", "parity"]],
    group_name="model/evaluation",
    kinds={"python", "mlflow"},
    owners=[OWNER],
    check_specs=[APPROVAL],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def gate(
    deployment: Deployment, release: Release
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Judge the candidate by the criteria; the registry alias `approved` moves only if all hold."""
    from ml.gate import promote

    settings = deployment.settings
    with stated_failures():
        candidate = release.candidate()
        verdict = verdict_of(candidate, deployment=deployment, release=release)
        promotion = promote(
            verdict,
            model_name=candidate.model.model_name,
            version=candidate.model.version,
            tracking_uri=settings.mlflow_uri,
        )
    approved = {"gate/approved_version": promotion.approved_version or "none"}
    yield dg.MaterializeResult(
        metadata={
            **model_metadata(candidate),
            **approved,
            "gate/passed": verdict.passed,
            "gate/criteria_version": verdict.criteria_version,
            "gate/checks": dg.MetadataValue.md(_checks(verdict)),
        }
    )
    yield dg.AssetCheckResult(
        passed=verdict.passed,
        check_name=APPROVAL.name,
        metadata={"reasons": list(verdict.reasons), "checks": len(verdict.checks)},
    )


def _checks(verdict: "Verdict") -> str:
    lines = ["| criterion | measured | limit | met |", "| --- | ---: | --- | --- |"]
    for check in verdict.checks:
        measured = "not measured" if check.measured is None else f"{check.measured:.4g}"
        met = "yes" if check.passed else "**no**"
        lines.append(f"| {check.subject} | {measured} | {check.limit} | {met} |")
    return "\n".join(lines)


def verdict_of(candidate: Candidate, *, deployment: Deployment, release: Release) -> "Verdict":
    """The criteria on the stored evaluations, the parity and the sizes of the candidate."""
    from ml.gate import DEFAULT_CRITERIA, judge, load_criteria
    from spark_jobs.tables import read_arrow

    settings, out = deployment.settings, release.folder
    model = candidate.model
    rows = read_arrow(
        settings,
        EVALUATIONS,
        filters=[
            ("model", "=", model.model_name),
            ("model_version", "=", model.version),
            ("dataset_id", "=", model.dataset_id),
        ],
    )
    binaries = {
        "float_model": float_model(candidate, out),
        "int8_model": int8_model(candidate, out),
        "qnn_binary": qnn_binary(candidate, out, soc=release.qnn_soc),
    }
    truth = truth_of(settings, candidate.samples)
    parity = parity_of(candidate, truth, **binaries, out=out)
    sizes = {artefact.target: artefact.size_bytes for artefact in binaries.values()}
    criteria = load_criteria(Path(release.criteria) if release.criteria else DEFAULT_CRITERIA)
    return judge(rows, parity, criteria, sizes_bytes=sizes)
