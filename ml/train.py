"""Train a detector from a dataset version, track it, register it as candidate; once per input."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa

from contracts.errors import ContractViolation, IntegrityError
from contracts.ids import canonical_json, content_hash, sha256_hex
from contracts.models import Progress
from ml import registry
from ml.config import TrainConfig
from ml.data import boxes_from_samples, decode_images, select_split

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from ml.fit import Fit

# The modules that decide the weights: a change in one of them is another training.
_CODE = ("config.py", "data.py", "targets.py", "detector.py", "fit.py")
_CHECKPOINT = "model.safetensors"
_LOSSES = "losses.json"
_COMMIT_TAG = "drivelake.code_commit"
_SHORT = 16  # digits of a fingerprint in a folder's name


@attrs.frozen
class TrainedModel:
    """A registered training.

    Attributes:
        run_id: MLflow run.
        model_name: Registered name.
        version: Registered version.
        checkpoint: Local safetensors file.
        dataset_id: Dataset version it was trained on.
        fingerprint: Hash of samples, configuration, code and library versions.
        metrics: Final metrics of the run.
        losses: Loss of every step.
        code_commit: Commit of the code that trained it.
        reused: Whether an earlier run of the same fingerprint was found.
    """

    run_id: str
    model_name: str
    version: str
    checkpoint: Path
    dataset_id: str
    fingerprint: str
    metrics: Mapping[str, float]
    losses: tuple[float, ...]
    code_commit: str
    reused: bool


def train(
    samples: pa.Table,
    config: TrainConfig,
    *,
    tracking_uri: str,
    artefacts: Path,
    model_store: str | None = None,
    table_versions: Mapping[str, int] | None = None,
    code_commit: str = "unknown",
    progress: Progress | None = None,
) -> TrainedModel:
    """Train on the split `train`; the same samples, configuration and code find the earlier run.

    Args:
        samples: Rows of `gold.dataset_samples` of one dataset version.
        config: What to train and how.
        tracking_uri: MLflow tracking store and registry.
        artefacts: Local folder for the files of the model.
        model_store: URI under which MLflow keeps the files of new experiments; a folder of
            `artefacts` if None.
        table_versions: Delta versions that the dataset was read from, recorded with the run.
        code_commit: Commit of the code, recorded with the run.
        progress: Told a sentence and a share of the work.

    Raises:
        ContractViolation: No sample to train on, several datasets at once, or unknown classes.
        IntegrityError: The stored checkpoint differs from what its run wrote.
        DecodeError: A sample whose image is no JPEG.
    """
    dataset_id = _only_dataset(samples)
    learning = select_split(samples, "train")
    fingerprint = training_fingerprint(learning, config)
    client = registry.open_client(tracking_uri)
    experiment = registry.experiment_id(
        client,
        config.experiment,
        model_store=model_store or (artefacts.absolute() / "mlflow").as_uri(),
    )
    run = registry.find_run(client, experiment, fingerprint=fingerprint)
    reused = run is not None
    if run is None:
        registry.end_abandoned(client, experiment, fingerprint=fingerprint)
        tags = _tags(fingerprint, dataset_id, table_versions or {}, code_commit)
        run = client.create_run(experiment, tags=tags, run_name=f"{dataset_id}-{fingerprint[:8]}")
        _train_in_run(client, run, learning, config, progress=progress)
        run = client.get_run(run.info.run_id)
    version = registry.register(client, run, config.model_name)
    registry.set_alias(client, config.model_name, alias=registry.CANDIDATE, version=version)
    folder = registry.fetch_model(
        client, run.info.run_id, artefacts / "models" / fingerprint[:_SHORT]
    )
    return TrainedModel(
        run_id=run.info.run_id,
        model_name=config.model_name,
        version=version,
        checkpoint=_verified(folder / _CHECKPOINT, run.data.tags[registry.CHECKPOINT_TAG]),
        dataset_id=dataset_id,
        fingerprint=fingerprint,
        metrics=dict(run.data.metrics),
        losses=tuple(json.loads((folder / _LOSSES).read_bytes())),
        code_commit=run.data.tags[_COMMIT_TAG],
        reused=reused,
    )


def training_fingerprint(samples: pa.Table, config: TrainConfig) -> str:
    """Identity of a training: the dataset version, the configuration, the code, the library.

    `sample_id` covers image and labels, so the bytes need not be hashed again.
    """
    import torch

    folder = Path(__file__).parent
    return content_hash(
        {
            "dataset": _only_dataset(samples),
            "samples": sorted(samples["sample_id"].to_pylist()),
            "config": attrs.asdict(config),
            "code": [sha256_hex((folder / name).read_bytes()) for name in _CODE],
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
    )


def _verified(checkpoint: Path, digest: str) -> Path:
    """The checkpoint, if its bytes are those that the run wrote.

    Raises:
        IntegrityError: They are not.
    """
    if sha256_hex(checkpoint.read_bytes()) != digest:
        raise IntegrityError("the checkpoint is not the one that was trained", uri=str(checkpoint))
    return checkpoint


def _only_dataset(samples: pa.Table) -> str:
    names = samples["dataset_id"].unique().to_pylist()
    if len(names) != 1:
        raise ContractViolation(f"samples of one dataset are needed, not of {names}")
    return names[0]


def _tags(
    fingerprint: str, dataset_id: str, versions: Mapping[str, int], commit: str
) -> dict[str, str]:
    return {
        registry.FINGERPRINT_TAG: fingerprint,
        "drivelake.dataset_id": dataset_id,
        "drivelake.table_versions": canonical_json(dict(versions)).decode(),
        _COMMIT_TAG: commit,
        "mlflow.source.git.commit": commit,
    }


def _train_in_run(
    client: MlflowClient,
    run: Run,
    samples: pa.Table,
    config: TrainConfig,
    *,
    progress: Progress | None,
) -> None:
    """Train and log; the run ends FINISHED when everything is in the store, else FAILED."""
    from ml.fit import fit

    run_id, dataset_id = run.info.run_id, samples["dataset_id"][0].as_py()
    status = "FAILED"
    try:
        began = time.perf_counter()
        images = decode_images(samples, config.detector)
        boxes = boxes_from_samples(
            samples,
            images,
            classes=config.detector.classes,
            minimum_confidence=config.minimum_confidence,
        )
        result = fit(images, boxes, config, progress=progress)
        tail = result.losses[-20:]
        metrics = {
            "final_loss": sum(tail) / len(tail),
            "train_seconds": time.perf_counter() - began,
            "train_samples": float(len(images)),
            "train_objects": float(boxes.image.size),
        }
        parameters = {**_flat(attrs.asdict(config)), "dataset_id": dataset_id}
        registry.log_values(client, run_id, parameters=parameters, metrics=metrics)
        registry.log_losses(client, run_id, result.losses)
        registry.log_dataset(
            client,
            run_id,
            dataset_id=dataset_id,
            content_hash=dataset_id.rsplit("-", 1)[-1],
            source=f"gold.dataset_samples/{dataset_id}",
        )
        _log_files(client, run_id, result, config)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


def _log_files(client: MlflowClient, run_id: str, result: Fit, config: TrainConfig) -> None:
    from ml.detector import save_detector

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, _CHECKPOINT)
        configuration, losses = Path(folder, "config.json"), Path(folder, _LOSSES)
        save_detector(result.model, checkpoint, config=config.detector)
        configuration.write_bytes(canonical_json(attrs.asdict(config)))
        losses.write_bytes(canonical_json(list(result.losses)))
        digest = sha256_hex(checkpoint.read_bytes())
        client.set_tag(run_id, registry.CHECKPOINT_TAG, digest)
        registry.log_model(client, run_id, [checkpoint, configuration, losses])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
