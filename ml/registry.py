"""MLflow: runs that name their data, models registered by their safetensors, aliases.

Nothing is ever read back through MLflow's own flavours, so no pickle is opened.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CANDIDATE = "candidate"
APPROVED = "approved"
FINGERPRINT_TAG = "drivelake.fingerprint"
CHECKPOINT_TAG = "drivelake.checkpoint_sha256"
_MODEL_FOLDER = "model"


def open_client(tracking_uri: str) -> MlflowClient:
    """A client of the tracking store and registry; nothing global is set but the refusal of pickle.

    MLflow reads pickled models unless told otherwise.
    """
    with warnings.catch_warnings():
        # MLflow 3.17 maps a relation with a loader that SQLAlchemy 2.1 calls deprecated
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")
        from mlflow import MlflowClient
        from mlflow.environment_variables import (
            MLFLOW_ALLOW_PICKLE_DESERIALIZATION,
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
        )

        MLFLOW_ALLOW_PICKLE_DESERIALIZATION.set(False)
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str, *, model_store: str) -> str:
    """The experiment of that name; made at first use, with its artefacts under a URI."""
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    location = f"{model_store.rstrip('/')}/{name}"
    return client.create_experiment(name, artifact_location=location)


def find_run(client: MlflowClient, experiment: str, *, fingerprint: str) -> Run | None:
    """The first finished run of that fingerprint whose model is still there, if there is one."""
    runs = client.search_runs(
        [experiment],
        filter_string=f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}' and status = 'FINISHED'",
        order_by=["attributes.start_time ASC"],
    )
    with_files = (run for run in runs if client.list_artifacts(run.info.run_id, _MODEL_FOLDER))
    return next(with_files, None)


def end_abandoned(client: MlflowClient, experiment: str, *, fingerprint: str) -> None:
    """Mark runs of that fingerprint that never ended as killed; one that lives corrects it."""
    abandoned = client.search_runs(
        [experiment],
        filter_string=f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}' and status = 'RUNNING'",
    )
    for run in abandoned:
        client.set_terminated(run.info.run_id, "KILLED")


def log_losses(client: MlflowClient, run_id: str, losses: Sequence[float]) -> None:
    """The loss of every step, in as few calls as the store takes."""
    from mlflow.entities import Metric

    stamp = time.time_ns() // 1_000_000
    for first in range(0, len(losses), 500):
        points = [
            Metric("loss", loss, stamp, first + place)
            for place, loss in enumerate(losses[first : first + 500])
        ]
        client.log_batch(run_id, metrics=points)


def log_values(
    client: MlflowClient,
    run_id: str,
    *,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Parameters and final metrics of a run."""
    from mlflow.entities import Metric, Param

    stamp = time.time_ns() // 1_000_000
    client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in sorted(parameters.items())],
        metrics=[Metric(name, value, stamp, 0) for name, value in sorted(metrics.items())],
    )


def log_dataset(
    client: MlflowClient, run_id: str, *, dataset_id: str, content_hash: str, source: str
) -> None:
    """Name the dataset version as the run's input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(name=dataset_id, digest=content_hash[:36], source_type="delta", source=source)
    tags = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])


def register(client: MlflowClient, run: Run, name: str) -> str:
    """The version of a run's model under `name`: the one it has, or a new one."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    run_id = run.info.run_id
    known = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if known:
        return str(known[0].version)
    source = f"{run.info.artifact_uri}/{_MODEL_FOLDER}"
    return str(client.create_model_version(name, source=source, run_id=run_id).version)


def log_model(client: MlflowClient, run_id: str, files: Sequence[Path]) -> None:
    """Files of the model: safetensors, JSON."""
    for path in files:
        client.log_artifact(run_id, str(path), _MODEL_FOLDER)


def fetch_model(client: MlflowClient, run_id: str, folder: Path) -> Path:
    """The files of a run's model in `folder`; fetched once, whole or not at all."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            fetched = client.download_artifacts(run_id, _MODEL_FOLDER, dst_path=place)
            Path(fetched).rename(folder)
    return folder


def set_alias(client: MlflowClient, name: str, *, alias: str, version: str) -> bool:
    """Move an alias; False if it stood there already."""
    if version_of_alias(client, name, alias=alias) == version:
        return False
    client.set_registered_model_alias(name, alias, version)
    return True


def version_of_alias(client: MlflowClient, name: str, *, alias: str) -> str | None:
    """Version an alias stands on; None if the model or the alias does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise
