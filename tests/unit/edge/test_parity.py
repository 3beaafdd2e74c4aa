import numpy as np
import pytest

from contracts.models import PARITY_SCHEMA
from edge.parity import EQUAL_DB, class_agreement, compare_targets, signal_to_noise_db
from edge.qnn import simulator_runner
from edge.runners import module_runner, onnx_runner


def values(table):
    return {(row["target"], row["measure"]): row["value"] for row in table.to_pylist()}


def test_every_target_is_compared(module, images, onnx_artefact, int8_artefact, qnn_artefact):
    """ONNX is equal to rounding, INT8 over 25 dB, and the simulator close to INT8."""
    parity = compare_targets(
        module_runner(module),
        {
            "onnx": onnx_runner(onnx_artefact.path),
            "onnx_int8": onnx_runner(int8_artefact.path),
            "qnn_sa8255": simulator_runner(qnn_artefact),
        },
        images,
        images_by_target={"qnn_sa8255": 1},
        ap50=lambda runner: float(runner(images[:1])[0].mean()),
        ap50_targets=("onnx_int8",),
    )
    assert parity.schema.equals(PARITY_SCHEMA)
    found = values(parity)
    assert found["onnx", "snr_db"] > 90
    assert found["onnx", "max_abs_difference"] < 1e-4
    assert found["onnx_int8", "snr_db"] > 25
    assert found["qnn_sa8255", "snr_db"] > 20
    assert found["onnx_int8", "ap50_drop"] == pytest.approx(
        float(module_runner(module)(images[:1])[0].mean()) - found["onnx_int8", "ap50"]
    )
    counts = {row["target"]: row["images"] for row in parity.to_pylist()}
    assert counts == {"onnx": 12, "onnx_int8": 12, "qnn_sa8255": 1}


def test_signal_to_noise_by_hand():
    """A difference of a tenth is 20 dB; equal outputs have the agreed stand-in."""
    ones = np.ones((1, 1, 2, 2), np.float32)
    assert signal_to_noise_db(ones, ones * np.float32(1.1)) == pytest.approx(20, abs=1e-3)
    assert signal_to_noise_db(ones, ones) == EQUAL_DB


def test_class_agreement_counts_foreground_cells_only():
    """One of two foreground cells keeps its class: a half, whatever the background says."""
    expected = np.full((1, 2, 2, 2), -9.0, np.float32)
    found = np.full((1, 2, 2, 2), -7.0, np.float32)
    expected[0, 0, 0, 0] = found[0, 0, 0, 0] = 2.0
    expected[0, 0, 1, 1] = found[0, 1, 1, 1] = 2.0
    assert class_agreement(expected, found) == 0.5
    assert class_agreement(found * 0 - 9, found * 0 - 9) is None
