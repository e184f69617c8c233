"""The fp16 network: what is fp16, what is not, and why."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.adapters.source import Source
from export.graph.build import Graphs, add_fp16_files
from export.graph.types import value_types
from export.graph.writer import new_model
from export.precision.plan import Plan, plan_by_rule
from export.surgery.fp16 import clipped_weights, fp16_network, nodes_out_of_range
from ganvas_core.names import FP16_FILE
from ganvas_core.session import CpuSession

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
    """A weight of a converted network, in the precision it has there."""
    names = (name, f"{name}/fp16")
    return numpy_helper.to_array(next(tensor for tensor in network.graph.initializer if tensor.name in names))


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


def test_fp16_network_clips_what_fp16_cannot_hold_if_asked_and_that_is_said(network: ModelProto) -> None:
    assert clipped_weights(network) == {}
    name = set_weight(network, CONVOLUTION, -1e5)
    assert float(weight(fp16_network(network, clip=True), name).flat[0]) == -65504
    size = weight(network, name).size
    assert clipped_weights(network) == {name: f"1 of {size} numbers are clipped to 65504; the largest was 100000"}
    assert clipped_weights(network, keep_fp32=[CONVOLUTION]) == {}


def test_add_fp16_files_records_what_was_kept_in_float32_and_why(source: Source, graphs: Graphs) -> None:
    plan = plan_by_rule(graphs.network.model, keep_fp32=[CONVOLUTION])
    assert plan.kept == {
        "network/Mul": "computes on the truncation",
        "network/Tanh": "the activation that makes the output",
        CONVOLUTION: "asked for with --fp32-node",
    }
    written = add_fp16_files(source, graphs, plan, Plan())
    assert written.plans == {"decode": plan, "sample": plan}
    model = written.files["decode", FP16_FILE].model
    node = next(n for n in model.graph.node if n.name == CONVOLUTION)
    weights = {t.name: t for t in model.graph.initializer}
    assert weights[node.input[1]].data_type == TensorProto.FLOAT


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_is_in_fp16_without_a_cast_pair_and_its_scales_stay_float32(mode: str) -> None:
    converted = fp16_network(upsampling(mode))
    assert [node.op_type for node in converted.graph.node] == ["Cast", "Conv", "Resize", "Conv", "Cast"]
    types = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
    assert types["scales"] == TensorProto.FLOAT
    assert types["weight/fp16"] == TensorProto.FLOAT16
    onnx.checker.check_model(converted, full_check=True)
    (made,) = CpuSession(converted.SerializeToString()).run({"x": np.ones((1, 2, 4, 4), np.float32)})
    assert made.shape == (1, 2, 8, 8)


@pytest.mark.parametrize("kept", [["first"], ["up"], ["last"], ["first", "last"], ["first", "up", "last"]])
def test_any_node_can_be_kept_in_float32_the_last_one_too(kept: list[str]) -> None:
    converted = fp16_network(upsampling("nearest"), keep_fp32=kept)
    onnx.checker.check_model(converted, full_check=True)
    types = value_types(converted)
    for node in converted.graph.node:
        if node.name in kept:
            assert {types[name] for name in (*node.input, *node.output) if name} == {TensorProto.FLOAT}
    (made,) = CpuSession(converted.SerializeToString()).run({"x": np.ones((1, 2, 4, 4), np.float32)})
    assert made.dtype == np.float32


def upsampling(mode: str) -> ModelProto:
    """Conv, Resize by 2, Conv, as in most decoders."""
    weight = np.random.default_rng(0).normal(size=(2, 2, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], name="up", mode=mode),
        helper.make_node("Conv", ["b", "weight"], ["y"], name="last", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 8, 8])],
        initializer=[
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        ],
    )
    return new_model(graph)
