"""Edge: the candidate compiled for its targets, compared with torch, and handed off sealed."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.binaries import float_model, int8_model, qnn_binary, tensorrt_attempts
from assets.failures import stated_failures
from assets.judgement import parity_of
from assets.model import EVALUATIONS, logged, model_metadata, verdict_of
from assets.release import Candidate, Release
from assets.resources import Deployment, Spark
from assets.tables import COMPUTE_POOL, RETRIES, table_result, table_spec
from assets.truth import truth_of

if TYPE_CHECKING:
    import pyarrow as pa

    from edge.artefact import Artefact
    from edge.bundle import Bundle
    from edge.bundle import Release as HandOff

OWNER = "team:deployment"
RELEASES = "gold.releases"
BUNDLE_NAME = "front-camera-detector"


def _binary_result(candidate: Candidate, artefact: "Artefact") -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        metadata={
            **model_metadata(candidate),
            "binary/target": artefact.target,
            "binary/size_bytes": artefact.size_bytes,
            "binary/sha256": artefact.sha256,
            "binary/path": dg.MetadataValue.path(artefact.path),
            "binary/details": dg.MetadataValue.json(dict(artefact.details)),
            "binary/toolchain": dg.MetadataValue.json(dict(artefact.toolchain)),
        }
    )


@dg.asset(
    key=["edge", "onnx"],
    deps=[["model", "detector"]],
    group_name="edge/compile",
    kinds={"onnx", "pytorch"},
    owners=[OWNER],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def onnx(context: dg.AssetExecutionContext, release: Release) -> dg.MaterializeResult[None]:
    """The detector as ONNX in float32, checked against torch."""
    with stated_failures():
        candidate = release.candidate()
        artefact = float_model(candidate, release.folder, progress=logged(context))
    return _binary_result(candidate, artefact)


@dg.asset(
    key=["edge", "int8"],
    deps=[["model", "detector"]],
    group_name="edge/compile",
    kinds={"onnx", "pytorch"},
    owners=[OWNER],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def int8(context: dg.AssetExecutionContext, release: Release) -> dg.MaterializeResult[None]:
    """Weights and activations in eight bits by AIMET, calibrated on images of the dataset."""
    with stated_failures():
        candidate = release.candidate()
        artefact = int8_model(candidate, release.folder, progress=logged(context))
    return _binary_result(candidate, artefact)


@dg.asset(
    key=["edge", "qnn"],
    deps=[["edge", "int8"]],
    group_name="edge/compile",
    kinds={"onnx"},
    owners=[OWNER],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def qnn(context: dg.AssetExecutionContext, release: Release) -> dg.MaterializeResult[None]:
    """QNN context binary for the SoC of the release; a binary for another one is refused."""
    with stated_failures():
        candidate = release.candidate()
        artefact = qnn_binary(
            candidate, release.folder, soc=release.qnn_soc, progress=logged(context)
        )
    return _binary_result(candidate, artefact)


@dg.asset(
    key=["edge", "tensorrt"],
    deps=[["model", "detector"]],
    group_name="edge/compile",
    kinds={"tensorrt", "onnx"},
    owners=[OWNER],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def tensorrt(context: dg.AssetExecutionContext, release: Release) -> dg.MaterializeResult[None]:
    """TensorRT engines, each with its state: built, no GPU, not installed, or failed and why."""
    with stated_failures():
        candidate = release.candidate()
        attempts = tensorrt_attempts(
            candidate,
            release.folder,
            architecture=release.rtx_architecture,
            progress=logged(context),
        )
    lines = ["| target | state | reason | bytes |", "| --- | --- | --- | ---: |"]
    for attempt in attempts:
        size = f"{attempt.artefact.size_bytes:,}" if attempt.artefact else ""
        lines.append(f"| {attempt.target} | {attempt.state} | {attempt.reason} | {size} |")
    states = {f"engine/{attempt.target}": attempt.state for attempt in attempts}
    table = dg.MetadataValue.md("\n".join(lines))
    return dg.MaterializeResult(
        metadata={**model_metadata(candidate), **states, "engine/attempts": table}
    )


@dg.asset(
    key=["edge", "parity"],
    deps=[["edge", "onnx"], ["edge", "int8"], ["edge", "qnn"], ["gold", "dataset_samples"]],
    group_name="edge/compile",
    kinds={"onnx", "pytorch"},
    owners=[OWNER],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def parity(
    context: dg.AssetExecutionContext, deployment: Deployment, release: Release
) -> dg.MaterializeResult[None]:
    """ONNX, INT8 and the QNN simulator against torch on the same images."""
    with stated_failures():
        candidate = release.candidate()
        rows = _parity(candidate, deployment, release, context)
    lines = ["| target | measure | value | images |", "| --- | --- | ---: | ---: |"]
    for row in rows.to_pylist():
        value = "none" if row["value"] is None else f"{row['value']:.4g}"
        lines.append(f"| {row['target']} | {row['measure']} | {value} | {row['images']} |")
    table = dg.MetadataValue.md("\n".join(lines))
    return dg.MaterializeResult(metadata={**model_metadata(candidate), "parity/measures": table})


def _parity(
    candidate: Candidate,
    deployment: Deployment,
    release: Release,
    context: dg.AssetExecutionContext,
) -> "pa.Table":
    out = release.folder
    return parity_of(
        candidate,
        truth_of(deployment.settings, candidate.samples),
        float_model=float_model(candidate, out),
        int8_model=int8_model(candidate, out),
        qnn_binary=qnn_binary(candidate, out, soc=release.qnn_soc),
        out=out,
        progress=logged(context),
    )


@dg.multi_asset(
    name="bundle",
    specs=[
        dg.AssetSpec(
            ["edge", "bundle"],
            deps=[["model", "gate"], ["edge", "qnn"], ["edge", "tensorrt"], ["edge", "parity"]],
            description="The hand-off: binaries, what they are, where they come from and how good "
            "they are, under one signature. Only an approved model gets one.",
            group_name="edge/release",
            kinds={"python"},
            owners=[OWNER],
        ),
        table_spec(RELEASES, group="releases", deps=["edge.bundle"]),
    ],
    retry_policy=RETRIES,
    pool=COMPUTE_POOL,
)
def bundle(
    context: dg.AssetExecutionContext, deployment: Deployment, spark: Spark, release: Release
) -> Iterator[dg.MaterializeResult[None]]:
    """Assemble, sign and verify the bundle, and register the release."""
    from edge.bundle import build_bundle
    from governance.sealing import MANIFEST, seal, verify_bundle
    from governance.signing import signing_key
    from spark_jobs.storage import publish_folder

    settings = deployment.settings
    with stated_failures():
        candidate = release.candidate()
        hand_off = _hand_off(candidate, deployment, release, context)
        key = signing_key(settings.home / "keys")
        made = build_bundle(
            hand_off,
            release.folder / "bundles",
            seal=lambda folder, about: seal(folder, about=about, key=key),
            progress=logged(context),
        )
        verified = verify_bundle(made.path)
        verified.require()
        uri = f"{settings.artefacts_uri.rstrip('/')}/bundles/{made.path.name}"
        publish_folder(made.path, uri, last=MANIFEST, storage_options=settings.storage_options)
        _register(hand_off, made, uri=uri, deployment=deployment, spark=spark)
    yield dg.MaterializeResult(
        asset_key=["edge", "bundle"],
        metadata={
            **model_metadata(candidate),
            "bundle/id": made.bundle_id,
            "bundle/uri": uri,
            "bundle/signer": made.signer,
            "bundle/targets": list(made.targets),
            "bundle/verified": True,
            "bundle/found_again": made.reused,
        },
    )
    yield table_result(settings, RELEASES)


def _hand_off(
    candidate: Candidate,
    deployment: Deployment,
    release: Release,
    context: dg.AssetExecutionContext,
) -> "HandOff":
    from edge.bundle import Release as HandOff
    from ml.targets import interface
    from spark_jobs.tables import read_arrow

    settings, out, model = deployment.settings, release.folder, candidate.model
    return HandOff(
        name=BUNDLE_NAME,
        model=model.model_name,
        model_version=model.version,
        dataset_id=model.dataset_id,
        interface=interface(candidate.detector),
        dataset=candidate.dataset,
        lineage=_lineage(candidate),
        evaluations=read_arrow(
            settings,
            EVALUATIONS,
            filters=[
                ("model", "=", model.model_name),
                ("model_version", "=", model.version),
                ("dataset_id", "=", model.dataset_id),
            ],
        ),
        parity=_parity(candidate, deployment, release, context),
        verdict=verdict_of(candidate, deployment=deployment, release=release).as_dict(),
        artefacts=[
            float_model(candidate, out),
            int8_model(candidate, out),
            qnn_binary(candidate, out, soc=release.qnn_soc),
        ],
        attempts=tensorrt_attempts(candidate, out, architecture=release.rtx_architecture),
        code_commit=model.code_commit,
    )


def _lineage(candidate: Candidate) -> dict[str, Any]:
    import pyarrow as pa

    from contracts.tables import TABLES
    from governance.lineage import MODELS_SCHEMA, lineage_document, lineage_edges, model_id

    model = candidate.model
    row = {
        "model": model.model_name,
        "model_version": model.version,
        "dataset_id": model.dataset_id,
    }
    edges = lineage_edges(
        datasets=pa.Table.from_pylist([candidate.dataset], schema=TABLES["gold.datasets"].schema),
        models=pa.Table.from_pylist([row], schema=MODELS_SCHEMA),
        releases=TABLES[RELEASES].schema.empty_table(),
    )
    return lineage_document(edges, kind="model", identity=model_id(model.model_name, model.version))


def _register(
    hand_off: "HandOff", made: "Bundle", *, uri: str, deployment: Deployment, spark: Spark
) -> None:
    """One row a bundle; a bundle that was registered keeps its row."""
    from edge.bundle import release_row
    from spark_jobs.tables import read_arrow, store_rows, table_exists

    settings = deployment.settings
    wanted = [("bundle_id", "=", made.bundle_id)]
    if table_exists(settings, RELEASES) and len(read_arrow(settings, RELEASES, filters=wanted)):
        return
    row = release_row(hand_off, made, uri=uri, created_ns=time.time_ns())
    store_rows(spark.session, settings, RELEASES, row, identity=["bundle_id"])
