"""The fp16 network: what is fp16, what is not, and why."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from export.adapters.source import Source
from export.graph.build import Graphs, Networks, build_graphs
from export.surgery.fp16 import fp16_network, nodes_out_of_range

CONVOLUTION = "network/blocks.3/ConvTranspose"


@pytest.fixture
def network(graphs: Graphs) -> ModelProto:
    return copy.deepcopy(graphs.network.model)


def set_weight(network: ModelProto, node_name: str, value: float) -> str:
    """Put `value` into the first weight of a node, and give back the weight's name."""
    node = next(node for node in network.graph.node if node.name == node_name)
    tensor = next(tensor for tensor in network.graph.initializer if tensor.name == node.input[1])
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return tensor.name


def weight(network: ModelProto, name: str) -> NDArray[np.float16] | NDArray[np.float32]:
    return numpy_helper.to_array(next(tensor for tensor in network.graph.initializer if tensor.name == name))


def test_fp16_network_keeps_inputs_and_outputs_in_float32(network: ModelProto) -> None:
    converted = fp16_network(network)
    assert [v.type.tensor_type.elem_type for v in (*converted.graph.input, *converted.graph.output)] == [
        TensorProto.FLOAT,
        TensorProto.FLOAT,
        TensorProto.INT64,
        TensorProto.FLOAT,
    ]
    assert {t.data_type for t in converted.graph.initializer} == {TensorProto.FLOAT16, TensorProto.INT64}


def test_fp16_network_leaves_the_float32_network_as_it_was(network: ModelProto) -> None:
    before = network.SerializeToString(deterministic=True)
    fp16_network(network)
    assert network.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("value", "expected"), [(1e-9, 0.0), (3e4, 3e4), (-6e4, -6e4), (1e-6, float(np.float16(1e-6)))]
)
def test_fp16_network_rounds_weights_and_never_clips_them(network: ModelProto, value: float, expected: float) -> None:
    name = set_weight(network, CONVOLUTION, value)
    assert float(weight(fp16_network(network), name).flat[0]) == pytest.approx(expected, rel=1e-3, abs=0)


def test_nodes_out_of_range_names_the_node_that_fp16_cannot_hold(network: ModelProto) -> None:
    assert nodes_out_of_range(network) == {}
    name = set_weight(network, CONVOLUTION, 1e5)
    reasons = nodes_out_of_range(network)
    assert reasons == {CONVOLUTION: "a weight of 1e+05 is beyond the largest fp16 number, 65504"}
    kept = fp16_network(network, keep_fp32=reasons)
    assert weight(kept, name).dtype == np.float32
    assert float(weight(kept, name).flat[0]) == 1e5


def test_build_graphs_records_what_was_kept_in_float32_and_why(source: Source, networks: Networks) -> None:
    graphs = build_graphs(source, networks, keep_fp32=[CONVOLUTION])
    assert graphs.fp32_nodes["decode"] == {CONVOLUTION: "asked for with --fp32-node"}
    assert graphs.fp32_nodes["sample"] == graphs.fp32_nodes["decode"] | {"network/Mul": "computes on the truncation"}
    node = next(n for n in graphs.files["decode", "model.fp16.onnx"].model.graph.node if n.name == CONVOLUTION)
    weights = {t.name: t for t in graphs.files["decode", "model.fp16.onnx"].model.graph.initializer}
    assert weights[node.input[1]].data_type == TensorProto.FLOAT
