"""Joined graphs against the sampler contract."""

from __future__ import annotations

import copy

import pytest
from onnx import ModelProto, helper

from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import Graphs
from export.graph.compose import check_graph
from ganvas_core.interface import Interface
from ganvas_core.names import FP16_FILE, FP32_FILE


@pytest.fixture
def sampler(graphs: Graphs) -> ModelProto:
    return copy.deepcopy(graphs.files["sample", FP32_FILE].model)


@pytest.fixture(scope="session")
def contract(source: Source) -> Interface:
    return source.interface("sample")


def test_graphs_have_the_contracts_inputs_and_outputs_in_both_precisions(graphs: Graphs, source: Source) -> None:
    for (role, file_name), graph in graphs.files.items():
        check_graph(graph.model, source.interface(role))
        names = [value.name for value in graph.model.graph.input]
        assert names == {"sample": ["seed", "truncation", "label"], "decode": ["latent", "label"]}[role], file_name


def test_graphs_have_no_shape_and_no_batch_norm(graphs: Graphs) -> None:
    for graph in graphs.files.values():
        operators = {node.op_type for node in graph.model.graph.node}
        assert not operators & {"Shape", "Range", "BatchNormalization", "BitShift", "BitwiseAnd"}


def test_noise_and_postprocess_stay_in_float32_in_the_fp16_file(graphs: Graphs) -> None:
    outer = {"noise", "postprocess"}
    nodes = {
        precision: [node for node in graphs.files["sample", name].model.graph.node if node.name.split("/")[0] in outer]
        for precision, name in (("fp32", FP32_FILE), ("fp16", FP16_FILE))
    }
    assert nodes["fp16"] == nodes["fp32"]


def test_check_graph_rejects_another_opset(sampler: ModelProto, contract: Interface) -> None:
    sampler.opset_import[0].version = 21
    with pytest.raises(GateError, match=r"must use opset 18 of ai\.onnx alone"):
        check_graph(sampler, contract)


def test_check_graph_rejects_what_is_not_onnx(sampler: ModelProto, contract: Interface) -> None:
    sampler.graph.node[3].input[0] = "nothing"
    with pytest.raises(GateError, match=r"the graph is not valid ONNX: .*nothing"):
        check_graph(sampler, contract)


def test_check_graph_rejects_another_domain(sampler: ModelProto, contract: Interface) -> None:
    sampler.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(GateError, match=r"must use opset 18 of ai\.onnx alone"):
        check_graph(sampler, contract)


def test_check_graph_rejects_a_constant_batch(sampler: ModelProto, contract: Interface) -> None:
    for value in (*sampler.graph.input, *sampler.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    del sampler.graph.value_info[:]
    with pytest.raises(GateError, match="the graph's inputs must be"):
        check_graph(sampler, contract)


def test_check_graph_rejects_another_input_name(graphs: Graphs, source: Source, contract: Interface) -> None:
    with pytest.raises(GateError, match="the graph's inputs must be"):
        check_graph(graphs.files["decode", FP32_FILE].model, contract)


def test_check_graph_rejects_an_operator_that_is_none_of_the_noises(sampler: ModelProto, contract: Interface) -> None:
    sampler.graph.node.insert(0, helper.make_node("Shape", ["seed"], ["noise/rows"], name="noise/Shape_0"))
    with pytest.raises(GateError, match=r"the noise must be made of Add, .*, Sub; got noise/Shape_0"):
        check_graph(sampler, contract)


def test_check_graph_rejects_a_random_node(sampler: ModelProto, contract: Interface) -> None:
    sampler.graph.node.append(helper.make_node("RandomNormal", [], ["r"], name="network/r", shape=[1]))
    with pytest.raises(GateError, match="must not have a RandomNormal node network/r"):
        check_graph(sampler, contract)
