"""A toy dataset and one training of it, shared by the tests of models."""

import pytest

from ml.config import DetectorConfig, TrainConfig
from tests.unit.ml.toy import toy_samples

SMALL = DetectorConfig(height_px=96, width_px=160, widths=(8, 16, 24, 32, 48))


@pytest.fixture(scope="session")
def toy_dataset():
    """Samples of shapes on noise."""
    return toy_samples(150, seed=1, size=(320, 192))


@pytest.fixture(scope="session")
def toy_config():
    """A training of some seconds."""
    return TrainConfig(detector=SMALL, steps=70, batch_size=8, threads=1)


@pytest.fixture(scope="session")
def model_store(tmp_path_factory):
    """Tracking address and folder of artefacts of a registry of its own."""
    home = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{home}/mlflow.db", home / "artefacts"


@pytest.fixture(scope="session")
def trained(toy_dataset, toy_config, model_store):
    """The toy training."""
    from ml.train import train

    tracking_uri, artefacts = model_store
    return train(toy_dataset, toy_config, tracking_uri=tracking_uri, artefacts=artefacts)
