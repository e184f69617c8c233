"""Half arithmetic, node by node."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.adapters.source import Source
from export.errors import GateError
from export.graph.build import Graphs, Networks
from export.graph.network import wrap_generator
from export.graph.writer import new_model
from export.proof.cases import make_cases
from export.proof.half import NodeByNode, round_to_half
from export.surgery.fp16 import fp16_network
from ganvas_core import noise
from ganvas_core.interface import Arrays, sample_inputs
from ganvas_core.session import CpuSession


def network_inputs(source: Source, num: int = 24) -> Arrays:
    cases = make_cases(num_golden=8, num_more=num - 8, num_labels=len(source.labels))
    inputs = sample_inputs(cases.seeds, cases.truncation, cases.labels)
    return inputs | {"latent": noise.latents(cases.seeds, source.latent_shape)}


def product(factor: float, *, elem_type: int = TensorProto.FLOAT) -> ModelProto:
    """y = x * factor + 1"""
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["scaled"]), helper.make_node("Add", ["scaled", "one"], ["y"])],
        "network",
        [helper.make_tensor_value_info("x", elem_type, ["batch", 4])],
        [helper.make_tensor_value_info("y", elem_type, ["batch", 4])],
        initializer=[
            numpy_helper.from_array(np.array(factor, dtype), "factor"),
            numpy_helper.from_array(np.array(1, dtype), "one"),
        ],
    )
    return new_model(graph)


def test_half_arithmetic_agrees_with_pytorchs_own(source: Source, networks: Networks) -> None:
    inputs = network_inputs(source)
    (made,) = NodeByNode(fp16_network(networks.generator)).run_in_batches(inputs, 8)
    half = copy.deepcopy(wrap_generator(source)).half()
    rows = [torch.from_numpy(inputs[name]) for name in ("latent", "truncation", "label")]
    with torch.inference_mode():
        single = wrap_generator(source)(*rows).numpy()
        wanted = half(rows[0].half(), rows[1].half(), rows[2]).float().numpy()

    # Both are off float32 by as much, and closer to each other than a few half steps of a number below 1.
    errors = [float(np.sqrt(((other - single) ** 2).mean())) for other in (made, wanted)]
    assert 1e-5 < errors[0] < 1e-3
    assert errors[0] == pytest.approx(errors[1], rel=0.5)
    assert np.abs(made - wanted).max() < 8 * 2.0**-11


def test_the_cpu_provider_computes_a_half_graph_in_float32_and_this_does_not(
    source: Source, networks: Networks
) -> None:
    inputs = network_inputs(source)
    converted = fp16_network(networks.generator)
    (rounded_weights,) = CpuSession(converted.SerializeToString()).run(inputs)
    (half,) = NodeByNode(converted).run(inputs)
    (single,) = CpuSession(networks.generator.SerializeToString()).run(inputs)
    assert np.abs(half - single).mean() > 1.3 * np.abs(rounded_weights - single).mean()


def test_float32_graph_run_node_by_node_is_the_graph(source: Source, graphs: Graphs) -> None:
    inputs = network_inputs(source)
    (made,) = NodeByNode(graphs.network.model).run_in_batches(inputs, 7)
    (wanted,) = graphs.network.open().run_in_batches(inputs, 7)
    np.testing.assert_allclose(made, wanted, atol=1e-5)  # as processors add in another order


def test_the_noise_of_a_whole_file_keeps_its_integers(source: Source, graphs: Graphs) -> None:
    inputs = network_inputs(source)
    made = NodeByNode(graphs.noise.model).run(inputs)[0]
    assert made.tobytes() == inputs["latent"].tobytes()


def test_every_node_rounds_to_half_and_the_peak_is_recorded() -> None:
    graph = NodeByNode(product(1 / 3, elem_type=TensorProto.FLOAT16))
    x = np.array([[1, 10, 100, 3000]], np.float16)
    (made,) = graph.run({"x": x})
    scaled = (x * np.float16(1 / 3)).astype(np.float16)
    assert made.tolist() == (scaled + np.float16(1)).astype(np.float32).tolist()
    assert graph.half_peak() == ("y", float(made.max()))
    assert graph.activations.num_nonfinite == {}


def test_overflow_is_counted_where_it_arises_and_after() -> None:
    graph = NodeByNode(product(1000, elem_type=TensorProto.FLOAT16))
    (made,) = graph.run({"x": np.array([[1, 70, -70, np.nan]], np.float16)})
    assert made.tolist()[0][:3] == [1001, np.inf, -np.inf]
    assert graph.activations.num_nonfinite == {"scaled": 3, "y": 3}
    assert graph.half_peak()[1] == np.inf


def test_round_to_half_is_numpys() -> None:
    values = np.random.default_rng(0).normal(size=4096).astype(np.float32) * 10
    assert round_to_half(values).tolist() == values.astype(np.float16).astype(np.float32).tolist()


def test_control_flow_is_refused() -> None:
    model = product(2)
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], name="choose", then_branch=branch, else_branch=branch))
    with pytest.raises(GateError, match=r"cannot be inferred|choose is control flow \(If\)"):
        NodeByNode(model)
