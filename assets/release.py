"""What a release is made of, and the way from the catalogue to it: dataset, samples, network.

Training and compiling are made once for the same inputs (MLflow runs and artefacts carry the
fingerprint of what they were made from), so each step asks for what it needs by its inputs, and
finds it. Nothing is handed from step to step but tables, runs and files.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attrs
import dagster as dg
from pydantic import PrivateAttr

from assets.resources import Deployment
from contracts.errors import ContractViolation
from contracts.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from contracts.models import Float32Array, Progress
    from ml.config import DetectorConfig, TrainConfig
    from ml.train import TrainedModel
    from spark_jobs.gold_dataset_samples import DatasetSpec

CALIBRATION_IMAGES = 64
COMPARED_IMAGES = 64


@attrs.frozen(eq=False)
class Candidate:
    """The model that a run works on, with what it was made from.

    Attributes:
        model: Its registration.
        network: In evaluation mode.
        detector: Its shape.
        dataset: Row of `gold.datasets`.
        samples: Rows of `gold.dataset_samples` of that version.
        calibration: (N, 3, H, W) float32 in [0, 1]: images of the training split.
        unseen: (N, 3, H, W) float32 in [0, 1]: images of the test split, to compare targets on.
    """

    model: "TrainedModel"
    network: "nn.Module"
    detector: "DetectorConfig"
    dataset: dict[str, Any]
    samples: "pa.Table"
    calibration: "Float32Array"
    unseen: "Float32Array"


class Release(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What is built, the same for every step of a run.

    Attributes:
        dataset_name: Name of the dataset; its versions add the hash of their content.
        steps: Optimiser steps of the training.
        seed: Of the training.
        qnn_soc: Qualcomm SoC that the context binary is for.
        rtx_architecture: NVIDIA architecture that the RTX engine is for.
        criteria: File of the gate's criteria; empty for those of `ml/criteria.yaml`.
    """

    deployment: dg.ResourceDependency[Deployment]
    dataset_name: str = "front-camera"
    steps: int = 400
    seed: int = 7
    qnn_soc: str = "SA8255"
    rtx_architecture: str = "SM89"
    criteria: str = ""
    _found: dict[str, Candidate] = PrivateAttr(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Local folder where artefacts are made, which is their place unless that is elsewhere."""
        settings = self.deployment.settings
        place = urlsplit(settings.artefacts_uri)
        local = place.scheme == "file"
        return Path(unquote(place.path)) if local else settings.home / "artefacts"

    def dataset_spec(self) -> "DatasetSpec":
        """Request of a dataset version."""
        from spark_jobs.gold_dataset_samples import DatasetSpec

        return DatasetSpec(name=self.dataset_name)

    def train_config(self) -> "TrainConfig":
        """Configuration of the training."""
        from ml.config import TrainConfig

        return TrainConfig(steps=self.steps, seed=self.seed)

    def candidate(self, progress: "Progress | None" = None) -> Candidate:
        """The model of the newest dataset version: trained now, or found if it was before.

        Raises:
            ContractViolation: NO_DATASET, there is no dataset of the name.
        """
        dataset = newest_dataset(self.deployment.settings, self.dataset_name)
        identity = dataset["dataset_id"]
        if identity not in self._found:
            self._found[identity] = self._make(dataset, progress)
        return self._found[identity]

    def _make(self, dataset: dict[str, Any], progress: "Progress | None") -> Candidate:
        from ml.data import decode_images, network_input, select_split
        from ml.detector import load_detector
        from ml.train import train

        settings = self.deployment.settings
        samples = samples_of(settings, dataset["dataset_id"])
        model = train(
            samples,
            self.train_config(),
            tracking_uri=settings.mlflow_uri,
            artefacts=self.folder,
            model_store=f"{settings.artefacts_uri.rstrip('/')}/mlflow",
            table_versions=json.loads(dataset["table_versions"]),
            code_commit=self.deployment.code_commit,
            progress=progress,
        )
        network, detector = load_detector(model.checkpoint)
        calibration, unseen = (
            network_input(decode_images(part.slice(0, count), detector).pixels)
            for part, count in (
                (select_split(samples, "train"), CALIBRATION_IMAGES),
                (select_split(samples, "test"), COMPARED_IMAGES),
            )
        )
        return Candidate(model, network, detector, dataset, samples, calibration, unseen)


def newest_dataset(settings: Settings, name: str) -> dict[str, Any]:
    """Row of `gold.datasets` of the latest version of a dataset.

    Raises:
        ContractViolation: NO_DATASET, there is none of this name.
    """
    from spark_jobs.tables import read_arrow

    rows = read_arrow(settings, "gold.datasets", filters=[("name", "=", name)]).to_pylist()
    if not rows:
        raise ContractViolation(
            f"there is no dataset {name}",
            code="NO_DATASET",
            remedy="Materialise gold/datasets first",
        )
    return max(rows, key=lambda row: row["created_ns"])


def samples_of(settings: Settings, dataset_id: str) -> "pa.Table":
    """Samples of a dataset version."""
    from spark_jobs.tables import read_arrow

    return read_arrow(settings, "gold.dataset_samples", filters=[("dataset_id", "=", dataset_id)])
