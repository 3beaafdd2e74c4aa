"""A small detector with lived-in statistics, real images, and its compiled forms, made once."""

import pytest

from ml.config import DetectorConfig
from tests.unit.ml.toy import toy_samples

SMALL = DetectorConfig(height_px=96, width_px=160, widths=(8, 16, 24, 32, 48))


@pytest.fixture(scope="session")
def images():
    """Twelve images (12, 3, 96, 160) float32."""
    from ml.data import decode_images, network_input

    return network_input(decode_images(toy_samples(12, seed=5, size=(320, 192)), SMALL).pixels)


@pytest.fixture(scope="session")
def module(images):
    """A network whose batch norms have seen the images, and whose scores are not all low."""
    import torch

    from ml.detector import build_detector

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build_detector(SMALL).train()
        with torch.no_grad():
            network.score_head[-1].bias.fill_(-0.5)
            for _ in range(20):
                network(torch.from_numpy(images))
    return network.eval()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Folder of artefacts."""
    return tmp_path_factory.mktemp("artefacts")


@pytest.fixture(scope="session")
def onnx_artefact(module, images, made):
    """The network as ONNX."""
    from edge.export import export_onnx

    return export_onnx(module, images, made)


@pytest.fixture(scope="session")
def int8_artefact(module, images, made):
    """The network in eight bits by the rules of the Hexagon processor."""
    from edge.quantise import quantise

    return quantise(module, images, made)


@pytest.fixture(scope="session")
def symmetric_artefact(module, images, made):
    """The network in eight bits by the rules of TensorRT."""
    from edge.quantise import quantise

    return quantise(module, images, made, scheme="tensorrt")


@pytest.fixture(scope="session")
def qnn_artefact(int8_artefact, made):
    """The context binary for one SoC."""
    from edge.qnn import compile_qnn

    return compile_qnn(int8_artefact, "SA8255", made)
