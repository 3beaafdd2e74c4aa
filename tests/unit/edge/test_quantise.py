import numpy as np
import pytest

from contracts.errors import ContractViolation
from edge.parity import compare_outputs
from edge.quantise import quantise
from edge.runners import module_runner, onnx_runner


@pytest.mark.parametrize("name", ["int8_artefact", "symmetric_artefact"])
def test_eight_bits_keep_the_signal(name, request, module, images):
    """Both schemes stay over 25 dB on real images and agree on the class of nine cells in ten."""
    artefact = request.getfixturevalue(name)
    measured = compare_outputs(module_runner(module)(images), onnx_runner(artefact.path)(images))
    assert measured["snr_db"] > 25
    assert measured["argmax_agreement"] > 0.9


def test_eight_bits_are_a_quarter(int8_artefact, onnx_artefact):
    """Every weight is one byte of INT8 where it was four; the graph that tells how adds little."""
    import onnx

    whole, eight = (onnx.load(one.path).graph for one in (onnx_artefact, int8_artefact))
    kernels = [
        [value for value in graph.initializer if len(value.dims) == 4] for graph in (whole, eight)
    ]
    assert {value.data_type for value in kernels[1]} == {onnx.TensorProto.INT8}
    sizes = [sum(len(value.raw_data) for value in values) for values in kernels]
    assert sizes[0] == 4 * sizes[1] > 0
    assert int8_artefact.size_bytes < 0.4 * onnx_artefact.size_bytes
    operators = {node.op_type for node in eight.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def test_symmetric_scheme_holds_to_tensorrt(symmetric_artefact):
    """No zero-point differs from zero and no bias is quantised: TensorRT takes nothing else."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(symmetric_artefact.path).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    quantised = [n for n in graph.node if n.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert len(quantised) > 20
    for node in quantised:
        if len(node.input) > 2:
            assert not values[node.input[2]].any()
        if node.input[0] in values:
            assert values[node.input[0]].dtype in (np.int8, np.float32)


def test_quantising_leaves_the_network_alone(module, images, made, int8_artefact):
    """The float network says the same before and after, and a repeat finds the artefact."""
    import torch

    before, threads = module_runner(module)(images), torch.get_num_threads()
    assert quantise(module, images, made) == int8_artefact
    after = module_runner(module)(images)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert torch.get_num_threads() == threads


def test_too_few_images_are_refused(module, images, tmp_path):
    """Ranges guessed from a handful of images would pass unseen, so they are refused."""
    with pytest.raises(ContractViolation, match="too few"):
        quantise(module, images[:3], tmp_path)
